//! Kong's notation for nested values in forms: `a.b=1`, `a[]=1`, `a[1]=1`, `a[key]=1`, and several of one name.
//!
//! What comes out is a tree of texts; what the texts mean is decided where the fields are known. Invariants: nothing a
//! name says can make more than its own length of work, an index included: a list has the elements that were given, in the
//! order of their indexes, and no holes.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Levels of one name.
const DEPTH_MAX: usize = 32;

/// One step of a name.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Step {
    /// `.name` or `[name]`.
    Key(String),
    /// `[1]`.
    Index(u32),
    /// `[]`.
    Next,
}

/// What stands at a name.
#[derive(Debug)]
enum Node {
    Leaf(Value),
    List(BTreeMap<u32, Node>),
    Map(BTreeMap<String, Node>),
}

/// Arguments as they are collected.
#[derive(Debug, Default)]
pub(crate) struct Form {
    root: BTreeMap<String, Node>,
}

impl Form {
    /// Adds an argument. One whose name contradicts an earlier one (`a=1` and `a.b=1`) takes its place.
    pub(crate) fn add(&mut self, name: &str, value: Value) {
        let (first, steps) = steps(name);
        match self.root.get_mut(&first) {
            Some(node) => put(node, &steps, value),
            None => {
                self.root.insert(first, fresh(&steps, value));
            }
        }
    }

    /// What was collected.
    pub(crate) fn into_value(self) -> Map<String, Value> {
        self.root.into_iter().map(|(name, node)| (name, node.into_value())).collect()
    }
}

impl Node {
    fn into_value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(items) => items.into_values().map(Self::into_value).collect(),
            Self::Map(items) => {
                Value::Object(items.into_iter().map(|(name, node)| (name, node.into_value())).collect())
            }
        }
    }
}

/// The first name, which may begin with anything, and the steps after it.
fn steps(name: &str) -> (String, Vec<Step>) {
    let whole = || (name.to_owned(), Vec::new());
    // A name that begins or ends with a dot is only a name.
    if name.is_empty() || name.starts_with('.') || name.ends_with('.') {
        return whole();
    }
    let first_end = name.char_indices().skip(1).find(|(_, c)| matches!(c, '.' | '[')).map_or(name.len(), |(at, _)| at);
    let (first, mut rest) = name.split_at(first_end);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(inner) = rest.strip_prefix('[') {
            let Some((key, after)) = inner.split_once(']') else { return whole() };
            let step = match key.parse() {
                _ if key.is_empty() => Step::Next,
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key(key.to_owned()),
            };
            (step, after)
        } else if let Some(inner) = rest.strip_prefix('.') {
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            (Step::Key(inner[..end].to_owned()), &inner[end..])
        } else {
            return whole();
        };
        steps.push(step);
        rest = after;
        if steps.len() > DEPTH_MAX {
            return whole();
        }
    }
    (first.to_owned(), steps)
}

fn fresh(steps: &[Step], value: Value) -> Node {
    match steps.split_first() {
        None => Node::Leaf(value),
        Some((Step::Key(key), rest)) => Node::Map(BTreeMap::from([(key.clone(), fresh(rest, value))])),
        Some((Step::Index(index), rest)) => Node::List(BTreeMap::from([(*index, fresh(rest, value))])),
        Some((Step::Next, rest)) => Node::List(BTreeMap::from([(1, fresh(rest, value))])),
    }
}

