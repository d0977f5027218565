//! What the texts of a form mean, by the fields they are for. Reference: Kong's `arguments.infer_value`.
//!
//! Invariants: nothing is refused here; a text that does not fit stays a text, and validation says so.

use entities::Kind as EntityKind;
use plugin::{Field, Kind, Registry};
use serde_json::{Map, Number, Value};

/// Gives the fields of an entity their types; `plugin` says whose configuration is in it.
pub(crate) fn entity(values: &mut Map<String, Value>, kind: EntityKind, plugin: Option<&str>, registry: &Registry) {
    infer(values, kind.fields());
    if kind == EntityKind::Plugins
        && let Some((_, plugin)) = plugin.and_then(|name| registry.find(name))
        && let Some(Value::Object(config)) = values.get_mut("config")
    {
        infer(config, plugin.schema().fields);
    }
}

/// Gives the values of these fields their types.
fn infer(values: &mut Map<String, Value>, fields: &[Field]) {
    for field in fields {
        if let Some(value) = values.get_mut(field.name) {
            value_of(value, &field.kind);
        }
    }
}

fn value_of(value: &mut Value, kind: &Kind) {
    if value.as_str() == Some("") {
        *value = Value::Null;
        return;
    }
    match kind {
        Kind::Bool => {
            if let Some(word) = value.as_str().and_then(|text| text.parse().ok()) {
                *value = Value::Bool(word);
            }
        }
        Kind::Integer
        | Kind::Int { .. }
        | Kind::IntOneOf(_)
        | Kind::Number
        | Kind::NumberAbove(_)
        | Kind::NumberIn { .. }
        | Kind::Timestamp
        | Kind::TimestampMs => {
            if let Some(number) = value.as_str().and_then(number) {
                *value = Value::Number(number);
            }
        }
        Kind::List { of, .. } | Kind::Set { of, .. } => {
            if !value.is_array() && !value.is_null() {
                *value = Value::Array(vec![value.take()]);
            }
            for item in value.as_array_mut().into_iter().flatten() {
                value_of(item, of);
            }
        }
        Kind::Map { values, .. } => {
            for item in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
                value_of(item, values);
            }
        }
        _ => {
            if let (Some(map), Some(fields)) = (value.as_object_mut(), kind.fields()) {
                infer(map, fields);
            }
        }
    }
}

/// A number as Lua reads one: decimal or hexadecimal, with space around it.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let whole = i64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with(['+', '-']))?;
        return Some(Number::from(if negative { -whole } else { whole }));
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Number::from(whole));
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let float = text.parse::<f64>().ok()?;
    // A number without a fraction is whole, however it is written.
    #[expect(clippy::cast_possible_truncation, reason = "looked at before")]
    let whole = (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64);
    whole.map(Number::from).or_else(|| Number::from_f64(float))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin::DefaultValue;
    use serde_json::json;

    static FIELDS: &[Field] = &[
        Field::optional("text", Kind::Text, ""),
        Field::optional("bool", Kind::Bool, ""),
        Field::with_default("int", Kind::Int { min: 0, max: 9 }, DefaultValue::Int(1), ""),
        Field::optional("number", Kind::Number, ""),
        Field::optional("list", Kind::List { of: &Kind::Integer, len_min: 0 }, ""),
        Field::optional("set", Kind::Set { of: &Kind::Text, len_min: 0 }, ""),
        Field::optional(
            "headers",
            Kind::Map { keys: &Kind::Text, values: &Kind::List { of: &Kind::Text, len_min: 0 } },
            "",
        ),
        Field::optional("record", Kind::Record(&[Field::optional("on", Kind::Bool, "")]), ""),
        Field::optional("service", Kind::Foreign("services"), ""),
    ];

    #[test]
    fn texts_become_what_their_field_is() {
        for (given, meant) in [
            (json!({ "text": "1" }), json!({ "text": "1" })),
            (json!({ "text": "" }), json!({ "text": null })),
            (json!({ "bool": "true" }), json!({ "bool": true })),
            (json!({ "bool": "false" }), json!({ "bool": false })),
            (json!({ "bool": "yes" }), json!({ "bool": "yes" })),
            (json!({ "int": "12" }), json!({ "int": 12 })),
            (json!({ "int": " -3 " }), json!({ "int": -3 })),
            (json!({ "int": "0x10" }), json!({ "int": 16 })),
            (json!({ "int": "1e3" }), json!({ "int": 1000 })),
            (json!({ "int": "x" }), json!({ "int": "x" })),
            (json!({ "int": "nan" }), json!({ "int": "nan" })),
            (json!({ "int": "inf" }), json!({ "int": "inf" })),
            (json!({ "number": "1.5" }), json!({ "number": 1.5 })),
            (json!({ "number": "99999999999999999999" }), json!({ "number": 1e20 })),
            (json!({ "list": "1" }), json!({ "list": [1] })),
            (json!({ "list": ["1", "2", "x"] }), json!({ "list": [1, 2, "x"] })),
            (json!({ "list": "" }), json!({ "list": null })),
            (json!({ "set": "a" }), json!({ "set": ["a"] })),
            (json!({ "headers": { "x": "a" } }), json!({ "headers": { "x": ["a"] } })),
            (json!({ "record": { "on": "true", "other": "1" } }), json!({ "record": { "on": true, "other": "1" } })),
            (json!({ "service": { "id": "x" } }), json!({ "service": { "id": "x" } })),
            (json!({ "unknown": "1" }), json!({ "unknown": "1" })),
        ] {
            let mut values = given.as_object().unwrap().clone();
            infer(&mut values, FIELDS);
            assert_eq!(Value::Object(values), meant, "{given}");
        }
    }
}
