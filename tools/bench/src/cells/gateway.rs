//! The gateway cells: HTTP load through a proxy to the upstream nginx, with the CPU of both.
//!
//! The peers are bare. Ours carries what a gateway is for: a thousand routes, key-auth and local rate limiting.

use std::path::Path;
use std::time::Duration;

use super::{Cell, Side};
use crate::callgrind::Callgrind;
use crate::error::{Error, Result};
use crate::figures::{Figure, Figures};
use crate::h2load::{self, Arrivals, Pace, Protocol};
use crate::peers::certificate::Certificate;
use crate::peers::haproxy::{self, Haproxy};
use crate::peers::nginx::{self, Nginx};
use crate::peers::sluicegate::{API_KEY, PATH, Sluicegate};
use crate::peers::{Proxy, certificate, fresh_dir};
use crate::proc::{self, Meter};
use crate::strace::{Calls, Tracer};
use crate::wrk;

/// Long enough to open the connections to the upstream and to touch every page.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long instructions are counted.
const COUNTED: Duration = Duration::from_secs(3);
/// Streams at a time of an HTTP/2 connection.
const STREAMS: u32 = 8;
const MIB: f64 = 1024.0 * 1024.0;

/// What is sent through the proxies, and how.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// HTTP/1.1 as fast as it goes.
    Http1 { connections: u32, tls: bool },
    /// HTTP/1.1 over TLS, each request on a connection of its own.
    Handshakes,
    /// HTTP/2, eight streams a connection.
    Http2 { tls: bool },
    /// HTTP/1.1 at 5,000 requests a second.
    Paced(Arrivals),
}

/// The load of a gateway cell; none for the others.
const fn load_of(cell: Cell) -> Option<Load> {
    match cell {
        Cell::Proxy => Some(Load::Http1 { connections: 64, tls: false }),
        Cell::Proxy256 => Some(Load::Http1 { connections: 256, tls: false }),
        Cell::Tls1 => Some(Load::Http1 { connections: 64, tls: true }),
        Cell::Tls2 => Some(Load::Http2 { tls: true }),
        Cell::Shake => Some(Load::Handshakes),
        Cell::H2c => Some(Load::Http2 { tls: false }),
        Cell::Paced => Some(Load::Paced(Arrivals::InTurn)),
        Cell::Bursts => Some(Load::Paced(Arrivals::Together)),
        _ => None,
    }
}

/// Whether a cell is about the gateway.
pub(crate) const fn is_gateway(cell: Cell) -> bool {
    load_of(cell).is_some()
}

/// Whether a cell of the gateway is about latency.
pub(crate) const fn is_paced(cell: Cell) -> bool {
    matches!(load_of(cell), Some(Load::Paced(_)))
}

/// Whether system calls are counted in a cell.
pub(crate) const fn counts_calls(cell: Cell) -> bool {
    matches!(cell, Cell::Proxy)
}

/// Whether instructions are counted in a cell: not where most of them would be another cryptography than is used.
pub(crate) const fn counts_instructions(cell: Cell) -> bool {
    matches!(cell, Cell::Proxy | Cell::H2c)
}

/// The Debian packages that gateway cells need and that are not installed.
pub(crate) fn missing_packages(sides: &[Side]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    missing.extend((!nginx::is_installed()).then_some("nginx"));
    missing.extend((!wrk::is_installed()).then_some("wrk"));
    missing.extend((!h2load::is_installed()).then_some("nghttp2-client"));
    missing.extend((!certificate::is_installed()).then_some("openssl"));
    if sides.contains(&Side::Theirs) {
        missing.extend((!haproxy::is_installed()).then_some("haproxy"));
    }
    missing
}

/// The upstream and the proxies in front of it.
pub(crate) struct Gateways {
    upstream: Nginx,
    ours: Option<Sluicegate>,
    nginx: Option<Nginx>,
    haproxy: Option<Haproxy>,
}

impl Gateways {
    /// Starts the upstream and the proxies of `sides`; ours is `binary`.
    pub(crate) fn set_up(dir: &Path, binary: &Path, sides: &[Side], under: Option<&Callgrind>) -> Result<Self> {
        eprintln!("starting the gateways");
        let certificate = Certificate::make(&dir.join("certificate"))?;
        let upstream = Nginx::start_upstream(&dir.join("nginx-upstream"))?;
        let mut gateways = Self { upstream, ours: None, nginx: None, haproxy: None };
        let upstream = gateways.upstream.http;
        if sides.contains(&Side::Theirs) {
            gateways.nginx = Some(Nginx::start_proxy(&dir.join("nginx-proxy"), upstream, &certificate, under)?);
            gateways.haproxy = Some(Haproxy::start(&dir.join("haproxy"), upstream, &certificate, under)?);
        }
        if sides.contains(&Side::Ours) {
            let dir = dir.join("sluicegate-gateway");
            gateways.ours = Some(Sluicegate::start_gateway(binary, &dir, upstream, &certificate, under)?);
        }
        Ok(gateways)
    }

    fn proxy(&self, cell: Cell, side: Side) -> Result<Proxy> {
        let found = match side {
            Side::Ours => self.ours.as_ref().map(Sluicegate::proxy),
            Side::Theirs if cell.peer() == haproxy::NAME => self.haproxy.as_ref().map(Haproxy::proxy),
            Side::Theirs => self.nginx.as_ref().map(Nginx::proxy),
        };
        found.ok_or_else(|| Error::new("the proxy was not started"))
    }

