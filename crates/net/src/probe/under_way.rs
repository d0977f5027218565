//! Work that is under way for somebody, in tasks: each ends once, with what it came to or without.
//!
//! Invariant: whatever becomes of a task, a panic too, it is told for whom it was.

use std::collections::HashMap;
use std::future::{Future, pending};
use tokio::task::{Id, JoinSet};

/// Tasks and for whom they are.
#[derive(Debug)]
pub(super) struct UnderWay<K, T> {
    tasks: JoinSet<T>,
    of: HashMap<Id, K>,
}

impl<K, T: Send + 'static> UnderWay<K, T> {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), of: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Begins work for `key`.
    pub(super) fn begin(&mut self, key: K, work: impl Future<Output = T> + Send + 'static) {
        let id = self.tasks.spawn(work).id();
        self.of.insert(id, key);
    }

    /// The next that ends; without a result if it panicked. Waits for ever while there is none.
    pub(super) async fn next(&mut self) -> (K, Option<T>) {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await {
                Some(Ok((id, result))) => (id, Some(result)),
                Some(Err(error)) => {
                    tracing::error!(%error, "a probe panicked");
                    (error.id(), None)
                }
                None => pending().await,
            };
            if let Some(key) = self.of.remove(&id) {
                return (key, result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_panics_ends_like_any_other() {
        let mut under_way = UnderWay::new();
        under_way.begin("a", async { panic!("a bug") });
        assert_eq!(under_way.next().await, ("a", None::<u8>));
        under_way.begin("a", async { 7 });
        assert_eq!((under_way.next().await, under_way.len()), (("a", Some(7)), 0));
    }
}
