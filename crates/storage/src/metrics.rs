//! Counters behind [`engine::EngineMetrics`].

use crate::usage::FileCounts;
use engine::EngineMetrics;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count, a sum and a histogram of durations.
#[derive(Default)]
pub(crate) struct Durations {
    count: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU64; 12],
}

impl Durations {
    pub(crate) fn add(&self, us: u64) {
        self.count.fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
        self.buckets[bucket(us)].fetch_add(1, Relaxed);
    }

    /// Adds what was counted apart.
    pub(crate) fn add_all(&self, tally: &Tally) {
        self.count.fetch_add(tally.count, Relaxed);
        self.sum_us.fetch_add(tally.sum_us, Relaxed);
        for (total, &added) in self.buckets.iter().zip(&tally.buckets).filter(|(_, added)| **added > 0) {
            total.fetch_add(added, Relaxed);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }

    pub(crate) fn buckets(&self) -> [u64; 12] {
        std::array::from_fn(|i| self.buckets[i].load(Relaxed))
    }
}

/// Durations counted by one thread, to be added at once.
#[derive(Default)]
pub(crate) struct Tally {
    count: u64,
    sum_us: u64,
    buckets: [u64; 12],
}

impl Tally {
    pub(crate) fn add(&mut self, us: u64) {
        self.count += 1;
        self.sum_us += us;
        self.buckets[bucket(us)] += 1;
    }
}

fn bucket(us: u64) -> usize {
    EngineMetrics::SYNC_BUCKETS_US.partition_point(|&bound| bound < us)
}

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) syncs: Durations,
    pub(crate) acks: Durations,
    pub(crate) written_bytes: AtomicU64,
    /// Written to files of large bodies.
    pub(crate) body_bytes: AtomicU64,
    pub(crate) cold_reads: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) spilled_bytes: AtomicU64,
    pub(crate) respilled_bytes: AtomicU64,
    pub(crate) files: FileCounts,
}
