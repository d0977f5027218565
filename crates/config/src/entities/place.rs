//! From the path of a mistake to its place in the text.

use ::plugin::Segment;

use crate::source::Span;
use crate::tree::{Node, Value};

/// The node at the end of a path, if there is one.
pub(super) fn node<'n>(root: &'n Node, path: &[Segment]) -> Option<&'n Node> {
    path.iter().try_fold(root, |node, segment| step(node, segment).map(|(_, node)| node))
}

fn step<'n>(node: &'n Node, segment: &Segment) -> Option<(Span, &'n Node)> {
    match (segment, &node.value) {
        (Segment::Field(name) | Segment::Key(name), Value::Map(entries)) => {
            entries.iter().find(|entry| *entry.key == **name).map(|entry| (entry.key_at, &entry.value))
        }
        (Segment::Index(at), Value::List(items)) => items.get(*at).map(|item| (item.at, item)),
        // In an environment variable a list is one text.
        (Segment::Index(_), Value::Scalar(_)) => Some((node.at, node)),
        _ => None,
    }
}

/// Where a path leads: its value and its key. What is not there is where its parent begins.
pub(super) fn locate(root: &Node, path: &[Segment]) -> (Span, Span) {
    let mut here = root;
    let mut key_at = short(root.at);
    for segment in path {
        match step(here, segment) {
            Some((at, node)) => {
                key_at = at;
                here = node;
            }
            None => {
                let at = begin(here);
                // A list that is not there is its key's.
                let at = if matches!(here.value, Value::Map(_)) { at } else { key_at };
                return (at, at);
            }
        }
    }
    let value_at = match here.value {
        Value::List(_) | Value::Map(_) => key_at,
        _ => here.at,
    };
    (value_at, key_at)
}

/// Where a node begins: for a map its first key, unless that was laid over it from elsewhere.
pub(super) fn begin(node: &Node) -> Span {
    match &node.value {
        Value::Map(entries) => {
            let first = entries.first().map_or(short(node.at), |entry| entry.key_at);
            if first.source == node.at.source { first } else { short(node.at) }
        }
        _ => short(node.at),
    }
}

/// A whole block underlined would be noise.
pub(super) fn short(at: Span) -> Span {
    Span { end: at.start.saturating_add(1), ..at }
}
