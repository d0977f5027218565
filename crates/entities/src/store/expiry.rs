//! Entities that are gone after a while (Kong's `ttl`): when that is, from the seconds that a body gives.
//!
//! Invariants: a record keeps the moment, by the wall clock, so that a restart changes nothing about it; and the seconds as they
//! were given, which are what a file has. Who leaves `ttl` out of a change leaves the moment as it is.

use super::Write;
use crate::entity::EXPIRES_MS;
use crate::error::Error;
use crate::kind::Kind;
use plugin::{Problem, ProblemKind, Segment};
use serde_json::{Map, Value};

/// Takes out of a body when it expires, or finds out; `old` is what it changes.
pub(super) fn take(
    kind: Kind,
    body: &mut Map<String, Value>,
    old: Option<&Map<String, Value>>,
    write: &Write<'_>,
) -> Option<u64> {
    kind.field("ttl")?;
    if write.is_kept {
        return body.remove(EXPIRES_MS)?.as_u64();
    }
    match body.get("ttl") {
        Some(ttl) => {
            let ttl_ms = ttl.as_u64().filter(|ttl_s| *ttl_s > 0)?.saturating_mul(1_000);
            Some(write.now_ms.saturating_add(ttl_ms))
        }
        None => old?.get(EXPIRES_MS)?.as_u64(),
    }
}

/// What a request is told of a body's problems. For Kong `ttl` is no field there but an option, looked at when the fields fit.
pub(super) fn error(mut problems: Vec<Problem>) -> Error {
    let is_option = |problem: &Problem| {
        // Where there is no such field it is an unknown one.
        matches!(&problem.kind, ProblemKind::Value { .. }) && problem.path == [Segment::Field("ttl".to_owned())]
    };
    let n_problems = problems.len();
    problems.retain(|problem| !is_option(problem));
    if problems.is_empty() && n_problems > 0 {
        return Error::invalid_option("ttl", "must be an integer between 0 and 100000000");
    }
    Error::schema(&problems)
}

/// Makes the seconds of a record those that are left.
pub(super) fn show(record: &mut Map<String, Value>, now_ms: u64) {
    if let Some(expires_ms) = record.remove(EXPIRES_MS).and_then(|expires| expires.as_u64()) {
        record.insert("ttl".to_owned(), Value::from(expires_ms.saturating_sub(now_ms).div_ceil(1_000)));
    }
}
