//! The table: the fields, references and rules of every kind. Reference: Kong's entity schemas.

pub(crate) mod certificates;
pub(crate) mod consumers;
pub(crate) mod keys;
pub(crate) mod plugins;
mod resilience;
pub(crate) mod routes;
pub(crate) mod services;
mod traffic;
pub(crate) mod upstreams;

use crate::kind::{Kind, OnDelete, Reference};
use crate::rules::Rules;
use plugin::schema::syntax;
use plugin::{Field, Kind as FieldKind, Problem};
use serde_json::{Map, Value};

/// Everything about a kind.
pub(crate) struct Def {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) nested_path: &'static str,
    pub(crate) endpoint_key: Option<&'static str>,
    pub(crate) fields: &'static [Field],
    pub(crate) references: &'static [Reference],
    /// Fields that are unique together, besides those that are on their own.
    pub(crate) unique_together: &'static [&'static str],
    pub(crate) shorthands: &'static [&'static str],
    /// Replaces shorthands by what they stand for, before defaults.
    pub(crate) expand: fn(&mut Map<String, Value>) -> Vec<Problem>,
    /// The rules over several fields.
    pub(crate) rules: fn(&mut Rules<'_>),
}

impl Def {
    const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        Self {
            name,
            path: name,
            nested_path: name,
            endpoint_key: None,
            fields,
            references: &[],
            unique_together: &[],
            shorthands: &[],
            expand: |_| Vec::new(),
            rules: |_| {},
        }
    }
}

const fn cascade(field: &'static str, to: Kind) -> Reference {
    Reference { field, to, on_delete: OnDelete::Cascade }
}

const fn restrict(field: &'static str, to: Kind) -> Reference {
    Reference { field, to, on_delete: OnDelete::Restrict }
}

/// Kong's protocols, in its order.
pub(crate) const PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"];

const ID: Field = Field::optional("id", FieldKind::Uuid, "").auto();
const CREATED_AT: Field = Field::optional("created_at", FieldKind::Timestamp, "").auto();
const UPDATED_AT: Field = Field::optional("updated_at", FieldKind::Timestamp, "").auto();
const TAGS: Field = Field::optional(
    "tags",
    FieldKind::Set { of: &FieldKind::Like(&syntax::TAG), len_min: 0 },
    "labels to find entities by",
);
const PORT: FieldKind = FieldKind::Int { min: 0, max: 65_535 };
const HEADERS: FieldKind =
    FieldKind::Map { keys: &FieldKind::HeaderName, values: &FieldKind::List { of: &FieldKind::Text, len_min: 0 } };

/// A unique name of ASCII letters, digits, `. - _ ~` and anything beyond ASCII.
const fn name(help: &'static str) -> Field {
    Field::optional("name", FieldKind::Like(&syntax::NAME), help).unique()
}
