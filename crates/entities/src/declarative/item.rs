//! One entity of a tree: from what is written to a body with an id and references by id, and into the store.

use super::key::key_of;
use super::mistake::{self, MistakeKind};
use super::paths;
use super::walk::{Reading, refusal, says_nothing};
use crate::derive::derived_id;
use crate::error::{Code, Error};
use crate::kind::{Kind, Reference, refused};
use crate::store::{Unfit, Write, reference_of};
use plugin::{Id, Problem, ProblemKind, Segment};
use serde_json::{Map, Value, json};

/// Keys that any entity may have and that say nothing.
const IGNORED: [&str; 4] = ["_comment", "_ignore", "ws_id", "_config"];

/// An entity of a tree, still to be read.
pub(super) struct Item<'t> {
    pub(super) kind: Kind,
    pub(super) path: Vec<Segment>,
    pub(super) value: &'t Value,
    /// What it stands in.
    pub(super) above: Option<(Kind, Id)>,
}

impl Item<'_> {
    fn field(&self, name: &str) -> Vec<Segment> {
        let mut path = self.path.clone();
        path.push(Segment::Field(name.to_owned()));
        path
    }
}

impl<'t> Reading<'t> {
    pub(super) fn item(&mut self, item: &Item<'t>, write: &mut Write<'_>) {
        let entity_len = Some(item.path.len());
        let Some(map) = item.value.as_object() else {
            let kind = ProblemKind::Value { message: "expected a record".to_owned(), expected: None };
            return self.mistake(item.path.clone(), entity_len, MistakeKind::Field(kind));
        };
        let before = self.found.all.len();
        let mut body = self.body(item, map);
        for reference in item.kind.references() {
            self.reference(item, *reference, &mut body);
        }
        let id = self.identify(item, &mut body);
        self.queue_nested(item, id);
        self.check_taken(item, &body, id);
        if item.kind == Kind::Services {
            self.anchors(item, &body);
        }
        if item.kind == Kind::KeyauthCredentials && !body.contains_key("key") {
            // A random key would be another one after each reload.
            self.mistake(item.field("key"), entity_len, MistakeKind::Field(ProblemKind::Missing));
        }
        // Of an entity with a mistake the fields are checked too, but it is not to come into the store.
        let broken = self.found.all.len() > before;
        match self.check(item, body, broken, write) {
            Ok(()) => {}
            Err(Unfit::Problems(problems)) => self.problems(item, problems),
            Err(Unfit::Error(error)) => self.mistake(item.path.clone(), entity_len, MistakeKind::Conflict(error)),
        }
    }

    fn check(
        &mut self,
        item: &Item<'t>,
        body: Map<String, Value>,
        broken: bool,
        write: &mut Write<'_>,
    ) -> Result<(), Unfit> {
        if broken {
            return match self.store.prepare(item.kind, body, None, write) {
                // The reference is what is wrong, and was told.
                Err(Unfit::Error(Error { code: Code::ForeignKeysUnresolved, .. })) | Ok(_) => Ok(()),
                Err(other) => Err(other),
            };
        }
        let entity = self.store.load_record(item.kind, body, write)?;
        self.places.insert((item.kind, entity.id()), item.path.clone());
        Ok(())
    }

    fn problems(&mut self, item: &Item<'t>, problems: Vec<Problem>) {
        for problem in problems {
            let mut path = item.path.clone();
            path.extend(problem.path);
            let told = |kind: &ProblemKind| matches!(kind, ProblemKind::Missing);
            let again = self.found.all.iter().rev().take_while(|mistake| mistake.path.starts_with(&item.path));
            if again.clone().any(|mistake| mistake.path == path) && told(&problem.kind) {
                continue;
            }
            let unknown_plugin = item.kind == Kind::Plugins
                && path.len() == item.path.len() + 1
                && path.last() == Some(&Segment::Field("name".to_owned()));
            let kind = match (&problem.kind, item.value.get("name").and_then(Value::as_str)) {
                (ProblemKind::Value { .. }, Some(name)) if unknown_plugin => {
                    MistakeKind::UnknownPlugin { name: name.to_owned() }
                }
                _ => MistakeKind::Field(problem.kind),
            };
            self.mistake(path, Some(item.path.len()), kind);
        }
    }

