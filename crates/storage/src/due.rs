//! The entries of a queue in order of due time ([`engine::Order::Due`]).
//!
//! Invariants: every waiting entry is in `entries` and in `order`; in `keys` if it has a key; in `volatile` if its
//! message is nowhere but in memory. [`Entry::mono`] of these entries holds when they are due, in milliseconds since
//! 1970, and they have no time to live.
//!
//! A message that lies in the log is brought to memory only shortly before it is due ([`SOON_MS`]), so what waits long
//! costs its entry alone: 56 bytes, 16 to 22 for the order and as many for a key.
//!
//! Not here: locks, the log, messages; which entries were handed out.

use crate::queue::{DAMAGED, Entry, NO_SLOT, NO_TTL, SLOT_BYTES};
use crate::sorted::{Keyed, Sorted};
use engine::{EntryKey, Schedule};
use foldhash::fast::FixedState;
use model::Wall;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;

/// How long before an entry is due its message is wanted in memory. Whoever owns the queue looks at it more often.
pub(crate) const SOON_MS: u64 = 2_000;

/// Entries due soon that are looked at for messages that are not there.
const LOOK_ENTRIES: usize = 2_048;

/// Keys of settled entries that are kept at most, beside as many again as are handed out.
const HELD_SLACK: usize = 1_024;

/// An entry that waits.
struct Waiting {
    entry: Entry,
    /// 0 is none.
    key: u64,
}

impl Keyed for Waiting {
    type Key = u64;

    fn key(&self) -> u64 {
        self.entry.seq
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Due {
    entries: Sorted<Waiting>,
    /// When it is due, and the seq.
    order: Sorted<(u64, u64)>,
    keys: Sorted<(u64, u64)>,
    /// As `order`.
    volatile: Sorted<(u64, u64)>,
    /// What is due up to here is due soon.
    soon: u64,
    /// `soon` when it was last looked whether all messages are there.
    asked: u64,
    /// Keys of entries that were handed out, should they come back; those of settled ones are dropped now and then.
    held: HashMap<u64, u64, FixedState>,
}

/// When an entry of such a queue is due.
pub(crate) fn due_at(entry: &Entry) -> Wall {
    Wall(entry.mono)
}

fn waiting(entry: Entry, schedule: Option<Schedule>) -> Waiting {
    let mono = schedule.map_or(0, |s| s.at.0);
    let key = schedule.and_then(|s| s.key).map_or(0, |key| key.0.get());
    Waiting { entry: Entry { mono, ttl_ms: NO_TTL, ..entry }, key }
}

impl Due {
    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: Entry, schedule: Option<Schedule>) {
        self.insert(waiting(entry, schedule));
    }

    /// The same for an entry that does not wait, but may be put back.
    pub(crate) fn pass(&mut self, entry: Entry, schedule: Option<Schedule>) -> Entry {
        let Waiting { entry, key } = waiting(entry, schedule);
        if key != 0 {
            self.held.insert(entry.seq, key);
        }
        entry
    }

    /// Puts an entry back that was handed out.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        let key = self.held.remove(&entry.seq).unwrap_or(0);
        self.insert(Waiting { entry, key });
    }

    fn insert(&mut self, waiting: Waiting) {
        let entry = &waiting.entry;
        let place = (entry.mono, entry.seq);
        self.order.insert(place);
        if entry.lsn == 0 {
            self.volatile.insert(place);
        }
        if waiting.key != 0 {
            self.keys.insert((waiting.key, entry.seq));
        }
        self.entries.insert(waiting);
    }

    fn remove(&mut self, seq: u64) -> Option<Waiting> {
        let waiting = self.entries.remove(seq)?;
        let Waiting { entry, key } = &waiting;
        let place = (entry.mono, seq);
        self.order.remove(place);
        self.volatile.remove(place);
        if *key != 0 {
            self.keys.remove((*key, seq));
        }
        Some(waiting)
    }

    /// The entry that is due first.
    pub(crate) fn head(&self) -> Option<&Entry> {
        let &(_, seq) = self.order.first()?;
        self.entries.get(seq).map(|w| &w.entry)
    }

