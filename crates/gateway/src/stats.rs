//! Counters of requests, by route.
//!
//! Every request is counted once, with or without the plugin `prometheus`; the plugin only marks which of Kong's metric
//! families a route appears in ([`Counts::export`]), so both views read the same counters. Counters live as long as
//! their route, over reloads. One short lock per request, never held across anything.

mod drops;
mod streams;

pub use drops::{DatagramDrops, Dropped};
pub use streams::{StreamCounts, StreamStats};

use crate::entity::RouteId;
use crate::reason::Reason;
use parking_lot::Mutex;
use plugin::{Export, LogRecord, Source};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Upper bounds of the histogram of our own latency, in milliseconds (Kong's).
pub const KONG_BUCKETS_MS: [u64; 17] = [1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000];
/// Upper bounds of the histograms of upstream and total latency, in milliseconds (Kong's).
pub const LATENCY_BUCKETS_MS: [u64; 13] = [25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10_000, 30_000, 60_000];
/// Label sets of the request counter per route; further ones are counted without the consumer.
pub const LABEL_SETS_PER_ROUTE_MAX: usize = 1_000;

/// The labels of the request counter below a route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestLabels {
    /// Status sent.
    pub code: u16,
    /// Who made the response, in Kong's words.
    pub source: &'static str,
    /// The consumer's name, if counted per consumer and known; else empty.
    pub consumer: Box<str>,
}

/// A histogram of milliseconds. Counts are not cumulative.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram<const N: usize> {
    /// Observations up to each bound, and above the one before it.
    pub buckets: [u64; N],
    /// All observations, those above the last bound included.
    pub count: u64,
    /// Their sum, in microseconds.
    pub sum_us: u64,
}

impl<const N: usize> Histogram<N> {
    const fn new() -> Self {
        Self { buckets: [0; N], count: 0, sum_us: 0 }
    }

    fn observe(&mut self, bounds_ms: &[u64; N], us: u64) {
        if let Some(at) = bounds_ms.iter().position(|bound| us <= bound * 1000) {
            self.buckets[at] += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

/// What was counted for a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Requests by code, source and consumer.
    pub requests: BTreeMap<RequestLabels, u64>,
    /// Our own part of the latency.
    pub kong: Histogram<17>,
    /// The upstream's part; only of proxied requests.
    pub upstream: Histogram<13>,
    /// From the request's head to the last byte.
    pub total: Histogram<13>,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Failed requests by reason, in the order of [`Reason::WORDS`].
    pub failures: [u64; Reason::WORDS.len()],
    /// Which of Kong's families the route appears in.
    pub export: Export,
}

/// The counters of one route, or of all requests that matched none.
#[derive(Debug)]
pub struct RouteStats(Mutex<Counts>);

impl RouteStats {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Counts {
            requests: BTreeMap::new(),
            kong: Histogram::new(),
            upstream: Histogram::new(),
            total: Histogram::new(),
            bytes_in: 0,
            bytes_out: 0,
            failures: [0; Reason::WORDS.len()],
            export: Export::default(),
        }))
    }

    /// Counts a request.
    pub(crate) fn record(&self, record: &LogRecord, consumer: Option<&str>, reason: Option<Reason>) {
        let mut counts = self.0.lock();
        let consumer = if record.export.per_consumer { consumer.unwrap_or_default() } else { "" };
        counts.count_request(record.status, record.source, consumer);
        let timing = record.timing;
        counts.kong.observe(&KONG_BUCKETS_MS, timing.kong_us);
        if let Some(us) = timing.upstream_us {
            counts.upstream.observe(&LATENCY_BUCKETS_MS, us);
        }
        counts.total.observe(&LATENCY_BUCKETS_MS, timing.total_us);
        counts.bytes_in += record.bytes_in;
        counts.bytes_out += record.bytes_out;
        if let Some(reason) = reason {
            counts.failures[reason.index()] += 1;
        }
        counts.export = record.export;
    }

    /// Which of Kong's families the route appears in.
    #[must_use]
    pub fn export(&self) -> Export {
        self.0.lock().export
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}

