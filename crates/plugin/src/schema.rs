//! The fields of a plugin's configuration, and the check of a value against them.
//!
//! All problems are found at once, each with the path of the bad field, so that `config` can point at its line.
//! As in Kong, `null` means *not given*. Suggestions for misspelt names are made by whoever prints the problem: it
//! carries the known names.

use serde_json::{Map, Value};
use std::fmt;

/// The fields of a configuration and the rule over several of them.
#[derive(Debug)]
pub struct Schema {
    /// The fields.
    pub fields: &'static [Field],
    /// Checks what involves more than one field. Runs only on a value whose fields are each correct, with defaults.
    pub check: fn(&Map<String, Value>) -> Vec<Problem>,
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Whether it must be given, if it has no default.
    pub required: bool,
    /// Its value when not given.
    pub default: DefaultValue,
    /// One line for people.
    pub help: &'static str,
}

impl Field {
    /// A field that may be left out and then has no value.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, required: false, default: DefaultValue::None, help }
    }

    /// A field that must be given.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, required: true, default: DefaultValue::None, help }
    }

    /// A field with a default.
    #[must_use]
    pub const fn with_default(name: &'static str, kind: Kind, default: DefaultValue, help: &'static str) -> Self {
        Self { name, kind, required: false, default, help }
    }
}

/// What a field may hold.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number in a range, both ends included.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number greater than `above`.
    NumberAbove(f64),
    /// Any number.
    Number,
    /// A text that is not empty.
    Text,
    /// A name that can be an HTTP header's.
    HeaderName,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of `allowed`; a word of `refused` is known but not available, for the reason beside it.
    Choice {
        /// Words that work.
        allowed: &'static [&'static str],
        /// Words that are refused by name, with the reason.
        refused: &'static [(&'static str, &'static str)],
    },
    /// A list of at least `len_min` values.
    List {
        /// What each holds.
        of: &'static Kind,
        /// Smallest number of values.
        len_min: usize,
    },
    /// Named fields.
    Record(&'static [Field]),
}

/// A field's value when not given.
#[derive(Debug)]
pub enum DefaultValue {
    /// No value.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(&'static str),
    /// A list of texts.
    Texts(&'static [&'static str]),
}

/// One step of the way to a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Segment {
    /// A field of a record.
    Field(String),
    /// An element of a list.
    Index(usize),
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
        /// The words allowed.
        known: &'static [&'static str],
    },
    /// A required field is not there.
    Missing,
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

    /// The path as text: `key_names[0]`. Empty for the root.
    #[must_use]
    pub fn path_text(&self) -> String {
        let mut text = String::new();
        for segment in &self.path {
            match segment {
                Segment::Field(name) => {
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
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path_text())?;
        }
        match &self.kind {
            ProblemKind::UnknownField { .. } => f.write_str("unknown field"),
            ProblemKind::UnknownWord { known } => {
                write!(f, "expected one of: {}", known.join(", "))
            }
            ProblemKind::Missing => f.write_str("required field missing"),
            ProblemKind::Other(what) => f.write_str(what),
        }
    }
}

impl Schema {
    /// A schema without a rule over several fields.
    #[must_use]
    pub const fn of(fields: &'static [Field]) -> Self {
        Self { fields, check: |_| Vec::new() }
    }

    /// Checks a configuration and fills in the defaults. `null` stands for an empty one.
    ///
    /// # Errors
    /// Every problem found.
    pub fn resolve(&self, config: &Value) -> Result<Value, Vec<Problem>> {
        let mut check = Check { path: Vec::new(), problems: Vec::new() };
        let resolved = match config {
            Value::Null => check.record(self.fields, &Map::new()),
            Value::Object(map) => check.record(self.fields, map),
            _ => {
                check.problem(ProblemKind::Other("expected a map of fields".to_owned()));
                Map::new()
            }
        };
        if check.problems.is_empty() {
            check.problems = (self.check)(&resolved);
        }
        if check.problems.is_empty() { Ok(Value::Object(resolved)) } else { Err(check.problems) }
    }
}

/// A check under way: where it is and what it found.
struct Check {
    path: Vec<Segment>,
    problems: Vec<Problem>,
}

