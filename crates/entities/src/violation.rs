//! Problems of an entity as Kong's `fields` and `message`.
//!
//! `fields` is a tree along the paths of the problems: `{"host": "…"}`, `{"paths": [null, "…"]}`, and `@entity` with a list
//! where a rule over several fields is broken.

use crate::pretty;
use plugin::{Problem, ProblemKind, Segment};
use serde_json::{Map, Value};

/// The key of messages about an entity as a whole.
pub(crate) const ENTITY: &str = "@entity";

/// The tree of problems.
pub(crate) fn fields<'p>(problems: impl IntoIterator<Item = &'p Problem>) -> Value {
    let mut root = Value::Object(Map::new());
    for problem in problems {
        add(&mut root, &problem.path, &problem.kind);
    }
    root
}

/// Adds a problem below `path`. A leaf gives way to a tree of details.
pub(crate) fn add(root: &mut Value, path: &[Segment], kind: &ProblemKind) {
    let mut node = root;
    for segment in path {
        node = match segment {
            // Kong says of a map only which map it is.
            Segment::Key(_) => continue,
            Segment::Field(name) => as_map(node).entry(name.clone()).or_insert(Value::Null),
            Segment::Index(at) => element(node, *at),
        };
    }
    match kind {
        ProblemKind::Rule(message) => {
            let list = as_map(node).entry(ENTITY).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(messages) = list {
                messages.push(Value::from(message.as_str()));
            }
        }
        _ if node.is_null() => *node = Value::from(kind.to_string()),
        _ => {}
    }
}

fn as_map(node: &mut Value) -> &mut Map<String, Value> {
    if !node.is_object() {
        *node = Value::Object(Map::new());
    }
    match node {
        Value::Object(map) => map,
        _ => unreachable!("it was made a map"),
    }
}

/// An element of a list of problems; entries without one are null. A tree that is no list already keeps the place as a
/// name.
fn element(node: &mut Value, at: usize) -> &mut Value {
    if node.is_object() {
        return as_map(node).entry((at + 1).to_string()).or_insert(Value::Null);
    }
    if !node.is_array() {
        *node = Value::Array(Vec::new());
    }
    match node {
        Value::Array(items) => {
            if items.len() <= at {
                items.resize(at + 1, Value::Null);
            }
            &mut items[at]
        }
        _ => unreachable!("it was made a list"),
    }
}

/// The message over a tree: `schema violation (host: required field missing)`.
pub(crate) fn message(fields: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(Value::Array(messages)) = fields.get(ENTITY) {
        parts.extend(messages.iter().map(text));
    }
    for (name, value) in fields.as_object().into_iter().flatten().filter(|(name, _)| *name != ENTITY) {
        match value {
            Value::Object(inner) => {
                parts.extend(inner.iter().map(|(sub, value)| format!("{name}.{sub}: {}", text(value))))
            }
            Value::Array(items) => {
                let entries = items.iter().enumerate().filter(|(_, value)| !value.is_null());
                parts.extend(entries.map(|(at, value)| format!("{name}.{}: {}", at + 1, text(value))));
            }
            value => parts.push(format!("{name}: {}", text(value))),
        }
    }
    match parts.as_slice() {
        [one] => format!("schema violation ({one})"),
        all => format!("{} schema violations ({})", all.len(), all.join("; ")),
    }
}

/// A message as it is; details indented.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        details => pretty::lines(details),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(path: &[Segment], message: &str) -> Problem {
        Problem { path: path.to_vec(), kind: ProblemKind::Value { message: message.to_owned(), expected: None } }
    }

    #[test]
    fn problems_become_kongs_tree_and_message() {
        let field = |name: &str| Segment::Field(name.to_owned());
        let rule = Problem { path: Vec::new(), kind: ProblemKind::Rule("rule".to_owned()) };
        let problems = [
            problem(&[field("paths"), Segment::Index(1)], "bad path"),
            problem(&[field("headers"), Segment::Key("X".to_owned())], "bad header"),
            problem(&[field("config"), field("redis"), field("port")], "bad port"),
            rule.clone(),
        ];
        let tree = fields(&problems);
        assert_eq!(
            tree,
            json!({
                "@entity": ["rule"], "paths": [null, "bad path"], "headers": "bad header",
                "config": {"redis": {"port": "bad port"}},
            })
        );
        assert_eq!(
            message(&tree),
            "4 schema violations (rule; config.redis: {\n  port = \"bad port\"\n}; headers: bad header; paths.2: bad path)"
        );
        assert_eq!(message(&fields([&rule])), "schema violation (rule)");
    }
}
