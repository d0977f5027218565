//! The broker cells: a run of the AMQP load generator, turned into figures.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Cell;
use crate::client::load::{Acks, Flow, Gather, Load, Shape, Timing};
use crate::client::pace::Pace;
use crate::client::run::{self, Outcome};
use crate::error::{Error, Result};
use crate::figures::{Figure, Figures};
use crate::strace::{Calls, Tracer};

/// Reads of throughput cells wait this long for more (the kernel's timer adds some 50 µs).
const GATHER: Gather = Gather(Duration::from_micros(200));
/// The same where ten connections share the load: each sees a tenth of it, so a read brings as much after ten times as long.
const GATHER_OF_TEN: Gather = Gather(Duration::from_millis(2));
/// The rate of the cells that measure latency at low load.
const PACE: Pace = Pace { per_second: 5_000, batch: 1 };
/// The prefetch and the ack batch of the cells with manual acks.
pub(crate) const MANUAL: Acks = Acks::Manual { prefetch: 2000, batch: 100 };
/// What a paced run has to reach of its rate; a window cuts some milliseconds of it off.
const PACE_SHARE_MIN: f64 = 0.97;
const MIB: f64 = 1024.0 * 1024.0;

/// The load of a broker cell; none for the other cells.
pub(crate) fn load_of(cell: Cell) -> Option<Load> {
    let transient =
        |shape, body_size, flow, gather| Load { shape, body_size, durable: false, flow, acks: Acks::Auto, gather };
    let persistent = |shape, flow, gather| Load { shape, body_size: 1024, durable: true, flow, acks: MANUAL, gather };
    let in_flight_max = |in_flight_max| Flow::Unconfirmed { in_flight_max };
    let window = |window| Flow::Confirmed { window };
    let lanes = |lanes, queues| Shape::Lanes { lanes, queues };
    Some(match cell {
        Cell::A16 => transient(Shape::SINGLE, 16, in_flight_max(20_000), Some(GATHER)),
        Cell::A1k => transient(Shape::SINGLE, 1024, in_flight_max(2_000), Some(GATHER)),
        Cell::B => persistent(Shape::SINGLE, window(1000), Some(GATHER)),
        Cell::C => persistent(lanes(10, 1), window(1000), Some(GATHER_OF_TEN)),
        Cell::C10k => persistent(lanes(10, 1_000), window(1000), Some(GATHER_OF_TEN)),
        Cell::E => persistent(Shape::SINGLE, window(1), None),
        Cell::F => transient(Shape::Fanout { queues: 10 }, 1024, in_flight_max(2_000), Some(GATHER_OF_TEN)),
        Cell::G => transient(Shape::SINGLE, 1024, Flow::Paced { pace: PACE, confirms: false }, None),
        Cell::Gp => persistent(Shape::SINGLE, Flow::Paced { pace: PACE, confirms: true }, None),
        _ => return None,
    })
}

/// Whether syncs are counted in the cell.
pub(crate) fn counts_syncs(cell: Cell) -> bool {
    matches!(cell, Cell::B | Cell::E)
}

/// One measured run.
pub(crate) fn measure(address: SocketAddr, pid: u32, load: &Load, timing: Timing) -> Result<Figures> {
    let outcome = run::run(address, pid, load, timing)?;
    check_pace(load, &outcome)?;
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

/// A paced run that fell behind has measured another load than it says.
fn check_pace(load: &Load, outcome: &Outcome) -> Result<()> {
    let Flow::Paced { pace, .. } = load.flow else { return Ok(()) };
    let rate = outcome.operations as f64 / outcome.used.elapsed.as_secs_f64();
    if rate < pace.per_second as f64 * PACE_SHARE_MIN {
        return Err(Error::new(format!("{rate:.0} messages/s instead of {}", pace.per_second)));
    }
    Ok(())
}

/// One run under strace, from the first publish to the last ack: syncs per 1,000 confirms.
pub(crate) fn count_syncs(address: SocketAddr, pid: u32, load: &Load, timing: Timing, dir: &Path) -> Result<f64> {
    let tracer = Tracer::attach(pid, Calls::Syncs, dir)?;
    let outcome = run::run(address, pid, load, timing);
    let syncs = tracer.finish()?;
    Ok(syncs as f64 * 1000.0 / outcome?.verdict.published.max(1) as f64)
}
