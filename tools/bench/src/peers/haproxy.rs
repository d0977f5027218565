//! haproxy as Debian packages it: the proxy to beat in HTTP/2. Two threads, bare, connections to the upstream shared.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::certificate::Certificate;
use super::process::{Process, counted};
use super::{Proxy, find_program, free_address, fresh_dir};
use crate::callgrind::Callgrind;
use crate::error::{Context, Error, Result};

/// What it is called in the table.
pub(crate) const NAME: &str = "haproxy";
/// Under callgrind a start takes many times as long.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A running haproxy.
pub(crate) struct Haproxy {
    process: Process,
    http: SocketAddr,
    https: SocketAddr,
}

/// Whether the package is installed.
pub(crate) fn is_installed() -> bool {
    find_program(NAME).is_some()
}

impl Haproxy {
    /// Starts it in front of `upstream`: HTTP/1.1 and HTTP/2 on either address.
    pub(crate) fn start(
        dir: &Path,
        upstream: SocketAddr,
        certificate: &Certificate,
        under: Option<&Callgrind>,
    ) -> Result<Self> {
        fresh_dir(dir)?;
        let (http, https) = (free_address()?, free_address()?);
        let file = dir.join("haproxy.cfg");
        let both = certificate.both.display();
        let text = format!(
            "global\n  nbthread 2\n  maxconn 4096\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n\
             frontend all\n  bind {http}\n  bind {https} ssl crt {both} alpn h2,http/1.1\n  default_backend upstream\n\
             backend upstream\n  server nginx {upstream}\n"
        );
        fs::write(&file, text).context("write haproxy.cfg")?;
        let program = find_program(NAME).ok_or_else(|| Error::new("haproxy is not installed"))?;
        let mut command = counted(program, under);
        command.arg("-db").arg("-f").arg(&file);
        let mut process = Process::start("haproxy", &mut command, &dir.join("haproxy.log"))?;
        process.wait_ready(START_PATIENCE, || TcpStream::connect(http).is_ok())?;
        Ok(Self { process, http, https })
    }

    /// Where it is.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy { http: self.http, https: self.https, pid: self.process.id() }
    }
}
