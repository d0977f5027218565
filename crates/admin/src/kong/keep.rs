//! How entities of the API are kept in the engine's metadata: a key for each, its value the record as JSON.
//!
//! Beside its fields a record has its rank, under a name that no field has: the order in which entities came outlives restarts.
//!
//! Invariants: one change is one record of the log, cascades included. What cannot be read back is told and left where it
//! is, and the rest is used.

use engine::{Batch, MetaSpace};
use entities::{Entity, Kind};
use plugin::Id;
use serde_json::{Map, Value};

/// The name of the key under which the hash of the last declarative configuration is kept. No kind is called like it.
const HASH: &[u8] = b"hash";

/// Where the rank of an entity is kept in its record.
const RANK: &str = "_rank";

/// What is kept of an entity.
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) rank: u64,
    pub(crate) fields: Map<String, Value>,
}

/// What is kept.
#[derive(Default)]
pub struct Kept {
    /// Records by kind, those that others refer to first; those of a kind in the order in which they came.
    pub(crate) records: Vec<Record>,
    /// The hash of the declarative configuration that the records are, if they are one.
    pub(crate) hash: Option<String>,
    /// What could not be read.
    pub(crate) problems: Vec<String>,
}

impl Kept {
    /// Reads what is kept of the API among keys and values of an engine's metadata.
    pub fn read(metas: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut kept = Self::default();
        for (key, value) in metas {
            let Some((MetaSpace::Entities, name)) = MetaSpace::of(&key) else { continue };
            if name == HASH {
                kept.hash = String::from_utf8(value).ok();
                continue;
            }
            let kind = name.split(|byte| *byte == b'/').next().and_then(|kind| std::str::from_utf8(kind).ok());
            match (kind.and_then(Kind::of_name), serde_json::from_slice(&value)) {
                (Some(kind), Ok(Value::Object(mut fields))) => {
                    let rank = fields.remove(RANK).and_then(|rank| rank.as_u64()).unwrap_or_default();
                    kept.records.push(Record { kind, rank, fields });
                }
                _ => kept.problems.push(format!("{} is not an entity", String::from_utf8_lossy(name))),
            }
        }
        kept.records.sort_by_key(|record| (record.kind, record.rank));
        kept
    }
}

/// Keeps an entity.
pub(crate) fn put(batch: &mut Batch, entity: &Entity) {
    let mut fields = entity.record();
    fields.insert(RANK.to_owned(), Value::from(entity.rank()));
    batch.put_meta(key(entity.kind(), entity.id()), Value::Object(fields).to_string().into_bytes());
}

/// Forgets an entity.
pub(crate) fn remove(batch: &mut Batch, kind: Kind, id: Id) {
    batch.delete_meta(key(kind, id));
}

/// Keeps the hash of a declarative configuration, or forgets it.
pub(crate) fn set_hash(batch: &mut Batch, hash: Option<&str>) {
    let key = MetaSpace::Entities.key(HASH);
    match hash {
        Some(hash) => batch.put_meta(key, hash.as_bytes().to_vec()),
        None => batch.delete_meta(key),
    }
}

fn key(kind: Kind, id: Id) -> Vec<u8> {
    MetaSpace::Entities.key(format!("{kind}/{id}").as_bytes())
}
