//! Our own server: the release binary, configured as the quickstart does, with 100 routes and correlation ids.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::process::{Process, guarded};
use super::{free_address, fresh_dir};
use crate::error::{Context, Result};

/// Routes in the configuration.
pub(crate) const ROUTES: usize = 100;
/// A path that one of the routes, in the middle of the table, matches.
pub(crate) const PATH: &str = "/route-57/item";
const START_PATIENCE: Duration = Duration::from_secs(30);
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// A running Sluicegate.
pub(crate) struct Sluicegate {
    process: Process,
    /// Where it serves AMQP.
    pub(crate) amqp: SocketAddr,
    /// Where it serves HTTP.
    pub(crate) http: SocketAddr,
    /// From exec to the first 200 of `GET /status/ready`.
    pub(crate) ready_after: Duration,
}

impl Sluicegate {
    /// Starts `binary` with an empty data directory under `dir` and all routes leading to `upstream`.
    pub(crate) fn start(binary: &Path, dir: &Path, upstream: SocketAddr) -> Result<Self> {
        fresh_dir(dir)?;
        let (http, amqp) = (free_address()?, free_address()?);
        let (admin, management) = (free_address()?, free_address()?);
        let file = dir.join("sluicegate.yaml");
        let listen = format!("{{ http: [{http}], amqp: [{amqp}], admin: [{admin}], management: [{management}] }}");
        fs::write(&file, configuration(&listen, upstream)).context("write sluicegate.yaml")?;
        let mut command = guarded(binary);
        command.arg("run").arg(&file).arg("--data").arg(dir.join("data"));
        let mut process = Process::start("Sluicegate", &mut command, &dir.join("sluicegate.log"))?;
        let ready_after = process.wait_ready(START_PATIENCE, || is_ready(admin))?;
        Ok(Self { process, amqp, http, ready_after })
    }

    /// The root of its process tree.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// One probe on a connection of its own.
fn is_ready(admin: SocketAddr) -> bool {
    let probe = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&admin, PROBE_PATIENCE)?;
        stream.set_read_timeout(Some(PROBE_PATIENCE))?;
        write!(stream, "GET /status/ready HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut status_line = [0; 12];
        stream.read_exact(&mut status_line)?;
        Ok(&status_line == b"HTTP/1.1 200")
    };
    probe().unwrap_or(false)
}

fn configuration(listen: &str, upstream: SocketAddr) -> String {
    let mut text = format!(
        "_format_version: \"3.0\"\nlisten: {listen}\n\
         plugins:\n- name: correlation-id\n  config: {{ header_name: X-Correlation-ID, generator: uuid, \
         echo_downstream: true }}\n\
         services:\n- name: upstream\n  url: \"http://{upstream}\"\n  routes:\n"
    );
    for route in 0..ROUTES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - {{ name: route-{route:02}, paths: [/route-{route:02}] }}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_path_is_one_of_the_hundred_routes() {
        let text = configuration("{}", SocketAddr::from(([127, 0, 0, 1], 9)));
        assert_eq!(text.matches("paths:").count(), 100);
        assert!(text.contains("paths: [/route-57]") && PATH.starts_with("/route-57/"));
    }
}
