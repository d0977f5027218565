//! What names a configuration: 32 hexadecimal digits, as Kong has it.

use entities::{EXPIRES_MS, Kind, Store};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Without entities.
const EMPTY: &str = "00000000000000000000000000000000";

/// Of a declarative configuration.
pub(super) fn of_tree(tree: &Map<String, Value>) -> String {
    digits(Sha256::digest(Value::Object(tree.clone()).to_string()).as_slice())
}

/// Of all entities, whenever they came.
pub(super) fn of_store(store: &Store) -> String {
    if store.is_empty() {
        return EMPTY.to_owned();
    }
    let mut digest = Sha256::new();
    for entity in Kind::ALL.into_iter().flat_map(|kind| store.iter(kind)) {
        let mut record = entity.record();
        record.remove("created_at");
        record.remove("updated_at");
        record.remove(EXPIRES_MS);
        digest.update(format!("{} {}\n", entity.kind(), Value::Object(record)));
    }
    digits(digest.finalize().as_slice())
}

fn digits(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
