//! What is wrong with a tree, and where; as Kong's nested `fields` and as its flat list.

use crate::error::{Code, Error};
use crate::kind::Kind;
use crate::{pretty, violation};
use plugin::{Id, ProblemKind, Segment};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// From the root of the tree to what is wrong.
    pub path: Vec<Segment>,
    /// How many steps of the path lead to the entity; none if it is about no entity.
    pub entity_len: Option<usize>,
    /// What is wrong.
    pub kind: MistakeKind,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MistakeKind {
    /// A field or a rule.
    Field(ProblemKind),
    /// A plugin of that name is not built in.
    UnknownPlugin {
        /// Its name.
        name: String,
    },
    /// The value of a unique field, or an id, is another entity's.
    Duplicate {
        /// The kind of both.
        of: Kind,
        /// The field; `id` too.
        field: &'static str,
        /// The value.
        value: String,
        /// Where it stands first, if in the same tree.
        first: Option<Vec<Segment>>,
    },
    /// The plugin is configured for the same things twice.
    SameScope {
        /// The plugin.
        name: String,
        /// Kinds of what it is configured for.
        scope: Vec<Kind>,
        /// Where it is first.
        first: Vec<Segment>,
    },
    /// A reference leads nowhere.
    Dangling {
        /// The field of the reference.
        field: &'static str,
        /// What it is to.
        to: Kind,
        /// The name or id.
        key: String,
    },
    /// A reference names nothing: no name, no id.
    NoReference {
        /// What it should be to.
        to: Kind,
    },
    /// An entity stands inside another and names one of the same kind.
    Nested {
        /// What it stands in.
        parent: Kind,
    },
    /// Kong has it and this program does not.
    Refused {
        /// Why.
        reason: String,
    },
    /// Does not fit what was there before.
    Conflict(Error),
}

impl MistakeKind {
    /// Kong's words.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Field(problem) => problem.to_string(),
            Self::UnknownPlugin { name } => {
                format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property")
            }
            Self::Duplicate { of, field, value, .. } => {
                let field = if *field == "id" { "primary key" } else { field };
                format!("uniqueness violation: '{of}' entity with {field} set to '{value}' already declared")
            }
            Self::SameScope { name, .. } => {
                format!("uniqueness violation: 'plugins' entity with name set to '{name}' already declared")
            }
            Self::Dangling { field, to, key } => {
                format!("invalid reference '{field}: {key}' (no such entry in '{to}')")
            }
            Self::NoReference { to } => format!("expected a reference to an entity of '{to}'"),
            Self::Nested { .. } => "value must be null".to_owned(),
            Self::Refused { reason } => format!("not available: {reason}"),
            Self::Conflict(error) => error.message.clone(),
        }
    }
}

/// Every mistake of a tree.
#[derive(Clone, Debug, Default)]
pub struct Mistakes {
    pub(super) all: Vec<Mistake>,
    /// What entities of the tree are called.
    pub(super) names: HashMap<(Kind, String), Id>,
}

impl Mistakes {
    /// The mistakes, in the order in which the tree was read.
    #[must_use]
    pub fn all(&self) -> &[Mistake] {
        &self.all
    }

    /// Names that entities of a kind have in the tree, right or wrong: for "did you mean".
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.names.keys().filter(move |(of, _)| *of == kind).map(|(_, name)| name.as_str())
    }

    /// Kong's answer: code 14 with the mistakes nested as the tree is.
    #[must_use]
    pub fn error(&self) -> Error {
        let mut fields = Value::Object(Map::new());
        for mistake in &self.all {
            add(&mut fields, mistake);
        }
        let message = format!("declarative config is invalid: {}", pretty::line(&fields));
        Error { fields: Some(fields), ..Error::new(Code::DeclarativeConfig, message) }
    }

    /// Kong's answer to `?flatten_errors=1`: one entry for each wrong entity, whatever it is nested in.
    #[must_use]
    pub fn flattened(&self, tree: &Map<String, Value>) -> Value {
        let (mut entities, mut others) = (Vec::<(&[Segment], Vec<&Mistake>)>::new(), Value::Object(Map::new()));
        let mut places = HashMap::new();
        for mistake in &self.all {
            let Some(len) = mistake.entity_len else {
                add(&mut others, mistake);
                continue;
            };
            let path = &mistake.path[..len.min(mistake.path.len())];
            let place = *places.entry(path).or_insert_with(|| {
                entities.push((path, Vec::new()));
                entities.len() - 1
            });
            entities[place].1.push(mistake);
        }
        let flat: Vec<Value> =
            entities.iter().filter_map(|(path, mistakes)| flat_entity(tree, path, mistakes)).collect();
        let message = format!("declarative config is invalid: {}", pretty::line(&others));
        let mut body = Error { fields: Some(others), ..Error::new(Code::DeclarativeConfig, message) }.body();
        body["flattened_errors"] = Value::Array(flat);
        body
    }
}

