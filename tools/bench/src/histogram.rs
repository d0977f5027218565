//! Latency histogram: log-linear buckets with at most 1/64 relative error, fixed size, no allocation per sample.

use std::time::Duration;

/// Linear buckets within one power of two; their number bounds the relative error.
const STEPS: u64 = 64;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// Covers every u64 of nanoseconds.
const BUCKETS: usize = (STEPS as usize) * (64 - STEPS_LOG2 as usize + 1);

/// Counts of durations by size.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }

    /// Counts one duration, in nanoseconds.
    pub(crate) fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
    }

    /// The duration that `quantile` (0 to 1) of the samples do not exceed; none if there are no samples.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_nanos(value(index)));
            }
        }
        None
    }
}

/// Values below `STEPS` have a bucket each; above, each power of two is split in `STEPS` buckets.
fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEPS_LOG2;
    ((u64::from(shift) + 1) * STEPS + ((nanos >> shift) - STEPS)) as usize
}

/// The middle of a bucket.
fn value(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    ((index % STEPS + STEPS) << shift) + ((1u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lands_in_a_bucket_that_is_close_to_it() {
        for exponent in 0..64 {
            for nanos in [1u64 << exponent, (1u64 << exponent) | ((1u64 << exponent) >> 1), u64::MAX >> (63 - exponent)]
            {
                let found = value(bucket(nanos));
                assert!(found.abs_diff(nanos) <= nanos / STEPS, "{nanos} became {found}");
            }
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1000).for_each(|micros| histogram.record(micros * 1000));
        let close = |quantile: f64, micros: f64| {
            let found = histogram.quantile(quantile).unwrap().as_secs_f64() * 1e6;
            assert!((found - micros).abs() < micros / 50.0, "{found} is not {micros}");
        };
        close(0.5, 500.0);
        close(0.99, 990.0);
        close(1.0, 1000.0);
    }

    #[test]
    fn histograms_add_up() {
        let (mut low, mut high) = (Histogram::new(), Histogram::new());
        (0..10).for_each(|_| low.record(1_000));
        (0..30).for_each(|_| high.record(1_000_000));
        low.add(&high);
        assert!(low.quantile(0.25).unwrap() < Duration::from_micros(2));
        assert!(low.quantile(0.26).unwrap() > Duration::from_micros(900));
    }
}