    /// Takes it, beside the `held` many that are handed out; `is_held` tells them.
    pub(crate) fn pop(&mut self, held: usize, is_held: impl Fn(u64) -> bool) -> Option<Entry> {
        let &(_, seq) = self.order.first()?;
        let Waiting { entry, key } = self.remove(seq)?;
        if key != 0 {
            if self.held.len() > 2 * held + HELD_SLACK {
                self.held.retain(|seq, _| is_held(*seq));
            }
            self.held.insert(seq, key);
        }
        Some(entry)
    }

    /// Takes out what waits under a key.
    pub(crate) fn take(&mut self, key: EntryKey) -> Vec<Entry> {
        let key = key.0.get();
        let seqs: Vec<u64> = self.keys.from((key, 0)).take_while(|(k, _)| *k == key).map(|(_, seq)| *seq).collect();
        seqs.into_iter().filter_map(|seq| self.remove(seq)).map(|w| w.entry).collect()
    }

    /// Takes everything out, in order of seq.
    pub(crate) fn drain(&mut self) -> VecDeque<Entry> {
        let held = std::mem::take(&mut self.held);
        let all = std::mem::replace(self, Self { held, soon: self.soon, asked: self.asked, ..Self::default() });
        all.iter().copied().collect()
    }

    /// The entry with this seq.
    pub(crate) fn find_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        self.entries.get_mut(seq).map(|w| &mut w.entry)
    }

    /// All entries, in order of seq.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|w| &w.entry)
    }

    /// It is this time: whether messages are wanted in memory that lie in the log up to `durable` or in the spill. Asked
    /// for in good time, for all that is due soon, so that none is late for being read.
    pub(crate) fn wants_messages(&mut self, now: Wall, durable: u64) -> bool {
        self.soon = self.soon.max(now.0.saturating_add(SOON_MS));
        if self.soon < self.asked.saturating_add(SOON_MS / 4) {
            return false;
        }
        self.asked = self.soon;
        self.soon().take(LOOK_ENTRIES).any(|e| e.slot == NO_SLOT && e.is_elsewhere(durable))
    }

    /// The entries that are due soon, in order.
    pub(crate) fn soon(&self) -> impl Iterator<Item = &Entry> {
        let soon = self.order.iter().take_while(|(due, _)| *due <= self.soon);
        soon.filter_map(|&(_, seq)| self.entries.get(seq)).map(|w| &w.entry)
    }

    /// The entries whose messages are only in memory, the one that is due last first; without those due soon if they
    /// are to be kept.
    pub(crate) fn volatile(&self, keep_soon: bool) -> impl Iterator<Item = &Entry> {
        let places = self.volatile.iter_back().take_while(move |(due, _)| !keep_soon || *due > self.soon);
        places.filter_map(|&(_, seq)| self.entries.get(seq)).map(|w| &w.entry)
    }

    /// The message of this entry now lies in the spill.
    pub(crate) fn spilled(&mut self, seq: u64) {
        if let Some(waiting) = self.entries.get(seq) {
            self.volatile.remove((waiting.entry.mono, seq));
        }
    }

    /// Takes the slots away of messages that lie in the log up to `durable` or in the spill, but for about `keep` bytes
    /// at the head; returns them.
    pub(crate) fn evict(&mut self, keep: usize, durable: u64) -> Vec<u32> {
        let soon: Vec<u64> = self.soon().filter(|e| e.slot < DAMAGED).map(|e| e.seq).collect();
        let mut passed = 0;
        let mut slots = Vec::new();
        for seq in soon {
            let Some(entry) = self.find_mut(seq) else { continue };
            passed += entry.size as usize + SLOT_BYTES;
            if passed > keep && entry.is_elsewhere(durable) {
                slots.push(std::mem::replace(&mut entry.slot, NO_SLOT));
            }
        }
        slots
    }
}

/// The key in the log: eight bytes, 0 is none.
pub(crate) fn key_of(code: u64) -> Option<EntryKey> {
    NonZeroU64::new(code).map(EntryKey)
}