    /// Measures `cell` once on `side`.
    pub(crate) fn measure(&self, cell: Cell, side: Side, duration: Duration) -> Result<Figures> {
        let load = load_of(cell).ok_or_else(|| Error::new("not a cell of the gateway"))?;
        let proxy = self.proxy(cell, side)?;
        apply(load, proxy, WARM_UP)?;
        let meter = Meter::start(proxy.pid, Some(self.upstream.id()))?;
        let report = apply(load, proxy, duration)?;
        let used = meter.finish()?;
        let requests = report.requests.max(1) as f64;
        let mut figures = Figures::default();
        figures
            .set(Figure::Rate, report.rate)
            .set(Figure::Cpu, used.server.as_secs_f64() * 1e6 / requests)
            .set(Figure::CpuToUpstream, used.server.as_secs_f64() / used.helper.as_secs_f64().max(f64::MIN_POSITIVE))
            .set(Figure::ClientCpu, used.generator.as_secs_f64() * 1e6 / requests)
            .set(Figure::P50, report.p50_us)
            .set(Figure::P99, report.p99_us)
            .set(Figure::Rss, proc::rss(proxy.pid)? as f64 / MIB)
            .set(Figure::Foreign, used.foreign_share() * 100.0);
        if is_paced(cell) {
            let direct = apply(load, self.direct(), duration)?;
            figures
                .set(Figure::AddedP50, report.p50_us - direct.p50_us)
                .set(Figure::AddedP99, report.p99_us - direct.p99_us);
        }
        Ok(figures)
    }

    /// The upstream, where a proxy could be.
    fn direct(&self) -> Proxy {
        Proxy { http: self.upstream.http, https: self.upstream.http, pid: self.upstream.id() }
    }

    /// System calls of the proxy for each request of `cell`.
    pub(crate) fn count_calls(&self, cell: Cell, side: Side, duration: Duration, dir: &Path) -> Result<Figures> {
        let load = load_of(cell).ok_or_else(|| Error::new("not a cell of the gateway"))?;
        let proxy = self.proxy(cell, side)?;
        apply(load, proxy, WARM_UP)?;
        let tracer = Tracer::attach(proxy.pid, Calls::All, dir)?;
        let report = apply(load, proxy, duration)?;
        let calls = tracer.finish()?;
        let mut figures = Figures::default();
        figures.set(Figure::Calls, calls as f64 / report.requests.max(1) as f64);
        Ok(figures)
    }
}

/// Starts the proxies once more, under callgrind, and counts the instructions of a request in each of `cells`; `each` is
/// told of every one.
pub(crate) fn count_instructions(
    dir: &Path,
    binary: &Path,
    cells: &[Cell],
    sides: &[Side],
    mut each: impl FnMut(Cell, Side, Result<Figures>),
) -> Result<()> {
    let files = dir.join("callgrind");
    fresh_dir(&files)?;
    let callgrind = Callgrind::new(&files);
    let gateways = Gateways::set_up(dir, binary, sides, Some(&callgrind))?;
    for cell in cells.iter().copied().filter(|cell| counts_instructions(*cell)) {
        for side in sides.iter().copied() {
            let counted = gateways.proxy(cell, side).and_then(|proxy| instructions(&callgrind, cell, proxy));
            each(cell, side, counted);
        }
    }
    Ok(())
}

/// The load is light and steady: what is counted does not depend on it, but for reading several requests at a time.
fn instructions(callgrind: &Callgrind, cell: Cell, proxy: Proxy) -> Result<Figures> {
    let (protocol, streams) = if cell == Cell::H2c { (Protocol::Http2, STREAMS) } else { (Protocol::Http1, 1) };
    let shape = h2load::Shape { protocol, connections: 8, streams, pace: None };
    let (url, key) = (proxy.url(false, PATH), format!("apikey: {API_KEY}"));
    h2load::run(&url, shape, &key, WARM_UP)?;
    let (report, counted) = callgrind.count(proxy.pid, || h2load::run(&url, shape, &key, COUNTED))?;
    let mut figures = Figures::default();
    figures.set(Figure::Instructions, counted as f64 / report.requests.max(1) as f64);
    Ok(figures)
}

/// What a load generator saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HttpReport {
    /// Requests answered.
    pub(crate) requests: u64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Median latency, µs.
    pub(crate) p50_us: f64,
    /// 99th percentile, µs.
    pub(crate) p99_us: f64,
}

fn apply(load: Load, proxy: Proxy, duration: Duration) -> Result<HttpReport> {
    let key = format!("apikey: {API_KEY}");
    match load {
        Load::Http1 { connections, tls } => {
            let url = proxy.url(tls, PATH);
            wrk::run(&url, connections, &[&key], duration)
        }
        Load::Handshakes => wrk::run(&proxy.url(true, PATH), 64, &[&key, "Connection: close"], duration),
        Load::Http2 { tls } => {
            let shape = h2load::Shape { protocol: Protocol::Http2, connections: 64, streams: STREAMS, pace: None };
            h2load::run(&proxy.url(tls, PATH), shape, &key, duration)
        }
        Load::Paced(arrivals) => {
            let pace = Some(Pace { per_second: 5_000, arrivals });
            let shape = h2load::Shape { protocol: Protocol::Http1, connections: 50, streams: 1, pace };
            h2load::run(&proxy.url(false, PATH), shape, &key, duration)
        }
    }
}
