//! `/metrics`: everything the process counts, rendered when it is asked for.
//!
//! Invariants: labels are bounded (routes, codes, bucket bounds); queues appear in aggregate, and one by one only on
//! request and up to a cap, so a scrape of a broker with 100,000 queues stays small. Nothing is counted here: each part
//! reads what its owner counts anyway.

mod broker;
mod engine;
mod gateway;
mod process;
mod streams;
mod upstreams;

pub(crate) use process::Figures;

use crate::State;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// The format of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Queues shown one by one, at most.
pub(crate) const QUEUES_SHOWN_MAX: usize = 1_000;

/// Renders all metrics; with `per_queue` the queues one by one as well.
pub(crate) fn render(state: &Arc<State>, per_queue: bool) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All { state: Arc::clone(state), per_queue }));
    let mut text = String::with_capacity(16 * 1024);
    match encode(&mut text, &registry) {
        Ok(()) => text,
        Err(error) => unreachable!("writing to a string does not fail: {error}"),
    }
}

struct All {
    state: Arc<State>,
    per_queue: bool,
}

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut page = Page { encoder };
        gateway::encode(&mut page, &self.state.gateway)?;
        streams::encode(&mut page, &self.state.gateway)?;
        upstreams::encode(&mut page, &self.state.gateway, (self.state.now)().mono)?;
        page.counter(
            "sluicegate_access_log_lines_dropped",
            "Lines of the access log that came faster than they could be written",
            (self.state.log_lines_dropped)(),
        )?;
        broker::encode(&mut page, &self.state, self.per_queue)?;
        engine::encode(&mut page, &self.state.engine.metrics())?;
        process::encode(&mut page, self.state.started_at)
    }
}

/// Writes families in few words.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Page<'_> {
    /// A counter without labels.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A gauge without labels.
    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A gauge with a fraction.
    fn gauge_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A counter for each set of labels.
    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A gauge for each set of labels.
    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, i64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A histogram for each set of labels.
    fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, HistogramValue)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                value.sum,
                value.count,
                &value.buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// A histogram as the encoder wants it: upper bounds with the count of each bucket alone, the last for the rest.
struct HistogramValue {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl HistogramValue {
    fn new(sum: f64, count: u64, bounds: impl Iterator<Item = f64>, counts: &[u64]) -> Self {
        let mut buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let below: u64 = buckets.iter().map(|(_, n)| n).sum();
        buckets.push((f64::INFINITY, count.saturating_sub(below)));
        Self { sum, count, buckets }
    }
}
