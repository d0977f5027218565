//! What was made of the entities of one kind, kept for the next time.
//!
//! Invariant: what is kept is used again only for the very same entity, and only if it does not depend on anything else that may
//! have changed since.

use super::record::Record;
use super::vault::{self, Vaults};
use super::{Refusal, refusals};
use crate::entity::{Id, Secret};
use entities::{Entity, Kind, Store};
use std::collections::HashMap;
use std::sync::Arc;

/// What entities are made of.
pub(super) struct Inputs<'i> {
    pub(super) store: &'i Store,
    pub(super) vaults: &'i Vaults<'i>,
}

/// Makes something of a record, or refuses it.
type Read<T> = fn(&Record, &Store, &mut Vec<Refusal>) -> Option<T>;

/// What was made of the entities of a kind.
pub(super) struct Made<T> {
    made: HashMap<Id, Kept<T>>,
}

/// What was made of one entity.
struct Kept<T> {
    entity: Arc<Entity>,
    /// What its references to vaults stood for.
    secrets: Vec<Secret>,
    /// It names others, so what is made of it does not depend on its own record alone.
    names_others: bool,
    made: T,
}

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self { made: HashMap::new() }
    }
}

impl<T> Made<T> {
    pub(super) fn len(&self) -> usize {
        self.made.len()
    }

    pub(super) fn forget(&mut self, id: Id) {
        self.made.remove(&id);
    }

    /// What one entity makes, unless it is refused.
    pub(super) fn one(
        &mut self,
        inputs: &Inputs<'_>,
        entity: &Arc<Entity>,
        refusals: &mut Vec<Refusal>,
        read: Read<T>,
    ) -> Option<&T> {
        self.bring_up_to_date(inputs, entity, refusals, read)?;
        self.made.get(&entity.id()).map(|kept| &kept.made)
    }

    fn bring_up_to_date(
        &mut self,
        inputs: &Inputs<'_>,
        entity: &Arc<Entity>,
        refusals: &mut Vec<Refusal>,
        read: Read<T>,
    ) -> Option<()> {
        let kept = self.made.get(&entity.id()).filter(|kept| Arc::ptr_eq(&kept.entity, entity) && !kept.names_others);
        if kept.is_some_and(|kept| kept.secrets.is_empty()) {
            return Some(());
        }
        let before = refusals.len();
        let (mut record, mut secrets) = (Record::of(entity), Vec::new());
        if vault::may_refer(entity.text()) {
            secrets = inputs.vaults.resolve(&mut record, refusals);
            if refusals.len() > before {
                return None;
            }
            if kept.is_some_and(|kept| kept.secrets == secrets) {
                return Some(());
            }
        }
        refusals::of_record(&record, refusals);
        let made = read(&record, inputs.store, refusals).filter(|_| refusals.len() == before)?;
        let (entity, names_others) = (Arc::clone(entity), record.names_others());
        self.made.insert(record.id, Kept { entity, secrets, names_others, made });
        Some(())
    }
}

impl<T> Made<T> {
    /// Forgets what was made of entities that a store does not have.
    pub(super) fn keep_only_those_of(&mut self, store: &Store, kind: Kind) {
        if self.made.len() > store.len(kind) {
            self.made.retain(|id, _| store.get(kind, *id).is_some());
        }
    }
}

impl<T: Clone> Made<T> {
    /// What all entities of a kind make, in the order in which they came.
    pub(super) fn all(
        &mut self,
        inputs: &Inputs<'_>,
        kind: Kind,
        refusals: &mut Vec<Refusal>,
        read: Read<T>,
    ) -> Vec<T> {
        let store = inputs.store;
        self.keep_only_those_of(store, kind);
        let all = store.in_order(kind).into_iter();
        all.filter_map(|entity| self.one(inputs, entity, refusals, read).cloned()).collect()
    }
}
