//! One run of one broker cell: publishers and consumers on threads of their own, measured from outside while they run.
//!
//! Load is applied for warm-up plus window; rate and CPU are taken over the window only. Then the publishers stop, the
//! rest is drained, and the verdict covers every message of the run, warm-up included.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::checker::Verdict;
use super::connection::Connection;
use super::consumer::{Consumed, Consumer};
use super::lane::{Control, Lane};
use super::load::{Flow, Load, Timing};
use super::publisher::{self, Published};
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::proc::{self, Meter, Reading};

/// How often RSS is sampled within the window.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// What a run measured.
pub(crate) struct Outcome {
    /// Messages in the window: deliveries, or confirms if these are fewer.
    pub(crate) operations: u64,
    /// CPU times in the window, and how long it was.
    pub(crate) used: Reading,
    /// The server's largest RSS seen in the window, in octets.
    pub(crate) rss: u64,
    /// Publish to confirm, or to delivery where nothing is confirmed and the load is paced, within the window.
    pub(crate) latencies: Histogram,
    /// What became of every message of the run.
    pub(crate) verdict: Verdict,
}

/// What the window measured.
struct Window {
    delivered: u64,
    confirmed: u64,
    used: Reading,
    rss: u64,
}

/// Runs `load` against the server at `address` whose root process is `pid`.
pub(crate) fn run(address: SocketAddr, pid: u32, load: &Load, timing: Timing) -> Result<Outcome> {
    let lanes = &Lane::all(load, run_number());
    let control = &Control::new(timing.patience);
    declare(address, load, lanes)?;
    let mut consumers = Vec::new();
    for lane in lanes {
        for subscriber in &lane.subscribers {
            consumers.push(Consumer::subscribe(Connection::open(address)?, load, lane, subscriber)?);
        }
    }
    let publishing: Vec<Connection> = lanes.iter().map(|_| Connection::open(address)).collect::<Result<_>>()?;

    thread::scope(|scope| {
        let consumers: Vec<_> = consumers
            .into_iter()
            .map(|mut consumer| scope.spawn(move || consumer.receive(control).and_then(|()| consumer.leave())))
            .collect();
        let publishers: Vec<_> = lanes
            .iter()
            .zip(publishing)
            .map(|(lane, connection)| scope.spawn(move || publisher::run(connection, load, lane, control)))
            .collect();
        let ended_early = || {
            consumers.iter().any(ScopedJoinHandle::is_finished) || publishers.iter().any(ScopedJoinHandle::is_finished)
        };
        let window = measure(pid, timing, control, lanes, ended_early);
        let published = stop(control, lanes, publishers);
        let consumed: Vec<Result<Consumed>> = consumers.into_iter().map(join).collect();
        outcome(load, window?, published?, consumed.into_iter().collect::<Result<_>>()?)
    })
}

/// A number that no other run has, and that leaves room for a lane each.
pub(crate) fn run_number() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// Declares what `lanes` need, on a connection for that.
pub(crate) fn declare(address: SocketAddr, load: &Load, lanes: &[Lane]) -> Result<()> {
    let mut connection = Connection::open(address)?;
    lanes.iter().try_for_each(|lane| lane.declare(&mut connection, load.durable))?;
    connection.close()
}

/// Stops the publishers, waits for them and tells the consumers how much there was.
pub(crate) fn stop<'scope>(
    control: &Control,
    lanes: &[Lane],
    publishers: Vec<ScopedJoinHandle<'scope, Result<Published>>>,
) -> Result<Vec<Published>> {
    control.measuring.store(false, Ordering::Relaxed);
    control.stop.store(true, Ordering::Relaxed);
    let finish = |(lane, publisher): (&Lane, _)| {
        let published = join(publisher);
        // Without a publisher there is nothing to wait for.
        let count = published.as_ref().map_or(0, |published: &Published| published.count);
        lane.total.store(count, Ordering::Release);
        published
    };
    let published: Vec<Result<Published>> = lanes.iter().zip(publishers).map(finish).collect();
    published.into_iter().collect()
}

/// What a thread of the load generator returned.
pub(crate) fn join<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().map_err(|_| Error::new("a thread of the load generator panicked"))?
}

fn measure(
    pid: u32,
    timing: Timing,
    control: &Control,
    lanes: &[Lane],
    ended_early: impl Fn() -> bool,
) -> Result<Window> {
    thread::sleep(timing.warm_up);
    control.measuring.store(true, Ordering::Relaxed);
    let delivered = || lanes.iter().map(Lane::delivered).sum::<u64>();
    let confirmed = || lanes.iter().map(|lane| lane.confirmed.load(Ordering::Relaxed)).sum::<u64>();
    let meter = Meter::start(pid, None)?;
    let before = (delivered(), confirmed());
    let mut rss = 0;
    while meter.elapsed() < timing.window && !ended_early() {
        thread::sleep(SAMPLE_INTERVAL.min(timing.window.saturating_sub(meter.elapsed())));
        rss = rss.max(proc::rss(pid)?);
    }
    let after = (delivered(), confirmed());
    Ok(Window { delivered: after.0 - before.0, confirmed: after.1 - before.1, used: meter.finish()?, rss })
}

fn outcome(load: &Load, window: Window, published: Vec<Published>, consumed: Vec<Consumed>) -> Result<Outcome> {
    let verdict = consumed.iter().map(|consumed| consumed.verdict).fold(Verdict::default(), Verdict::and);
    check(verdict)?;
    let mut latencies = Histogram::new();
    published.iter().for_each(|published| latencies.add(&published.latencies));
    consumed.iter().for_each(|consumed| latencies.add(&consumed.latencies));
    let operations = match load.flow {
        Flow::Unconfirmed { .. } | Flow::Paced { confirms: false, .. } => window.delivered,
        Flow::Confirmed { .. } | Flow::Paced { confirms: true, .. } => window.delivered.min(window.confirmed),
    };
    Ok(Outcome { operations, used: window.used, rss: window.rss, latencies, verdict })
}

/// Fails unless everything arrived once and in order.
pub(crate) fn check(verdict: Verdict) -> Result<()> {
    if verdict.is_clean() {
        return Ok(());
    }
    Err(Error::new(format!("the server did not keep its promise: {verdict}")))
}

/// Samples the RSS of `pid` until `work` is done; the largest seen, in octets, and what `work` returned.
pub(crate) fn with_peak_rss<T>(pid: u32, work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
    let (peak, done) = (&AtomicU64::new(proc::rss(pid)?), &AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                // A server that died is found by `work`.
                peak.fetch_max(proc::rss(pid).unwrap_or_default(), Ordering::Relaxed);
                thread::sleep(SAMPLE_INTERVAL);
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        Ok((peak.load(Ordering::Relaxed), result?))
    })
}
