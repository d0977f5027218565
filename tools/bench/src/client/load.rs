//! One run of one broker cell: a publisher and a consumer on threads of their own, measured from outside while they run.
//!
//! Load is applied for warm-up plus window; rate and CPU are taken over the window only. Then the publisher stops, the
//! rest is drained, and the verdict covers every message of the run, warm-up included.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::checker::Verdict;
use super::connection::{Arrival, Connection};
use super::content::Content;
use super::wire::{CHANNEL, method, request};
use super::{consumer, publisher};
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::proc::{self, Meter, Reading};

/// How often RSS is sampled within the window.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// A read that brings this many octets is worth its cost; there is no need to gather.
const PLENTY: usize = 64 * 1024;

/// The shape of a broker cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Octets of each body.
    pub(crate) body_size: usize,
    /// Persistent messages in a durable queue; else transient in a transient queue.
    pub(crate) durable: bool,
    /// What limits the publisher.
    pub(crate) flow: Flow,
    /// How deliveries are settled.
    pub(crate) acks: Acks,
    /// Whether reads wait for more, as throughput clients do; none in latency cells.
    pub(crate) gather: Option<Gather>,
}

/// What limits the publisher.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flow {
    /// No confirms; at most this many messages published and not yet delivered, so that no backlog is measured.
    Unconfirmed {
        /// Messages.
        in_flight_max: u64,
    },
    /// At most this many publishes unconfirmed.
    Confirmed {
        /// Messages.
        window: u64,
    },
}

/// How deliveries are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// On delivery, by the server.
    Auto,
    /// By the consumer, with `multiple`, once `batch` have arrived.
    Manual {
        /// Unsettled deliveries the server may have out.
        prefetch: u16,
        /// Deliveries per ack.
        batch: u64,
    },
}

/// A pause between reads, so that a server which writes message by message does not cost the client a read each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gather(pub(crate) Duration);

impl Gather {
    /// Sleeps until the interval since the last read is over, unless that read suggests that much more is waiting.
    pub(crate) fn wait(self, last: Instant, arrival: Arrival) {
        if matches!(arrival, Arrival::Octets(count) if count >= PLENTY) {
            return;
        }
        if let Some(rest) = self.0.checked_sub(last.elapsed()) {
            thread::sleep(rest);
        }
    }
}

/// How long a run takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Load that is not measured.
    pub(crate) warm_up: Duration,
    /// Load that is.
    pub(crate) window: Duration,
    /// How long nothing may arrive, after the last publish, before the rest counts as lost.
    pub(crate) patience: Duration,
}

/// What the threads of a run tell each other.
pub(crate) struct Shared {
    /// The publisher shall stop.
    pub(crate) stop: AtomicBool,
    /// The window is open: record latencies.
    pub(crate) measuring: AtomicBool,
    /// Deliveries so far.
    pub(crate) delivered: AtomicU64,
    /// Confirms so far.
    pub(crate) confirmed: AtomicU64,
    /// Messages published, once that is known.
    pub(crate) total: AtomicU64,
}

impl Shared {
    /// The publisher has not finished.
    pub(crate) const UNKNOWN: u64 = u64::MAX;

    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            total: AtomicU64::new(Self::UNKNOWN),
        }
    }
}

/// What a run measured.
pub(crate) struct Outcome {
    /// Messages in the window: deliveries, or confirms if these are fewer.
    pub(crate) operations: u64,
    /// CPU times in the window, and how long it was.
    pub(crate) used: Reading,
    /// The server's largest RSS seen in the window, in octets.
    pub(crate) rss: u64,
    /// Publish to confirm, within the window.
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
    let run_number = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let queue = &format!("bench-{run_number:x}");
    let content = &Content::new(run_number, load.body_size, load.durable);
    let mut consuming = Connection::open(address)?;
    declare(&mut consuming, queue, load.durable)?;
    consumer::subscribe(&mut consuming, load, queue)?;
    let publishing = Connection::open(address)?;
    let shared = &Shared::new();

    thread::scope(|scope| {
        let consumer = scope.spawn(move || consumer::run(consuming, load, content, queue, timing.patience, shared));
        let publisher = scope.spawn(move || publisher::run(publishing, load, content, queue, shared));
        let window = measure(pid, timing, shared, || consumer.is_finished() || publisher.is_finished());
        shared.measuring.store(false, Ordering::Relaxed);
        shared.stop.store(true, Ordering::Relaxed);
        let published = publisher.join().map_err(|_| Error::new("the publisher panicked"))?;
        let count = published.as_ref().map_or(0, |published| published.count);
        shared.total.store(count, Ordering::Release);
        let verdict = consumer.join().map_err(|_| Error::new("the consumer panicked"))?;
        let (published, verdict, window) = (published?, verdict?, window?);
        if !verdict.is_clean() {
            return Err(Error::new(format!("the server did not keep its promise: {verdict}")));
        }
        let operations = match load.flow {
            Flow::Unconfirmed { .. } => window.delivered,
            Flow::Confirmed { .. } => window.delivered.min(window.confirmed),
        };
        Ok(Outcome { operations, used: window.used, rss: window.rss, latencies: published.latencies, verdict })
    })
}

fn measure(pid: u32, timing: Timing, shared: &Shared, ended_early: impl Fn() -> bool) -> Result<Window> {
    thread::sleep(timing.warm_up);
    shared.measuring.store(true, Ordering::Relaxed);
    let counts = || (shared.delivered.load(Ordering::Relaxed), shared.confirmed.load(Ordering::Relaxed));
    let meter = Meter::start(pid, None)?;
    let before = counts();
    let mut rss = 0;
    while meter.elapsed() < timing.window && !ended_early() {
        thread::sleep(SAMPLE_INTERVAL.min(timing.window.saturating_sub(meter.elapsed())));
        rss = rss.max(proc::rss(pid)?);
    }
    let after = counts();
    Ok(Window { delivered: after.0 - before.0, confirmed: after.1 - before.1, used: meter.finish()?, rss })
}

fn declare(connection: &mut Connection, queue: &str, durable: bool) -> Result<()> {
    let declare = request(CHANNEL, method::QUEUE_DECLARE, |out| {
        out.short(0).short_string(queue).octet(u8::from(durable) << 1).empty_table();
    });
    connection.call(&declare, method::QUEUE_DECLARE_OK)?;
    Ok(())
}
