//! The cells: what each applies as load, whom it compares, and the floors it holds us to.

pub(crate) mod broker;
pub(crate) mod data;
pub(crate) mod gateway;
pub(crate) mod stage;

use std::time::Duration;

use clap::ValueEnum;

use crate::client::load::Timing;
use crate::figures::{Bound, Figure, Floor};
use crate::peers::haproxy;

/// One row group of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Cell {
    /// 16 B transient, auto-ack, one publisher to one consumer
    A16,
    /// 1 KiB transient, auto-ack, one publisher to one consumer
    A1k,
    /// 1 KiB persistent in a durable queue, confirm window 1000, manual acks
    B,
    /// as b over 10 queues, each with a publisher and a consumer of its own
    C,
    /// as c over 10,000 queues, beside our own c
    C10k,
    /// as b with confirm window 1: confirm latency
    E,
    /// 1 KiB transient through a fanout exchange to 10 queues with a consumer each, auto-ack
    F,
    /// 5,000 messages/s, 1 KiB transient, auto-ack: latency from publish to delivery
    G,
    /// 5,000 messages/s, 1 KiB persistent, confirmed, manual acks: confirm latency
    Gp,
    /// a backlog of 1 KiB persistent messages, drained by one consumer with manual acks
    Drain,
    /// ours: milliseconds from exec to ready after kill -9, with 1 GiB of 1 KiB messages in the log
    Recovery,
    /// ours: octets of memory per idle durable queue, and from exec to ready with 100,000 of them
    Queues,
    /// HTTP/1.1 proxy, 64 connections, 1 KiB answers; 1,000 routes, key-auth and local rate limiting on ours
    Proxy,
    /// as proxy with 256 connections
    Proxy256,
    /// as proxy with TLS
    Tls1,
    /// as proxy with TLS and HTTP/2, 8 streams a connection, beside haproxy
    Tls2,
    /// as proxy with a full TLS handshake for each request
    Shake,
    /// as proxy with HTTP/2 without TLS, 8 streams a connection, beside haproxy
    H2c,
    /// as proxy at 5,000 requests/s over 50 connections, each in its turn: latency
    Paced,
    /// as paced, but all 50 at once, 100 times a second: latency
    Bursts,
    /// resident memory after the start, nothing connected
    Idle,
    /// milliseconds from exec to ready with an empty data directory
    Ready,
}

/// Whose server is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Sluicegate.
    Ours,
    /// RabbitMQ, nginx or haproxy.
    Theirs,
}

/// How long the measured part of each run takes, and how many rounds there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds of the broker's cells; the median counts.
    pub(crate) rounds: usize,
    /// Rounds of the proxies' cells. Short and many: what is compared differs by less than a machine that others share
    /// changes its speed by from one minute to the next.
    pub(crate) proxy_rounds: usize,
    /// Rounds of the proxies' cells that are about latency: more, because a p99 is one stall of the machine away from another.
    pub(crate) latency_rounds: usize,
    /// Of a broker run.
    pub(crate) broker: Timing,
    /// Of a run through a proxy.
    pub(crate) proxy: Duration,
    /// Of a run through a proxy that is about latency.
    pub(crate) latency: Duration,
    /// Of a broker run under strace.
    pub(crate) traced: Timing,
    /// Rounds of the cells that have much data to write first.
    pub(crate) data_rounds: usize,
    /// Messages of the backlog that is drained.
    pub(crate) backlog: u64,
}

/// How long nothing may arrive, after the last publish, before the rest counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const fn timing(warm_up_ms: u64, window_ms: u64) -> Timing {
    Timing { warm_up: Duration::from_millis(warm_up_ms), window: Duration::from_millis(window_ms), patience: PATIENCE }
}

impl Plan {
    /// The plan whose numbers may be quoted.
    pub(crate) const FULL: Self = Self {
        rounds: 3,
        proxy_rounds: 9,
        latency_rounds: 31,
        broker: timing(1000, 4000),
        proxy: Duration::from_secs(2),
        latency: Duration::from_secs(1),
        traced: timing(0, 3000),
        data_rounds: 3,
        backlog: 500_000,
    };
    /// The plan for a first look.
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        proxy_rounds: 3,
        latency_rounds: 5,
        broker: timing(500, 1500),
        proxy: Duration::from_secs(2),
        latency: Duration::from_secs(1),
        traced: timing(0, 1000),
        data_rounds: 1,
        backlog: 100_000,
    };

    /// How often `cell` is measured.
    pub(crate) fn rounds_of(&self, cell: Cell) -> usize {
        match cell {
            Cell::Drain | Cell::Recovery | Cell::Queues => self.data_rounds,
            _ if gateway::is_paced(cell) => self.latency_rounds,
            _ if gateway::is_gateway(cell) => self.proxy_rounds,
            _ => self.rounds,
        }
    }

    /// How long a run through a proxy takes in `cell`.
    pub(crate) const fn window_of(&self, cell: Cell) -> Duration {
        if gateway::is_paced(cell) { self.latency } else { self.proxy }
    }
}

