//! Counters behind [`engine::EngineMetrics`].

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
        let bucket = EngineMetrics::SYNC_BUCKETS_US.partition_point(|&bound| bound < us);
        self.buckets[bucket].fetch_add(1, Relaxed);
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

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) syncs: Durations,
    pub(crate) acks: Durations,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) cold_reads: AtomicU64,
    pub(crate) damaged: AtomicU64,
}
