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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, NO_SLOT, NO_TTL};
    use crate::queue::{PageOut, Queue};
    use engine::Limits;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Pop(usize),
        PutBack(usize),
        Fair(bool),
        PageOut(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..5).prop_map(Step::Push),
            4 => (1usize..6).prop_map(Step::Pop),
            2 => any::<usize>().prop_map(Step::PutBack),
            1 => any::<bool>().prop_map(Step::Fair),
            1 => prop_oneof![Just(0), Just(500)].prop_map(Step::PageOut),
        ]
    }

    /// A queue, and whose each entry that is ready or handed out is.
    struct Pair {
        queue: Queue,
        ready: BTreeMap<u64, u8>,
        held: BTreeMap<u64, (Entry, u8)>,
    }

    impl Pair {
        fn push(&mut self, producer: u8) {
            let seq = self.queue.next_seq;
            self.queue.next_seq += 1;
            let lane = if self.queue.limits().fair.is_some() { 1 + producer } else { 0 };
            let (lsn, wall, mono) = (seq * 100, seq, 0);
            let (size, body, ttl_ms, slot, attempts, redelivered) = (10, 8, NO_TTL, NO_SLOT, 0, false);
            let entry =
                Entry { seq, lsn, wall, mono, size, body, ttl_ms, slot, attempts, lane, redelivered, large: false };
            self.queue.push(entry, None);
            self.ready.insert(seq, producer);
        }

        /// Nothing of its producer that came before may still be there.
        fn pop(&mut self) {
            let Some(entry) = self.queue.pop() else {
                return assert!(self.ready.is_empty(), "{:?} are left", self.ready);
            };
            let producer = self.ready.remove(&entry.seq).expect("it was ready");
            let earlier = self.ready.range(..entry.seq).find(|(_, whose)| **whose == producer);
            assert_eq!(earlier, None, "{} of {producer} was handed out", entry.seq);
            self.held.insert(entry.seq, (entry, producer));
        }

        fn apply(&mut self, step: &Step) {
            match *step {
                Step::Push(producer) => self.push(producer),
                Step::Pop(count) => (0..count).for_each(|_| self.pop()),
                Step::PutBack(n) => {
                    if let Some(&seq) = self.held.keys().nth(n % self.held.len().max(1)) {
                        let (entry, producer) = self.held.remove(&seq).expect("it is held");
                        self.queue.put_back(entry);
                        self.ready.insert(seq, producer);
                    }
                }
                Step::Fair(on) => {
                    let fair = on.then_some(Grouping::Producer);
                    self.queue.set_limits(Limits { fair, ..Limits::default() });
                }
                Step::PageOut(keep) => while matches!(self.queue.page_out(keep, u64::MAX), PageOut::Freed(_)) {},
            }
        }
    }

    proptest! {
        #[test]
        fn a_producer_is_never_overtaken_by_itself(steps in proptest::collection::vec(step(), 1..200)) {
            let mut pair = Pair { queue: Queue::for_tests(), ready: BTreeMap::new(), held: BTreeMap::new() };
            for step in &steps {
                pair.apply(step);
                prop_assert_eq!(pair.queue.length().0, pair.ready.len() as u64);
            }
            while !pair.ready.is_empty() {
                pair.pop();
            }
        }
    }
}
