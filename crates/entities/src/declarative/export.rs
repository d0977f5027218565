//! A store as a tree of format 3.0, which reads back into the same store.

use crate::entity::{EXPIRES_MS, Entity};
use crate::kind::Kind;
use crate::store::Store;
use plugin::schema::without_nulls;
use serde_json::{Map, Value};

/// The entities that `include` wants, in lists by kind. References are ids; fields without a value are left out.
#[must_use]
pub fn export(store: &Store, include: impl Fn(&Entity) -> bool) -> Map<String, Value> {
    let mut tree = Map::new();
    tree.insert("_format_version".to_owned(), Value::from("3.0"));
    // What is exported is as it is stored: nothing is to be hashed again.
    tree.insert("_transform".to_owned(), Value::Bool(false));
    for kind in Kind::ALL {
        let all = store.in_order(kind);
        let list: Vec<Value> = all.into_iter().filter(|entity| include(entity)).map(|entity| item(entity)).collect();
        if !list.is_empty() {
            tree.insert(kind.name().to_owned(), Value::Array(list));
        }
    }
    tree
}

fn item(entity: &Entity) -> Value {
    let mut record = without_nulls(&entity.record());
    // What reads it begins to count then.
    record.remove(EXPIRES_MS);
    for reference in entity.kind().references() {
        if let Some(Value::Object(mut to)) = record.remove(reference.field)
            && let Some(id) = to.remove("id")
        {
            record.insert(reference.field.to_owned(), id);
        }
    }
    Value::Object(record)
}
