//! One entity: a record that fits its kind's fields, kept as text.
//!
//! The text is what the Admin API shows and what is stored: JSON with every field, `null` where it has no value. A text
//! takes a fraction of the memory of a tree, and most entities are only ever read to be shown or compiled.

use crate::kind::Kind;
use plugin::Id;
use serde_json::{Map, Value};
use std::fmt;

/// Where an entity was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// In the configuration file: read-only over the API.
    File,
    /// Over the Admin API.
    Api,
}

/// Where a record has when it expires, in milliseconds since 1970: under a name that no field has.
pub const EXPIRES_MS: &str = "_expires_ms";

/// An entity. Never changes: a change makes another.
pub struct Entity {
    kind: Kind,
    id: Id,
    origin: Origin,
    /// Its place in the order in which entities came.
    rank: u64,
    expires_ms: Option<u64>,
    text: Box<str>,
}

impl Entity {
    pub(crate) fn new(kind: Kind, id: Id, origin: Origin, rank: u64, record: Map<String, Value>) -> Self {
        let expires_ms = record.get(EXPIRES_MS).and_then(Value::as_u64);
        Self { kind, id, origin, rank, expires_ms, text: Value::Object(record).to_string().into_boxed_str() }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> Id {
        self.id
    }

    /// Where it was written.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// Its place in the order in which entities of its kind came.
    #[must_use]
    pub const fn rank(&self) -> u64 {
        self.rank
    }

    /// Whether its time (`ttl`) is over.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    pub(crate) fn with_rank(&self, rank: u64) -> Self {
        Self { rank, text: self.text.clone(), ..*self }
    }

    /// The record as JSON, as it is stored. What is shown is [`crate::Store::show`].
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> Map<String, Value> {
        match serde_json::from_str(&self.text) {
            Ok(record) => record,
            Err(error) => unreachable!("a record is JSON: {error}"),
        }
    }

    /// Whether the record has this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        // Most have no text like it anywhere, which is quickly seen; escapes are only in few tags.
        let plain = !tag.contains(['"', '\\']);
        if plain && !self.text.contains(tag) {
            return false;
        }
        self.record().get("tags").and_then(Value::as_array).is_some_and(|tags| tags.iter().any(|one| one == tag))
    }
}

impl fmt::Debug for Entity {
    /// Without the record, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}