fn add(fields: &mut Value, mistake: &Mistake) {
    match (&mistake.kind, mistake.entity_len) {
        (MistakeKind::Field(kind), _) => violation::add(fields, &mistake.path, kind),
        (kind, _) => {
            let kind = ProblemKind::Value { message: kind.message(), expected: None };
            violation::add(fields, &mistake.path, &kind);
        }
    }
}

fn at<'t>(tree: &'t Map<String, Value>, path: &[Segment]) -> Option<&'t Value> {
    let (Segment::Field(first), rest) = path.split_first()? else { return None };
    rest.iter().try_fold(tree.get(first)?, |value, segment| match segment {
        Segment::Field(name) | Segment::Key(name) => value.get(name),
        Segment::Index(at) => value.get(at),
    })
}

fn flat_entity(tree: &Map<String, Value>, path: &[Segment], mistakes: &[&Mistake]) -> Option<Value> {
    let [parent @ .., Segment::Field(list), Segment::Index(_)] = path else { return None };
    let kind = Kind::of_name(list)?;
    let Some(Value::Object(item)) = at(tree, path) else { return None };
    // Nested entities have entries of their own.
    let mut entity = item.clone();
    entity.retain(|name, value| !(is_nested(kind, name) && value.is_array()));
    let parent_kind = match parent {
        [.., Segment::Field(list), Segment::Index(_)] => Kind::of_name(list),
        _ => None,
    };
    let parent_id = at(tree, parent).and_then(|parent| parent.get("id")).filter(|id| is_id(id));
    let reference = kind.references().iter().find(|reference| Some(reference.to) == parent_kind);
    if let (Some(reference), Some(id)) = (reference, parent_id) {
        entity.entry(reference.field).or_insert_with(|| json!({ "id": id }));
    }
    let errors: Vec<Value> = mistakes.iter().map(|mistake| flat_error(mistake, path.len())).collect();
    let mut entry = Map::new();
    entry.insert("entity_type".to_owned(), Value::from(kind.singular()));
    for (name, key) in [("entity_name", "name"), ("entity_id", "id"), ("entity_tags", "tags")] {
        let fits = |value: &&Value| match key {
            "id" => is_id(value),
            "name" => value.as_str().is_some_and(|text| !text.is_empty()),
            _ => value.as_array().is_some_and(|tags| tags.iter().all(Value::is_string)),
        };
        if let Some(value) = item.get(key).filter(fits) {
            entry.insert(name.to_owned(), value.clone());
        }
    }
    entry.insert("entity".to_owned(), Value::Object(entity));
    entry.insert("errors".to_owned(), Value::Array(errors));
    Some(Value::Object(entry))
}

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<Id>().is_ok())
}

/// Whether `name` is the list of a kind that refers to `kind`.
pub(super) fn is_nested(kind: Kind, name: &str) -> bool {
    Kind::of_name(name).is_some_and(|child| child.references().iter().any(|reference| reference.to == kind))
}

fn flat_error(mistake: &Mistake, entity_len: usize) -> Value {
    let message = mistake.kind.message();
    let rest: Vec<String> = mistake.path[entity_len..]
        .iter()
        .filter_map(|segment| match segment {
            Segment::Field(name) => Some(name.clone()),
            Segment::Index(at) => Some((at + 1).to_string()),
            Segment::Key(_) => None,
        })
        .collect();
    let of_entity = rest.is_empty() || matches!(mistake.kind, MistakeKind::Field(ProblemKind::Rule(_)));
    if of_entity {
        json!({ "type": "entity", "message": message })
    } else {
        json!({ "type": "field", "field": rest.join("."), "message": message })
    }
}
