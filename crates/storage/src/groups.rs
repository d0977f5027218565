//! Queues in which groups of entries take turns (see [`engine::Grouping`]): each group has a lane of its own, behind lane
//! 0 for what is in none.
//!
//! Invariants: entries of a group are handed out in order of seq. So are those of lane 0, and whatever came before one of
//! them is handed out before it, whatever came after it after it: its group is not known. A queue that is no longer fair
//! goes through all lanes in order of seq.
//!
//! Not here: what is in a lane.

use crate::lane::Lane;
use engine::Grouping;
use foldhash::fast::FixedState;
use model::Message;
use model::limits::FAIR_GROUPS_MAX;
use std::hash::BuildHasher;

/// The lane of a message.
pub(crate) fn lane(grouping: Grouping, message: &Message) -> u8 {
    let hasher = FixedState::default();
    let hash = match grouping {
        Grouping::RoutingKey => hasher.hash_one(message.routing_key()),
        Grouping::Producer => hasher.hash_one(message.envelope.producer),
    };
    1 + (hash % u64::from(FAIR_GROUPS_MAX)) as u8
}

/// Which lane is next, after an entry of lane `last` was handed out.
pub(crate) fn turn(lanes: &[Lane], fair: bool, last: u8) -> Option<usize> {
    if !fair {
        return (0..lanes.len()).filter(|&at| !lanes[at].is_empty()).min_by_key(|&at| lanes[at].first_seq());
    }
    let (ungrouped, groups) = lanes.split_first()?;
    let before = ungrouped.first_seq().unwrap_or(u64::MAX);
    let after = usize::from(last) % groups.len();
    let turns = (after..groups.len()).chain(0..after);
    let ready = |at: &usize| groups[*at].first_seq().is_some_and(|seq| seq < before);
    turns.into_iter().find(ready).map(|at| at + 1).or((before < u64::MAX).then_some(0))
}
