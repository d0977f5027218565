//! The one place that reads the machine's clocks.

use model::{Mono, Now, Wall};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose [`Mono`] counts from now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Mono(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)),
            wall: Wall(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Both clocks, not long after `earlier`: only one of them is read.
    #[must_use]
    pub fn after(&self, earlier: Now) -> Now {
        let mono = Mono(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX));
        let passed_ms = u64::try_from(mono.since(earlier.mono).as_millis()).unwrap_or(u64::MAX);
        Now { mono, wall: earlier.wall.after_millis(passed_ms) }
    }

    /// The instant of the runtime's timers that is `mono` on this clock.
    #[must_use]
    pub fn instant(&self, mono: Mono) -> Instant {
        self.start + std::time::Duration::from_micros(mono.0)
    }
}
