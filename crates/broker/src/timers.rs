//! What wants to be looked at when: heads that expire or are due, queues that expire unused, connections that a quota
//! holds.
//!
//! Each has at most one entry, the earliest. A look that comes too early is harmless and sets the next.

use model::{ConnectionId, Mono, QueueId};
use std::collections::{BTreeSet, HashMap};

/// What is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Look {
    /// A queue, or where a delayed exchange keeps its messages.
    Queue(QueueId),
    Connection(ConnectionId),
}

/// Looks to come.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Mono, Look)>,
    by_look: HashMap<Look, Mono>,
}

impl Timers {
    /// Asks for a look at `at` or earlier. Returns whether it became the first of all.
    pub(crate) fn schedule(&mut self, look: Look, at: Mono) -> bool {
        if let Some(known) = self.by_look.get(&look) {
            if *known <= at {
                return false;
            }
            self.by_time.remove(&(*known, look));
        }
        self.by_look.insert(look, at);
        self.by_time.insert((at, look));
        self.by_time.first() == Some(&(at, look))
    }

    /// Takes out one that is due.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<Look> {
        let first = *self.by_time.first()?;
        if first.0 > now {
            return None;
        }
        self.by_time.remove(&first);
        self.by_look.remove(&first.1);
        Some(first.1)
    }

    /// When the first look is due.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }
}
