//! Changes: each checks everything, then gives the next store and the list of what it put and removed.

use super::prepare::{self, Unfit};
use super::{Key, Store, Table, reference_of, unique_key};
use crate::entity::{Entity, Origin};
use crate::error::{Code, Error};
use crate::kind::{Kind, OnDelete};
use crate::shards::Link;
use plugin::{Id, Problem, ProblemKind, Registry, Segment};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a change needs from outside.
pub struct Write<'w> {
    /// The plugins there are.
    pub registry: &'w Registry,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Makes ids that nobody has.
    pub fresh: &'w mut dyn FnMut() -> Id,
    /// Where the change comes from.
    pub origin: Origin,
    /// Whether `updated_at` stays as it is given: for what was stored before.
    pub keeps_times: bool,
    /// Whether it was in force before, and is read again: rules about the time and about other entities are not asked.
    pub is_kept: bool,
}

impl Write<'_> {
    pub(super) fn now_s(&self) -> i64 {
        i64::try_from(self.now_ms / 1_000).unwrap_or(i64::MAX)
    }
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Change {
    /// The store after it.
    pub store: Store,
    /// The entity it was about, if it is still there.
    pub entity: Option<Arc<Entity>>,
    /// What is new or different.
    pub put: Vec<Arc<Entity>>,
    /// What is gone.
    pub removed: Vec<Arc<Entity>>,
}

impl Change {
    fn of(store: &Store) -> Self {
        Self { store: store.clone(), entity: None, put: Vec::new(), removed: Vec::new() }
    }
}

impl Store {
    /// Adds an entity: `POST`.
    ///
    /// # Errors
    /// What is wrong with the body, or taken, or missing.
    pub fn insert(&self, kind: Kind, body: Value, write: &mut Write<'_>) -> Result<Change, Error> {
        let mut change = Change::of(self);
        let record = self.prepare(kind, prepare::body_of(body)?, None, write)?;
        change.put(kind, record, None, write)?;
        Ok(change)
    }

    /// Whether a body would do for a kind: its fields and rules. References are not followed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self, kind: Kind, body: Value, write: &mut Write<'_>) -> Result<(), Error> {
        self.prepare(kind, prepare::body_of(body)?, None, write)?;
        Ok(())
    }

    /// Adds an entity to this store. For many at once, which would otherwise each make a store.
    ///
    /// # Errors
    /// As [`Store::insert`]; the store is unchanged then.
    pub fn load(&mut self, kind: Kind, body: Value, write: &mut Write<'_>) -> Result<Arc<Entity>, Error> {
        Ok(self.load_record(kind, prepare::body_of(body)?, write)?)
    }

    pub(crate) fn load_record(
        &mut self,
        kind: Kind,
        body: Map<String, Value>,
        write: &mut Write<'_>,
    ) -> Result<Arc<Entity>, Unfit> {
        let record = self.prepare(kind, body, None, write)?;
        let mut change = Change { store: std::mem::take(self), entity: None, put: Vec::new(), removed: Vec::new() };
        let done = change.put(kind, record, None, write);
        // A certificate whose server names do not fit was put already.
        if done.is_err() {
            for entity in change.put.iter().rev() {
                change.store.take_out(entity);
            }
        }
        *self = change.store;
        Ok(done?)
    }

    /// Takes an entity out without asking.
    fn take_out(&mut self, entity: &Entity) {
        let table = self.table_mut(entity.kind());
        table.unindex(entity.kind(), entity);
        table.entities.remove(&entity.id());
    }

    /// Changes some fields of an entity: `PATCH`. `key` is its id or endpoint key.
    ///
    /// # Errors
    /// As [`Store::insert`], or there is no such entity, or it is the file's.
    pub fn update(&self, kind: Kind, key: &str, body: Value, write: &mut Write<'_>) -> Result<Change, Error> {
        let parsed = Key::parse(kind, key)?;
        let Some(old) = self.find(kind, key)?.cloned() else {
            let field = match parsed {
                Key::Id(_) => "id",
                Key::Field(field) => field,
            };
            return Err(Error::not_found(field, key));
        };
        self.update_entity(&old, body, write)
    }

    /// The same for an entity that was found already.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub fn update_entity(&self, old: &Arc<Entity>, body: Value, write: &mut Write<'_>) -> Result<Change, Error> {
        let kind = old.kind();
        may_write(old, write.origin)?;
        let mut body = prepare::body_of(body)?;
        body.remove("id");
        let mut change = Change::of(self);
        let record = self.prepare(kind, body, Some(&old.record()), write)?;
        change.put(kind, record, Some(old), write)?;
        Ok(change)
    }

    /// Puts an entity in the place of another, or adds it: `PUT`. `key` is its id or endpoint key.
    ///
    /// # Errors
    /// As [`Store::insert`], or the one that is there is the file's.
    pub fn upsert(&self, kind: Kind, key: &str, body: Value, write: &mut Write<'_>) -> Result<Change, Error> {
        let parsed = Key::parse(kind, key)?;
        let old = self.find(kind, key)?.cloned();
        let mut body = prepare::body_of(body)?;
        match (&parsed, &old) {
            (Key::Id(id), _) => {
                body.insert("id".to_owned(), Value::from(id.to_string()));
            }
            (Key::Field(field), old) => {
                body.insert((*field).to_owned(), Value::from(key));
                if let Some(old) = old {
                    body.insert("id".to_owned(), Value::from(old.id().to_string()));
                }
            }
        }
        if let Some(old) = &old {
            may_write(old, write.origin)?;
        }
        let mut change = Change::of(self);
        let record = self.prepare(kind, body, None, write)?;
        change.put(kind, record, old.as_ref(), write)?;
        Ok(change)
    }

    /// Takes an entity away, and what goes with it: `DELETE`. If there is none, nothing changes.
    ///
    /// # Errors
    /// Something refers to it that must not lose it, or it is the file's.
    pub fn delete(&self, kind: Kind, key: &str, origin: Origin) -> Result<Change, Error> {
        match self.find(kind, key)?.cloned() {
            Some(entity) => self.delete_entity(&entity, origin),
            None => Ok(Change::of(self)),
        }
    }

    /// The same for an entity that was found already.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub fn delete_entity(&self, entity: &Arc<Entity>, origin: Origin) -> Result<Change, Error> {
        let mut change = Change::of(self);
        change.remove(entity, origin)?;
        Ok(change)
    }

    /// The service that names a trust anchor.
    fn service_with_anchor(&self, anchor: Id) -> Option<&Arc<Entity>> {
        let anchor = anchor.to_string();
        self.iter(Kind::Services).find(|service| {
            service.text().contains(&anchor)
                && service
                    .record()
                    .get("ca_certificates")
                    .and_then(Value::as_array)
                    .is_some_and(|anchors| anchors.iter().any(|one| *one == anchor))
        })
    }
}