impl Counts {
    fn count_request(&mut self, code: u16, source: Source, consumer: &str) {
        // An empty boxed str does not allocate.
        let mut labels = RequestLabels { code, source: source.as_str(), consumer: consumer.into() };
        if let Some(count) = self.requests.get_mut(&labels) {
            *count += 1;
            return;
        }
        if self.requests.len() >= LABEL_SETS_PER_ROUTE_MAX {
            labels.consumer = "".into();
        }
        *self.requests.entry(labels).or_insert(0) += 1;
    }

    /// All requests.
    #[must_use]
    pub fn total_requests(&self) -> u64 {
        self.requests.values().sum()
    }
}

/// The counters of all but single routes for requests, which have their own.
#[derive(Debug)]
pub struct Stats {
    unmatched: Arc<RouteStats>,
    streams: Mutex<HashMap<RouteId, Arc<StreamStats>>>,
    unmatched_streams: Arc<StreamStats>,
    datagram_drops: Arc<DatagramDrops>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            // Those of a route for requests are with the route.
            unmatched: Arc::new(RouteStats::new()),
            streams: Mutex::default(),
            unmatched_streams: Arc::default(),
            datagram_drops: Arc::default(),
        }
    }
}

impl Stats {
    /// The counters of a route for connections, made if there are none.
    pub(crate) fn stream_route(&self, id: RouteId) -> Arc<StreamStats> {
        Arc::clone(self.streams.lock().entry(id).or_default())
    }

    /// The counters of connections that matched no route.
    #[must_use]
    pub const fn unmatched_streams(&self) -> &Arc<StreamStats> {
        &self.unmatched_streams
    }

    /// The counters of datagrams that were dropped.
    #[must_use]
    pub const fn datagram_drops(&self) -> &Arc<DatagramDrops> {
        &self.datagram_drops
    }

    /// Forgets the routes that are no more.
    pub(crate) fn retain(&self, alive: impl Fn(RouteId) -> bool) {
        self.streams.lock().retain(|id, _| alive(*id));
    }

    /// Counts a request that was refused before it could be routed.
    pub(crate) fn count_rejected(&self, status: u16, reason: Reason) {
        let mut counts = self.unmatched.0.lock();
        counts.count_request(status, Source::Error, "");
        counts.failures[reason.index()] += 1;
    }

    /// The counters of requests that matched no route.
    #[must_use]
    pub fn unmatched(&self) -> &Arc<RouteStats> {
        &self.unmatched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin::Timing;

    fn record(status: u16, total_us: u64, upstream_us: Option<u64>) -> LogRecord {
        LogRecord {
            status,
            source: Source::Service,
            timing: Timing { total_us, upstream_us, kong_us: 900 },
            bytes_in: 10,
            bytes_out: 20,
            export: Export::default(),
        }
    }

    #[test]
    fn requests_are_counted_once_with_their_latencies() {
        let stats = RouteStats::new();
        stats.record(&record(200, 25_000, Some(24_000)), None, None);
        stats.record(&record(200, 25_001, None), None, None);
        stats.record(&record(404, 99_000_000, None), Some("ann"), Some(Reason::NoRoute));
        let counts = stats.counts();
        let requests: Vec<_> = counts.requests.iter().map(|(l, n)| (l.code, &*l.consumer, *n)).collect();
        assert_eq!(requests, [(200, "", 2), (404, "", 1)]);
        assert_eq!((counts.total.buckets[..2].to_vec(), counts.total.count), (vec![1, 1], 3));
        assert_eq!((counts.failures[Reason::NoRoute.index()], counts.failures.iter().sum::<u64>()), (1, 1));
        assert_eq!((counts.upstream.count, counts.kong.buckets[0], counts.bytes_out), (1, 3, 60));
    }

    #[test]
    fn consumers_beyond_the_limit_are_counted_without_name() {
        let stats = RouteStats::new();
        let mut one = record(200, 1, None);
        one.export.per_consumer = true;
        for n in 0..LABEL_SETS_PER_ROUTE_MAX + 5 {
            stats.record(&one, Some(&n.to_string()), None);
        }
        let counts = stats.counts();
        assert_eq!(counts.requests.len(), LABEL_SETS_PER_ROUTE_MAX + 1);
        assert_eq!(counts.total_requests(), LABEL_SETS_PER_ROUTE_MAX as u64 + 5);
    }
}
