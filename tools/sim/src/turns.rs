//! Groups of a fair queue: each keeps its order, and they take turns.
//!
//! Invariants: of two groups that both have something to hand out all the while, neither is handed out from twice while the
//! other waits. What was there before the queue was fair is in no group, and comes before whatever came after it.

use ::model::Message;
use engine::Grouping;
use std::collections::{BTreeMap, BTreeSet};

/// A group of entries: a routing key or a producer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Group {
    Key(u8),
    Producer(u32),
}

/// The keys and producers there are. The engine lets unlike ones share a group; of these no two do.
pub(crate) const KEYS: [u8; 5] = *b"abcde";
pub(crate) const PRODUCERS: [u32; 5] = [1, 2, 3, 6, 7];

/// The group of a message.
pub(crate) fn group_of(grouping: Grouping, message: &Message) -> Option<Group> {
    match grouping {
        Grouping::RoutingKey => message.routing_key().first().copied().map(Group::Key),
        Grouping::Producer => Some(Group::Producer(message.envelope.producer)),
    }
}

/// For each group that waits, those that had a turn meanwhile.
#[derive(Clone, Default, Debug)]
pub(crate) struct Turns(BTreeMap<Group, BTreeSet<Group>>);

impl Turns {
    /// Whether it may be the turn of a group while these have something to hand out.
    pub(crate) fn may_take(&self, group: Group, ready: &[Group]) -> bool {
        let waits_again = |other: &Group| self.0.get(other).is_some_and(|meanwhile| meanwhile.contains(&group));
        !ready.iter().any(|other| *other != group && waits_again(other))
    }

    /// A group, or what is in none, has its turn while these have something to hand out.
    pub(crate) fn take(&mut self, group: Option<Group>, ready: &[Group]) {
        self.0.retain(|other, _| Some(*other) != group && ready.contains(other));
        let others = ready.iter().filter(|other| Some(**other) != group);
        others.for_each(|other| self.0.entry(*other).or_default().extend(group));
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
