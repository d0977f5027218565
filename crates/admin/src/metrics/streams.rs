//! Connections that are carried without a look at what is in them, by route.

use super::Page;
use super::gateway::seconds;
use crate::label;
use gateway::stats::{LATENCY_BUCKETS_MS, StreamCounts};
use gateway::{Gateway, Reason};
use std::fmt;

pub(super) fn encode(page: &mut Page<'_>, gateway: &Gateway) -> fmt::Result {
    let snapshot = gateway.snapshot();
    let routed = snapshot.stream_routes();
    let mut rows: Vec<(String, StreamCounts)> =
        routed.map(|view| (label(view.route.name.as_deref(), view.route.id), view.stats.counts())).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let unmatched = gateway.stats().unmatched_streams().counts();
    let n_dropped: u64 = gateway.stats().datagram_drops().counts().map(|(_, n)| n).sum();
    if rows.is_empty() && unmatched.duration.count == 0 && n_dropped == 0 {
        return Ok(());
    }
    rows.push((String::new(), unmatched));
    page.gauges(
        "sluicegate_stream_sessions_open",
        "Connections and UDP sessions under way",
        rows.iter()
            .map(|(route, counts)| (vec![("route", route.as_str())], i64::try_from(counts.open).unwrap_or(i64::MAX))),
    )?;
    page.histograms(
        "sluicegate_stream_session_duration_seconds",
        "Of connections and UDP sessions that have ended, from first to last",
        rows.iter()
            .map(|(route, counts)| (vec![("route", route.as_str())], seconds(&counts.duration, &LATENCY_BUCKETS_MS))),
    )?;
    page.counters(
        "sluicegate_stream_bytes",
        "Bytes of connections and UDP sessions that have ended, from clients and to them",
        rows.iter().flat_map(|(route, counts)| {
            [("in", counts.transferred.bytes_in), ("out", counts.transferred.bytes_out)]
                .map(|(direction, bytes)| (vec![("route", route.as_str()), ("direction", direction)], bytes))
        }),
    )?;
    page.counters(
        "sluicegate_stream_datagrams",
        "Datagrams of UDP sessions that have ended, from clients and to them",
        rows.iter().flat_map(|(route, counts)| {
            [("in", counts.datagrams.n_in), ("out", counts.datagrams.n_out)]
                .map(|(direction, n)| (vec![("route", route.as_str()), ("direction", direction)], n))
        }),
    )?;
    page.counters(
        "sluicegate_stream_datagrams_dropped",
        "Datagrams that were dropped, by what there was no room for",
        gateway.stats().datagram_drops().counts().map(|(reason, n)| (vec![("reason", reason)], n)),
    )?;
    page.counters(
        "sluicegate_stream_session_failures",
        "Connections and UDP sessions that did not end of themselves, by reason",
        rows.iter().flat_map(|(route, counts)| {
            let failures = Reason::WORDS.iter().zip(counts.failures).filter(|(_, n)| *n > 0);
            failures.map(|(reason, n)| (vec![("route", route.as_str()), ("reason", *reason)], n))
        }),
    )
}
