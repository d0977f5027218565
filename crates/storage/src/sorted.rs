//! A sorted sequence of small values, for millions of them: chunks that are nearly full, found by their first values.
//!
//! Invariants: no chunk is empty, values ascend within a chunk and from one to the next, and no two have one key.
//! Memory is what the values take and a third more at most, for values that come in any order; nothing is copied but
//! within a chunk.

use std::collections::VecDeque;

/// Values of a full chunk.
const CHUNK: usize = 512;

/// What a value is sorted by.
pub(crate) trait Keyed {
    type Key: Ord + Copy;

    fn key(&self) -> Self::Key;
}

impl Keyed for (u64, u64) {
    type Key = Self;

    fn key(&self) -> Self {
        *self
    }
}

/// See the module.
pub(crate) struct Sorted<T> {
    chunks: Vec<VecDeque<T>>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Keyed> Sorted<T> {
    /// Adds a value; one of its key is replaced.
    pub(crate) fn insert(&mut self, value: T) {
        let key = value.key();
        if self.chunks.is_empty() {
            self.chunks.push(VecDeque::new());
        }
        let mut at = self.chunk_of(key).unwrap_or(0);
        if self.chunks[at].len() >= CHUNK {
            // What comes in order leaves full chunks behind.
            let is_last = self.chunks[at].back().is_some_and(|last| last.key() < key);
            let rest = self.chunks[at].split_off(if is_last { CHUNK } else { CHUNK / 2 });
            let in_rest = rest.front().is_none_or(|first| first.key() <= key);
            self.chunks.insert(at + 1, rest);
            at += usize::from(in_rest);
        }
        let chunk = &mut self.chunks[at];
        match chunk.binary_search_by_key(&key, Keyed::key) {
            Ok(at) => chunk[at] = value,
            Err(at) => {
                chunk.insert(at, value);
            }
        }
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: T::Key) -> Option<T> {
        let (at, within) = self.find(key)?;
        let value = self.chunks[at].remove(within);
        self.tidy(at);
        value
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: T::Key) -> Option<&T> {
        let (at, within) = self.find(key)?;
        self.chunks[at].get(within)
    }

    /// The same to be changed, but for its key.
    pub(crate) fn get_mut(&mut self, key: T::Key) -> Option<&mut T> {
        let (at, within) = self.find(key)?;
        self.chunks[at].get_mut(within)
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.chunks.first()?.front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    pub(crate) fn iter_back(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().rev().flat_map(|chunk| chunk.iter().rev())
    }

    /// From this key on.
    pub(crate) fn from(&self, key: T::Key) -> impl Iterator<Item = &T> {
        let at = self.chunk_of(key).unwrap_or(0);
        let chunks = self.chunks.get(at..).unwrap_or_default();
        chunks.iter().flatten().skip_while(move |value| value.key() < key)
    }

    /// The chunk that holds a key if any does; none if the key is lower than all.
    fn chunk_of(&self, key: T::Key) -> Option<usize> {
        self.chunks.partition_point(|chunk| chunk.front().is_some_and(|first| first.key() <= key)).checked_sub(1)
    }

    fn find(&self, key: T::Key) -> Option<(usize, usize)> {
        let at = self.chunk_of(key)?;
        let within = self.chunks[at].binary_search_by_key(&key, Keyed::key).ok()?;
        Some((at, within))
    }

    /// Drops a chunk that is empty, joins one that is nearly so with the next.
    fn tidy(&mut self, at: usize) {
        let len = self.chunks[at].len();
        if len == 0 {
            self.chunks.remove(at);
        } else if len < CHUNK / 4
            && let Some(next) = self.chunks.get(at + 1)
            && len + next.len() <= CHUNK / 2
        {
            let mut next = self.chunks.remove(at + 1);
            self.chunks[at].append(&mut next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_is_as_good_as_a_tree() {
        let mut state = 7u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut tree = BTreeSet::new();
        let mut sorted = Sorted::default();
        for round in 0..40_000u64 {
            let pair = if round < 3_000 { (9_999, round) } else { (below(5_000), below(2)) };
            if round < 20_000 || below(3) == 0 {
                tree.insert(pair);
                sorted.insert(pair);
            } else {
                assert_eq!(sorted.remove(pair).is_some(), tree.remove(&pair));
            }
            assert_eq!(sorted.first(), tree.first());
        }
        assert!(sorted.iter().eq(tree.iter()) && sorted.iter_back().eq(tree.iter().rev()));
        for from in [(0, 0), (2_500, 1), (2_501, 0), (10_000, 0)] {
            assert!(sorted.from(from).eq(tree.range(from..)));
        }
        for pair in tree.clone() {
            assert_eq!(sorted.get(pair), Some(&pair));
            assert_eq!(sorted.remove(pair), Some(pair));
        }
        assert!(sorted.chunks.is_empty());
    }

    #[test]
    fn what_comes_in_order_fills_its_chunks() {
        let mut sorted = Sorted::default();
        for n in 0..10 * CHUNK as u64 {
            sorted.insert((n, 0));
        }
        assert_eq!(sorted.chunks.len(), 10);
    }
}
