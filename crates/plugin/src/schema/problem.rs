//! Something wrong with a configuration or an entity, and where.

use std::fmt;

/// One step of the way to a field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Segment {
    /// A field of a record.
    Field(String),
    /// An element of a list, from 0.
    Index(usize),
    /// A name of a map.
    Key(String),
}

/// Something wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The way from the configuration's root to the bad field.
    pub path: Vec<Segment>,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What is wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProblemKind {
    /// No field of that name; these exist.
    UnknownField {
        /// The names at this place.
        known: Vec<&'static str>,
    },
    /// The word is none of these.
    UnknownWord {
        /// Kong's words.
        known: &'static [&'static str],
        /// Words of ours, which Kong's message does not list.
        ours: &'static [&'static str],
    },
    /// A required field is not there.
    Missing,
    /// The value does not fit its field; Kong's words.
    Value {
        /// What is wrong with it.
        message: String,
        /// What may stand there, with an example, if that says more than the message.
        expected: Option<&'static str>,
    },
    /// A rule over several fields of the record at this place is broken; Kong's words.
    Rule(String),
    /// Anything else; lower case, says what was expected.
    Other(String),
}

impl Problem {
    /// A problem of a field at the root.
    #[must_use]
    pub fn of_field(name: &str, what: impl Into<String>) -> Self {
        Self { path: vec![Segment::Field(name.to_owned())], kind: ProblemKind::Other(what.into()) }
    }

    /// A problem of the configuration as a whole.
    #[must_use]
    pub fn of_root(what: impl Into<String>) -> Self {
        Self { path: Vec::new(), kind: ProblemKind::Other(what.into()) }
    }

    /// The same problem, of something that stands below `parent`.
    #[must_use]
    pub fn below(mut self, parent: &str) -> Self {
        self.path.insert(0, Segment::Field(parent.to_owned()));
        self
    }

    /// The path as text: `key_names[0]`. Empty for the root.
    #[must_use]
    pub fn path_text(&self) -> String {
        path_text(&self.path)
    }
}

/// A path as text: `key_names[0]`. Empty for the root.
#[must_use]
pub(super) fn path_text(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Field(name) | Segment::Key(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Segment::Index(at) => text.push_str(&format!("[{at}]")),
        }
    }
    text
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField { .. } => f.write_str("unknown field"),
            Self::UnknownWord { known, .. } => write!(f, "expected one of: {}", known.join(", ")),
            Self::Missing => f.write_str("required field missing"),
            Self::Value { message, .. } | Self::Rule(message) | Self::Other(message) => f.write_str(message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path_text())?;
        }
        fmt::Display::fmt(&self.kind, f)
    }
}