impl Cell {
    /// All cells, in the table's order.
    pub(crate) const ALL: [Self; 22] = [
        Self::A16,
        Self::A1k,
        Self::B,
        Self::C,
        Self::C10k,
        Self::E,
        Self::F,
        Self::G,
        Self::Gp,
        Self::Drain,
        Self::Recovery,
        Self::Queues,
        Self::Proxy,
        Self::Proxy256,
        Self::Tls1,
        Self::Tls2,
        Self::Shake,
        Self::H2c,
        Self::Paced,
        Self::Bursts,
        Self::Idle,
        Self::Ready,
    ];

    /// Its name on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A16 => "a16",
            Self::A1k => "a1k",
            Self::B => "b",
            Self::C => "c",
            Self::C10k => "c10k",
            Self::E => "e",
            Self::F => "f",
            Self::G => "g",
            Self::Gp => "gp",
            Self::Drain => "drain",
            Self::Recovery => "recovery",
            Self::Queues => "queues",
            Self::Proxy => "proxy",
            Self::Proxy256 => "proxy256",
            Self::Tls1 => "tls1",
            Self::Tls2 => "tls2",
            Self::Shake => "shake",
            Self::H2c => "h2c",
            Self::Paced => "paced",
            Self::Bursts => "bursts",
            Self::Idle => "idle",
            Self::Ready => "ready",
        }
    }

    /// What the peer is called.
    pub(crate) fn peer(self) -> &'static str {
        match self {
            Self::Tls2 | Self::H2c => haproxy::NAME,
            _ if gateway::is_gateway(self) => "nginx",
            _ => "RabbitMQ",
        }
    }

    /// Whether ours is measured alone.
    pub(crate) fn is_ours_alone(self) -> bool {
        self.reference() != Some((self, Side::Theirs))
    }

    /// What ours is compared with: the peer in the same cell, our own figures in another, or nothing.
    pub(crate) fn reference(self) -> Option<(Self, Side)> {
        match self {
            Self::C10k => Some((Self::C, Side::Ours)),
            Self::Recovery | Self::Queues => None,
            _ => Some((self, Side::Theirs)),
        }
    }

    /// What must be reached.
    pub(crate) fn floors(self) -> &'static [Floor] {
        const fn floor(figure: Figure, bound: Bound) -> Floor {
            Floor { figure, bound }
        }
        const CPU: Floor = floor(Figure::Cpu, Bound::RatioAtMost(0.125));
        const P50: Floor = floor(Figure::P50, Bound::RatioAtMost(1.0));
        const P99: Floor = floor(Figure::P99, Bound::RatioAtMost(1.0));
        const EIGHTFOLD: &[Floor] = &[floor(Figure::Rate, Bound::RatioAtLeast(8.0)), CPU];
        match self {
            Self::A16 | Self::B | Self::C | Self::F => EIGHTFOLD,
            Self::A1k => const { &[floor(Figure::Rate, Bound::RatioAtLeast(6.0))] },
            Self::C10k => const { &[floor(Figure::Rate, Bound::RatioAtLeast(0.9))] },
            Self::E | Self::Gp => const { &[P50, P99] },
            Self::G | Self::Drain => &[],
            Self::Recovery => const { &[floor(Figure::Ready, Bound::AtMost(2_000.0))] },
            Self::Queues => {
                const { &[floor(Figure::QueueBytes, Bound::AtMost(500.0)), floor(Figure::Ready, Bound::AtMost(5_000.0))] }
            }
            Self::Proxy => {
                const { &[floor(Figure::Cpu, Bound::RatioAtMost(1.1)), floor(Figure::Calls, Bound::AtMost(4.2))] }
            }
            Self::Proxy256 => const { &[floor(Figure::Cpu, Bound::RatioAtMost(1.1))] },
            Self::Tls1 => const { &[floor(Figure::Cpu, Bound::RatioAtMost(1.0))] },
            Self::Tls2 => const { &[floor(Figure::Cpu, Bound::RatioAtMost(1.3))] },
            Self::Shake => const { &[floor(Figure::Cpu, Bound::RatioAtMost(0.75))] },
            Self::H2c => &[],
            Self::Paced | Self::Bursts => const { &[P99] },
            Self::Idle => const { &[floor(Figure::Rss, Bound::AtMost(25.0))] },
            Self::Ready => const { &[floor(Figure::Ready, Bound::AtMost(200.0))] },
        }
    }
}