    /// The entity's own fields, with what the tree says about all of its kind.
    fn body(&mut self, item: &Item<'t>, map: &'t Map<String, Value>) -> Map<String, Value> {
        let mut body = Map::new();
        for (name, value) in map {
            let nested = mistake::is_nested(item.kind, name);
            let of_texts =
                item.kind.field(name).is_some() && value.as_array().is_some_and(|i| i.iter().all(Value::is_string));
            if IGNORED.contains(&name.as_str()) || value.is_null() || (nested && !of_texts) {
                continue;
            }
            match refused(name).filter(|_| item.kind.field(name).is_none()) {
                Some(_) if says_nothing(value) => {}
                Some(reason) => self.mistake(item.field(name), Some(item.path.len()), refusal(reason)),
                None => {
                    body.insert(name.clone(), without_nulls(value));
                }
            }
        }
        if self.info.old_paths && item.kind == Kind::Routes {
            paths::migrate(&mut body);
        }
        if item.kind == Kind::Plugins
            && let Some(Value::Array(protocols)) = body.get_mut("protocols")
        {
            // Exports of Kong Enterprise list its protocols of WebSocket, which no request here has.
            protocols.retain(|protocol| protocol != "ws" && protocol != "wss");
        }
        let singular = item.kind.singular();
        let defaults = self.info.defaults.and_then(|defaults| defaults.get(singular)).and_then(Value::as_object);
        if let Some(defaults) = defaults {
            lay_under(&mut body, defaults);
        }
        if item.kind == Kind::Plugins
            && let Some(name) = map.get("_config").and_then(Value::as_str)
        {
            self.shared_config(item, name, &mut body);
        }
        if !self.info.tags.is_empty() && item.kind.field("tags").is_some() {
            let tags = body.entry("tags").or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(tags) = tags {
                let missing: Vec<Value> =
                    self.info.tags.iter().filter(|tag| !tags.contains(tag)).map(|tag| (*tag).clone()).collect();
                tags.extend(missing);
            }
        }
        body
    }

    /// A plugin's configuration that builds on one of `_plugin_configs`.
    fn shared_config(&mut self, item: &Item<'t>, name: &str, body: &mut Map<String, Value>) {
        let Some(shared) = self.info.plugin_configs.and_then(|configs| configs.get(name)) else {
            let message = format!("there is no `{name}` in `_plugin_configs`");
            let kind = ProblemKind::Value { message, expected: None };
            return self.mistake(item.field("_config"), Some(item.path.len()), MistakeKind::Field(kind));
        };
        let config = body.entry("config").or_insert_with(|| Value::Object(Map::new()));
        if let (Value::Object(config), Value::Object(shared)) = (config, shared) {
            lay_under(config, shared);
        }
    }

    /// Makes a reference one by id: to what the entity stands in, or to what it names.
    fn reference(&mut self, item: &Item<'t>, reference: Reference, body: &mut Map<String, Value>) {
        let entity_len = Some(item.path.len());
        let parent = item.above.filter(|(kind, _)| *kind == reference.to).map(|(_, id)| id);
        let given = body.remove(reference.field);
        let path = item.field(reference.field);
        let found = match (parent, given) {
            (None, None) => return,
            (Some(parent), None) => Some(parent),
            (Some(parent), Some(_)) => {
                self.mistake(path, entity_len, MistakeKind::Nested { parent: reference.to });
                Some(parent)
            }
            (None, Some(given)) => self.resolve(reference, &given, path, entity_len),
        };
        if let Some(id) = found {
            body.insert(reference.field.to_owned(), json!({ "id": id.to_string() }));
        }
    }

    /// The id that a reference means: a name or id as a text, or in a map.
    fn resolve(
        &mut self,
        reference: Reference,
        given: &Value,
        mut path: Vec<Segment>,
        entity_len: Option<usize>,
    ) -> Option<Id> {
        let to = reference.to;
        let key = match given {
            Value::Object(map) => {
                let fields = to.fields().iter().filter(|field| field.unique).map(|field| field.name);
                let found = fields.chain(["id"]).find_map(|name| map.get(name).map(|value| (name, value)));
                let Some((name, value)) = found else {
                    self.mistake(path, entity_len, MistakeKind::NoReference { to });
                    return None;
                };
                path.push(Segment::Field(name.to_owned()));
                value
            }
            given => given,
        };
        let Value::String(key) = key else {
            let kind = ProblemKind::Value { message: "expected a string".to_owned(), expected: None };
            self.mistake(path, entity_len, MistakeKind::Field(kind));
            return None;
        };
        let found = self.found.names.get(&(to, key.clone())).copied();
        let found = found.or_else(|| self.store.find(to, key).ok().flatten().map(|entity| entity.id()));
        let found = found.or_else(|| {
            let mut unique = to.fields().iter().filter(|field| field.unique);
            unique.find_map(|field| self.store.by_unique(to, field.name, key)).map(|entity| entity.id())
        });
        if found.is_none() {
            let kind = MistakeKind::Dangling { field: reference.field, to, key: key.clone() };
            self.mistake(path, entity_len, kind);
        }
        found
    }

