//! Entries that are handed out and not settled, and who holds each.
//!
//! Invariants: an entry is there once. The first one lies in place while there is no other, so a queue that hands out one
//! at a time allocates nothing for it.

use crate::entry::Entry;
use crate::seldom::Seldom;
use foldhash::fast::FixedState;
use model::HolderId;
use std::collections::HashMap;

/// See the module.
#[derive(Default)]
pub(crate) struct Held {
    first: Option<(Entry, HolderId)>,
    more: Seldom<HashMap<u64, (Entry, HolderId), FixedState>>,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    /// Entries there is memory for, beside the one in place.
    pub(crate) fn capacity(&self) -> usize {
        self.more.room()
    }

    /// Notes who holds an entry, instead of whoever held it.
    pub(crate) fn insert(&mut self, entry: Entry, holder: HolderId) {
        let is_first = |first: &(Entry, HolderId)| first.0.seq == entry.seq;
        if self.first.as_ref().map_or(self.more.is_empty(), is_first) {
            self.first = Some((entry, holder));
        } else {
            self.more.make().insert(entry.seq, (entry, holder));
        }
    }

    pub(crate) fn remove(&mut self, seq: u64) -> Option<(Entry, HolderId)> {
        if let Some(first) = self.first.take_if(|(entry, _)| entry.seq == seq) {
            return Some(first);
        }
        self.more.change(|more| more.remove(&seq)).flatten()
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&(Entry, HolderId)> {
        self.first.as_ref().filter(|(entry, _)| entry.seq == seq).or_else(|| self.more.get()?.get(&seq))
    }

    pub(crate) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        match &mut self.first {
            Some((entry, _)) if entry.seq == seq => Some(entry),
            _ => self.more.get_mut()?.get_mut(&seq).map(|(entry, _)| entry),
        }
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.get(seq).is_some()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.first.iter().chain(self.more.get().into_iter().flat_map(HashMap::values)).map(|(entry, _)| entry)
    }

    /// Takes out what is held by whom `takes` says so of.
    pub(crate) fn take_where(&mut self, mut takes: impl FnMut(HolderId) -> bool, mut taken: impl FnMut(Entry)) {
        if let Some((entry, _)) = self.first.take_if(|(_, holder)| takes(*holder)) {
            taken(entry);
        }
        let leaves = |_: &u64, (entry, holder): &mut (Entry, HolderId)| {
            let takes = takes(*holder);
            if takes {
                taken(*entry);
            }
            !takes
        };
        self.more.change(|more| more.retain(leaves));
    }

    /// Gives back the memory if nothing is in it.
    pub(crate) fn shrink(&mut self) {
        if self.more.is_empty() {
            self.more = Seldom::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{NO_SLOT, NO_TTL};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            lsn: 0,
            wall: 0,
            mono: 0,
            size: 1,
            body: 1,
            ttl_ms: NO_TTL,
            slot: NO_SLOT,
            attempts: 0,
            lane: 0,
            redelivered: false,
            large: false,
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0u64..6, 0u64..3, 0u8..4), 1..80)) {
            let (mut held, mut plain) = (Held::default(), BTreeMap::new());
            for (seq, holder, what) in steps {
                match what {
                    0 | 1 => {
                        held.insert(entry(seq), HolderId(holder));
                        plain.insert(seq, holder);
                    }
                    2 => prop_assert_eq!(held.remove(seq).map(|(e, by)| (e.seq, by.0)), plain.remove_entry(&seq)),
                    _ => {
                        let mut taken = Vec::new();
                        held.take_where(|by| by.0 == holder, |entry| taken.push(entry.seq));
                        taken.sort_unstable();
                        let gone: Vec<u64> = plain.iter().filter(|(_, by)| **by == holder).map(|(seq, _)| *seq).collect();
                        plain.retain(|_, by| *by != holder);
                        prop_assert_eq!(taken, gone);
                    }
                }
                let mut seqs: Vec<u64> = held.entries().map(|entry| entry.seq).collect();
                seqs.sort_unstable();
                prop_assert!(seqs.iter().eq(plain.keys()));
                prop_assert_eq!((held.len(), held.is_empty()), (plain.len(), plain.is_empty()));
                for seq in 0..6 {
                    prop_assert_eq!(held.get(seq).map(|(_, by)| by.0), plain.get(&seq).copied());
                    prop_assert_eq!(held.get_mut(seq).map(|entry| entry.seq), plain.contains_key(&seq).then_some(seq));
                    prop_assert_eq!(held.contains(seq), plain.contains_key(&seq));
                }
            }
        }
    }
}
