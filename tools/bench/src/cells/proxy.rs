//! The proxy cell: wrk through a proxy to the upstream nginx, with the CPU of both.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Result;
use crate::figures::{Figure, Figures};
use crate::proc::{self, Meter};
use crate::wrk;

/// Connections wrk keeps open.
const CONNECTIONS: u32 = 64;
/// Long enough to open the connections to the upstream and to touch every page.
const WARM_UP: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

/// One measured run through the proxy at `address` with process tree `pid` to the upstream with tree `upstream`.
pub(crate) fn measure(address: SocketAddr, pid: u32, upstream: u32, path: &str, duration: Duration) -> Result<Figures> {
    wrk::run(address, path, CONNECTIONS, WARM_UP)?;
    let meter = Meter::start(pid, Some(upstream))?;
    let report = wrk::run(address, path, CONNECTIONS, duration)?;
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
        .set(Figure::Rss, proc::rss(pid)? as f64 / MIB)
        .set(Figure::Foreign, used.foreign_share() * 100.0);
    Ok(figures)
}
