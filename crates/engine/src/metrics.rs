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
    /// Bytes of the durable messages taken in, each once whatever the number of its queues.
    pub message_bytes: u64,
    /// Bytes given to the disk, by what they are.
    pub disk_bytes: DiskBytes,
    /// Files of the log.
    pub files: u64,
    /// Bytes of those files.
    pub file_bytes: u64,
    /// Bytes in them that something still needs.
    pub live_bytes: u64,
    /// Files of the log made from nothing, made from one that nothing needed any more, and removed.
    pub files_created: u64,
    /// See [`EngineMetrics::files_created`].
    pub files_reused: u64,
    /// See [`EngineMetrics::files_created`].
    pub files_removed: u64,
    /// Files of spilled transient messages, their bytes, and those that something still needs.
    pub spill_files: u64,
    /// See [`EngineMetrics::spill_files`].
    pub spill_file_bytes: u64,
    /// See [`EngineMetrics::spill_files`].
    pub spill_live_bytes: u64,
    /// Files of large bodies, and their bytes, all of which are needed.
    pub body_files: u64,
    /// See [`EngineMetrics::body_files`].
    pub body_file_bytes: u64,
    /// Bytes held in memory: messages, and what queues know of theirs.
    pub resident_bytes: u64,
    /// The cap on them.
    pub resident_bytes_max: u64,
    /// Reads of what was no longer in memory.
    pub cold_reads: u64,
    /// Messages and records that were found damaged on the disk while running, and are kept aside.
    pub damaged: u64,
    /// Bytes of the file system that are free.
    pub disk_free: u64,
    /// How many must be for publishers to be welcome; 0 is no limit.
    pub disk_free_limit: u64,
}

/// Bytes given to the disk, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskBytes {
    /// Records that brought messages.
    pub first: u64,
    /// Copies made to empty a file, of the log or of the spill, or to put what is drained together next to each other.
    pub moved: u64,
    /// Settles, queues, metadata, and what is said again.
    pub bookkeeping: u64,
    /// Transient messages for which there was no memory, the first time they are written.
    pub spilled: u64,
}

impl DiskBytes {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.first + self.moved + self.bookkeeping + self.spilled
    }
}

impl EngineMetrics {
    /// Bytes given to the disk for each byte of a durable message taken in; none before there was one.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a figure for people
    pub fn write_amplification(&self) -> Option<f64> {
        (self.message_bytes > 0).then(|| self.disk_bytes.total() as f64 / self.message_bytes as f64)
    }

    /// Bytes of files, spill and bodies included, for each byte that something needs; none while nothing is needed.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a figure for people
    pub fn space_amplification(&self) -> Option<f64> {
        let live = self.live_bytes + self.spill_live_bytes + self.body_file_bytes;
        (live > 0).then(|| (self.file_bytes + self.spill_file_bytes + self.body_file_bytes) as f64 / live as f64)
    }

    /// Upper bounds of [`EngineMetrics::sync_buckets`], in microseconds.
    pub const SYNC_BUCKETS_US: [u64; 11] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000];
}
