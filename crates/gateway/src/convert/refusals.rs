//! What Kong can and this gateway cannot run yet: fields, and words in fields. The one list of it.

use super::{Record, Refusal};
use entities::Kind;
use serde_json::Value;

/// Words that may not stand in a field, in its list either.
const WORDS: [(Kind, &str, &[&str]); 1] = [(Kind::Routes, "path_handling", &["v1"])];

/// What of a record cannot be used.
pub(super) fn of_record(record: &Record, refusals: &mut Vec<Refusal>) {
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
}
