//! Consumers and their API keys.

use super::{CREATED_AT, Def, ID, TAGS, UPDATED_AT, cascade};
use crate::kind::Kind;
use plugin::{Field, Kind as FieldKind};

pub(crate) static CONSUMERS: Def = Def {
    endpoint_key: Some("username"),
    rules: |rules| rules.at_least_one_of(&["custom_id", "username"]),
    ..Def::new(
        "consumers",
        &[
            ID,
            CREATED_AT,
            UPDATED_AT,
            Field::optional("username", FieldKind::Text, "unique user name").unique(),
            Field::optional("custom_id", FieldKind::Text, "unique id in the owner's systems").unique(),
            TAGS,
        ],
    )
};

pub(crate) static KEYAUTH_CREDENTIALS: Def = Def {
    path: "key-auths",
    nested_path: "key-auth",
    endpoint_key: Some("key"),
    references: &[cascade("consumer", Kind::Consumers)],
    ..Def::new(
        "keyauth_credentials",
        &[
            ID,
            CREATED_AT,
            Field::required("consumer", FieldKind::Foreign("consumers"), "whose key it is"),
            Field::optional("ttl", FieldKind::Int { min: 0, max: 100_000_000 }, "seconds until it is gone; 0 is never"),
            Field::optional("key", FieldKind::Text, "the key; a random one if not given").auto().unique().secret(),
            TAGS,
        ],
    )
};
