//! What Kong can and this gateway cannot run yet: whole kinds, fields, and words in fields. The one list of it.

use super::{Record, Refusal};
use entities::Kind;
use serde_json::Value;

/// Kinds that nothing here uses.
const KINDS: [(Kind, &str); 1] = [(Kind::Vaults, "vaults are not supported yet: give secrets in the environment")];

/// Fields that may not say anything.
const FIELDS: [(Kind, &str, &str); 2] = [
    (Kind::Routes, "sources", "routes of streams are not supported yet"),
    (Kind::Routes, "destinations", "routes of streams are not supported yet"),
];

/// Words that may not stand in a field, in its list either.
const WORDS: [(Kind, &str, &[&str]); 3] = [
    (Kind::Services, "protocol", &["tcp", "tls", "tls_passthrough", "udp"]),
    (Kind::Routes, "protocols", &["tcp", "tls", "tls_passthrough", "udp"]),
    (Kind::Routes, "path_handling", &["v1"]),
];

/// Why no entity of a kind can be used.
pub(super) fn of_kind(kind: Kind) -> Option<&'static str> {
    KINDS.iter().find(|(refused, _)| *refused == kind).map(|(_, reason)| *reason)
}

/// What of a record cannot be used. `text` is the same as JSON.
pub(super) fn of_record(record: &Record, text: &str, refusals: &mut Vec<Refusal>) {
    for (_, field, reason) in FIELDS.iter().filter(|(kind, ..)| *kind == record.kind) {
        let says = match record.value(field) {
            None => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        if says {
            record.refuse(refusals, field, None, *reason);
        }
    }
    for (_, field, words) in WORDS.iter().filter(|(kind, ..)| *kind == record.kind) {
        let mut refuse = |word: &str, index| {
            if words.contains(&word) {
                record.refuse(refusals, field, index, format!("`{word}` is not supported yet"));
            }
        };
        match record.value(field) {
            Some(Value::String(word)) => refuse(word, None),
            Some(Value::Array(items)) => {
                items.iter().enumerate().for_each(|(at, word)| refuse(word.as_str().unwrap_or_default(), Some(at)));
            }
            _ => {}
        }
    }
    if text.contains("{vault://") {
        for field in record.kind.fields() {
            if record.value(field.name).is_some_and(has_vault_reference) {
                record.refuse(refusals, field.name, None, "vault references are not supported yet");
            }
        }
    }
}

fn has_vault_reference(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with("{vault://"),
        Value::Array(items) => items.iter().any(has_vault_reference),
        Value::Object(map) => map.values().any(has_vault_reference),
        _ => false,
    }
}
