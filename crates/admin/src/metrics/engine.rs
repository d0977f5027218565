//! The log: syncs, space, memory, and how long messages take from enqueue to acknowledgement.

use super::{HistogramValue, Page};
use engine::EngineMetrics;
use std::fmt;

#[allow(clippy::cast_precision_loss)] // figures for people
pub(super) fn encode(page: &mut Page<'_>, metrics: &EngineMetrics) -> fmt::Result {
    let bounds = || EngineMetrics::SYNC_BUCKETS_US.iter().map(|us| *us as f64 / 1e6);
    let syncs = HistogramValue::new(metrics.sync_us as f64 / 1e6, metrics.syncs, bounds(), &metrics.sync_buckets[..11]);
    page.histograms("sluicegate_wal_sync_seconds", "Time of one fdatasync of the log", [(Vec::new(), syncs)])?;
    let latency = HistogramValue::new(
        metrics.ack_latency_us as f64 / 1e6,
        metrics.acked,
        bounds(),
        &metrics.ack_latency_buckets[..11],
    );
    page.histograms("sluicegate_message_ack_seconds", "From enqueue to acknowledgement", [(Vec::new(), latency)])?;
    page.counter("sluicegate_wal_written_bytes", "Bytes written to the log", metrics.written_bytes)?;
    page.counter(
        "sluicegate_damaged",
        "Messages and records found damaged on the disk and kept aside",
        metrics.damaged,
    )?;
    page.counter("sluicegate_cold_reads", "Reads of bodies that were no longer in memory", metrics.cold_reads)?;
    let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    page.gauge(
        "sluicegate_disk_free_bytes",
        "Bytes of the data directory's disk that are free",
        gauge(metrics.disk_free),
    )?;
    page.gauge(
        "sluicegate_disk_free_limit_bytes",
        "How many must be for publishers to be welcome",
        gauge(metrics.disk_free_limit),
    )?;
    page.gauge("sluicegate_wal_files", "Files of the log", gauge(metrics.files))?;
    page.gauge("sluicegate_wal_file_bytes", "Bytes of those files", gauge(metrics.file_bytes))?;
    page.gauge("sluicegate_wal_live_bytes", "Bytes in them that something needs", gauge(metrics.live_bytes))?;
    page.gauge("sluicegate_resident_body_bytes", "Message bodies in memory", gauge(metrics.resident_bytes))?;
    page.gauge("sluicegate_resident_body_bytes_max", "The cap on them", gauge(metrics.resident_bytes_max))
}
