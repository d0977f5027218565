//! A fixed rate: which messages are due when.
//!
//! The schedule is absolute, so a late wake-up delays a message and never the ones after it, and the rate is exact over
//! any span. Waiting is a sleep in poll(2) that a confirm ends early; nothing spins, because on a small machine a spinning
//! generator would take the core the server needs.

use std::time::Duration;

/// So many messages a second, in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Messages per second.
    pub(crate) per_second: u64,
    /// Messages sent together; 1 spreads them evenly and costs the most wake-ups.
    pub(crate) batch: u64,
}

impl Pace {
    /// Messages due once `elapsed` has passed since the start: whole batches, the first at the start.
    pub(crate) fn due(self, elapsed: Duration) -> u64 {
        let messages = elapsed.as_nanos() * u128::from(self.per_second) / 1_000_000_000;
        (messages as u64 / self.batch + 1) * self.batch
    }

    /// When, since the start, the batch after `sent` messages is due.
    pub(crate) fn next(self, sent: u64) -> Duration {
        let nanos = u128::from(sent) * 1_000_000_000;
        Duration::from_nanos(nanos.div_ceil(u128::from(self.per_second)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spread_evenly_and_none_is_forgotten() {
        let pace = Pace { per_second: 5_000, batch: 1 };
        let due = |micros| pace.due(Duration::from_micros(micros));
        assert_eq!((due(0), due(199), due(200), due(1_000_000)), (1, 1, 2, 5_001));
        assert_eq!(pace.next(1), Duration::from_micros(200));
        assert_eq!(pace.next(5_000), Duration::from_secs(1));
    }

    #[test]
    fn what_is_waited_for_is_due_then() {
        for (per_second, batch) in [(5_000, 1), (3, 1), (150_001, 150), (1_000_000, 7)] {
            let pace = Pace { per_second, batch };
            let mut sent = 0;
            for _ in 0..1_000 {
                let due = pace.due(pace.next(sent));
                assert_eq!(due, sent + batch, "{pace:?}");
                sent = due;
            }
        }
    }
}
