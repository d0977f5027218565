//! How much of the file system is free: publishers are stopped before it is used up, and consumers never.
//!
//! Invariants: looked at before the first publish, at most once a second while something is written, and in every round
//! of housekeeping; while publishers are stopped there is one every so often. What cannot be told counts as enough.

use crate::core::Core;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How often the writer looks.
const LOOK_US: u64 = 1_000_000;

/// What was seen last.
#[derive(Default)]
pub(crate) struct Space {
    short: AtomicBool,
    looked_us: AtomicU64,
}

impl Space {
    /// Whether less was free than must be.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Relaxed)
    }
}

impl Core {
    /// Looks, if the last look is some time ago; `now` is the disk's.
    pub(crate) fn look_at_space_now_and_then(&self, now: u64) {
        if self.options.disk_free_limit > 0 && now.saturating_sub(self.space.looked_us.load(Relaxed)) > LOOK_US {
            self.look_at_space();
            self.tell_pressure();
        }
    }

    /// Looks; the caller tells of the pressure.
    pub(crate) fn look_at_space(&self) {
        let limit = self.options.disk_free_limit;
        if limit == 0 {
            return;
        }
        self.space.looked_us.store(self.disk.micros(), Relaxed);
        let short = self.disk.free_bytes().is_ok_and(|free| free < limit);
        self.space.short.store(short, Relaxed);
    }
}
