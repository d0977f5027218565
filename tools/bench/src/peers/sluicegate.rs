//! Our own server: the release binary, configured as the quickstart does, with 100 routes and correlation ids.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{Process, guarded};
use super::{free_address, fresh_dir};
use crate::error::{Context, Result};

/// Routes in the configuration.
pub(crate) const ROUTES: usize = 100;
/// A path that one of the routes, in the middle of the table, matches.
pub(crate) const PATH: &str = "/route-57/item";
/// Names within the server's directory.
const CONFIGURATION: &str = "sluicegate.yaml";
const DATA: &str = "data";
/// A recovery that is slower than its floor shall be measured, not refused.
const START_PATIENCE: Duration = Duration::from_secs(60);
const PROBE_PATIENCE: Duration = Duration::from_millis(500);
const METRICS_PATIENCE: Duration = Duration::from_secs(5);

/// A running Sluicegate.
pub(crate) struct Sluicegate {
    process: Process,
    binary: PathBuf,
    dir: PathBuf,
    admin: SocketAddr,
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
        Self::start_with(binary, dir, &services(upstream))
    }

    /// The same with other services, the value of the configuration's key `services`.
    pub(crate) fn start_with(binary: &Path, dir: &Path, services: &str) -> Result<Self> {
        fresh_dir(dir)?;
        let (http, amqp) = (free_address()?, free_address()?);
        let (admin, management) = (free_address()?, free_address()?);
        let listen = format!("{{ http: [{http}], amqp: [{amqp}], admin: [{admin}], management: [{management}] }}");
        fs::write(dir.join(CONFIGURATION), configuration(&listen, services)).context("write the configuration")?;
        let (process, ready_after) = launch(binary, dir, admin)?;
        Ok(Self { process, binary: binary.to_owned(), dir: dir.to_owned(), admin, amqp, http, ready_after })
    }

    /// Ends it with kill -9 and starts it again on the same data.
    pub(crate) fn crash_and_restart(self) -> Result<Self> {
        self.process.kill()?;
        let (process, ready_after) = launch(&self.binary, &self.dir, self.admin)?;
        Ok(Self { process, ready_after, ..self })
    }

    /// Ends it and removes all it wrote.
    pub(crate) fn remove(self) -> Result<()> {
        drop(self.process);
        fs::remove_dir_all(&self.dir).context(format_args!("remove {}", self.dir.display()))
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    /// What it answers to `GET /metrics`.
    pub(crate) fn metrics(&self) -> Result<String> {
        let admin = self.admin;
        let mut stream = TcpStream::connect_timeout(&admin, PROBE_PATIENCE)?;
        stream.set_read_timeout(Some(METRICS_PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read the metrics")?;
        Ok(answer)
    }

    /// The root of its process tree.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

fn launch(binary: &Path, dir: &Path, admin: SocketAddr) -> Result<(Process, Duration)> {
    let mut command = guarded(binary);
    command.arg("run").arg(dir.join(CONFIGURATION)).arg("--data").arg(dir.join(DATA));
    let mut process = Process::start("Sluicegate", &mut command, &dir.join("sluicegate.log"))?;
    let ready_after = process.wait_ready(START_PATIENCE, || is_ready(admin))?;
    Ok((process, ready_after))
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

fn configuration(listen: &str, services: &str) -> String {
    format!(
        "_format_version: \"3.0\"\nlisten: {listen}\n\
         plugins:\n- name: correlation-id\n  config: {{ header_name: X-Correlation-ID, generator: uuid, \
         echo_downstream: true }}\nservices:\n{services}"
    )
}

/// One service with all the routes.
fn services(upstream: SocketAddr) -> String {
    let mut text = format!("- name: upstream\n  url: \"http://{upstream}\"\n  routes:\n");
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
        let text = services(SocketAddr::from(([127, 0, 0, 1], 9)));
        assert_eq!(text.matches("paths:").count(), 100);
        assert!(text.contains("paths: [/route-57]") && PATH.starts_with("/route-57/"));
    }
}
