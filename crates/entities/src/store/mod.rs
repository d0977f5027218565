//! The set of all entities, and what can be looked up in it. Changes are in [`write`](self) below: each gives the next
//! store and leaves this one as it is.
//!
//! Cloning costs a few pointers. A change costs what its own entity costs: ids and unique values are looked up in maps that
//! share what did not change with the store before.

mod expiry;
mod page;
mod prepare;
mod succeed;
mod write;

pub use page::{Page, PageQuery, Tags};
pub(crate) use prepare::Unfit;
pub use succeed::Difference;
pub use write::{Change, Write};

use crate::entity::Entity;
use crate::error::Error;
use crate::kind::Kind;
use crate::shards::{Link, Sharded, Shards};
use plugin::{Id, schema};
use serde_json::{Map, Value};
use std::sync::Arc;

/// All entities.
#[derive(Clone, Default)]
pub struct Store {
    tables: [Arc<Table>; Kind::ALL.len()],
    /// How many entities ever came: the next one's rank.
    next_rank: u64,
}

/// The entities of one kind, and the ways to find them.
#[derive(Clone, Default)]
struct Table {
    entities: Shards<Id, Arc<Entity>>,
    /// Field and value to id.
    unique: Shards<String, Id>,
    links: Shards<Link, ()>,
}

/// How many of each kind: unique values are keys of people.
impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(Kind::ALL.into_iter().map(|kind| (kind.name(), self.len(kind)))).finish()
    }
}

impl Store {
    /// A store without entities.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn table(&self, kind: Kind) -> &Table {
        &self.tables[kind.index()]
    }

    /// The number of entities of a kind.
    #[must_use]
    pub fn len(&self, kind: Kind) -> usize {
        self.table(kind).entities.len()
    }

    /// Whether there is no entity of any kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.len(kind) == 0)
    }

    /// An entity by its id.
    #[must_use]
    pub fn get(&self, kind: Kind, id: Id) -> Option<&Arc<Entity>> {
        self.table(kind).entities.get(&id)
    }

    /// All entities of a kind, in the order of their ids.
    pub fn iter(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entity>> {
        self.table(kind).entities.iter().map(|(_, entity)| entity)
    }

    /// All entities of a kind, in the order in which they came: that of the file, then that of the API's requests.
    #[must_use]
    pub fn in_order(&self, kind: Kind) -> Vec<&Arc<Entity>> {
        let mut all: Vec<_> = self.iter(kind).collect();
        all.sort_unstable_by_key(|entity| entity.rank());
        all
    }

    /// An entity by its id or its endpoint key (name, user name, …), as it stands in a path.
    ///
    /// # Errors
    /// The text can be neither.
    pub fn find(&self, kind: Kind, key: &str) -> Result<Option<&Arc<Entity>>, Error> {
        Ok(match Key::parse(kind, key)? {
            Key::Id(id) => self.get(kind, id),
            Key::Field(field) => self.by_unique(kind, field, key),
        })
    }

    /// An entity by the value of a unique field.
    #[must_use]
    pub fn by_unique(&self, kind: Kind, field: &str, value: &str) -> Option<&Arc<Entity>> {
        let table = self.table(kind);
        table.unique.get(unique_key(field, value).as_str()).and_then(|id| table.entities.get(id))
    }

    /// The entities of a kind whose reference in `field` is to `parent`, in the order of their ids.
    pub fn children(&self, kind: Kind, field: &str, parent: Id) -> impl Iterator<Item = &Arc<Entity>> {
        self.links(kind, field, parent, None).filter_map(move |link| self.get(kind, link.from))
    }

    /// The same, after `after`.
    fn links(&self, kind: Kind, field: &str, to: Id, after: Option<Id>) -> impl Iterator<Item = &Link> {
        let reference = kind.references().iter().position(|reference| reference.field == field);
        let reference = reference.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
        let link = move |from| Link { reference, to, from };
        let start = std::ops::Bound::Excluded(link(after.unwrap_or(Id::from_bytes([0; 16]))));
        // The nil id, which is before all others, may be an entity's.
        let start = if after.is_none() { std::ops::Bound::Included(link(Id::from_bytes([0; 16]))) } else { start };
        let end = std::ops::Bound::Included(link(Id::from_bytes([0xff; 16])));
        self.table(kind).links.within(to.shard(), (start, end))
    }

    /// A child by its id, or by its endpoint key among the children of `parent`.
    ///
    /// # Errors
    /// The key can be neither.
    pub fn find_child(&self, kind: Kind, field: &str, parent: Id, key: &str) -> Result<Option<&Arc<Entity>>, Error> {
        let is_child = |entity: &&Arc<Entity>| reference_of(&entity.record(), field) == Some(parent);
        let unique = |name: &str| kind.field(name).is_some_and(|field| field.unique);
        Ok(match Key::parse(kind, key)? {
            Key::Id(id) => self.get(kind, id).filter(is_child),
            Key::Field(name) if unique(name) => self.by_unique(kind, name, key).filter(is_child),
            Key::Field(name) => {
                let wanted = prepare::stored_form(kind, name, key);
                self.children(kind, field, parent).find(|entity| entity.record().get(name) == Some(&wanted))
            }
        })
    }

    /// What is shown of an entity: its record, for a certificate with the server names it is for, for what expires with the
    /// time that is left.
    #[must_use]
    pub fn show(&self, entity: &Entity, now_ms: u64) -> Value {
        let mut record = entity.record();
        expiry::show(&mut record, now_ms);
        if entity.kind() == Kind::Certificates {
            let mut names: Vec<Value> = self
                .children(Kind::Snis, "certificate", entity.id())
                .filter_map(|sni| sni.record().remove("name"))
                .collect();
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            record.insert("snis".to_owned(), Value::Array(names));
        }
        Value::Object(record)
    }
}

/// How an entity is named in a path.
enum Key {
    Id(Id),
    /// By the value of this field.
    Field(&'static str),
}

impl Key {
    fn parse(kind: Kind, key: &str) -> Result<Self, Error> {
        if let Ok(id) = key.parse() {
            return Ok(Self::Id(id));
        }
        let Some(field) = kind.endpoint_key().and_then(|name| kind.field(name)) else {
            return Err(Error::invalid_primary_key("expected a valid UUID"));
        };
        match schema::check_text(&field.kind, key) {
            Ok(()) => Ok(Self::Field(field.name)),
            Err(problem) => Err(Error::invalid_unique(field.name, problem.to_string())),
        }
    }
}

/// The id that a record's reference leads to.
pub(crate) fn reference_of(record: &Map<String, Value>, field: &str) -> Option<Id> {
    record.get(field)?.get("id")?.as_str()?.parse().ok()
}

fn unique_key(field: &str, value: &str) -> String {
    format!("{field}={value}")
}
