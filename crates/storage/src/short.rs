//! A deque whose only element lies in place: most queues hold one entry at a time, and an allocation of its own for that
//! one would be one more line of memory that is seldom in the cache.
//!
//! Invariants: what lies in place is the first; it is put there only when there is nothing else.

use crate::seldom::Seldom;
use std::collections::VecDeque;
use std::collections::vec_deque;

/// See the module.
#[derive(Debug)]
pub(crate) struct ShortDeque<T> {
    head: Option<T>,
    rest: Seldom<VecDeque<T>>,
}

impl<T> Default for ShortDeque<T> {
    fn default() -> Self {
        Self { head: None, rest: Seldom::default() }
    }
}

impl<T> From<VecDeque<T>> for ShortDeque<T> {
    fn from(all: VecDeque<T>) -> Self {
        let mut short = Self::default();
        if !all.is_empty() {
            *short.rest.make() = all;
        }
        short
    }
}

impl<T> ShortDeque<T> {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.head.is_some()) + self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none() && self.rest.is_empty()
    }

    /// Elements there is memory for, beside the one in place.
    pub(crate) fn capacity(&self) -> usize {
        self.rest.room()
    }

    pub(crate) fn push_back(&mut self, element: T) {
        if self.is_empty() {
            self.head = Some(element);
        } else {
            self.rest.make().push_back(element);
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.head.take().or_else(|| self.rest.change(VecDeque::pop_front).flatten())
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.head.as_ref().or_else(|| self.rest.get()?.front())
    }

    pub(crate) fn back(&self) -> Option<&T> {
        self.rest.get().and_then(VecDeque::back).or(self.head.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.head.iter().chain(self.rest.get().into_iter().flatten())
    }

    /// The element with this key, all being in order of it.
    pub(crate) fn find_by_key(&mut self, key: u64, key_of: impl Fn(&T) -> u64) -> Option<&mut T> {
        if self.head.as_ref().is_some_and(|head| key_of(head) == key) {
            return self.head.as_mut();
        }
        let rest = self.rest.get_mut()?;
        let at = rest.binary_search_by_key(&key, key_of).ok()?;
        rest.get_mut(at)
    }

    /// All of it as a plain deque, for what is done to long ones.
    pub(crate) fn long(&mut self) -> &mut VecDeque<T> {
        let rest = self.rest.make();
        if let Some(head) = self.head.take() {
            rest.push_front(head);
        }
        rest
    }

    /// Takes all of it out.
    pub(crate) fn take(&mut self) -> VecDeque<T> {
        self.long();
        self.rest.take()
    }
}

impl<T> Extend<T> for ShortDeque<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        elements.into_iter().for_each(|element| self.push_back(element));
    }
}

impl<T> IntoIterator for ShortDeque<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, vec_deque::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let Self { head, mut rest } = self;
        head.into_iter().chain(rest.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Pop(usize),
        Long,
        Take,
    }

    proptest! {
        #[test]
        fn it_is_a_deque(steps in proptest::collection::vec(prop_oneof![
            4 => (1usize..4).prop_map(Step::Push),
            4 => (1usize..4).prop_map(Step::Pop),
            1 => Just(Step::Long),
            1 => Just(Step::Take),
        ], 1..60)) {
            let (mut short, mut plain, mut next) = (ShortDeque::default(), VecDeque::new(), 0u64);
            for step in steps {
                match step {
                    Step::Push(n) => for _ in 0..n {
                        next += 2;
                        short.push_back(next);
                        plain.push_back(next);
                    },
                    Step::Pop(n) => for _ in 0..n {
                        prop_assert_eq!(short.pop_front(), plain.pop_front());
                    },
                    Step::Long => prop_assert_eq!(&*short.long(), &plain),
                    Step::Take => prop_assert_eq!(short.take(), std::mem::take(&mut plain)),
                }
                prop_assert!(short.iter().eq(&plain));
                prop_assert_eq!(short.len(), plain.len());
                prop_assert_eq!(short.is_empty(), plain.is_empty());
                prop_assert_eq!((short.front(), short.back()), (plain.front(), plain.back()));
                for key in [next, next.saturating_sub(1), next.saturating_sub(2)] {
                    let there = plain.contains(&key).then_some(key);
                    prop_assert_eq!(short.find_by_key(key, |n| *n).copied(), there);
                }
            }
            prop_assert!(short.into_iter().eq(plain));
        }
    }
}
