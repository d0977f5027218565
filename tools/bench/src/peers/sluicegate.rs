//! Our own server: the release binary, as a broker with nothing configured, or as a gateway with 1,000 routes, key-auth and
//! local rate limiting.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::certificate::Certificate;
use super::process::{Process, counted};
use super::{Proxy, free_address, fresh_dir};
use rustix::process::Signal;

use crate::callgrind::Callgrind;
use crate::error::{Context, Result};

/// Routes of the gateway.
const ROUTES: usize = 1_000;
/// A path that one of the routes, in the middle of the table, matches.
pub(crate) const PATH: &str = "/route-557/item";
/// The key of the gateway's one consumer.
pub(crate) const API_KEY: &str = "the-key-of-the-bench";
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
    /// The value of the configuration's key `listen`.
    listen: String,
    admin: SocketAddr,
    /// Where it serves AMQP.
    pub(crate) amqp: SocketAddr,
    http: SocketAddr,
    https: SocketAddr,
    /// From exec to the first 200 of `GET /status/ready`.
    pub(crate) ready_after: Duration,
}

impl Sluicegate {
    /// Starts `binary` as a broker, with an empty data directory under `dir`.
    pub(crate) fn start(binary: &Path, dir: &Path) -> Result<Self> {
        Self::start_with(binary, dir, None, "", None)
    }

    /// Starts `binary` as a gateway whose routes all lead to `upstream`.
    pub(crate) fn start_gateway(
        binary: &Path,
        dir: &Path,
        upstream: SocketAddr,
        certificate: &Certificate,
        under: Option<&Callgrind>,
    ) -> Result<Self> {
        Self::start_with(binary, dir, Some(certificate), &entities(upstream, 0, ROUTES), under)
    }

    /// The same with another number of routes.
    pub(crate) fn start_gateway_of(
        routes: usize,
        binary: &Path,
        dir: &Path,
        upstream: SocketAddr,
        certificate: &Certificate,
    ) -> Result<Self> {
        Self::start_with(binary, dir, Some(certificate), &entities(upstream, 0, routes), None)
    }

    /// Changes the configuration of a gateway: a twentieth of its routes, and a route that only this generation has. Does not
    /// wait until that took effect.
    pub(crate) fn reload_gateway(&self, upstream: SocketAddr, generation: usize) -> Result<()> {
        configure(&self.dir, &self.listen, &entities(upstream, generation, ROUTES))?;
        self.process.signal(Signal::HUP);
        Ok(())
    }

    fn start_with(
        binary: &Path,
        dir: &Path,
        certificate: Option<&Certificate>,
        entities: &str,
        under: Option<&Callgrind>,
    ) -> Result<Self> {
        fresh_dir(dir)?;
        let (http, https, amqp) = (free_address()?, free_address()?, free_address()?);
        let (admin, management) = (free_address()?, free_address()?);
        let tls = certificate.map_or_else(String::new, |certificate| {
            let (cert, key) = (certificate.cert.display(), certificate.key.display());
            format!(", {{ address: {https}, tls: {{ cert: {cert}, key: {key} }} }}")
        });
        let listen = format!("{{ http: [{http}{tls}], amqp: [{amqp}], admin: [{admin}], management: [{management}] }}");
        configure(dir, &listen, entities)?;
        let (process, ready_after) = launch(binary, dir, admin, under)?;
        let (binary, dir) = (binary.to_owned(), dir.to_owned());
        Ok(Self { process, binary, dir, listen, admin, amqp, http, https, ready_after })
    }

    /// Where its Admin API is.
    pub(crate) const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where it is, as a proxy.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy { http: self.http, https: self.https, pid: self.process.id() }
    }

    /// Ends it with kill -9 and starts it again on the same data.
    pub(crate) fn crash_and_restart(self) -> Result<Self> {
        self.process.kill()?;
        let (process, ready_after) = launch(&self.binary, &self.dir, self.admin, None)?;
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

/// Writes the configuration as one step, so that no reload reads half of it.
fn configure(dir: &Path, listen: &str, entities: &str) -> Result<()> {
    let text = format!("_format_version: \"3.0\"\nlisten: {listen}\n{entities}");
    let next = dir.join("next.yaml");
    fs::write(&next, text).context("write the configuration")?;
    fs::rename(&next, dir.join(CONFIGURATION)).context("rename the configuration")
}

fn launch(binary: &Path, dir: &Path, admin: SocketAddr, under: Option<&Callgrind>) -> Result<(Process, Duration)> {
    let mut command = counted(binary, under);
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

/// One service with all the routes, a consumer with a key, and the plugins that ask for it and count. Some routes are of
/// one generation only.
fn entities(upstream: SocketAddr, generation: usize, routes: usize) -> String {
    let mut text = format!(
        "plugins:\n- name: key-auth\n- {{ name: rate-limiting, config: {{ hour: 1000000000, policy: local }} }}\n\
         consumers:\n- {{ username: bench, keyauth_credentials: [{{ key: {API_KEY} }}] }}\n\
         services:\n- name: upstream\n  url: \"http://{upstream}\"\n  routes:\n  \
         - {{ name: generation, paths: [/generation-{generation}] }}\n"
    );
    for route in 1..routes {
        // Writing to a String cannot fail.
        let _ = if route.is_multiple_of(20) {
            writeln!(text, "  - {{ name: route-{route:03}, paths: [/route-{route:03}-{generation}] }}")
        } else {
            writeln!(text, "  - {{ name: route-{route:03}, paths: [/route-{route:03}] }}")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_path_is_one_of_the_thousand_routes() {
        let text = entities(SocketAddr::from(([127, 0, 0, 1], 9)), 3, ROUTES);
        assert_eq!(text.matches("paths:").count(), 1_000);
        assert!(text.contains("paths: [/route-557]") && PATH.starts_with("/route-557/"));
    }
}
