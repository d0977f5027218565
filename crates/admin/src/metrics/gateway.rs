//! Requests by route and code, and their latencies; for routes with Kong's `prometheus` plugin, Kong's families too.

use super::{HistogramValue, Page};
use crate::label;
use gateway::stats::{Counts, Histogram, KONG_BUCKETS_MS, LATENCY_BUCKETS_MS};
use gateway::{Gateway, Reason};
use std::fmt;

struct Row {
    service: String,
    route: String,
    counts: Counts,
}

pub(super) fn encode(page: &mut Page<'_>, gateway: &Gateway) -> fmt::Result {
    let rows = rows(gateway);
    page.counters(
        "sluicegate_http_requests",
        "Requests answered",
        rows.iter().flat_map(|row| {
            by_code(&row.counts).into_iter().map(|(code, n)| (vec![("route", row.route.as_str()), ("code", code)], n))
        }),
    )?;
    page.counters(
        "sluicegate_http_request_failures",
        "Requests that failed for another reason than their upstream's answer, by that reason",
        rows.iter().flat_map(|row| {
            let failures = Reason::WORDS.iter().zip(row.counts.failures).filter(|(_, n)| *n > 0);
            failures.map(|(reason, n)| (vec![("route", row.route.as_str()), ("reason", *reason)], n))
        }),
    )?;
    let latency = |pick: fn(&Counts) -> HistogramValue| {
        rows.iter().map(move |row| (vec![("route", row.route.as_str())], pick(&row.counts)))
    };
    page.histograms(
        "sluicegate_http_request_duration_seconds",
        "From the head of a request to the last byte of its answer",
        latency(|counts| seconds(&counts.total, &LATENCY_BUCKETS_MS)),
    )?;
    page.histograms(
        "sluicegate_http_upstream_duration_seconds",
        "From handing a request over to the head of the upstream's answer",
        latency(|counts| seconds(&counts.upstream, &LATENCY_BUCKETS_MS)),
    )?;
    page.histograms(
        "sluicegate_http_own_duration_seconds",
        "Our own part of the latency",
        latency(|counts| seconds(&counts.kong, &KONG_BUCKETS_MS)),
    )?;
    page.gauge(
        "sluicegate_http_upgraded_connections",
        "Connections that became a pair of byte streams, such as WebSockets",
        i64::try_from(gateway.n_tunnels()).unwrap_or(i64::MAX),
    )?;
    page.counters(
        "sluicegate_http_mirrored_requests",
        "Copies of requests for another service, by how they ended: answered, failed, given up for lack of room",
        gateway.mirrors().ended().into_iter().map(|(end, n)| (vec![("end", end)], n)),
    )?;
    kong(page, &rows)
}

