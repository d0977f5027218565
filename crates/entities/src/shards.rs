//! A sorted map that is cheap to clone and to change after: its entries are spread over shards, and a change copies one
//! shard, not the map. What is cloned shares all shards until one of the two changes.

use plugin::Id;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

const SHARDS: usize = 256;

/// A key that says which shard it belongs to.
pub(crate) trait Sharded {
    fn shard(&self) -> u8;
}

impl Sharded for Id {
    /// The first byte, so that the shards are sorted too. Ids are random or hashes, but for those people make up.
    fn shard(&self) -> u8 {
        self.to_bytes()[0]
    }
}

impl Sharded for str {
    fn shard(&self) -> u8 {
        // FNV-1a, folded: only to spread names.
        let hash = self.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (hash ^ hash >> 8 ^ hash >> 16 ^ hash >> 24).to_le_bytes()[0]
    }
}

impl Sharded for String {
    fn shard(&self) -> u8 {
        self.as_str().shard()
    }
}

/// A reference: which of its kind's, to what, from what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Link {
    pub(crate) reference: u8,
    pub(crate) to: Id,
    pub(crate) from: Id,
}

impl Sharded for Link {
    fn shard(&self) -> u8 {
        self.to.shard()
    }
}

/// Some of the entries, if there are any.
type Shard<K, V> = Option<Arc<BTreeMap<K, V>>>;

/// The map.
#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    /// Empty until there is an entry.
    shards: Arc<Vec<Shard<K, V>>>,
    len: usize,
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), len: self.len }
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { shards: Arc::default(), len: 0 }
    }
}

impl<K: Ord + Clone + Sharded, V: Clone> Shards<K, V> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get<Q: Ord + Sharded + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(usize::from(key.shard()))?.as_ref()?.get(key)
    }

    /// Entries in the order of shards, inside a shard in the order of keys; for ids that is the order of ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flatten().flat_map(|shard| shard.iter())
    }

    /// Entries after `key`, in the order of [`Shards::iter`].
    pub(crate) fn after<'s>(&'s self, key: &'s K) -> impl Iterator<Item = (&'s K, &'s V)> {
        let at = usize::from(key.shard());
        let first = self.shards.get(at).and_then(Option::as_ref);
        let rest = self.shards.get(at + 1..).unwrap_or_default();
        let first = first.into_iter().flat_map(move |shard| shard.range((Bound::Excluded(key), Bound::Unbounded)));
        first.chain(rest.iter().flatten().flat_map(|shard| shard.iter()))
    }

    /// The keys of one shard that lie in a range.
    pub(crate) fn within(&self, shard: u8, range: impl RangeBounds<K>) -> impl Iterator<Item = &K> {
        let shard = self.shards.get(usize::from(shard)).and_then(Option::as_ref);
        shard.into_iter().flat_map(move |shard| {
            shard.range((range.start_bound().cloned(), range.end_bound().cloned())).map(|(key, _)| key)
        })
    }

    /// The values that a key has here and in `before`, for every key that may have another: those of shards that the two do
    /// not share.
    pub(crate) fn unshared<'s>(&'s self, before: &'s Self) -> impl Iterator<Item = (Option<&'s V>, Option<&'s V>)> {
        let n_shards = if Arc::ptr_eq(&self.shards, &before.shards) { 0 } else { SHARDS };
        let of = |map: &'s Self, at: usize| map.shards.get(at).and_then(Option::as_ref);
        let pairs = (0..n_shards).map(move |at| (of(self, at), of(before, at)));
        let shared =
            |pair: &(Option<&Arc<_>>, Option<&Arc<_>>)| pair.0.zip(pair.1).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        pairs.filter(move |pair| !shared(pair)).flat_map(|(ours, theirs)| {
            let in_theirs = move |key: &K| theirs.and_then(|theirs| theirs.get(key));
            let only_in_theirs = move |key: &K| ours.is_none_or(|ours| !ours.contains_key(key));
            let there = ours.into_iter().flat_map(|ours| ours.iter());
            let gone = theirs.into_iter().flat_map(|theirs| theirs.iter());
            let there = there.map(move |(key, value)| (Some(value), in_theirs(key)));
            there.chain(gone.filter(move |(key, _)| only_in_theirs(key)).map(|(_, value)| (None, Some(value))))
        })
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let shards = Arc::make_mut(&mut self.shards);
        if shards.is_empty() {
            shards.resize(SHARDS, None);
        }
        let shard = Arc::make_mut(shards[usize::from(key.shard())].get_or_insert_default());
        if shard.insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(crate) fn remove<Q: Ord + Sharded + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if self.get(key).is_none() {
            return;
        }
        let shards = Arc::make_mut(&mut self.shards);
        if let Some(shard) = &mut shards[usize::from(key.shard())] {
            Arc::make_mut(shard).remove(key);
            self.len -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Id {
        Id::from_bytes(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut map = Shards::default();
        for n in 0..1_000u128 {
            map.insert(id(n), n);
        }
        let before = map.clone();
        map.remove(&id(3));
        map.insert(id(4), 0);
        assert_eq!((before.len(), map.len()), (1_000, 999));
        assert_eq!((before.get(&id(3)), before.get(&id(4))), (Some(&3), Some(&4)));
        assert_eq!((map.get(&id(3)), map.get(&id(4))), (None, Some(&0)));
    }

    #[test]
    fn what_is_not_shared_is_told_with_what_was_there() {
        let mut map = Shards::default();
        assert_eq!(map.unshared(&Shards::<Id, u128>::default()).count(), 0);
        (0..1_000u128).for_each(|n| map.insert(id(n), n));
        let before = map.clone();
        assert_eq!(map.unshared(&before).count(), 0);
        map.remove(&id(3));
        map.insert(id(4), 0);
        map.insert(id(2_000), 1);
        let all: Vec<_> = map.unshared(&before).map(|(ours, theirs)| (ours.copied(), theirs.copied())).collect();
        let mut different: Vec<_> = all.iter().copied().filter(|(ours, theirs)| ours != theirs).collect();
        different.sort_unstable();
        assert_eq!(different, [(None, Some(3)), (Some(0), Some(4)), (Some(1), None)]);
        assert!(all.len() < 50, "three shards of 256: {}", all.len());
        assert_eq!(map.unshared(&Shards::default()).filter(|(_, theirs)| theirs.is_none()).count(), 1_000);
    }

    #[test]
    fn ids_come_in_order_from_anywhere() {
        let mut map = Shards::default();
        for n in 0..1_000u128 {
            map.insert(id(n), n);
        }
        let keys: Vec<Id> = map.iter().map(|(key, _)| *key).collect();
        assert!(keys.is_sorted() && keys.len() == 1_000);
        for at in [0, 500, 999] {
            let rest: Vec<Id> = map.after(&keys[at]).map(|(key, _)| *key).collect();
            assert_eq!(rest, keys[at + 1..]);
        }
    }
}
