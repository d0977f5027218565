//! The load of a broker cell: who publishes and consumes how much, and what holds the publishers back.

use std::thread;
use std::time::{Duration, Instant};

use super::connection::Arrival;
use super::pace::Pace;

/// A read that brings this many octets is worth its cost; there is no need to gather.
const PLENTY: usize = 64 * 1024;

/// The load of a broker cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Who publishes to what.
    pub(crate) shape: Shape,
    /// Octets of each body.
    pub(crate) body_size: usize,
    /// Persistent messages in durable queues; else transient in transient ones.
    pub(crate) durable: bool,
    /// What limits each publisher.
    pub(crate) flow: Flow,
    /// How deliveries are settled.
    pub(crate) acks: Acks,
    /// Whether reads wait for more, as throughput clients do; none in latency cells.
    pub(crate) gather: Option<Gather>,
}

/// Who publishes to what, on a connection of its own each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// So many publishers, each with queues and a consumer of its own; messages visit the queues in turn.
    Lanes {
        /// Publishers, and consumers.
        lanes: u64,
        /// Queues of each lane.
        queues: u64,
    },
    /// One publisher, a fanout exchange, and a consumer for each of the queues behind it.
    Fanout {
        /// Queues.
        queues: u64,
    },
}

impl Shape {
    /// One publisher, one queue, one consumer.
    pub(crate) const SINGLE: Self = Self::Lanes { lanes: 1, queues: 1 };
}

/// What limits a publisher.
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
    /// The clock.
    Paced {
        /// How fast.
        pace: Pace,
        /// Whether confirms are asked for, and timed; else deliveries are timed, from end to end.
        confirms: bool,
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
