//! The consumers of a queue that may have credit, and whose turn it is: the highest priority first, round robin
//! within one priority.
//!
//! Invariants: levels are in descending order of priority and none is empty but for a moment within a plan; a consumer
//! is in one level at most. One consumer alone, as most queues have, lies in place.

use crate::consumer::Consumer;
use std::collections::VecDeque;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub(crate) enum Ring {
    #[default]
    Empty,
    One(Arc<Consumer>),
    /// The levels; there may be none.
    #[expect(clippy::box_collection, reason = "a row of its own would make every queue larger")]
    Many(Box<Vec<Level>>),
}

pub(crate) struct Level {
    priority: i64,
    turn: VecDeque<Arc<Consumer>>,
}

impl Ring {
    /// Adds a consumer behind the others of its priority.
    pub(crate) fn push(&mut self, consumer: Arc<Consumer>, priority_of: impl Fn(&Consumer) -> i64) {
        match std::mem::take(self) {
            Self::Empty => *self = Self::One(consumer),
            Self::One(first) => {
                let mut levels = Box::default();
                insert(&mut levels, first, &priority_of);
                insert(&mut levels, consumer, &priority_of);
                *self = Self::Many(levels);
            }
            Self::Many(mut levels) => {
                insert(&mut levels, consumer, &priority_of);
                *self = Self::Many(levels);
            }
        }
    }

    /// Takes a consumer out, if it is there.
    pub(crate) fn remove(&mut self, consumer: &Arc<Consumer>) {
        match self {
            Self::Empty => {}
            Self::One(one) => {
                if Arc::ptr_eq(one, consumer) {
                    *self = Self::Empty;
                }
            }
            Self::Many(levels) => {
                for level in &mut **levels {
                    level.turn.retain(|other| !Arc::ptr_eq(other, consumer));
                }
                levels.retain(|level| !level.turn.is_empty());
                if levels.is_empty() {
                    *self = Self::Empty;
                }
            }
        }
    }

    /// Takes everyone out, in order.
    pub(crate) fn drain(&mut self) -> Vec<Arc<Consumer>> {
        match std::mem::take(self) {
            Self::Empty => Vec::new(),
            Self::One(one) => vec![one],
            Self::Many(levels) => levels.into_iter().flat_map(|level| level.turn).collect(),
        }
    }

    /// How many consumers there are of the highest priority; none if there are none at all.
    pub(crate) fn top_len(&self) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::One(_) => Some(1),
            Self::Many(levels) => levels.first().map(|level| level.turn.len()),
        }
    }

    /// One of the highest priority; the first is next.
    pub(crate) fn top(&self, at: usize) -> Option<&Arc<Consumer>> {
        match self {
            Self::Empty => None,
            Self::One(one) => (at == 0).then_some(one),
            Self::Many(levels) => levels.first()?.turn.get(at),
        }
    }

    /// Takes one of the highest priority out. Its level stays, even empty.
    pub(crate) fn take_top(&mut self, at: usize) -> Option<Arc<Consumer>> {
        if let Self::Many(levels) = self {
            return levels.first_mut()?.turn.remove(at);
        }
        match std::mem::take(self) {
            Self::One(one) if at == 0 => Some(one),
            other => {
                *self = other;
                None
            }
        }
    }

    /// So many of the highest priority had their turn.
    pub(crate) fn turn(&mut self, served: usize) {
        if let Self::Many(levels) = self
            && let Some(top) = levels.first_mut()
        {
            top.turn.rotate_left(served);
        }
    }

    /// Drops the highest level, which a plan has emptied.
    pub(crate) fn drop_top(&mut self) {
        if let Self::Many(levels) = self
            && !levels.is_empty()
        {
            levels.remove(0);
        }
    }

    /// Whether any consumer is such.
    pub(crate) fn any(&self, mut such: impl FnMut(&Consumer) -> bool) -> bool {
        match self {
            Self::Empty => false,
            Self::One(one) => such(one),
            Self::Many(levels) => levels.iter().flat_map(|level| &level.turn).any(|consumer| such(consumer)),
        }
    }
}

fn insert(levels: &mut Vec<Level>, consumer: Arc<Consumer>, priority_of: &impl Fn(&Consumer) -> i64) {
    let priority = priority_of(&consumer);
    let at = levels.partition_point(|level| level.priority > priority);
    if levels.get(at).is_none_or(|level| level.priority != priority) {
        levels.insert(at, Level { priority, turn: VecDeque::new() });
    }
    levels[at].turn.push_back(consumer);
}