fn may_write(entity: &Entity, origin: Origin) -> Result<(), Error> {
    if entity.origin() == Origin::File && origin == Origin::Api {
        return Err(Error::read_only(entity.kind(), entity.id()));
    }
    Ok(())
}

impl Change {
    /// Puts a checked record in the place of `old`, and the server names of a certificate.
    fn put(
        &mut self,
        kind: Kind,
        mut record: Map<String, Value>,
        old: Option<&Arc<Entity>>,
        write: &mut Write<'_>,
    ) -> Result<Arc<Entity>, Error> {
        let names = (kind == Kind::Certificates).then(|| record.remove("snis")).flatten();
        let names = names.map(|names| self.server_names(&names, old)).transpose()?;
        let entity = self.put_record(kind, record, old, write.origin)?;
        if let Some(names) = names {
            self.set_server_names(entity.id(), &names, write)?;
        }
        self.entity = Some(Arc::clone(&entity));
        Ok(entity)
    }

    fn put_record(
        &mut self,
        kind: Kind,
        record: Map<String, Value>,
        old: Option<&Arc<Entity>>,
        origin: Origin,
    ) -> Result<Arc<Entity>, Error> {
        let Some(id) = record.get("id").and_then(Value::as_str).and_then(|id| id.parse::<Id>().ok()) else {
            return Err(Error::invalid_primary_key("required field missing"));
        };
        if old.is_none() && self.store.get(kind, id).is_some() {
            return Err(Error::primary_key(id));
        }
        self.check_unique(kind, id, &record)?;
        for reference in kind.references() {
            if let Some(to) = reference_of(&record, reference.field)
                && self.store.get(reference.to, to).is_none()
            {
                return Err(Error::dangling(reference.field, reference.to, to));
            }
        }
        let rank = old.map_or(self.store.next_rank, |old| old.rank());
        if old.is_none() {
            self.store.next_rank += 1;
        }
        if let Some(old) = old {
            self.store.table_mut(kind).unindex(kind, old);
        }
        let links: Vec<Link> = links(kind, id, &record).collect();
        let keys: Vec<String> = unique_keys(kind, &record).map(|(key, _)| key).collect();
        let entity = Arc::new(Entity::new(kind, id, origin, rank, record));
        let table = self.store.table_mut(kind);
        links.into_iter().for_each(|link| table.links.insert(link, ()));
        keys.into_iter().for_each(|key| table.unique.insert(key, id));
        table.entities.insert(id, Arc::clone(&entity));
        self.put.push(Arc::clone(&entity));
        Ok(entity)
    }

    fn check_unique(&self, kind: Kind, id: Id, record: &Map<String, Value>) -> Result<(), Error> {
        let table = self.store.table(kind);
        for (key, fields) in unique_keys(kind, record) {
            if table.unique.get(key.as_str()).is_some_and(|other| *other != id) {
                let value =
                    |field: &&'static str| ((*field).to_owned(), record.get(*field).cloned().unwrap_or(Value::Null));
                return Err(Error::unique(fields.iter().map(value).collect()));
            }
        }
        Ok(())
    }

