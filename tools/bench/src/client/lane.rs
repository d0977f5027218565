//! Who publishes what to where, and who consumes it: the lanes of a run, and what their threads tell each other.
//!
//! A lane is one publisher and everything that sees its messages: one consumer of one or many queues of the lane's own,
//! or, behind a fanout exchange, a consumer for each of its queues. Messages never change lanes, so each lane is
//! checked by itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::content::Content;
use super::load::{Flow, Load, Shape};
use super::wire::{CHANNEL, Output, method};
use crate::error::Result;
use crate::histogram::Histogram;

/// Digits at the end of each queue's name, of the same number in all, so that a rendered name can be patched.
pub(crate) const QUEUE_DIGITS: usize = 6;
/// Declarations sent before their answers are awaited.
const DECLARES_AT_ONCE: u64 = 500;
/// Send times kept; a message that is still under way when so many later ones were sent has no latency.
const SEND_TIMES: usize = 1 << 16;

/// Queues that share a name but for the number at its end; messages visit them in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queues {
    prefix: String,
    count: u64,
}

impl Queues {
    /// `count` queues (at least one, at most a million) whose names begin with `prefix`.
    pub(crate) fn new(prefix: impl Into<String>, count: u64) -> Self {
        assert!((1..=1_000_000).contains(&count), "the numbers have six digits");
        Self { prefix: prefix.into(), count }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The name of one.
    pub(crate) fn name(&self, queue: u64) -> String {
        format!("{}-{queue:0QUEUE_DIGITS$}", self.prefix)
    }

    /// The queue that the message numbered `sequence` goes to, and its place among that queue's messages.
    #[inline]
    pub(crate) fn place(&self, sequence: u64) -> (u64, u64) {
        if self.count == 1 { (0, sequence) } else { (sequence % self.count, sequence / self.count) }
    }

    /// How many of `total` messages go to `queue`.
    pub(crate) fn share(&self, queue: u64, total: u64) -> u64 {
        total / self.count + u64::from(queue < total % self.count)
    }

    /// Declares all of them.
    pub(crate) fn declare(&self, connection: &mut Connection, durable: bool) -> Result<()> {
        self.declare_with(connection, u8::from(durable) << 1)
    }

    /// Fails unless all of them are there.
    pub(crate) fn verify(&self, connection: &mut Connection) -> Result<()> {
        const PASSIVE: u8 = 1;
        self.declare_with(connection, PASSIVE)
    }

    fn declare_with(&self, connection: &mut Connection, flags: u8) -> Result<()> {
        for first in (0..self.count).step_by(DECLARES_AT_ONCE as usize) {
            let some = first..self.count.min(first + DECLARES_AT_ONCE);
            let mut out = Output::default();
            for queue in some.clone() {
                out.method(CHANNEL, method::QUEUE_DECLARE, |out| {
                    out.short(0).short_string(&self.name(queue)).octet(flags).empty_table();
                });
            }
            connection.call_all(&out.0, method::QUEUE_DECLARE_OK, some.count(), |_| Ok(()))?;
        }
        Ok(())
    }
}

/// Where a lane's publisher publishes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// These queues in turn, through the default exchange.
    Queues(Queues),
    /// A fanout exchange.
    Exchange(String),
}

/// One publisher and those that consume what it sends.
pub(crate) struct Lane {
    /// Its messages.
    pub(crate) content: Content,
    /// Where they are published to.
    pub(crate) destination: Destination,
    /// Who sees all of them, each in its own queues.
    pub(crate) subscribers: Vec<Subscriber>,
    /// Confirms so far.
    pub(crate) confirmed: AtomicU64,
    /// Messages published, once that is known.
    pub(crate) total: AtomicU64,
    /// Where publish to confirm is counted, if somebody looks at it while the run goes on.
    pub(crate) sampled: Option<Mutex<Histogram>>,
    /// When each message was sent, in a cell that measures from end to end.
    pub(crate) send_times: Option<SendTimes>,
}

/// One consumer's queues, and how far it is.
pub(crate) struct Subscriber {
    /// The queues it consumes.
    pub(crate) queues: Queues,
    /// Deliveries so far.
    pub(crate) delivered: AtomicU64,
    /// Its consumer shall not read for now.
    pub(crate) paused: AtomicBool,
}

impl Subscriber {
    /// A consumer of `queues` that has not begun.
    pub(crate) fn new(queues: Queues) -> Self {
        Self { queues, delivered: AtomicU64::new(0), paused: AtomicBool::new(false) }
    }
}

impl Lane {
    /// The publisher has not finished.
    pub(crate) const UNKNOWN: u64 = u64::MAX;