fn put(node: &mut Node, steps: &[Step], value: Value) {
    match (node, steps.split_first()) {
        // The same name again: all of them, in a list.
        (Node::List(items), None) => {
            items.insert(next(items), Node::Leaf(value));
        }
        (Node::Leaf(earlier), None) => match earlier {
            Value::Array(values) => values.push(value),
            _ => *earlier = Value::Array(vec![earlier.take(), value]),
        },
        (Node::Map(items), Some((Step::Key(key), rest))) => match items.get_mut(key) {
            Some(node) => put(node, rest, value),
            None => {
                items.insert(key.clone(), fresh(rest, value));
            }
        },
        (Node::List(items), Some((Step::Index(index), rest))) => match items.get_mut(index) {
            // A list element that was given already moves those after it, as an insertion does.
            Some(node) if !rest.is_empty() => put(node, rest, value),
            Some(_) => {
                items.insert(next(items), fresh(rest, value));
            }
            None => {
                items.insert(*index, fresh(rest, value));
            }
        },
        // `a[].x` and `a[].y` belong to one element, as in Kong.
        (Node::List(items), Some((Step::Next, rest))) => match items.first_entry() {
            Some(mut first) if !rest.is_empty() => put(first.get_mut(), rest, value),
            _ => {
                items.insert(next(items), fresh(rest, value));
            }
        },
        (node, _) => *node = fresh(steps, value),
    }
}

fn next(items: &BTreeMap<u32, Node>) -> u32 {
    items.last_key_value().map_or(1, |(last, _)| last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn form(arguments: &[(&str, &str)]) -> Value {
        let mut form = Form::default();
        for (name, value) in arguments {
            form.add(name, Value::from(*value));
        }
        Value::Object(form.into_value())
    }

    #[test]
    fn names_say_where_a_value_goes() {
        for (arguments, value) in [
            (&[("a", "1")][..], json!({ "a": "1" })),
            (&[("a", "1"), ("a", "2")], json!({ "a": ["1", "2"] })),
            (&[("a", "1"), ("a", "2"), ("a", "3")], json!({ "a": ["1", "2", "3"] })),
            (&[("a[]", "1"), ("a[]", "2")], json!({ "a": ["1", "2"] })),
            (&[("a[2]", "y"), ("a[1]", "x")], json!({ "a": ["x", "y"] })),
            (&[("a[4000000000]", "y"), ("a[]", "z")], json!({ "a": ["y", "z"] })),
            (&[("a.b", "1"), ("a.c.d", "2")], json!({ "a": { "b": "1", "c": { "d": "2" } } })),
            (&[("a[b]", "1"), ("a[c]", "2")], json!({ "a": { "b": "1", "c": "2" } })),
            (&[("a[b.c]", "1")], json!({ "a": { "b.c": "1" } })),
            (&[("headers.x-v[]", "1"), ("headers.x-v[]", "2")], json!({ "headers": { "x-v": ["1", "2"] } })),
            (&[("headers[x-v][1]", "1"), ("headers[x-v][2]", "2")], json!({ "headers": { "x-v": ["1", "2"] } })),
            (
                &[("sources[1].ip", "10.0.0.1"), ("sources[1].port", "1"), ("sources[2].port", "2")],
                json!({ "sources": [{ "ip": "10.0.0.1", "port": "1" }, { "port": "2" }] }),
            ),
            (&[("a[].x", "1"), ("a[].y", "2")], json!({ "a": [{ "x": "1", "y": "2" }] })),
            (&[("config.limits.video.minute", "3")], json!({ "config": { "limits": { "video": { "minute": "3" } } } })),
        ] {
            assert_eq!(form(arguments), value, "{arguments:?}");
        }
    }

    #[test]
    fn a_name_that_means_nothing_is_only_a_name() {
        for name in ["", ".", ".a", "a.", "a[", "a[b", "a[b]c", "[x]"] {
            assert_eq!(form(&[(name, "1")]), json!({ name: "1" }), "{name}");
        }
        let deep = format!("a{}", "[b]".repeat(DEPTH_MAX + 1));
        assert_eq!(form(&[(&deep, "1")]), json!({ deep: "1" }));
    }

    #[test]
    fn of_names_that_contradict_each_other_the_last_counts() {
        assert_eq!(form(&[("a", "1"), ("a.b", "2")]), json!({ "a": { "b": "2" } }));
        assert_eq!(form(&[("a.b", "2"), ("a[]", "1")]), json!({ "a": ["1"] }));
        assert_eq!(form(&[("a.b", "2"), ("a", "1")]), json!({ "a": "1" }));
    }
}
