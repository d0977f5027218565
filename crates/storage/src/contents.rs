//! What a queue has while there is something in it, or was a moment ago: a queue that was never used has none of it.
//!
//! Invariants: looking never makes it, changing does. It is given back only by [`Lazy::give_back`], when nothing is in it,
//! so a queue that is empty between two messages keeps its memory for the next one.

use crate::attempts::Retries;
use crate::dead::Graveyard;
use crate::entry::Entry;
use crate::held::Held;
use crate::lane::Lane;
use crate::seldom::Seldom;
use crate::slots::Slots;
use model::near;
use smallvec::SmallVec;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

/// See the module. In this order, so that each of publishing, handing out and settling one message looks at as little
/// memory as it can: the first line is always needed, the entry in a lane never by a settle, the one that is held never by
/// a publish.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Contents {
    /// Entries that are ready, and the bytes of their bodies.
    pub(crate) ready: u64,
    pub(crate) ready_bytes: u64,
    /// Someone waits for the log to be durable beyond this, where the head lay; 0 is nobody.
    pub(crate) waiting: u64,
    pub(crate) graves: Seldom<Graveyard>,
    pub(crate) retries: Seldom<Retries>,
    /// The reader should go on once an entry of this lane with this seq, or one behind it, is next.
    pub(crate) read_from: Option<Box<(u8, u64)>>,
    /// Where the search for messages of unsettled entries goes on.
    pub(crate) hand: u32,
    /// The lane that was handed out from last.
    pub(crate) turn: u8,
    /// What is handed out, and to whom.
    pub(crate) unsettled: Held,
    /// Messages in memory.
    pub(crate) slots: Slots,
    /// By priority, or by group (see `groups`).
    pub(crate) lanes: SmallVec<[Lane; 1]>,
}

impl Contents {
    /// Counts an entry that is ready.
    pub(crate) fn count_in(&mut self, entry: &Entry) {
        self.ready += 1;
        self.ready_bytes += u64::from(entry.body);
    }

    /// Counts one that no longer is.
    pub(crate) fn count_out(&mut self, entry: &Entry) {
        self.ready -= 1;
        self.ready_bytes -= u64::from(entry.body);
    }
}

static NOTHING: LazyLock<Contents> = LazyLock::new(Contents::default);

/// Contents that are there once something was put in.
#[derive(Default)]
pub(crate) struct Lazy(Option<Box<Contents>>);

impl Lazy {
    /// To change what is there, if it is.
    pub(crate) fn get_mut(&mut self) -> Option<&mut Contents> {
        self.0.as_deref_mut()
    }

    /// Asks for what is there, which will be looked at soon.
    pub(crate) fn ask_for(&self) {
        if let Some(contents) = &self.0 {
            near::ask_for(&**contents, usize::MAX);
        }
    }

    /// Gives the memory back if nothing is in it.
    pub(crate) fn give_back(&mut self) {
        let idle = |c: &Contents| {
            let empty = c.ready == 0 && c.unsettled.is_empty() && c.graves.is_empty() && c.slots.is_empty();
            empty && c.retries.is_empty() && c.lanes.iter().all(Lane::is_empty)
        };
        if self.0.as_deref().is_some_and(idle) {
            self.0 = None;
        }
    }
}

impl Deref for Lazy {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        self.0.as_deref().unwrap_or_else(|| &NOTHING)
    }
}

impl DerefMut for Lazy {
    fn deref_mut(&mut self) -> &mut Contents {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Cell;
    use crate::entry::NO_TTL;
    use crate::lane::Next;
    use crate::queue::{NO_SLOT, Queue};
    use model::Wall;

    #[test]
    fn looking_at_a_queue_makes_nothing_and_using_it_does_until_it_is_given_back() {
        let mut queue = Queue::for_tests();
        assert!(matches!(queue.next(), Next::Nothing));
        assert!(queue.pop().is_none() && queue.next_lane().is_none() && queue.find_loose(1).is_none());
        queue.stats();
        queue.page_out(0, 8);
        queue.forget_held(10, 8);
        queue.close_pages();
        queue.shrink();
        assert!(queue.contents.0.is_none());
        let (seq, lsn, mono, ttl_ms, slot) = (1, 0, 0, NO_TTL, NO_SLOT);
        let entry = Entry {
            seq,
            lsn,
            wall: Wall(1).0,
            mono,
            size: 1,
            body: 1,
            ttl_ms,
            slot,
            attempts: 0,
            lane: 0,
            redelivered: false,
            large: false,
        };
        queue.push(entry, None);
        queue.contents.give_back();
        assert_eq!(queue.pop().map(|e| e.seq), Some(1));
        assert!(queue.contents.0.is_some(), "it is kept for the next one");
        queue.shrink();
        assert!(queue.contents.0.is_none());
    }

    #[test]
    fn a_queue_that_was_never_used_is_small() {
        assert!(size_of::<Cell>() <= 112, "{}", size_of::<Cell>());
    }
}
