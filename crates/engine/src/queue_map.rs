//! Values by queue id. Ids are given out in order, so queues that live lie next to each other in chunks: the place of one
//! is found without a line of memory of its own, and costs little more than the value.
//!
//! Invariants: a chunk is there while a value is in it.

use foldhash::fast::FixedState;
use model::QueueId;
use std::collections::HashMap;
use std::fmt;

/// Ids of a chunk. A queue whose neighbours are gone costs as many places.
const CHUNK: usize = 32;

/// See the module.
pub struct QueueMap<T> {
    chunks: HashMap<u64, Box<Chunk<T>>, FixedState>,
    len: usize,
}

/// No more than its places: a count beside them would cost every queue two octets, for the allocator rounds up.
struct Chunk<T>([Option<T>; CHUNK]);

impl<T> Default for QueueMap<T> {
    fn default() -> Self {
        Self { chunks: HashMap::default(), len: 0 }
    }
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        Self([const { None }; CHUNK])
    }
}

impl<T> fmt::Debug for QueueMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueMap({} queues)", self.len)
    }
}

/// The chunk of an id, and its place there.
fn place(id: QueueId) -> (u64, usize) {
    (id.0 / CHUNK as u64, (id.0 % CHUNK as u64) as usize)
}

impl<T> QueueMap<T> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a queue.
    #[must_use]
    pub fn get(&self, id: QueueId) -> Option<&T> {
        let (chunk, at) = place(id);
        self.chunks.get(&chunk)?.0[at].as_ref()
    }

    /// The values of many queues. Those of neighbours, one after the other, cost little more than one.
    pub fn get_all(&self, ids: impl Iterator<Item = QueueId>) -> impl Iterator<Item = Option<&T>> {
        let mut last: Option<(u64, &Chunk<T>)> = None;
        ids.map(move |id| {
            let (number, at) = place(id);
            if last.is_none_or(|(known, _)| known != number) {
                last = self.chunks.get(&number).map(|chunk| (number, &**chunk));
            }
            last?.1.0[at].as_ref()
        })
    }

    /// Gives a queue a value; returns the one it had.
    pub fn insert(&mut self, id: QueueId, value: T) -> Option<T> {
        let (chunk, at) = place(id);
        let before = self.chunks.entry(chunk).or_default().0[at].replace(value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes the value of a queue out.
    pub fn remove(&mut self, id: QueueId) -> Option<T> {
        let (number, at) = place(id);
        let chunk = self.chunks.get_mut(&number)?;
        let value = chunk.0[at].take()?;
        self.len -= 1;
        if chunk.0.iter().all(Option::is_none) {
            self.chunks.remove(&number);
            if self.chunks.capacity() > 4 * self.chunks.len() + CHUNK {
                self.chunks.shrink_to_fit();
            }
        }
        Some(value)
    }

    /// All values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.chunks.values().flat_map(|chunk| chunk.0.iter().flatten())
    }
}

impl<T> FromIterator<(QueueId, T)> for QueueMap<T> {
    fn from_iter<I: IntoIterator<Item = (QueueId, T)>>(values: I) -> Self {
        let mut map = Self::default();
        values.into_iter().for_each(|(id, value)| _ = map.insert(id, value));
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_a_map_and_queues_that_are_gone_leave_nothing() {
        let (mut map, mut plain) = (QueueMap::default(), BTreeMap::new());
        assert!(map.is_empty() && map.get(QueueId(0)).is_none() && map.remove(QueueId(u64::MAX)).is_none());
        // Two generations, each queue but every seventh soon gone.
        for n in 0..20_000u64 {
            let id = QueueId(((n / 10_000) << 32) + n);
            assert_eq!(map.insert(id, n), plain.insert(id, n));
            assert_eq!(map.insert(id, n), Some(n), "the one it had");
            if n % 7 != 0 {
                assert_eq!((map.remove(id), map.remove(id)), (plain.remove(&id), None));
            }
        }
        assert_eq!(map.len(), plain.len());
        assert!(plain.iter().all(|(id, n)| map.get(*id) == Some(n)));
        // In order, backwards, and with those between that are not there.
        let ids: Vec<QueueId> =
            (0..20_000u64).chain((0..300).rev()).map(|n| QueueId(((n / 10_000) << 32) + n)).collect();
        assert!(map.get_all(ids.iter().copied()).eq(ids.iter().map(|id| plain.get(id))));
        let mut values: Vec<u64> = map.values().copied().collect();
        values.sort_unstable();
        assert!(values.iter().eq(plain.values()));
        for id in plain.keys() {
            map.remove(*id);
        }
        assert!(map.is_empty() && map.chunks.is_empty() && map.chunks.capacity() <= 2 * CHUNK);
        let map: QueueMap<u64> = plain.into_iter().collect();
        assert_eq!(map.values().count(), map.len());
    }
}
