//! The broker cells: a run of the AMQP load generator, turned into figures.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Cell;
use crate::client::load::{self, Acks, Flow, Gather, Load, Timing};
use crate::error::Result;
use crate::figures::{Figure, Figures};
use crate::syncs::Tracer;

/// Reads of throughput cells wait this long for more (the kernel's timer adds some 50 µs).
const GATHER: Gather = Gather(Duration::from_micros(200));
/// The prefetch and the ack batch of the cells with manual acks.
const MANUAL: Acks = Acks::Manual { prefetch: 2000, batch: 100 };
const MIB: f64 = 1024.0 * 1024.0;

/// The load of a broker cell; none for the other cells.
pub(crate) fn load_of(cell: Cell) -> Option<Load> {
    let transient = |body_size, in_flight_max| Load {
        body_size,
        durable: false,
        flow: Flow::Unconfirmed { in_flight_max },
        acks: Acks::Auto,
        gather: Some(GATHER),
    };
    let persistent = |window, gather| Load {
        body_size: 1024,
        durable: true,
        flow: Flow::Confirmed { window },
        acks: MANUAL,
        gather,
    };
    match cell {
        Cell::A16 => Some(transient(16, 20_000)),
        Cell::A1k => Some(transient(1024, 2_000)),
        Cell::B => Some(persistent(1000, Some(GATHER))),
        Cell::E => Some(persistent(1, None)),
        Cell::Proxy | Cell::Idle | Cell::Ready => None,
    }
}

/// Whether syncs are counted in the cell.
pub(crate) fn counts_syncs(cell: Cell) -> bool {
    load_of(cell).is_some_and(|load| load.durable)
}

/// One measured run.
pub(crate) fn measure(address: SocketAddr, pid: u32, load: &Load, timing: Timing) -> Result<Figures> {
    let outcome = load::run(address, pid, load, timing)?;
    let operations = outcome.operations.max(1) as f64;
    let mut figures = Figures::default();
    figures
        .set(Figure::Rate, outcome.operations as f64 / outcome.used.elapsed.as_secs_f64())
        .set(Figure::Cpu, outcome.used.server.as_secs_f64() * 1e6 / operations)
        .set(Figure::ClientCpu, outcome.used.generator.as_secs_f64() * 1e6 / operations)
        .set(Figure::Rss, outcome.rss as f64 / MIB)
        .set(Figure::Foreign, outcome.used.foreign_share() * 100.0);
    for (figure, quantile) in [(Figure::P50, 0.5), (Figure::P99, 0.99)] {
        if let Some(latency) = outcome.latencies.quantile(quantile) {
            figures.set(figure, latency.as_secs_f64() * 1e6);
        }
    }
    Ok(figures)
}

/// One run under strace, from the first publish to the last ack: syncs per 1,000 confirms.
pub(crate) fn count_syncs(address: SocketAddr, pid: u32, load: &Load, timing: Timing, dir: &Path) -> Result<f64> {
    let tracer = Tracer::attach(pid, dir)?;
    let outcome = load::run(address, pid, load, timing);
    let syncs = tracer.finish()?;
    Ok(syncs as f64 * 1000.0 / outcome?.verdict.published.max(1) as f64)
}