    /// The lanes of `load`. `run` is a number that no other run has; names and bodies carry it.
    pub(crate) fn all(load: &Load, run: u64) -> Vec<Self> {
        match load.shape {
            Shape::Lanes { lanes, queues } => (0..lanes)
                .map(|lane| {
                    let queues = Queues::new(format!("bench-{run:x}-{lane}"), queues);
                    Self::new(load, run + lane, Destination::Queues(queues.clone()), vec![queues])
                })
                .collect(),
            Shape::Fanout { queues } => {
                let exchange = format!("bench-{run:x}");
                let consumed = (0..queues).map(|queue| Queues::new(format!("{exchange}-{queue}"), 1)).collect();
                vec![Self::new(load, run, Destination::Exchange(exchange), consumed)]
            }
        }
    }

    fn new(load: &Load, run: u64, destination: Destination, consumed: Vec<Queues>) -> Self {
        let from_end_to_end = matches!(load.flow, Flow::Paced { confirms: false, .. });
        Self {
            content: Content::new(run, load.body_size, load.durable),
            destination,
            subscribers: consumed.into_iter().map(Subscriber::new).collect(),
            confirmed: AtomicU64::new(0),
            total: AtomicU64::new(Self::UNKNOWN),
            sampled: None,
            send_times: from_end_to_end.then(SendTimes::new),
        }
    }

    /// Declares exchange and queues and binds them.
    pub(crate) fn declare(&self, connection: &mut Connection, durable: bool) -> Result<()> {
        if let Destination::Exchange(exchange) = &self.destination {
            declare_fanout(connection, exchange)?;
        }
        for subscriber in &self.subscribers {
            subscriber.queues.declare(connection, durable)?;
            if let Destination::Exchange(exchange) = &self.destination {
                bind(connection, &subscriber.queues, exchange)?;
            }
        }
        Ok(())
    }

    /// Deliveries so far, of all its consumers.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered_each().sum()
    }

    /// Messages that every consumer has seen so far.
    pub(crate) fn delivered_to_all(&self) -> u64 {
        self.delivered_each().min().unwrap_or_default()
    }

    fn delivered_each(&self) -> impl Iterator<Item = u64> {
        self.subscribers.iter().map(|subscriber| subscriber.delivered.load(Ordering::Relaxed))
    }
}

/// An exchange that goes with its last queue.
fn declare_fanout(connection: &mut Connection, exchange: &str) -> Result<()> {
    const AUTO_DELETE: u8 = 1 << 2;
    let mut out = Output::default();
    out.method(CHANNEL, method::EXCHANGE_DECLARE, |out| {
        out.short(0).short_string(exchange).short_string("fanout").octet(AUTO_DELETE).empty_table();
    });
    connection.call(&out.0, method::EXCHANGE_DECLARE_OK).map(drop)
}

fn bind(connection: &mut Connection, queues: &Queues, exchange: &str) -> Result<()> {
    let mut out = Output::default();
    for queue in 0..queues.count() {
        out.method(CHANNEL, method::QUEUE_BIND, |out| {
            out.short(0).short_string(&queues.name(queue)).short_string(exchange).short_string("");
            out.octet(0).empty_table();
        });
    }
    connection.call_all(&out.0, method::QUEUE_BIND_OK, queues.count() as usize, |_| Ok(()))
}

/// When the messages of a lane were sent, by sequence number.
pub(crate) struct SendTimes(Vec<AtomicU64>);

impl SendTimes {
    fn new() -> Self {
        Self((0..SEND_TIMES).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes that `count` messages from `first` on are sent at `now_nanos`.
    pub(crate) fn sent(&self, first: u64, count: u64, now_nanos: u64) {
        for sequence in first..first + count {
            self.slot(sequence).store(now_nanos, Ordering::Release);
        }
    }

    /// When the message was sent, in nanoseconds of the run.
    pub(crate) fn of(&self, sequence: u64) -> u64 {
        self.slot(sequence).load(Ordering::Acquire)
    }

    fn slot(&self, sequence: u64) -> &AtomicU64 {
        &self.0[sequence as usize % SEND_TIMES]
    }
}

/// What the main thread tells all others.
pub(crate) struct Control {
    /// The publishers shall stop.
    pub(crate) stop: AtomicBool,
    /// The window is open: record latencies.
    pub(crate) measuring: AtomicBool,
    epoch: Instant,
    /// How long nothing may arrive, after the last publish, before the rest counts as lost.
    pub(crate) patience: Duration,
}

impl Control {
    /// Starts the run's clock.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { stop: AtomicBool::new(false), measuring: AtomicBool::new(false), epoch: Instant::now(), patience }
    }

    /// Nanoseconds of the run so far.
    pub(crate) fn nanos(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Whether latencies count now.
    pub(crate) fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }

    /// Whether publishers shall stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_visit_the_queues_in_turn() {
        let queues = Queues::new("q", 3);
        assert_eq!((0..7).map(|sequence| queues.place(sequence).0).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!((0..7).map(|sequence| queues.place(sequence).1).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2]);
        assert_eq!((0..3).map(|queue| queues.share(queue, 7)).collect::<Vec<_>>(), [3, 2, 2]);
        assert_eq!(queues.name(2), "q-000002");
        assert_eq!(Queues::new("q", 1).place(5), (0, 5));
    }
}
