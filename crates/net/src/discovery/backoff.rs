//! How long to wait after failures in a row: twice as long each time, spread so that not all come back at once.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after another failure; `random` spreads it over its upper half.
    pub(super) fn fail(&mut self, random: u64) -> Duration {
        let whole = LONGEST.min(FIRST.saturating_mul(1 << self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        half + Duration::from_millis(random % spread.max(1))
    }

    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Whether the last try failed.
    pub(super) const fn failures(self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let least: Vec<u64> = (0..8).map(|_| u64::try_from(backoff.fail(0).as_millis()).unwrap()).collect();
        assert_eq!(least, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert!(backoff.fail(u64::MAX) < LONGEST);
        assert_eq!(backoff.failures(), 9);
        backoff.succeed();
        assert!(backoff.fail(u64::MAX) < FIRST);
        let mut backoff = Backoff { failures: u32::MAX };
        assert!(backoff.fail(1) >= LONGEST / 2);
    }
}
