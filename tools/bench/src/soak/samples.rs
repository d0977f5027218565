//! What is seen of the server during a soak, and whether it is flat.

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{SAMPLES_PER_PERIOD, process};
use crate::client::checker::Verdict;
use crate::error::{Context, Result};
use crate::histogram::Histogram;
use crate::peers::sluicegate::Sluicegate;
use crate::trend::Trend;

const MIB: f64 = 1024.0 * 1024.0;
/// What has to be published of what was to be: a machine that is busy with something else has other backlogs than the slow
/// consumer's.
const PACE_SHARE_MIN: f64 = 0.97;
/// A few files more or less are no trend.
const FILES_MAX: f64 = 3.0;

/// One look at the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    at: Duration,
    rss: u64,
    open_files: u64,
    log_files: u64,
    log_bytes: u64,
    /// Deliveries per second since the sample before.
    rate: f64,
    /// Messages the slow consumer has not seen.
    backlog: u64,
    confirm_p99: Duration,
    write_amplification: f64,
}

/// Takes samples of a server.
pub(crate) struct Watcher<'a> {
    server: &'a Sluicegate,
    before: (Instant, u64),
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(server: &'a Sluicegate) -> Self {
        Self { server, before: (Instant::now(), 0) }
    }

    /// A sample, `at` so long after the start, with so many deliveries so far and these latencies since the last one.
    pub(crate) fn sample(
        &mut self,
        at: Duration,
        delivered: u64,
        backlog: u64,
        latencies: &Histogram,
    ) -> Result<Sample> {
        let (rss, open_files) = process(self.server)?;
        let (log_files, log_bytes) = log_files(self.server)?;
        let (then, before) = std::mem::replace(&mut self.before, (Instant::now(), delivered));
        Ok(Sample {
            at,
            rss,
            open_files,
            log_files,
            log_bytes,
            rate: delivered.saturating_sub(before) as f64 / then.elapsed().as_secs_f64(),
            backlog,
            confirm_p99: latencies.quantile(0.99).unwrap_or_default(),
            write_amplification: gauge(&self.server.metrics()?, "sluicegate_write_amplification").unwrap_or_default(),
        })
    }
}

/// Files in the data directory, spares and spill included, and their bytes.
fn log_files(server: &Sluicegate) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(server.data()).context("list the data directory")? {
        // What is removed meanwhile is not there.
        if let Ok(metadata) = entry?.metadata() {
            files += 1;
            bytes += metadata.len();
        }
    }
    Ok((files, bytes))
}

