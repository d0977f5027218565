//! The entities of the text as JSON. In YAML the type of an unquoted scalar is guessed from its look; values of environment
//! variables have no types at all, so there the fields say what they are.

use ::entities::Kind;
use ::entities::declarative::META_KEYS;
use ::plugin::{Field, Kind as FieldKind, Registry};
use serde_json::{Map, Number, Value as Json};

use crate::reader::Check;
use crate::suggest::nearest;
use crate::tree::{Node, Scalar, Value};

/// The lists of entities and what stands beside them.
pub(super) fn tree(check: &mut Check<'_>, root: &Node, registry: &Registry) -> Map<String, Json> {
    let mut tree = Map::new();
    let Value::Map(entries) = &root.value else { return tree };
    for entry in entries {
        let value = match Kind::of_name(&entry.key) {
            Some(kind) => list(check, kind, &entry.value, registry),
            None if &*entry.key == "_format_version" => entry.value.text().map_or(Json::Null, Json::from),
            // Refused with everything else that Kong has and this program does not.
            None if META_KEYS.contains(&&*entry.key) || ::entities::refused(&entry.key).is_some() => {
                json(check, &entry.value, None)
            }
            None => continue,
        };
        tree.insert(entry.key.to_string(), value);
    }
    // Whether one must be there is `load`'s question.
    tree.entry("_format_version").or_insert_with(|| Json::from("3.0"));
    tree
}

fn list(check: &mut Check<'_>, kind: Kind, node: &Node, registry: &Registry) -> Json {
    match &node.value {
        Value::List(items) => items.iter().map(|item| entity(check, kind, item, registry)).collect(),
        _ => json(check, node, None),
    }
}

/// An entity, with those that stand in it.
fn entity(check: &mut Check<'_>, kind: Kind, node: &Node, registry: &Registry) -> Json {
    let Value::Map(entries) = &node.value else { return json(check, node, None) };
    let mut map = Map::new();
    for entry in entries {
        let child = Kind::of_name(&entry.key).filter(|child| child.references().iter().any(|to| to.to == kind));
        let value = match (child, kind.field(&entry.key)) {
            (Some(child), None) => list(check, child, &entry.value, registry),
            (Some(child), Some(_)) if holds_maps(&entry.value) => list(check, child, &entry.value, registry),
            (_, Some(Field { kind: FieldKind::Specialised, .. })) => {
                let plugin = node.get("name").and_then(Node::text).and_then(|name| registry.find(name));
                let fields = plugin.map_or(&[][..], |(_, plugin)| plugin.schema().fields);
                record(check, &entry.value, fields)
            }
            (_, Some(field)) => {
                hide(check, field, &entry.value);
                // A name of digits is a host, whatever YAML makes of it.
                let verbatim = (kind, field.name) == (Kind::Services, "host");
                match entry.value.text().filter(|_| verbatim) {
                    Some(text) => Json::from(text),
                    None => json(check, &entry.value, Some(&field.kind)),
                }
            }
            (None, None) => {
                hide_misspelt(check, kind.fields(), &entry.key, &entry.value);
                let url = kind.shorthands().contains(&&*entry.key);
                if url && entry.value.text().is_some_and(|text| text.contains('@')) {
                    check.secrets.push(entry.value.at);
                }
                json(check, &entry.value, url.then_some(&FieldKind::Text))
            }
        };
        map.insert(entry.key.to_string(), value);
    }
    Json::Object(map)
}

fn holds_maps(node: &Node) -> bool {
    matches!(&node.value, Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))))
}

/// Keeps a secret out of what is shown.
fn hide(check: &mut Check<'_>, field: &Field, node: &Node) {
    if field.secret {
        check.secrets.push(node.at);
    }
}

/// The same for one whose key is misspelt.
fn hide_misspelt(check: &mut Check<'_>, fields: &[Field], key: &str, node: &Node) {
    let secrets = fields.iter().filter(|field| field.secret).map(|field| field.name);
    if nearest(key, secrets).is_some() {
        check.secrets.push(node.at);
    }
}

fn record(check: &mut Check<'_>, node: &Node, fields: &'static [Field]) -> Json {
    let Value::Map(entries) = &node.value else { return json(check, node, None) };
    let mut map = Map::new();
    for entry in entries {
        let field = fields.iter().find(|field| field.name == &*entry.key);
        match field {
            Some(field) => hide(check, field, &entry.value),
            None => hide_misspelt(check, fields, &entry.key, &entry.value),
        }
        map.insert(entry.key.to_string(), json(check, &entry.value, field.map(|field| &field.kind)));
    }
    Json::Object(map)
}

/// Any tree as JSON, without knowing what it should be.
pub(crate) fn plain(check: &mut Check<'_>, node: &Node) -> Json {
    json(check, node, None)
}

fn json(check: &mut Check<'_>, node: &Node, kind: Option<&'static FieldKind>) -> Json {
    let variable = check.sources.is_variable(node.at.source);
    match (&node.value, kind) {
        (Value::Null, _) => Json::Null,
        (Value::Map(_), Some(kind)) if kind.fields().is_some() => {
            record(check, node, kind.fields().unwrap_or_default())
        }
        (Value::Map(entries), Some(FieldKind::Map { values, .. })) => {
            let entry = |entry: &crate::tree::Entry| (entry.key.to_string(), json(check, &entry.value, Some(values)));
            Json::Object(entries.iter().map(entry).collect())
        }
        (Value::Map(_), _) => record(check, node, &[]),
        (Value::List(items), Some(FieldKind::List { of, .. } | FieldKind::Set { of, .. })) => {
            items.iter().map(|item| json(check, item, Some(of))).collect()
        }
        (Value::List(items), _) => items.iter().map(|item| json(check, item, None)).collect(),
        (Value::Scalar(text), Some(FieldKind::List { of, .. } | FieldKind::Set { of, .. })) if variable => {
            let parts = text.text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| scalar(&Scalar { text: part.into(), quoted: false }, Some(of), true)).collect()
        }
        (Value::Scalar(text), kind) => scalar(text, kind, variable),
    }
}

fn scalar(scalar: &Scalar, kind: Option<&'static FieldKind>, variable: bool) -> Json {
    let is_text = matches!(
        kind,
        Some(
            FieldKind::Text
                | FieldKind::AnyText
                | FieldKind::HeaderName
                | FieldKind::Like(_)
                | FieldKind::OneOf(_)
                | FieldKind::OneOfOrOurs { .. }
                | FieldKind::Choice { .. }
                | FieldKind::Uuid
                | FieldKind::Foreign(_)
        )
    );
    if scalar.quoted || (variable && is_text) {
        return Json::from(&*scalar.text);
    }
    if let Some(flag) = scalar.as_bool() {
        return Json::from(flag);
    }
    if let Ok(number) = scalar.text.parse::<i64>() {
        return Json::from(number);
    }
    let float = scalar.text.parse().ok().and_then(Number::from_f64);
    float.map_or_else(|| Json::from(&*scalar.text), Json::Number)
}
