//! What differs between two stores: what is new, and what is gone. And one set of the API's entities in the place of another.

use super::Store;
use crate::entity::{EXPIRES_MS, Entity, Origin};
use crate::kind::Kind;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a set of entities changes in another.
#[derive(Debug, Default)]
pub struct Difference {
    /// What is new or different.
    pub put: Vec<Arc<Entity>>,
    /// What is gone.
    pub removed: Vec<Arc<Entity>>,
}

impl Difference {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }
}

impl Store {
    /// Takes the place of `before`, which had other entities of the API. Those that are the same, but for the time at which
    /// they were read just now, are the very same as before, with their times and their rank; those that are new come after
    /// all that were there. What ends keeps its end, unless that is over. `now_ms` is the time of the reading.
    pub fn succeed(&mut self, before: &Self, now_ms: u64) -> Difference {
        let mut difference = Difference::default();
        self.next_rank = self.next_rank.max(before.next_rank);
        for kind in Kind::ALL {
            let of_api = |entity: &&Arc<Entity>| entity.origin() == Origin::Api;
            let ours: Vec<Arc<Entity>> = self.in_order(kind).into_iter().filter(of_api).cloned().collect();
            for new in ours {
                let old = before.get(kind, new.id()).filter(of_api);
                let entity = match old {
                    Some(old) if is_same(old, &new, now_ms) => Arc::clone(old),
                    Some(old) => Arc::new(new.with_rank(old.rank())),
                    None => {
                        self.next_rank += 1;
                        Arc::new(new.with_rank(self.next_rank - 1))
                    }
                };
                if !old.is_some_and(|old| Arc::ptr_eq(old, &entity)) {
                    difference.put.push(Arc::clone(&entity));
                }
                self.table_mut(kind).entities.insert(new.id(), entity);
            }
            let is_gone = |old: &&Arc<Entity>| self.get(kind, old.id()).is_none_or(|new| new.origin() != Origin::Api);
            difference.removed.extend(before.iter(kind).filter(of_api).filter(is_gone).cloned());
        }
        difference
    }

    /// What of a kind is not the very same as in `before`, in the order in which it came. It costs what differs.
    #[must_use]
    pub fn difference(&self, before: &Self, kind: Kind) -> Difference {
        let mut difference = Difference::default();
        for (ours, theirs) in self.table(kind).entities.unshared(&before.table(kind).entities) {
            match (ours, theirs) {
                (Some(new), Some(old)) if Arc::ptr_eq(new, old) => {}
                (Some(new), _) => difference.put.push(Arc::clone(new)),
                (None, old) => difference.removed.extend(old.cloned()),
            }
        }
        difference.put.sort_unstable_by_key(|entity| entity.rank());
        difference.removed.sort_unstable_by_key(|entity| entity.rank());
        difference
    }

    /// Has the next entity come after all whose rank is less than this.
    pub fn skip_ranks(&mut self, rank: u64) {
        self.next_rank = self.next_rank.max(rank);
    }
}

fn is_same(old: &Entity, new: &Entity, now_ms: u64) -> bool {
    if old.is_expired(now_ms) {
        return false;
    }
    if old.text() == new.text() {
        return true;
    }
    let (mut old, mut new) = (old.record(), new.record());
    let stamped = |record: &Map<String, Value>| {
        let second = record.get("created_at").and_then(Value::as_f64).map(f64::floor);
        #[expect(clippy::cast_precision_loss, reason = "seconds of any date that comes fit")]
        second.is_some_and(|second| second == (now_ms / 1_000) as f64)
    };
    if stamped(&new) {
        old.remove("created_at");
        new.remove("created_at");
    }
    for of_the_reading in ["updated_at", EXPIRES_MS] {
        old.remove(of_the_reading);
        new.remove(of_the_reading);
    }
    old == new
}
