//! What a queue seldom has: it lies on the heap, so all that most queues carry of it is one word.
//!
//! Invariants: looking never makes it. What is small and empty is given back at once; what has become large stays for the
//! next burst.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Elements there may be memory for in what is given back as soon as it is empty.
const SMALL: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> Seldom<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// To put something into it.
    pub(crate) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// Takes all of it out.
    pub(crate) fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |all| *all)
    }

    /// Changes it, if it is there, and gives it back if that leaves it small and empty.
    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> Option<R>
    where
        T: Room,
    {
        let all = self.0.as_deref_mut()?;
        let result = change(all);
        if all.is_empty() && all.room() <= SMALL {
            self.0 = None;
        }
        Some(result)
    }
}

impl<T: Room> Seldom<T> {
    /// Elements in it.
    pub(crate) fn len(&self) -> usize {
        self.0.as_deref().map_or(0, Room::len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_deref().is_none_or(Room::is_empty)
    }

    /// Elements there is memory for.
    pub(crate) fn room(&self) -> usize {
        self.0.as_deref().map_or(0, Room::room)
    }
}

/// A collection.
pub(crate) trait Room {
    fn len(&self) -> usize;

    /// Elements there is memory for.
    fn room(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Room for VecDeque<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn room(&self) -> usize {
        self.capacity()
    }
}

impl<K, V> Room for BTreeMap<K, V> {
    fn len(&self) -> usize {
        self.len()
    }

    /// It has none that is not used.
    fn room(&self) -> usize {
        self.len()
    }
}

impl<K, V, S> Room for HashMap<K, V, S> {
    fn len(&self) -> usize {
        self.len()
    }

    fn room(&self) -> usize {
        self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_and_empty_is_given_back_and_what_was_large_stays() {
        let mut all: Seldom<VecDeque<u64>> = Seldom::default();
        assert_eq!(all.change(|all| all.push_back(1)), None, "changing what is not there does not make it");
        all.make().extend([1, 2]);
        assert_eq!(all.change(VecDeque::pop_front), Some(Some(1)));
        assert!(all.get().is_some() && all.len() == 1);
        assert_eq!(all.change(VecDeque::pop_front), Some(Some(2)));
        assert!(all.get().is_none() && all.is_empty() && all.room() == 0);
        all.make().extend(0..100);
        all.change(VecDeque::clear);
        assert!(all.get().is_some() && all.is_empty() && all.room() >= 100);
        assert!(all.take().capacity() >= 100 && all.get().is_none());
    }
}
