//! Why an operation on entities failed: Kong's codes, names, messages and bodies.

use crate::kind::Kind;
use crate::{pretty, violation};
use plugin::{Id, Problem};
use serde_json::{Map, Value, json};
use std::fmt;

/// What kind of failure. The numbers are Kong's, but for those from 1000, which are ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The id is not one.
    InvalidPrimaryKey = 1,
    /// Fields or rules over them are violated.
    SchemaViolation = 2,
    /// The id is taken.
    PrimaryKeyViolation = 3,
    /// What is referred to is not there, or is referred to and cannot go.
    ForeignKeyViolation = 4,
    /// A unique value is taken.
    UniqueViolation = 5,
    /// Nothing there to change.
    NotFound = 6,
    /// A page cannot begin there.
    InvalidOffset = 7,
    /// A page cannot have that many entries.
    InvalidSize = 9,
    /// The value of a unique field by which an entity is looked for cannot be one.
    InvalidUnique = 10,
    /// An option of a request is wrong.
    InvalidOptions = 11,
    /// Not with this configuration.
    OperationUnsupported = 12,
    /// A reference by name leads nowhere.
    ForeignKeysUnresolved = 13,
    /// A declarative configuration is wrong.
    DeclarativeConfig = 14,
    /// Something refers to it still, in a list of ids.
    ReferencedByOthers = 19,
    /// The entity is the configuration file's.
    ReadOnly = 1_000,
}

impl Code {
    const fn name(self) -> &'static str {
        match self {
            Self::InvalidPrimaryKey => "invalid primary key",
            Self::SchemaViolation => "schema violation",
            Self::PrimaryKeyViolation => "primary key violation",
            Self::ForeignKeyViolation => "foreign key violation",
            Self::UniqueViolation => "unique constraint violation",
            Self::NotFound => "not found",
            Self::InvalidOffset => "invalid offset",
            Self::InvalidSize => "invalid size",
            Self::InvalidUnique => "invalid unique",
            Self::InvalidOptions => "invalid options",
            Self::OperationUnsupported => "operation unsupported",
            Self::ForeignKeysUnresolved => "foreign keys unresolved",
            Self::DeclarativeConfig => "invalid declarative configuration",
            Self::ReferencedByOthers => "referenced by others",
            Self::ReadOnly => "read-only entity",
        }
    }

    /// The HTTP status of an answer with this code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::UniqueViolation | Self::ReadOnly => 409,
            Self::NotFound => 404,
            Self::OperationUnsupported => 405,
            _ => 400,
        }
    }
}

/// A failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// Its kind.
    pub code: Code,
    /// The name of the code, with the field's name for [`Code::InvalidUnique`].
    pub name: String,
    /// What happened, for people.
    pub message: String,
    /// Which fields it is about, in the shape of Kong's body.
    pub fields: Option<Value>,
}

impl Error {
    /// A failure without fields.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, name: code.name().to_owned(), message: message.into(), fields: None }
    }

    fn about(code: Code, message: impl Into<String>, fields: Value) -> Self {
        Self { fields: Some(fields), ..Self::new(code, message) }
    }

    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("code".to_owned(), Value::from(self.code as u32));
        body.insert("name".to_owned(), Value::from(self.name.as_str()));
        body.insert("message".to_owned(), Value::from(self.message.as_str()));
        if let Some(fields) = &self.fields {
            let key = if self.code == Code::InvalidOptions { "options" } else { "fields" };
            body.insert(key.to_owned(), fields.clone());
        }
        Value::Object(body)
    }

    /// Problems of an entity's fields and rules.
    #[must_use]
    pub fn schema(problems: &[Problem]) -> Self {
        let fields = violation::fields(problems);
        Self::about(Code::SchemaViolation, violation::message(&fields), fields)
    }

    /// What was wrong with a text that should have been an id.
    pub(crate) fn invalid_primary_key(message: &str) -> Self {
        let fields = json!({ "id": message });
        Self::about(Code::InvalidPrimaryKey, format!("invalid primary key: '{}'", pretty::line(&fields)), fields)
    }

    pub(crate) fn primary_key(id: Id) -> Self {
        let fields = json!({ "id": id.to_string() });
        let message = format!("primary key violation on key '{}'", pretty::line(&fields));
        Self::about(Code::PrimaryKeyViolation, message, fields)
    }

    /// `key` holds the unique fields and their values.
    pub(crate) fn unique(key: Map<String, Value>) -> Self {
        let fields = Value::Object(key);
        Self::about(Code::UniqueViolation, format!("UNIQUE violation detected on '{}'", pretty::line(&fields)), fields)
    }

    pub(crate) fn dangling(field: &str, to: Kind, id: Id) -> Self {
        let key = json!({ "id": id.to_string() });
        let line = pretty::line(&key);
        let message = format!("the foreign key '{line}' does not reference an existing '{to}' entity.");
        Self::about(Code::ForeignKeyViolation, message, json!({ field: key }))
    }

    pub(crate) fn restricted(parent: Kind, child: Kind) -> Self {
        let message = format!("an existing '{child}' entity references this '{parent}' entity");
        Self::about(Code::ForeignKeyViolation, message, json!({ "@referenced_by": child.name() }))
    }

    /// `fields` has, for each reference, the fields it was by and why not.
    pub(crate) fn unresolved(fields: Value) -> Self {
        let parts: Vec<String> = fields
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(name, inner)| inner.as_object().into_iter().flatten().map(move |(sub, why)| (name, sub, why)))
            .map(|(name, sub, why)| format!("{name}.{sub}: {}", why.as_str().unwrap_or_default()))
            .collect();
        let message = match parts.as_slice() {
            [one] => format!("foreign key unresolved ({one})"),
            all => format!("{} foreign keys unresolved ({})", all.len(), all.join("; ")),
        };
        Self::about(Code::ForeignKeysUnresolved, message, fields)
    }

    /// `key` is what was looked for: `{"id": …}` or `{"name": …}`.
    pub(crate) fn not_found(field: &str, key: &str) -> Self {
        let fields = json!({ field: key });
        let by = if field == "id" { "primary key " } else { "" };
        let message = format!("could not find the entity with {by}'{}'", pretty::line(&fields));
        Self::about(Code::NotFound, message, fields)
    }

    pub(crate) fn invalid_unique(field: &str, message: impl Into<String>) -> Self {
        Self { name: format!("invalid unique {field}"), ..Self::new(Code::InvalidUnique, message) }
    }

    pub(crate) fn invalid_option(option: &str, message: &str) -> Self {
        let text = format!("invalid option ({option}: {message})");
        Self::about(Code::InvalidOptions, text, json!({ option: message }))
    }

    pub(crate) fn invalid_offset(offset: &str, reason: &str) -> Self {
        Self::new(Code::InvalidOffset, format!("'{offset}' is not a valid offset: {reason}"))
    }

    pub(crate) fn read_only(kind: Kind, id: Id) -> Self {
        let message = format!(
            "this '{kind}' entity comes from the configuration file: change it there and reload, the API cannot"
        );
        Self::about(Code::ReadOnly, message, json!({ "id": id.to_string() }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
