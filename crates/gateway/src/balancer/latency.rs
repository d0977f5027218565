//! A moving average of how long an address takes, in one atomic word.
//!
//! Exponentially weighted by age with a decay of 10 s, as Kong's `latency` has it: an address that is not asked grows
//! quicker in our eyes until it is tried again.

use model::Mono;
use std::sync::atomic::{AtomicU64, Ordering};

/// Time in which an observation loses all but 1/e of its weight.
const DECAY_S: f32 = 10.0;

/// The average and when it was last touched: milliseconds as `f32`, and milliseconds of the clock modulo 2^32.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    /// An average that begins with that of others.
    pub(super) fn like<'a>(others: impl Iterator<Item = &'a Self>) -> Self {
        let (mut n, mut sum, mut latest) = (0.0, 0.0, 0);
        for other in others {
            let (millis, touched) = unpack(other.0.load(Ordering::Relaxed));
            (n, sum, latest) = (n + 1.0, sum + millis, touched.max(latest));
        }
        let average = if n > 0.0 { sum / n } else { 0.0 };
        Self(AtomicU64::new(u64::from(f32::to_bits(average)) << 32 | u64::from(latest)))
    }

    /// Takes an observation in.
    pub(super) fn observe(&self, millis: f32, now: Mono) {
        let step = |packed| {
            let weight = weight(packed, now);
            Some(pack(unpack(packed).0 * weight + millis * (1.0 - weight), now))
        };
        // It never gives up, so there is no error.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// The average as of now, in milliseconds.
    pub(super) fn millis(&self, now: Mono) -> f32 {
        let packed = self.0.load(Ordering::Relaxed);
        unpack(packed).0 * weight(packed, now)
    }
}

/// What is left of the average's weight.
fn weight(packed: u64, now: Mono) -> f32 {
    let age_ms = clock_ms(now).wrapping_sub(unpack(packed).1);
    // Threads may look at the clock in another order than they get here; that is no age.
    let age_ms = if age_ms > u32::MAX / 2 { 0 } else { age_ms };
    #[allow(clippy::cast_precision_loss)] // an age needs no more than 24 bits
    let age_s = age_ms as f32 / 1000.0;
    (-age_s / DECAY_S).exp()
}

#[allow(clippy::cast_possible_truncation)] // modulo 2^32 is what is wanted
const fn clock_ms(now: Mono) -> u32 {
    (now.0 / 1000) as u32
}

fn pack(millis: f32, now: Mono) -> u64 {
    u64::from(millis.to_bits()) << 32 | u64::from(clock_ms(now))
}

#[allow(clippy::cast_possible_truncation)] // the two halves
const fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000)
    }

    #[test]
    fn old_observations_fade() {
        let latency = Latency(AtomicU64::new(pack(100.0, at(0))));
        assert!((latency.millis(at(0)) - 100.0).abs() < 0.01);
        assert!((latency.millis(at(10_000)) - 36.8).abs() < 0.1, "{}", latency.millis(at(10_000)));
        latency.observe(10.0, at(10_000));
        assert!((latency.millis(at(10_000)) - (36.8 + 6.3)).abs() < 0.1);
        for _ in 0..100 {
            latency.observe(20.0, at(20_000));
        }
        // What comes at the same instant has no weight; time gives it some.
        for ms in 0..60 {
            latency.observe(20.0, at(20_000 + ms * 1_000));
        }
        assert!((latency.millis(at(79_000)) - 20.0).abs() < 1.0);
    }

    #[test]
    fn a_clock_that_seems_to_go_back_is_no_age() {
        let latency = Latency(AtomicU64::new(pack(50.0, at(1_000))));
        assert!((latency.millis(at(900)) - 50.0).abs() < 0.01);
    }

    #[test]
    fn a_new_one_begins_as_quick_as_the_others() {
        let others = [10.0, 30.0].map(|millis| Latency(AtomicU64::new(pack(millis, at(500)))));
        assert!((Latency::like(others.iter()).millis(at(500)) - 20.0).abs() < 0.01);
        assert!(Latency::like([].iter()).millis(at(500)) < 0.01);
    }
}
