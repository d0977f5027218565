//! Entries that wait for a time.

use model::Wall;
use std::num::NonZeroU64;

/// Which entry of a queue is the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Of the highest priority, the one that came first.
    #[default]
    Arrival,
    /// The one that is due first, of those due at the same time the one that came first. Nothing is handed out before
    /// it is due; priority and time to live do not count.
    Due,
}

/// When an entry of a queue in [`Order::Due`] is due. Without one it is at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Not handed out before this, by the clock that [`crate::Engine::deliver`] is told.
    pub at: Wall,
    /// What it can be taken back by.
    pub key: Option<EntryKey>,
}

/// What entries that wait can be taken back by ([`crate::Engine::cancel`]). Several may have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EntryKey(pub NonZeroU64);
