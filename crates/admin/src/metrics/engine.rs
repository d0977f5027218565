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
    let written = metrics.disk_bytes;
    let by_use = [
        ("first", written.first),
        ("moved", written.moved),
        ("bookkeeping", written.bookkeeping),
        ("spill", written.spilled),
    ];
    page.counters(
        "sluicegate_disk_written_bytes",
        "Bytes given to the disk by what they are: messages, copies of them, settles and metadata, spilled messages",
        by_use.map(|(use_, bytes)| (vec![("use", use_)], bytes)),
    )?;
    page.counter("sluicegate_durable_message_bytes", "Durable messages taken in", metrics.message_bytes)?;
    page.gauge_f64(
        "sluicegate_write_amplification",
        "Bytes given to the disk for each of a durable message, since the start; 0 before there was one",
        metrics.write_amplification().unwrap_or_default(),
    )?;
    page.gauge_f64(
        "sluicegate_space_amplification",
        "Bytes of files for each that something needs; 0 while nothing is needed",
        metrics.space_amplification().unwrap_or_default(),
    )?;
    let by_fate =
        [("created", metrics.files_created), ("reused", metrics.files_reused), ("removed", metrics.files_removed)];
    page.counters(
        "sluicegate_wal_files_changed",
        "Files of the log made new, made from one that nothing needed any more, removed",
        by_fate.map(|(fate, files)| (vec![("how", fate)], files)),
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
    page.gauge("sluicegate_spill_files", "Files of spilled transient messages", gauge(metrics.spill_files))?;
    page.gauge("sluicegate_spill_file_bytes", "Bytes of those files", gauge(metrics.spill_file_bytes))?;
    page.gauge("sluicegate_spill_live_bytes", "Bytes in them that something needs", gauge(metrics.spill_live_bytes))?;
    page.gauge("sluicegate_body_files", "Files of large bodies", gauge(metrics.body_files))?;
    page.gauge("sluicegate_body_file_bytes", "Bytes of those files", gauge(metrics.body_file_bytes))?;
    page.gauge("sluicegate_resident_body_bytes", "Message bodies in memory", gauge(metrics.resident_bytes))?;
    page.gauge("sluicegate_resident_body_bytes_max", "The cap on them", gauge(metrics.resident_bytes_max))
}