impl Check {
    fn problem(&mut self, kind: ProblemKind) {
        self.problems.push(Problem { path: self.path.clone(), kind });
    }

    fn record(&mut self, fields: &'static [Field], given: &Map<String, Value>) -> Map<String, Value> {
        for name in given.keys() {
            if !fields.iter().any(|field| field.name == name) {
                self.path.push(Segment::Field(name.clone()));
                self.problem(ProblemKind::UnknownField { known: fields.iter().map(|field| field.name).collect() });
                self.path.pop();
            }
        }
        let mut resolved = Map::new();
        for field in fields {
            self.path.push(Segment::Field(field.name.to_owned()));
            match given.get(field.name).filter(|value| !value.is_null()) {
                Some(value) => {
                    let value = self.value(&field.kind, value);
                    resolved.insert(field.name.to_owned(), value);
                }
                None => {
                    if let Some(value) = field.default.value() {
                        resolved.insert(field.name.to_owned(), value);
                    } else if field.required {
                        self.problem(ProblemKind::Missing);
                    }
                }
            }
            self.path.pop();
        }
        resolved
    }

    /// Checks one value; what comes back is only used when no problem was found.
    fn value(&mut self, kind: &'static Kind, value: &Value) -> Value {
        match (kind, value) {
            (Kind::List { of, len_min }, Value::Array(values)) => {
                if values.len() < *len_min {
                    self.problem(ProblemKind::Other(format!("expected at least {len_min} values")));
                }
                let mut resolved = Vec::with_capacity(values.len());
                for (at, value) in values.iter().enumerate() {
                    self.path.push(Segment::Index(at));
                    resolved.push(self.value(of, value));
                    self.path.pop();
                }
                return Value::Array(resolved);
            }
            (Kind::Record(fields), Value::Object(map)) => {
                return Value::Object(self.record(fields, map));
            }
            _ => {}
        }
        if let Err(kind) = scalar(kind, value) {
            self.problem(kind);
        }
        value.clone()
    }
}

fn scalar(kind: &'static Kind, value: &Value) -> Result<(), ProblemKind> {
    let expected = |what: &str| Err(ProblemKind::Other(format!("expected {what}")));
    match kind {
        Kind::Bool if value.is_boolean() => Ok(()),
        Kind::Bool => expected("true or false"),
        Kind::Int { min, max } => match value.as_i64() {
            Some(number) if (*min..=*max).contains(&number) => Ok(()),
            _ => expected(&format!("a whole number from {min} to {max}")),
        },
        Kind::NumberAbove(above) => match value.as_f64() {
            Some(number) if number > *above => Ok(()),
            _ => expected(&format!("a number greater than {above}")),
        },
        Kind::Number if value.is_number() => Ok(()),
        Kind::Number => expected("a number"),
        Kind::Text => match value.as_str() {
            Some("") | None => expected("a text that is not empty"),
            Some(_) => Ok(()),
        },
        Kind::HeaderName => match value.as_str().map(str::parse::<http::HeaderName>) {
            Some(Ok(_)) => Ok(()),
            _ => expected("a header name"),
        },
        Kind::OneOf(known) => word(value, known, &[]),
        Kind::Choice { allowed, refused } => word(value, allowed, refused),
        Kind::List { .. } => expected("a list"),
        Kind::Record(_) => expected("a map of fields"),
    }
}

fn word(value: &Value, known: &'static [&'static str], refused: &[(&str, &str)]) -> Result<(), ProblemKind> {
    let Some(text) = value.as_str() else {
        return Err(ProblemKind::UnknownWord { known });
    };
    if known.contains(&text) {
        return Ok(());
    }
    match refused.iter().find(|(word, _)| *word == text) {
        Some((word, reason)) => Err(ProblemKind::Other(format!("`{word}` is not available: {reason}"))),
        None => Err(ProblemKind::UnknownWord { known }),
    }
}

impl DefaultValue {
    /// The default as a value.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        match self {
            Self::None => None,
            Self::Bool(value) => Some(Value::Bool(*value)),
            Self::Int(value) => Some(Value::from(*value)),
            Self::Text(value) => Some(Value::from(*value)),
            Self::Texts(values) => Some(Value::from(values.to_vec())),
        }
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
