//! A schema as Kong's `/schemas/*` shows it, which `deck` reads to fill in defaults:
//! `{"fields": [{"name": {"type": "string", …}}, …]}`.

use super::{Field, Kind};
use serde_json::{Map, Value, json};

/// The list of fields.
#[must_use]
pub fn fields(fields: &[Field]) -> Value {
    fields.iter().map(|field| json!({ field.name: self::field(field) })).collect()
}

fn field(field: &Field) -> Value {
    let mut shown = kind(&field.kind);
    if let Some(value) = field.default.value() {
        shown.insert("default".to_owned(), value);
    }
    let record = field.kind.fields().is_some() && !field.nullable;
    for (name, set) in [
        ("required", field.required || record),
        ("auto", field.auto),
        ("unique", field.unique),
        ("encrypted", field.secret),
        ("referenceable", field.referenceable),
        ("transient", field.transient),
    ] {
        if set {
            shown.insert(name.to_owned(), Value::Bool(true));
        }
    }
    if !field.help.is_empty() {
        shown.insert("description".to_owned(), Value::from(field.help));
    }
    Value::Object(shown)
}

fn kind(kind: &Kind) -> Map<String, Value> {
    let shown = match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Int { min, max } => json!({ "type": "integer", "between": [min, max] }),
        Kind::IntOneOf(numbers) => json!({ "type": "integer", "one_of": numbers }),
        Kind::Number => json!({ "type": "number" }),
        Kind::NumberAbove(above) => json!({ "type": "number", "gt": above }),
        Kind::NumberIn { min, max } => json!({ "type": "number", "between": [min, max] }),
        Kind::Timestamp => json!({ "type": "integer", "timestamp": true }),
        Kind::TimestampMs => json!({ "type": "number", "timestamp": true }),
        Kind::Uuid => json!({ "type": "string", "uuid": true }),
        Kind::Text | Kind::Like(_) | Kind::HeaderName => json!({ "type": "string" }),
        Kind::AnyText => json!({ "type": "string", "len_min": 0 }),
        Kind::OneOf(words) | Kind::Choice { allowed: words, .. } => json!({ "type": "string", "one_of": words }),
        Kind::OneOfOrOurs { words, ours } => {
            let all: Vec<&str> = words.iter().chain(*ours).copied().collect();
            json!({ "type": "string", "one_of": all })
        }
        Kind::List { of, len_min } => list("array", of, *len_min),
        Kind::Set { of, len_min } => list("set", of, *len_min),
        Kind::Map { keys, values } => {
            json!({ "type": "map", "keys": self::kind(keys), "values": self::kind(values) })
        }
        Kind::Record(_) | Kind::RuledRecord(_) => {
            json!({ "type": "record", "fields": fields(kind.fields().unwrap_or_default()) })
        }
        Kind::Foreign(of) => json!({ "type": "foreign", "reference": of }),
        Kind::Specialised => json!({ "type": "record", "abstract": true }),
    };
    match shown {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn list(name: &str, of: &Kind, len_min: usize) -> Value {
    let mut shown = json!({ "type": name, "elements": kind(of) });
    if len_min > 0 {
        shown["len_min"] = Value::from(len_min);
    }
    shown
}
