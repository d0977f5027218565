//! nginx as Debian packages it, in two roles: the upstream that both proxies face, and the bare proxy to beat.
//!
//! Both run two workers, one for each core of the reference machine, without access log, with keep-alive that is not
//! cut off after nginx's default of 1,000 requests.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::certificate::Certificate;
use super::process::{Process, counted};
use super::{Proxy, find_program, free_address, fresh_dir};
use crate::callgrind::Callgrind;
use crate::error::{Context, Error, Result};

/// Worker processes of either role.
pub(crate) const WORKERS: u32 = 2;
/// Octets of the upstream's answer.
const ANSWER_SIZE: usize = 1024;
/// Idle upstream connections each proxy worker keeps; not fewer than the load has connections.
const KEEPALIVE_CONNECTIONS: u32 = 512;
/// Under callgrind a start takes many times as long.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A running nginx.
pub(crate) struct Nginx {
    process: Process,
    /// Where it serves HTTP.
    pub(crate) http: SocketAddr,
    /// Where the proxy serves TLS; the upstream does not.
    https: SocketAddr,
}

/// Whether the package is installed.
pub(crate) fn is_installed() -> bool {
    find_program("nginx").is_some()
}

impl Nginx {
    /// Starts the upstream: every path answers 200 with 1 KiB.
    pub(crate) fn start_upstream(dir: &Path) -> Result<Self> {
        let answer = "x".repeat(ANSWER_SIZE);
        Self::start("the upstream nginx", dir, None, |listen| {
            format!(
                "server {{ listen {listen} backlog=1024; keepalive_requests 100000000; default_type text/plain; \
                 location / {{ return 200 \"{answer}\"; }} }}"
            )
        })
    }

    /// Starts the bare proxy in front of `upstream`. TLS 1.3, which clients choose where they can, is on as in Debian's
    /// `nginx.conf`: left to itself this version has 1.2 only, and that is another handshake.
    pub(crate) fn start_proxy(
        dir: &Path,
        upstream: SocketAddr,
        certificate: &Certificate,
        under: Option<&Callgrind>,
    ) -> Result<Self> {
        let https = free_address()?;
        let (cert, key) = (certificate.cert.display(), certificate.key.display());
        let mut proxy = Self::start("the nginx proxy", dir, under, |listen| {
            format!(
                "upstream peer {{ server {upstream}; keepalive {KEEPALIVE_CONNECTIONS}; \
                 keepalive_requests 100000000; }}\n\
                 server {{ listen {listen} backlog=1024; listen {https} ssl http2 backlog=1024; \
                 ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {cert}; ssl_certificate_key {key}; keepalive_requests 100000000; location / {{ \
                 proxy_pass http://peer; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
            )
        })?;
        proxy.https = https;
        Ok(proxy)
    }

    /// Where it is.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy { http: self.http, https: self.https, pid: self.id() }
    }

    fn start(
        name: &'static str,
        dir: &Path,
        under: Option<&Callgrind>,
        servers: impl Fn(SocketAddr) -> String,
    ) -> Result<Self> {
        fresh_dir(dir)?;
        let dir = dir.canonicalize()?;
        let http = free_address()?;
        let file = dir.join("nginx.conf");
        fs::write(&file, configuration(&dir, under.is_some(), &servers(http))).context("write nginx.conf")?;
        let program = find_program("nginx").ok_or_else(|| Error::new("nginx is not installed"))?;
        let mut command = counted(program, under);
        command.arg("-p").arg(&dir).arg("-c").arg(&file).arg("-e").arg(dir.join("error.log"));
        let mut process = Process::start(name, &mut command, &dir.join("nginx.log"))?;
        process.wait_ready(START_PATIENCE, || std::net::TcpStream::connect(http).is_ok())?;
        Ok(Self { process, http, https: http })
    }

    /// The root of its process tree.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Counted, it is a single process: callgrind takes orders only from the user that a process is, and a worker becomes another.
fn configuration(dir: &Path, is_counted: bool, servers: &str) -> String {
    let dir = dir.display();
    let processes = if is_counted { "master_process off".to_owned() } else { format!("worker_processes {WORKERS}") };
    format!(
        "daemon off;\n{processes};\npid {dir}/nginx.pid;\nerror_log {dir}/error.log warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
         {servers}\n}}\n"
    )
}