    /// The server names of a certificate, checked against those of others.
    fn server_names(&self, names: &Value, old: Option<&Arc<Entity>>) -> Result<Vec<String>, Error> {
        let problem = |message: String| {
            let kind = ProblemKind::Value { message, expected: None };
            Error::schema(&[Problem { path: vec![Segment::Field("snis".to_owned())], kind }])
        };
        let texts = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut names: Vec<String> = texts.map(str::to_owned).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(problem(format!("{} is duplicated", twice[0])));
        }
        for name in &names {
            let holder = self.store.by_unique(Kind::Snis, "name", name);
            let of = holder.and_then(|sni| reference_of(&sni.record(), "certificate"));
            if let Some(of) = of.filter(|of| Some(*of) != old.map(|old| old.id())) {
                return Err(problem(format!("{name} already associated with existing certificate '{of}'")));
            }
        }
        Ok(names)
    }

    /// Makes the server names of a certificate these.
    fn set_server_names(&mut self, certificate: Id, names: &[String], write: &mut Write<'_>) -> Result<(), Error> {
        let old: Vec<(Arc<Entity>, String)> = self
            .store
            .children(Kind::Snis, "certificate", certificate)
            .map(|sni| {
                (Arc::clone(sni), sni.record().get("name").and_then(Value::as_str).unwrap_or_default().to_owned())
            })
            .collect();
        for (sni, _) in old.iter().filter(|(_, name)| !names.contains(name)) {
            self.remove(sni, write.origin)?;
        }
        for name in names.iter().filter(|name| !old.iter().any(|(_, there)| there == *name)) {
            let mut body = Map::new();
            body.insert("name".to_owned(), Value::from(name.as_str()));
            body.insert("certificate".to_owned(), json!({ "id": certificate.to_string() }));
            if write.origin == Origin::File {
                let id = crate::derived_id(Kind::Snis, name);
                body.insert("id".to_owned(), Value::from(id.to_string()));
            }
            let record = self.store.prepare(Kind::Snis, body, None, write)?;
            self.put_record(Kind::Snis, record, None, write.origin)?;
        }
        Ok(())
    }

    fn remove(&mut self, entity: &Arc<Entity>, origin: Origin) -> Result<(), Error> {
        let (kind, id) = (entity.kind(), entity.id());
        may_write(entity, origin)?;
        if kind == Kind::CaCertificates
            && let Some(service) = self.store.service_with_anchor(id)
        {
            let message = format!("ca certificate {id} is still referenced by services (id = {})", service.id());
            return Err(Error::new(Code::ReferencedByOthers, message));
        }
        for (child, reference) in kind.referrers() {
            let there: Vec<Arc<Entity>> = self.store.children(child, reference.field, id).cloned().collect();
            if reference.on_delete == OnDelete::Restrict && !there.is_empty() {
                return Err(Error::restricted(kind, child));
            }
            for child in there {
                self.remove(&child, origin)?;
            }
        }
        self.store.take_out(entity);
        self.removed.push(Arc::clone(entity));
        Ok(())
    }
}

impl Store {
    pub(super) fn table_mut(&mut self, kind: Kind) -> &mut Table {
        Arc::make_mut(&mut self.tables[kind.index()])
    }
}

impl Table {
    /// Takes an entity out of the ways to find it, but for its id.
    fn unindex(&mut self, kind: Kind, entity: &Entity) {
        let record = entity.record();
        links(kind, entity.id(), &record).for_each(|link| self.links.remove(&link));
        unique_keys(kind, &record).for_each(|(key, _)| self.unique.remove(key.as_str()));
    }
}

fn links(kind: Kind, from: Id, record: &Map<String, Value>) -> impl Iterator<Item = Link> {
    kind.references().iter().enumerate().filter_map(move |(at, reference)| {
        let to = reference_of(record, reference.field)?;
        Some(Link { reference: u8::try_from(at).ok()?, to, from })
    })
}

/// What must be unique of a record: the key in the index, and the fields it is made of.
fn unique_keys(kind: Kind, record: &Map<String, Value>) -> impl Iterator<Item = (String, Vec<&'static str>)> {
    let single = kind.fields().iter().filter(|field| field.unique).filter_map(|field| {
        let value = record.get(field.name)?.as_str()?;
        Some((unique_key(field.name, value), vec![field.name]))
    });
    let together = kind.def().unique_together;
    let part = |field: &&str| match record.get(*field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(reference)) => reference.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let together = (!together.is_empty()).then(|| {
        let parts: Vec<String> = together.iter().map(part).collect();
        (unique_key("*", &parts.join("\0")), together.to_vec())
    });
    single.chain(together)
}
