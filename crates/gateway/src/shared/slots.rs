//! A list whose elements keep their places, in chunks: a change copies one of them.

use std::ops::Index;
use std::sync::Arc;

const CHUNK: usize = 128;

/// Some places, if there is anything in them.
type Chunk<T> = Arc<Vec<Option<Arc<T>>>>;

/// The list. Places may be empty.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    chunks: Vec<Chunk<T>>,
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone() }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn get(&self, at: usize) -> Option<&Arc<T>> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)?.as_ref()
    }

    /// Puts an element in a place, or empties it.
    pub(crate) fn set(&mut self, at: usize, element: Option<Arc<T>>) {
        let chunk = at / CHUNK;
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, || Arc::new(vec![None; CHUNK]));
        }
        Arc::make_mut(&mut self.chunks[chunk])[at % CHUNK] = element;
    }

    /// What there is, in the order of places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).flatten()
    }
}

/// For places that are known to have an element.
impl<T> Index<usize> for Slots<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        self.chunks[at / CHUNK][at % CHUNK].as_deref().expect("there is an element in this place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_had_and_shares_the_rest() {
        let mut slots = Slots::default();
        (0..1_000).for_each(|n| slots.set(n, Some(Arc::new(n))));
        let before = slots.clone();
        slots.set(500, None);
        slots.set(2_000, Some(Arc::new(7)));
        assert_eq!((before.iter().count(), slots.iter().count()), (1_000, 1_000));
        assert_eq!((slots.get(500), slots.get(1_999), slots.get(9_999), slots[2_000]), (None, None, None, 7));
        assert_eq!(before[500], 500);
        let shared = slots.chunks.iter().zip(&before.chunks).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.count(), before.chunks.len() - 1);
    }
}
