//! One language for what may be configured: the fields of a plugin's configuration and of every gateway entity.
//!
//! All problems are found at once, each with the path of the bad field, so that `config` can point at its line and the
//! Admin API can answer with Kong's body. Messages are Kong's, word for word. Suggestions for misspelt names are made by
//! whoever prints the problem: it carries the known names.
//!
//! [`check`] completes and validates a value, [`syntax`] holds the small languages inside texts, [`describe`] is the JSON
//! of `/schemas/*`. Reference: Kong's schema library (types, validators and their order).

mod check;
pub mod describe;
mod problem;
pub mod syntax;

pub use check::{Nulls, check_text, complete};
pub use problem::{Problem, ProblemKind, Segment};
pub use syntax::Syntax;

use serde_json::{Map, Value};

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
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of its own in Kong's schemas, all are independent")]
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
    /// The gateway fills it in when it is not given.
    pub auto: bool,
    /// No two entities of a kind have the same value.
    pub unique: bool,
    /// Not to be shown.
    pub secret: bool,
    /// A reference to a vault may stand in place of the value.
    pub referenceable: bool,
    /// A record that is absent as a whole when not given; other records are there with the defaults of their fields.
    pub nullable: bool,
    /// Kong has no such field: it is left out of what is shown when it has no value.
    pub ours: bool,
    /// Read, and not part of what is stored.
    pub transient: bool,
}

impl Field {
    const fn new(name: &'static str, kind: Kind, required: bool, default: DefaultValue, help: &'static str) -> Self {
        Self {
            name,
            kind,
            required,
            default,
            help,
            auto: false,
            unique: false,
            secret: false,
            referenceable: false,
            nullable: false,
            ours: false,
            transient: false,
        }
    }

    /// A field that may be left out and then has no value.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self::new(name, kind, false, DefaultValue::None, help)
    }

    /// A field that must be given.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self::new(name, kind, true, DefaultValue::None, help)
    }

    /// A field with a default.
    #[must_use]
    pub const fn with_default(name: &'static str, kind: Kind, default: DefaultValue, help: &'static str) -> Self {
        Self::new(name, kind, false, default, help)
    }

    /// The same field, which cannot be null either.
    #[must_use]
    pub const fn not_null(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same field, filled in by the gateway when it is not given.
    #[must_use]
    pub const fn auto(mut self) -> Self {
        self.auto = true;
        self
    }

    /// The same field, unique among entities of its kind.
    #[must_use]
    pub const fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// The same field, never shown.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The same field, for which a reference to a vault may stand.
    #[must_use]
    pub const fn referenceable(mut self) -> Self {
        self.referenceable = true;
        self
    }

    /// The same record, absent as a whole when not given.
    #[must_use]
    pub const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// The same field, one that Kong does not have.
    #[must_use]
    pub const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    /// The same field, read and not stored.
    #[must_use]
    pub const fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
}

/// What a field may hold.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// Any whole number.
    Integer,
    /// A whole number in a range, both ends included.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// One of these whole numbers.
    IntOneOf(&'static [i64]),
    /// Any number.
    Number,
    /// A number greater than `above`.
    NumberAbove(f64),
    /// A number in a range, both ends included.
    NumberIn {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Seconds since 1970, whole.
    Timestamp,
    /// Seconds since 1970, to the millisecond.
    TimestampMs,
    /// A UUID.
    Uuid,
    /// A text that is not empty.
    Text,
    /// A text that may be empty.
    AnyText,
    /// A text of a language of its own.
    Like(&'static Syntax),
    /// A name that can be an HTTP header's.
    HeaderName,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of Kong's words, or one of ours; the API's message lists Kong's only.
    OneOfOrOurs {
        /// Kong's words.
        words: &'static [&'static str],
        /// Words that Kong does not have.
        ours: &'static [&'static str],
    },
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
    /// A list without repeats, of at least `len_min` values. Repeats are dropped; the order is kept.
    Set {
        /// What each holds.
        of: &'static Kind,
        /// Smallest number of values.
        len_min: usize,
    },
    /// Names that are free to values of one kind.
    Map {
        /// What the names are.
        keys: &'static Kind,
        /// What each holds.
        values: &'static Kind,
    },
    /// Named fields.
    Record(&'static [Field]),
    /// Named fields, and a rule over them.
    RuledRecord(&'static Schema),
    /// A reference to an entity of the kind with this name: `{"id": …}`.
    Foreign(&'static str),
    /// Named fields that another field of the record decides on; checked by whoever knows them.
    Specialised,
}

impl Kind {
    /// The fields of a record.
    #[must_use]
    pub const fn fields(&self) -> Option<&'static [Field]> {
        match self {
            Self::Record(fields) => Some(fields),
            Self::RuledRecord(schema) => Some(schema.fields),
            _ => None,
        }
    }
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
    /// A list of whole numbers.
    Ints(&'static [i64]),
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
            Self::Ints(values) => Some(Value::from(values.to_vec())),
        }
    }
}

impl Schema {
    /// A schema without a rule over several fields.
    #[must_use]
    pub const fn of(fields: &'static [Field]) -> Self {
        Self { fields, check: |_| Vec::new() }
    }

    /// Checks a configuration and fills in the defaults. `null` stands for *not given*, and an empty configuration.
    ///
    /// # Errors
    /// Every problem found.
    pub fn resolve(&self, config: &Value) -> Result<Value, Vec<Problem>> {
        self.resolve_with(config, Nulls::NotGiven)
    }

    /// The same, with a say over what `null` means.
    ///
    /// # Errors
    /// Every problem found.
    pub fn resolve_with(&self, config: &Value, nulls: Nulls) -> Result<Value, Vec<Problem>> {
        let empty = Map::new();
        let map = match config {
            Value::Null => &empty,
            Value::Object(map) => map,
            Value::Array(items) if items.is_empty() => &empty,
            _ => return Err(vec![Problem::of_root("expected a record")]),
        };
        let (resolved, mut problems) = complete(self.fields, map, nulls);
        if problems.is_empty() {
            problems = match nulls {
                Nulls::NotGiven => (self.check)(&resolved),
                // The rules of plugins ask whether a field is there.
                Nulls::Kept | Nulls::Shown => (self.check)(&without_nulls(&resolved)),
            };
        }
        if problems.is_empty() { Ok(Value::Object(resolved)) } else { Err(problems) }
    }
}

/// A record without the fields that have no value, at every depth of records.
#[must_use]
pub fn without_nulls(map: &Map<String, Value>) -> Map<String, Value> {
    let strip = |value: &Value| match value {
        Value::Object(map) => Value::Object(without_nulls(map)),
        other => other.clone(),
    };
    map.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), strip(value))).collect()
}

#[cfg(test)]
mod tests;
