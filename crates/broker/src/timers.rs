//! Which queues want to be looked at when: heads that expire or are due, queues that expire unused.
//!
//! A queue has at most one entry, the earliest. A look that comes too early is harmless and sets the next.

use model::{Mono, QueueId};
use std::collections::{BTreeSet, HashMap};

/// Looks to come.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Mono, QueueId)>,
    by_queue: HashMap<QueueId, Mono>,
}

impl Timers {
    /// Asks for a look at a queue at `at` or earlier. Returns whether it became the first of all.
    pub(crate) fn schedule(&mut self, queue: QueueId, at: Mono) -> bool {
        if let Some(known) = self.by_queue.get(&queue) {
            if *known <= at {
                return false;
            }
            self.by_time.remove(&(*known, queue));
        }
        self.by_queue.insert(queue, at);
        self.by_time.insert((at, queue));
        self.by_time.first() == Some(&(at, queue))
    }

    /// Takes out a queue whose look is due.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<QueueId> {
        let first = *self.by_time.first()?;
        if first.0 > now {
            return None;
        }
        self.by_time.remove(&first);
        self.by_queue.remove(&first.1);
        Some(first.1)
    }

    /// When the first look is due.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }
}
