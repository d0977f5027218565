//! A hash map in shards: a change copies one of them. A lookup hashes once.

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

const SHARDS: usize = 256;

/// Some of the entries, if there are any.
type Shard<K, V> = Option<Arc<HashTable<(K, V)>>>;

/// The map.
#[derive(Clone)]
pub(crate) struct SharedMap<K, V> {
    /// Empty until there is an entry.
    shards: Vec<Shard<K, V>>,
    hasher: RandomState,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { shards: Vec::new(), hasher: RandomState::default(), len: 0 }
    }
}

impl<K, V> SharedMap<K, V> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flatten().flat_map(|shard| shard.iter()).map(|(key, value)| (key, value))
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let shard = self.shards.get(shard_of(hash))?.as_ref()?;
        shard.find(hash, |(there, _)| there.borrow() == key).map(|(_, value)| value)
    }

    /// The value of a key, a default one if it had none.
    pub(crate) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if self.shards.is_empty() {
            self.shards.resize(SHARDS, None);
        }
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&key);
        let shard = Arc::make_mut(self.shards[shard_of(hash)].get_or_insert_default());
        match shard.entry(hash, |(there, _)| *there == key, |(there, _)| hasher.hash_one(there)) {
            Entry::Occupied(entry) => &mut entry.into_mut().1,
            Entry::Vacant(entry) => {
                self.len += 1;
                &mut entry.insert((key, V::default())).into_mut().1
            }
        }
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if self.get(key).is_none() {
            return;
        }
        let hash = self.hasher.hash_one(key);
        if let Some(shard) = &mut self.shards[shard_of(hash)]
            && let Ok(entry) = Arc::make_mut(shard).find_entry(hash, |(there, _)| there.borrow() == key)
        {
            entry.remove();
            self.len -= 1;
        }
    }
}

/// From bits that the table of a shard does not look at; a hash of the fast kind does not mix those with every seed.
const fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut map = SharedMap::<String, u32>::default();
        assert!(map.get("1").is_none() && map.is_empty());
        for n in 0..1_000 {
            *map.entry(n.to_string()) = n;
        }
        let before = map.clone();
        map.remove("3");
        map.remove("3");
        *map.entry("4".to_owned()) = 0;
        assert_eq!((before.len, map.len, map.iter().count()), (1_000, 999, 999));
        assert_eq!((before.get("3"), before.get("4")), (Some(&3), Some(&4)));
        assert_eq!((map.get("3"), map.get("4"), map.get("999")), (None, Some(&0), Some(&999)));
    }

    #[test]
    fn a_change_copies_one_shard() {
        let mut map = SharedMap::<u32, u32>::default();
        (0..10_000).for_each(|n| *map.entry(n) = n);
        let before = map.clone();
        *map.entry(7) = 0;
        let same = |(a, b): &(&Shard<u32, u32>, &Shard<u32, u32>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        assert_eq!(map.shards.iter().zip(&before.shards).filter(same).count(), SHARDS - 1);
    }

    #[test]
    fn keys_fill_the_shards_alike_whatever_the_seed() {
        use foldhash::{SharedSeed, quality::SeedableRandomState};
        for seed in 0..500 {
            let hasher = SeedableRandomState::with_seed(seed, Box::leak(Box::new(SharedSeed::from_u64(seed))));
            let mut keys = [0; SHARDS];
            (0..10_000_u32).for_each(|key| keys[shard_of(hasher.hash_one(key))] += 1);
            assert!(keys.iter().all(|n| (1..100).contains(n)), "39 on average, of the seed {seed} {keys:?}");
        }
    }
}
