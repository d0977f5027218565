//! Whether a figure stays flat: a straight line through means, so that what comes and goes does not count.

use serde_json::{Value, json};

/// What a figure may grow from the first point to the last, as a share of its mean. A leak of a thousandth of what goes
/// through is far above it.
const GROWTH_MAX: f64 = 0.10;

/// How a figure behaved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trend {
    mean: f64,
    /// By how much the straight line through the means of all periods rises from the first to the last.
    growth: f64,
    /// The growth that still counts as flat.
    allowed: f64,
}

impl Trend {
    /// Of the last two thirds of samples, each with its time. What comes and goes within `period` samples shows only in
    /// their mean; growth of up to `allowed_min` is no trend.
    pub(crate) fn of_last_two_thirds(samples: &[(f64, f64)], period: usize, allowed_min: f64) -> Self {
        let periods = samples.len() / period;
        Self::of(&samples[periods.div_ceil(3) * period..], period, allowed_min)
    }

    fn of(samples: &[(f64, f64)], period: usize, allowed_min: f64) -> Self {
        let values: Vec<(f64, f64)> = samples.chunks_exact(period).map(mean).collect();
        let (mean_x, mean) = mean(&values);
        let spread: f64 = values.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let slope = values.iter().map(|(x, y)| (x - mean_x) * (y - mean)).sum::<f64>() / spread.max(f64::MIN_POSITIVE);
        let span = values.last().map_or(0.0, |last| last.0) - values.first().map_or(0.0, |first| first.0);
        Self { mean, growth: slope * span, allowed: (mean * GROWTH_MAX).max(allowed_min) }
    }

    /// Whether it grows no more than allowed.
    pub(crate) fn is_flat(self) -> bool {
        self.growth <= self.allowed
    }

    /// In words.
    pub(crate) fn to_text(self, name: &str) -> String {
        let Self { mean, growth, allowed } = self;
        let verdict = if self.is_flat() { "flat" } else { "GROWS" };
        format!(
            "{name}: mean {mean:.1}, trend {growth:+.1} over the last two thirds (allowed {allowed:+.1}): {verdict}"
        )
    }

    /// For machines.
    pub(crate) fn to_json(self, name: &str) -> Value {
        json!({
            "figure": name, "mean": self.mean, "growth": self.growth, "allowed": self.allowed, "flat": self.is_flat(),
        })
    }
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len().max(1) as f64;
    (points.iter().map(|(x, _)| x).sum::<f64>() / count, points.iter().map(|(_, y)| y).sum::<f64>() / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over so many periods of eight samples, five seconds apart.
    fn trend(periods: u32, value: impl Fn(f64) -> f64) -> Trend {
        let samples = (0..periods * 8).map(|n| f64::from(n) * 5.0);
        let values: Vec<(f64, f64)> = samples.map(|seconds| (seconds, value(seconds))).collect();
        Trend::of(&values, 8, 0.0)
    }

    #[test]
    fn what_comes_and_goes_is_flat_and_a_leak_is_not() {
        for periods in [3, 30] {
            assert!(trend(periods, |_| 40.0).is_flat());
            assert_eq!(trend(periods, |seconds| 40.0 + (seconds % 40.0)).growth, 0.0, "it comes and goes");
            assert!(trend(periods, |seconds| 60.0 - seconds / 100.0).is_flat(), "shrinking is no leak");
            let leak = trend(periods, |seconds| 40.0 + (seconds % 40.0) + seconds / 10.0);
            let leaked = f64::from(periods - 1) * 4.0;
            assert!(!leak.is_flat() && (leak.growth - leaked).abs() < 0.001, "{leak:?}");
        }
    }

    #[test]
    fn only_the_last_two_thirds_count() {
        let samples: Vec<(f64, f64)> = (0..30).map(|n| (f64::from(n), if n < 10 { 1.0 } else { 100.0 })).collect();
        assert_eq!(Trend::of_last_two_thirds(&samples, 1, 0.0).growth, 0.0);
    }
}