/// The families of Kong's plugin, for the routes it is on.
fn kong(page: &mut Page<'_>, rows: &[Row]) -> fmt::Result {
    let labels = |row| -> Vec<(&str, &str)> {
        let Row { service, route, .. }: &Row = row;
        vec![("service", service.as_str()), ("route", route.as_str()), ("workspace", "default")]
    };
    let codes: Vec<(&Row, String, &'static str, &str, u64)> = rows
        .iter()
        .filter(|row| row.counts.export.status_code)
        .flat_map(|row| {
            row.counts.requests.iter().map(move |(l, n)| (row, l.code.to_string(), l.source, &*l.consumer, *n))
        })
        .collect();
    if !codes.is_empty() {
        page.counters(
            "kong_http_requests",
            "HTTP status codes per consumer/service/route in Kong",
            codes.iter().map(|(row, code, source, consumer, n)| {
                let mut labels = labels(row);
                labels.extend([("code", code.as_str()), ("source", *source), ("consumer", *consumer)]);
                (labels, *n)
            }),
        )?;
    }
    let timed: Vec<&Row> = rows.iter().filter(|row| row.counts.export.latency).collect();
    if !timed.is_empty() {
        let of = |pick: fn(&Counts) -> HistogramValue| timed.iter().map(move |row| (labels(row), pick(&row.counts)));
        page.histograms("kong_kong_latency_ms", "Latency added by Kong", of(|c| millis(&c.kong, &KONG_BUCKETS_MS)))?;
        page.histograms(
            "kong_upstream_latency_ms",
            "Latency of the upstream",
            of(|c| millis(&c.upstream, &LATENCY_BUCKETS_MS)),
        )?;
        page.histograms(
            "kong_request_latency_ms",
            "Total latency of requests",
            of(|c| millis(&c.total, &LATENCY_BUCKETS_MS)),
        )?;
    }
    let measured: Vec<&Row> = rows.iter().filter(|row| row.counts.export.bandwidth).collect();
    if measured.is_empty() {
        return Ok(());
    }
    page.counters(
        "kong_bandwidth_bytes",
        "Total bandwidth of requests",
        measured.iter().flat_map(|row| {
            [("ingress", row.counts.bytes_in), ("egress", row.counts.bytes_out)].map(|(direction, n)| {
                let mut labels = labels(row);
                labels.push(("direction", direction));
                (labels, n)
            })
        }),
    )
}

fn rows(gateway: &Gateway) -> Vec<Row> {
    let snapshot = gateway.snapshot();
    let mut rows: Vec<Row> = snapshot
        .routes()
        .map(|view| Row {
            service: view
                .service
                .as_ref()
                .map_or_else(String::new, |service| label(service.name.as_deref(), service.id)),
            route: label(view.route.name.as_deref(), view.route.id),
            counts: view.stats.counts(),
        })
        .collect();
    // A route that was split by path length is one route to people and counts in one place.
    rows.sort_by(|a, b| a.route.cmp(&b.route));
    rows.dedup_by(|a, b| a.route == b.route);
    rows.push(Row { service: String::new(), route: String::new(), counts: gateway.stats().unmatched().counts() });
    rows
}

/// Requests by code, whoever answered and asked.
fn by_code(counts: &Counts) -> Vec<(&'static str, u64)> {
    let mut codes: Vec<(u16, u64)> = Vec::new();
    for (labels, n) in &counts.requests {
        match codes.last_mut() {
            Some(last) if last.0 == labels.code => last.1 += n,
            _ => codes.push((labels.code, *n)),
        }
    }
    codes.into_iter().map(|(code, n)| (code_text(code), n)).collect()
}

/// The code as text, without allocating for the codes that exist.
fn code_text(code: u16) -> &'static str {
    match code {
        499 => "499",
        _ => http::StatusCode::from_u16(code)
            .ok()
            .and_then(|status| KNOWN.iter().find(|known| **known == status.as_str()).copied())
            .unwrap_or("other"),
    }
}

/// The status codes of the registry; others are counted as `other`, so an upstream cannot make labels.
const KNOWN: [&str; 62] = [
    "100", "101", "102", "103", "200", "201", "202", "203", "204", "205", "206", "207", "208", "226", "300", "301",
    "302", "303", "304", "305", "307", "308", "400", "401", "402", "403", "404", "405", "406", "407", "408", "409",
    "410", "411", "412", "413", "414", "415", "416", "417", "418", "421", "422", "423", "424", "425", "426", "428",
    "429", "431", "451", "500", "501", "502", "503", "504", "505", "506", "507", "508", "510", "511",
];

pub(super) fn seconds<const N: usize>(histogram: &Histogram<N>, bounds_ms: &[u64; N]) -> HistogramValue {
    scaled(histogram, bounds_ms, 1000.0)
}

fn millis<const N: usize>(histogram: &Histogram<N>, bounds_ms: &[u64; N]) -> HistogramValue {
    scaled(histogram, bounds_ms, 1.0)
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn scaled<const N: usize>(histogram: &Histogram<N>, bounds_ms: &[u64; N], per: f64) -> HistogramValue {
    let bounds = bounds_ms.iter().map(|bound| *bound as f64 / per);
    HistogramValue::new(histogram.sum_us as f64 / 1000.0 / per, histogram.count, bounds, &histogram.buckets)
}
