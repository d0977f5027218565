//! The walk through a tree: the lists of each kind, parents before what stands in them.

use super::item::Item;
use super::mistake::{Mistake, MistakeKind, Mistakes};
use super::{Declared, META_KEYS, VERSIONS, mistake};
use crate::kind::{Kind, refused};
use crate::store::{Store, Write};
use model::limits::DECLARATIVE_MISTAKES_MAX;
use plugin::{Id, ProblemKind, Segment};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// A reading under way.
pub(super) struct Reading<'t> {
    pub(super) store: Store,
    pub(super) found: Mistakes,
    pub(super) places: HashMap<(Kind, Id), Vec<Segment>>,
    /// Unique values: kind, field and value to where they stand first.
    pub(super) taken: HashMap<(Kind, &'static str, String), Vec<Segment>>,
    /// How often something that identifies an entity was met.
    pub(super) keys: HashMap<(Kind, String), usize>,
    /// Entities that wait for their kind's turn.
    waiting: HashMap<Kind, Vec<Item<'t>>>,
    pub(super) info: Info<'t>,
}

/// What a tree says about all its entities.
#[derive(Default)]
pub(super) struct Info<'t> {
    /// Paths of routes are to be brought to format 3.0.
    pub(super) old_paths: bool,
    /// Tags that every entity gets.
    pub(super) tags: Vec<&'t Value>,
    /// Fields of a kind (in the singular) that are not given.
    pub(super) defaults: Option<&'t Map<String, Value>>,
    /// Configurations by name that plugins build on.
    pub(super) plugin_configs: Option<&'t Map<String, Value>>,
}

/// Reads a tree into a store that may hold other entities already, which references may lead to.
///
/// # Errors
/// Every mistake.
pub fn read(tree: &Map<String, Value>, base: &Store, write: &mut Write<'_>) -> Result<Declared, Mistakes> {
    let mut reading = Reading {
        store: base.clone(),
        found: Mistakes::default(),
        places: HashMap::new(),
        taken: HashMap::new(),
        keys: HashMap::new(),
        waiting: HashMap::new(),
        info: Info::default(),
    };
    reading.meta(tree);
    for kind in Kind::ALL {
        let nested = reading.waiting.remove(&kind).unwrap_or_default();
        let own = reading.list(kind, tree.get(kind.name()), &[], None);
        for item in nested.into_iter().chain(own) {
            reading.item(&item, write);
        }
    }
    if reading.found.all.is_empty() {
        Ok(Declared { store: reading.store, places: reading.places })
    } else {
        Err(reading.found)
    }
}

impl<'t> Reading<'t> {
    pub(super) fn mistake(&mut self, path: Vec<Segment>, entity_len: Option<usize>, kind: MistakeKind) {
        if self.found.all.len() < DECLARATIVE_MISTAKES_MAX {
            self.found.all.push(Mistake { path, entity_len, kind });
        }
    }

    fn of_key(&mut self, key: &str, kind: MistakeKind) {
        self.mistake(vec![Segment::Field(key.to_owned())], None, kind);
    }

    /// What stands beside the lists of entities.
    fn meta(&mut self, tree: &'t Map<String, Value>) {
        let value =
            |message: &str| MistakeKind::Field(ProblemKind::Value { message: message.to_owned(), expected: None });
        match tree.get("_format_version") {
            None | Some(Value::Null) => self.of_key("_format_version", MistakeKind::Field(ProblemKind::Missing)),
            Some(Value::String(version)) if VERSIONS.contains(&version.as_str()) => {
                self.info.old_paths = version != "3.0";
            }
            Some(Value::String(_)) => self.of_key("_format_version", value("expected one of: 1.1, 2.1, 3.0")),
            Some(_) => self.of_key("_format_version", value("expected a string")),
        }
        if tree.get("_transform").is_some_and(|value| !value.is_null() && !value.is_boolean()) {
            self.of_key("_transform", value("expected a boolean"));
        }
        if tree.get("_workspace").is_some_and(|name| !name.is_null() && name != "default") {
            self.of_key("_workspace", refusal("there is one workspace, `default`"));
        }
        if tree.get("_konnect").is_some_and(|value| !says_nothing(value)) {
            self.of_key("_konnect", refusal("this is not Konnect"));
        }
        if let Some(info) = tree.get("_info").and_then(Value::as_object) {
            self.info.tags = info.get("select_tags").and_then(Value::as_array).into_iter().flatten().collect();
            self.info.defaults = info.get("defaults").and_then(Value::as_object);
        }
        self.info.plugin_configs = tree.get("_plugin_configs").and_then(Value::as_object);
        for (name, value) in tree {
            let known = Kind::of_name(name).is_some() || META_KEYS.contains(&name.as_str());
            if let Some(reason) = refused(name).filter(|_| !says_nothing(value)) {
                self.of_key(name, refusal(reason));
            } else if !known && refused(name).is_none() {
                let known = Kind::ALL.iter().map(|kind| kind.name()).collect();
                self.of_key(name, MistakeKind::Field(ProblemKind::UnknownField { known }));
            }
        }
    }

    /// The entities of a list that stands at `parent`.
    pub(super) fn list(
        &mut self,
        kind: Kind,
        list: Option<&'t Value>,
        parent: &[Segment],
        above: Option<(Kind, Id)>,
    ) -> Vec<Item<'t>> {
        let mut path = parent.to_vec();
        path.push(Segment::Field(kind.name().to_owned()));
        let items = match list {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items.as_slice(),
            Some(Value::Object(map)) if map.is_empty() => return Vec::new(),
            Some(_) => {
                let kind = ProblemKind::Value { message: "expected an array".to_owned(), expected: Some("a list") };
                let entity_len = above.map(|_| parent.len());
                self.mistake(path, entity_len, MistakeKind::Field(kind));
                return Vec::new();
            }
        };
        let place = |at: usize| {
            let mut path = path.clone();
            path.push(Segment::Index(at));
            path
        };
        items.iter().enumerate().map(|(at, value)| Item { kind, path: place(at), value, above }).collect()
    }

    /// Lets what stands inside an entity wait for its turn.
    pub(super) fn queue_nested(&mut self, item: &Item<'t>, id: Id) {
        let Some(map) = item.value.as_object() else { return };
        for (name, value) in map {
            let Some(child) = Kind::of_name(name).filter(|_| mistake::is_nested(item.kind, name)) else { continue };
            // The server names of a certificate may be texts, which are a field.
            let is_field = item.kind.field(name).is_some();
            let texts = value.as_array().is_some_and(|items| items.iter().any(Value::is_string));
            if is_field && texts {
                continue;
            }
            let items = self.list(child, Some(value), &item.path, Some((item.kind, id)));
            self.waiting.entry(child).or_default().extend(items);
        }
    }
}

pub(super) fn refusal(reason: &str) -> MistakeKind {
    MistakeKind::Refused { reason: reason.to_owned() }
}

/// Nothing, or an empty list or map.
pub(super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
