//! The store and the rules through their public face: bodies in, Kong's bodies out.

mod declarative;
mod errors;
mod expiry;
mod store;

use crate::declarative::{self as declaring, Declared, Mistakes};
use crate::{Change, Error, Kind, Origin, Store, Write};
use plugin::{Id, Registry};
use serde_json::Value;

/// Ids one after the other, and the time stands still unless it is set.
pub(crate) struct World {
    pub(crate) store: Store,
    registry: Registry,
    next: u128,
    pub(crate) origin: Origin,
    pub(crate) now_ms: u64,
}

/// 2026-01-01
pub(crate) const NOW_S: i64 = 1_767_225_600;
pub(crate) const NOW_MS: u64 = 1_767_225_600_500;

impl World {
    pub(crate) fn new() -> Self {
        Self { store: Store::new(), registry: plugins::registry(), next: 0, origin: Origin::Api, now_ms: NOW_MS }
    }

    /// The id that comes next, by its number.
    pub(crate) fn id(n: u128) -> String {
        Id::from_bytes((0xa000_0000_0000_4000_8000_0000_0000_0000 + n).to_be_bytes()).to_string()
    }

    fn write<T>(&mut self, keeps_times: bool, act: impl FnOnce(&Store, &mut Write<'_>) -> T) -> T {
        let next = &mut self.next;
        let mut fresh = || {
            *next += 1;
            Self::id(*next).parse().unwrap()
        };
        let mut write = Write {
            registry: &self.registry,
            now_ms: self.now_ms,
            fresh: &mut fresh,
            origin: self.origin,
            keeps_times,
            is_kept: false,
        };
        act(&self.store, &mut write)
    }

    fn change(&mut self, act: impl FnOnce(&Store, &mut Write<'_>) -> Result<Change, Error>) -> Result<Change, Error> {
        let change = self.write(false, act)?;
        self.store = change.store.clone();
        Ok(change)
    }

    /// Reads a tree over what is there.
    pub(crate) fn declare(&mut self, tree: &Value) -> Result<Declared, Mistakes> {
        self.write(true, |store, write| declaring::read(tree.as_object().unwrap(), store, write))
    }

    pub(crate) fn insert(&mut self, kind: Kind, body: Value) -> Result<Value, Error> {
        self.change(|store, write| store.insert(kind, body, write)).map(|change| self.shown(&change))
    }

    pub(crate) fn update(&mut self, kind: Kind, key: &str, body: Value) -> Result<Value, Error> {
        self.change(|store, write| store.update(kind, key, body, write)).map(|change| self.shown(&change))
    }

    pub(crate) fn upsert(&mut self, kind: Kind, key: &str, body: Value) -> Result<Value, Error> {
        self.change(|store, write| store.upsert(kind, key, body, write)).map(|change| self.shown(&change))
    }

    pub(crate) fn delete(&mut self, kind: Kind, key: &str) -> Result<Change, Error> {
        let origin = self.origin;
        self.change(|store, _| store.delete(kind, key, origin))
    }

    fn shown(&self, change: &Change) -> Value {
        change.entity.as_ref().map_or(Value::Null, |entity| self.store.show(entity, NOW_MS))
    }
}
