//! A token bucket: a rate of messages a second, and how many may come at once. Integers only; time is passed in.
//!
//! Invariants: it never holds more than its burst, and never hands out what it does not hold.

use crate::counters::Counter;
use model::Mono;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Duration;

/// Parts of a token: one microsecond fills `rate` of them.
const PARTS: u64 = 1_000_000;
/// Who waits is woken when there is something for this part of a second, so seldom and for several messages at once.
const WAKES_PER_SECOND: u64 = 100;

/// See the module.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Tokens a second.
    rate: u64,
    /// Tokens, at most.
    burst: u64,
    level: Mutex<Level>,
    /// How often somebody had to wait for it, or for another of its quota.
    held: Arc<Counter>,
}

#[derive(Debug)]
struct Level {
    parts: u64,
    at: Mono,
}

impl Bucket {
    /// A full one. Rate and burst are at least 1.
    pub(crate) fn new(rate: u32, burst: u32, held: Arc<Counter>, now: Mono) -> Self {
        let burst = u64::from(burst.max(1));
        let level = Level { parts: burst * PARTS, at: now };
        Self { rate: u64::from(rate.max(1)), burst, level: Mutex::new(level), held }
    }

    fn filled(&self, now: Mono) -> MutexGuard<'_, Level> {
        let mut level = self.level.lock();
        let passed = u64::try_from(now.since(level.at).as_micros()).unwrap_or(u64::MAX);
        level.parts = level.parts.saturating_add(passed.saturating_mul(self.rate)).min(self.burst * PARTS);
        level.at = level.at.max(now);
        level
    }

    /// Takes up to `wanted` of what is there.
    pub(crate) fn take(&self, wanted: u32, now: Mono) -> u32 {
        let mut level = self.filled(now);
        let taken = u32::try_from(level.parts / PARTS).unwrap_or(u32::MAX).min(wanted);
        level.parts -= u64::from(taken) * PARTS;
        taken
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&self, n: u32) {
        let mut level = self.level.lock();
        level.parts = level.parts.saturating_add(u64::from(n) * PARTS).min(self.burst * PARTS);
    }

    /// When it is worth looking again, if there is no token now.
    pub(crate) fn ready_at(&self, now: Mono) -> Option<Mono> {
        let parts = self.filled(now).parts;
        (parts < PARTS).then(|| {
            let enough = (self.rate / WAKES_PER_SECOND).clamp(1, self.burst) * PARTS;
            now.after(Duration::from_micros((enough - parts).div_ceil(self.rate)))
        })
    }

    /// Whether a new one would be the same.
    pub(crate) fn is_full(&self, now: Mono) -> bool {
        self.filled(now).parts == self.burst * PARTS
    }

    /// Counts that somebody waits.
    pub(crate) fn count_hold(&self) {
        self.held.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::limits::QUOTA_RATE_MAX;

    #[test]
    fn it_fills_at_its_rate_up_to_its_burst() {
        let bucket = Bucket::new(10, 5, Arc::default(), Mono(0));
        assert_eq!(bucket.take(9, Mono(0)), 5);
        assert_eq!(bucket.take(1, Mono(99_999)), 0);
        assert_eq!(bucket.ready_at(Mono(99_999)), Some(Mono(100_000)));
        assert_eq!(bucket.take(9, Mono(300_000)), 3);
        bucket.give_back(2);
        assert_eq!(bucket.take(9, Mono(300_000)), 2);
        assert!(!bucket.is_full(Mono(799_999)));
        assert!(bucket.is_full(Mono(800_000)));
        assert_eq!(bucket.take(9, Mono(1 << 62)), 5, "a long pause is worth no more than the burst");
        bucket.give_back(9);
        assert_eq!(bucket.take(9, Mono(1 << 62)), 5);
    }

    #[test]
    fn a_fast_one_is_looked_at_for_several_at_once() {
        let bucket = Bucket::new(100_000, 4_000, Arc::default(), Mono(0));
        assert_eq!(bucket.take(4_000, Mono(0)), 4_000);
        assert_eq!(bucket.ready_at(Mono(0)), Some(Mono(10_000)));
        assert_eq!(bucket.ready_at(Mono(10)), None, "there is one; who comes by gets it");
        let small = Bucket::new(100_000, 1, Arc::default(), Mono(0));
        assert_eq!(small.take(1, Mono(0)), 1);
        assert_eq!(small.ready_at(Mono(0)), Some(Mono(10)), "it cannot hold more");
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing_twice() {
        let bucket = Bucket::new(10, 5, Arc::default(), Mono(1_000_000));
        assert_eq!(bucket.take(5, Mono(1_000_000)), 5);
        assert_eq!(bucket.take(5, Mono(0)), 0);
        assert_eq!(bucket.take(5, Mono(1_100_000)), 1);
    }

    #[test]
    fn the_highest_rate_is_a_rate_like_any_other() {
        let bucket = Bucket::new(QUOTA_RATE_MAX, QUOTA_RATE_MAX, Arc::default(), Mono(0));
        assert_eq!(bucket.take(u32::MAX, Mono(0)), QUOTA_RATE_MAX);
        assert_eq!(bucket.take(u32::MAX, Mono(10)), QUOTA_RATE_MAX / 100_000);
        assert_eq!(bucket.take(u32::MAX, Mono(u64::MAX)), QUOTA_RATE_MAX);
    }
}