    /// The entity's id, given or derived; and under which names it can be referred to.
    fn identify(&mut self, item: &Item<'t>, body: &mut Map<String, Value>) -> Id {
        let given = body.get("id").and_then(Value::as_str).and_then(|id| id.parse::<Id>().ok());
        let (mut key, unique) = key_of(item.kind, body);
        if !unique {
            let count = self.keys.entry((item.kind, key.clone())).or_insert(0);
            *count += 1;
            if *count > 1 {
                key.push_str(&format!("#{count}"));
            }
        }
        let id = given.unwrap_or_else(|| derived_id(item.kind, &key));
        // An id that is none is told when fields are checked.
        body.entry("id").or_insert_with(|| Value::from(id.to_string()));
        let names = item.kind.endpoint_key().into_iter().filter_map(|field| body.get(field)?.as_str());
        let names: Vec<String> = names.map(str::to_owned).chain([id.to_string()]).collect();
        for name in names {
            self.found.names.entry((item.kind, name)).or_insert(id);
        }
        id
    }

    /// Values that another entity of the tree has already.
    fn check_taken(&mut self, item: &Item<'t>, body: &Map<String, Value>, id: Id) {
        let entity_len = Some(item.path.len());
        let unique = item.kind.fields().iter().filter(|field| field.unique);
        let mut values: Vec<(&'static str, String)> =
            unique.filter_map(|field| Some((field.name, body.get(field.name)?.as_str()?.to_owned()))).collect();
        if item.value.get("id").is_some() || values.is_empty() {
            values.push(("id", id.to_string()));
        }
        if item.kind == Kind::Plugins {
            self.check_scope(item, body);
            // Twins of one scope have the same derived id.
            values.retain(|(field, _)| *field != "id" || item.value.get("id").is_some());
        }
        for (field, value) in values {
            let first = self.taken.entry((item.kind, field, value.clone())).or_insert_with(|| item.path.clone());
            if *first != item.path {
                let mut first = first.clone();
                first.push(Segment::Field(field.to_owned()));
                let kind = MistakeKind::Duplicate { of: item.kind, field, value, first: Some(first) };
                self.mistake(item.field(field), entity_len, kind);
            }
        }
    }

    fn check_scope(&mut self, item: &Item<'t>, body: &Map<String, Value>) {
        let Some(name) = body.get("name").and_then(Value::as_str) else { return };
        let references = ["route", "service", "consumer"];
        let scope: Vec<Option<Id>> = references.iter().map(|field| reference_of(body, field)).collect();
        // A scope with a reference that leads nowhere is not known.
        let unknown =
            |(field, id): (&&str, &Option<Id>)| id.is_none() && item.value.get(*field).is_some_and(|v| !v.is_null());
        if references.iter().zip(&scope).any(unknown) {
            return;
        }
        let key = format!("{name} {scope:?}");
        let first = self.taken.entry((item.kind, "*", key)).or_insert_with(|| item.path.clone()).clone();
        if first != item.path {
            let kinds = [Kind::Routes, Kind::Services, Kind::Consumers];
            let scope = kinds.into_iter().zip(&scope).filter(|(_, id)| id.is_some()).map(|(kind, _)| kind).collect();
            let mut first = first;
            first.push(Segment::Field("name".to_owned()));
            let kind = MistakeKind::SameScope { name: name.to_owned(), scope, first };
            self.mistake(item.field("name"), Some(item.path.len()), kind);
        }
    }

    /// Trust anchors are named in a list of ids.
    fn anchors(&mut self, item: &Item<'t>, body: &Map<String, Value>) {
        let anchors = body.get("ca_certificates").and_then(Value::as_array).into_iter().flatten().enumerate();
        for (at, anchor) in anchors {
            let Some(Ok(id)) = anchor.as_str().map(str::parse::<Id>) else { continue };
            let known = self.found.names.contains_key(&(Kind::CaCertificates, id.to_string()));
            if !known && self.store.get(Kind::CaCertificates, id).is_none() {
                let mut path = item.field("ca_certificates");
                path.push(Segment::Index(at));
                let kind =
                    MistakeKind::Dangling { field: "ca_certificates", to: Kind::CaCertificates, key: id.to_string() };
                self.mistake(path, Some(item.path.len()), kind);
            }
        }
    }
}

/// A value without the fields of records that have no value.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Fills in what is not given, in records of records too.
fn lay_under(body: &mut Map<String, Value>, defaults: &Map<String, Value>) {
    for (name, default) in defaults {
        match (body.get_mut(name), default) {
            (None, default) => {
                body.insert(name.clone(), default.clone());
            }
            (Some(Value::Object(inner)), Value::Object(default)) => lay_under(inner, default),
            _ => {}
        }
    }
}
