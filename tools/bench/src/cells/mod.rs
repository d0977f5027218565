//! The cells: what each applies as load, whom it compares, and the floors it holds us to.

pub(crate) mod broker;
pub(crate) mod proxy;
pub(crate) mod stage;

use std::time::Duration;

use clap::ValueEnum;

use crate::client::load::Timing;
use crate::figures::{Bound, Figure, Floor};

/// One row group of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Cell {
    /// 16 B transient, auto-ack, one publisher to one consumer
    A16,
    /// 1 KiB transient, auto-ack, one publisher to one consumer
    A1k,
    /// 1 KiB persistent in a durable queue, confirm window 1000, manual acks
    B,
    /// as b with confirm window 1: confirm latency
    E,
    /// HTTP proxy, 64 connections, 1 KiB answers, 100 routes and correlation ids on ours
    Proxy,
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
    /// RabbitMQ or nginx.
    Theirs,
}

/// How long the measured part of each run takes, and how many rounds there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds; the median counts.
    pub(crate) rounds: usize,
    /// Of a broker run.
    pub(crate) broker: Timing,
    /// Of a proxy run.
    pub(crate) proxy: Duration,
    /// Of a broker run under strace.
    pub(crate) traced: Timing,
}

/// How long nothing may arrive, after the last publish, before the rest counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

const fn timing(warm_up_ms: u64, window_ms: u64) -> Timing {
    Timing { warm_up: Duration::from_millis(warm_up_ms), window: Duration::from_millis(window_ms), patience: PATIENCE }
}

impl Plan {
    /// The plan whose numbers may be quoted.
    pub(crate) const FULL: Self =
        Self { rounds: 3, broker: timing(1000, 4000), proxy: Duration::from_secs(5), traced: timing(0, 3000) };
    /// The plan for a first look.
    pub(crate) const QUICK: Self =
        Self { rounds: 3, broker: timing(500, 1500), proxy: Duration::from_secs(2), traced: timing(0, 1000) };
}

impl Cell {
    /// All cells, in the table's order.
    pub(crate) const ALL: [Self; 7] = [Self::A16, Self::A1k, Self::B, Self::E, Self::Proxy, Self::Idle, Self::Ready];

    /// Its name on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A16 => "a16",
            Self::A1k => "a1k",
            Self::B => "b",
            Self::E => "e",
            Self::Proxy => "proxy",
            Self::Idle => "idle",
            Self::Ready => "ready",
        }
    }

    /// What the peer is called.
    pub(crate) fn peer(self) -> &'static str {
        if self == Self::Proxy { "nginx" } else { "RabbitMQ" }
    }

    /// What must be reached.
    pub(crate) fn floors(self) -> &'static [Floor] {
        const fn floor(figure: Figure, bound: Bound) -> Floor {
            Floor { figure, bound }
        }
        match self {
            Self::A16 => &[],
            Self::A1k => const { &[floor(Figure::Rate, Bound::RatioAtLeast(3.0))] },
            Self::B => {
                const { &[floor(Figure::Rate, Bound::RatioAtLeast(5.0)), floor(Figure::Cpu, Bound::RatioAtMost(0.2))] }
            }
            Self::E => const { &[floor(Figure::P50, Bound::RatioAtMost(1.0))] },
            Self::Proxy => const { &[floor(Figure::Cpu, Bound::RatioAtMost(1.3))] },
            Self::Idle => const { &[floor(Figure::Rss, Bound::AtMost(25.0))] },
            Self::Ready => const { &[floor(Figure::Ready, Bound::AtMost(200.0))] },
        }
    }
}
