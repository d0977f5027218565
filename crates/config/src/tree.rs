//! The positioned tree: what a YAML or JSON text says, before anything about its meaning is decided.
//! A scalar keeps the text as written and whether it was quoted, so `no`, `012` or `1e3` are what the reader of
//! that setting makes of them, not what a YAML version would.

use crate::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Span,
    pub(crate) value: Value,
}

/// The kinds of value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order written; keys are unique (the parser has reported the others).
    Map(Vec<Entry>),
}

/// A text that is not a collection.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: Box<str>,
    /// Quoted or a block: then it is text and never a number or a truth value.
    pub(crate) quoted: bool,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) key_at: Span,
    pub(crate) value: Node,
}

impl Node {
    /// An empty map at a place.
    pub(crate) fn empty_map(at: Span) -> Self {
        Node { at, value: Value::Map(Vec::new()) }
    }

    /// The value under a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| &*entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Where a key of this map stands; the map itself if it has no such key.
    pub(crate) fn at_key(&self, key: &str) -> Span {
        match &self.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| &*entry.key == key).map_or(self.at, |entry| entry.key_at)
            }
            _ => self.at,
        }
    }

    /// Where the value of a key of this map stands; the map itself if it has no such key.
    pub(crate) fn at_value(&self, key: &str) -> Span {
        self.get(key).map_or(self.at, |node| node.at)
    }

    /// The scalar, if it is one.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| &*scalar.text)
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(scalar) => scalar.kind(),
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Nothing, or an empty list or map: a setting that says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar(_) => false,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }
}

impl Scalar {
    /// What an unquoted text looks like, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        if self.quoted {
            "text"
        } else if self.as_bool().is_some() {
            "true or false"
        } else if self.text.parse::<f64>().is_ok() {
            "a number"
        } else {
            "text"
        }
    }

    /// `true` and `false` as YAML 1.2 spells them, unquoted.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match (self.quoted, &*self.text) {
            (false, "true" | "True" | "TRUE") => Some(true),
            (false, "false" | "False" | "FALSE") => Some(false),
            _ => None,
        }
    }
}
