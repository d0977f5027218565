//! Figures an engine gives for `/metrics`: counters since the start, and levels.

/// Figures of an engine. Counters only grow; an engine without a notion of one leaves it 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineMetrics {
    /// Syncs done.
    pub syncs: u64,
    /// Microseconds spent in them.
    pub sync_us: u64,
    /// Syncs by duration: the count of those that took at most [`EngineMetrics::SYNC_BUCKETS_US`] of the same
    /// index, not cumulative; the last is the rest.
    pub sync_buckets: [u64; 12],
    /// Entries acknowledged, and microseconds from enqueue to acknowledgement in all.
    pub acked: u64,
    /// See [`EngineMetrics::acked`].
    pub ack_latency_us: u64,
    /// Acknowledgements by latency, bucketed as the syncs are.
    pub ack_latency_buckets: [u64; 12],
    /// Bytes written to the log.
    pub written_bytes: u64,
    /// Files of the log.
    pub files: u64,
    /// Bytes of those files.
    pub file_bytes: u64,
    /// Bytes in them that something still needs.
    pub live_bytes: u64,
    /// Bytes of message bodies held in memory.
    pub resident_bytes: u64,
    /// The cap on them.
    pub resident_bytes_max: u64,
    /// Reads of bodies that were no longer in memory.
    pub cold_reads: u64,
    /// Messages and records that were found damaged on the disk while running, and are kept aside.
    pub damaged: u64,
    /// Bytes of the file system that are free.
    pub disk_free: u64,
    /// How many must be for publishers to be welcome; 0 is no limit.
    pub disk_free_limit: u64,
}

impl EngineMetrics {
    /// Upper bounds of [`EngineMetrics::sync_buckets`], in microseconds.
    pub const SYNC_BUCKETS_US: [u64; 11] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000];
}
