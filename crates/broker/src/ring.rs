//! The consumers of a queue that may have credit, and whose turn it is: the highest priority first, round robin
//! within one priority.
//!
//! Invariants: levels are in descending order of priority and none is empty but for a moment within a plan; a consumer
//! is in one level at most.

use crate::queue::Consumer;
use std::collections::VecDeque;
use std::sync::Arc;

/// See the module. Nearly every queue has one level.
#[derive(Default)]
pub(crate) struct Ring {
    levels: Vec<Level>,
}

struct Level {
    priority: i64,
    turn: VecDeque<Arc<Consumer>>,
}

impl Ring {
    /// Adds a consumer behind the others of its priority.
    pub(crate) fn push(&mut self, consumer: Arc<Consumer>, priority: i64) {
        let at = self.levels.partition_point(|level| level.priority > priority);
        if self.levels.get(at).is_none_or(|level| level.priority != priority) {
            self.levels.insert(at, Level { priority, turn: VecDeque::new() });
        }
        self.levels[at].turn.push_back(consumer);
    }

    /// Takes a consumer out, if it is there.
    pub(crate) fn remove(&mut self, consumer: &Arc<Consumer>) {
        for level in &mut self.levels {
            level.turn.retain(|other| !Arc::ptr_eq(other, consumer));
        }
        self.levels.retain(|level| !level.turn.is_empty());
    }

    pub(crate) fn clear(&mut self) {
        self.levels.clear();
    }

    /// Takes everyone out, in order.
    pub(crate) fn drain(&mut self) -> Vec<Arc<Consumer>> {
        self.levels.drain(..).flat_map(|level| level.turn).collect()
    }

    /// The consumers of the highest priority, the next one first.
    pub(crate) fn top(&mut self) -> Option<&mut VecDeque<Arc<Consumer>>> {
        self.levels.first_mut().map(|level| &mut level.turn)
    }

    /// Drops the highest level; to be called when a plan has emptied it.
    pub(crate) fn drop_top(&mut self) {
        self.levels.remove(0);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Consumer>> {
        self.levels.iter().flat_map(|level| &level.turn)
    }
}