/// The value of a gauge without labels.
fn gauge(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Sample {
    fn fields(&self) -> [(&'static str, String); 9] {
        [
            ("s", format!("{:.0}", self.at.as_secs_f64())),
            ("RSS MiB", format!("{:.1}", self.rss as f64 / MIB)),
            ("open files", self.open_files.to_string()),
            ("log files", self.log_files.to_string()),
            ("log MiB", format!("{:.0}", self.log_bytes as f64 / MIB)),
            ("rate /s", format!("{:.0}", self.rate)),
            ("backlog", self.backlog.to_string()),
            ("confirm p99 ms", format!("{:.2}", self.confirm_p99.as_secs_f64() * 1e3)),
            ("written ÷ taken in", format!("{:.3}", self.write_amplification)),
        ]
    }

    /// For a look while it runs.
    pub(crate) fn to_line(self) -> String {
        self.fields().map(|(name, value)| format!("{name} {value}")).join(", ")
    }

    fn to_json(self) -> Value {
        json!({
            "seconds": self.at.as_secs_f64(),
            "rss_bytes": self.rss,
            "open_files": self.open_files,
            "log_files": self.log_files,
            "log_bytes": self.log_bytes,
            "rate_per_s": self.rate,
            "backlog": self.backlog,
            "confirm_p99_us": self.confirm_p99.as_secs_f64() * 1e6,
            "write_amplification": self.write_amplification,
        })
    }
}

/// What a soak found.
pub(crate) struct Soaked {
    pub(crate) samples: Vec<Sample>,
    /// Messages per second that were to be published.
    pub(crate) rate: u64,
    pub(crate) verdict: Verdict,
    pub(crate) machine: String,
}

impl Soaked {
    fn trend(&self, value: impl Fn(&Sample) -> f64, allowed_min: f64) -> Trend {
        let values: Vec<(f64, f64)> =
            self.samples.iter().map(|sample| (sample.at.as_secs_f64(), value(sample))).collect();
        Trend::of_last_two_thirds(&values, SAMPLES_PER_PERIOD, allowed_min)
    }

    fn trends(&self) -> [(&'static str, Trend); 3] {
        [
            ("RSS MiB", self.trend(|sample| sample.rss as f64 / MIB, 0.0)),
            ("log files", self.trend(|sample| sample.log_files as f64, FILES_MAX)),
            ("open files", self.trend(|sample| sample.open_files as f64, FILES_MAX)),
        ]
    }

    /// Messages published per second.
    fn published_rate(&self) -> f64 {
        let seconds = self.samples.last().map_or(0.0, |sample| sample.at.as_secs_f64());
        self.verdict.published as f64 / seconds.max(f64::MIN_POSITIVE)
    }

    /// Whether the load was what it says.
    fn kept_pace(&self) -> bool {
        self.published_rate() >= self.rate as f64 * PACE_SHARE_MIN
    }

    /// Whether memory and files stayed flat under the whole load.
    pub(crate) fn is_flat(&self) -> bool {
        self.kept_pace() && self.trends().iter().all(|(_, trend)| trend.is_flat())
    }

    /// Some samples, and the verdicts.
    pub(crate) fn to_text(&self) -> String {
        const ROWS: usize = 30;
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        let step = self.samples.len().div_ceil(ROWS).max(1);
        for sample in self.samples.iter().step_by(step) {
            let fields = sample.fields();
            table.set_header(fields.iter().map(|(name, _)| *name));
            table.add_row(fields.map(|(_, value)| comfy_table::Cell::new(value).set_alignment(CellAlignment::Right)));
        }
        let mut text = format!("{table}\n");
        for (name, trend) in self.trends() {
            text.push_str(&format!("{}\n", trend.to_text(name)));
        }
        let (rate, verdict) = (self.rate, self.verdict);
        if !self.kept_pace() {
            let published = self.published_rate();
            text.push_str(&format!(
                "only {published:.0}/s were published: the machine is too busy to tell what grows\n"
            ));
        }
        text.push_str(&format!("{verdict}, at {rate}/s\n{}\n", self.machine));
        text
    }

    /// All samples.
    pub(crate) fn to_json(&self) -> Value {
        let trends = self.trends().map(|(name, trend)| trend.to_json(name));
        json!({
            "machine": self.machine,
            "rate_per_s": self.rate,
            "published": self.verdict.published,
            "lost": self.verdict.lost,
            "trends": trends,
            "samples": self.samples.iter().map(|sample| sample.to_json()).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_of_a_load_that_was_not_kept_up() {
        let sample = |at| Sample {
            at: Duration::from_secs(at),
            rss: 50 << 20,
            open_files: 40,
            log_files: 5,
            log_bytes: 60 << 20,
            rate: 1000.0,
            backlog: 0,
            confirm_p99: Duration::from_millis(1),
            write_amplification: 1.1,
        };
        let samples: Vec<Sample> = (1..=36).map(|n| sample(n * 5)).collect();
        let soaked = |published| Soaked {
            samples: samples.clone(),
            rate: 1000,
            verdict: Verdict { published, ..Verdict::default() },
            machine: String::new(),
        };
        assert!(soaked(180_000).is_flat() && soaked(176_000).is_flat());
        let busy = soaked(160_000);
        assert!(!busy.is_flat() && busy.to_text().contains("only 889/s were published"), "{}", busy.to_text());
    }

    #[test]
    fn a_gauge_is_found_by_its_whole_name() {
        let metrics = "# TYPE a_b gauge\na_b_max 7\na_b 1.5\n";
        assert_eq!(gauge(metrics, "a_b"), Some(1.5));
        assert_eq!(gauge(metrics, "a"), None);
    }
}
