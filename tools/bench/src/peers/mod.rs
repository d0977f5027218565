//! The servers under measurement: started as private processes on free loopback ports, stopped when dropped.

pub(crate) mod certificate;
pub(crate) mod haproxy;
pub(crate) mod nginx;
pub(crate) mod process;
pub(crate) mod rabbitmq;
pub(crate) mod sluicegate;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Result};

/// Where a proxy under measurement is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxy {
    /// Its plain address.
    pub(crate) http: SocketAddr,
    /// Its address with TLS.
    pub(crate) https: SocketAddr,
    /// The root of its process tree.
    pub(crate) pid: u32,
}

impl Proxy {
    /// The URL of a path on it.
    pub(crate) fn url(self, tls: bool, path: &str) -> String {
        let (scheme, address) = if tls { ("https", self.https) } else { ("http", self.http) };
        format!("{scheme}://{address}{path}")
    }
}

/// A loopback address whose port was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// An empty directory at `path`; what was there is removed.
pub(crate) fn fresh_dir(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).context(format_args!("empty {}", path.display()))?;
    }
    std::fs::create_dir_all(path).context(format_args!("create {}", path.display()))
}

/// What Debian says which versions of the peers are installed.
pub(crate) fn versions() -> String {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${Version}; ", "rabbitmq-server", "nginx", "haproxy"])
        .output();
    let text = query.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    format!("peers: {}", if text.is_empty() { "versions unknown" } else { text.trim_end_matches("; ") })
}

/// A program by name: on the PATH, or where Debian puts programs for administrators.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(name)).find(|program| program.is_file())
}
