//! Configurations of plugins. What `config` may hold is the plugin's own schema.

use super::{CREATED_AT, Def, ID, PROTOCOLS, TAGS, UPDATED_AT, cascade};
use crate::kind::Kind;
use plugin::schema::syntax;
use plugin::{DefaultValue, Field, Kind as FieldKind};

pub(crate) static PLUGINS: Def = Def {
    endpoint_key: Some("instance_name"),
    references: &[
        cascade("route", Kind::Routes),
        cascade("service", Kind::Services),
        cascade("consumer", Kind::Consumers),
    ],
    unique_together: &["name", "route", "service", "consumer"],
    ..Def::new(
        "plugins",
        &[
            ID,
            Field::required("name", FieldKind::Text, "which plugin"),
            Field::optional("instance_name", FieldKind::Like(&syntax::NAME), "unique name of this configuration")
                .unique(),
            CREATED_AT,
            UPDATED_AT,
            Field::optional("route", FieldKind::Foreign("routes"), "only for requests of this route"),
            Field::optional("service", FieldKind::Foreign("services"), "only for requests of this service"),
            Field::optional("consumer", FieldKind::Foreign("consumers"), "only for requests of this consumer"),
            Field::optional("config", FieldKind::Specialised, "the plugin's own fields"),
            Field::with_default(
                "protocols",
                FieldKind::Set { of: &FieldKind::OneOf(PROTOCOLS), len_min: 0 },
                DefaultValue::Texts(&["grpc", "grpcs", "http", "https"]),
                "protocols of requests it runs for",
            )
            .not_null(),
            Field::with_default("enabled", FieldKind::Bool, DefaultValue::Bool(true), "whether it runs").not_null(),
            TAGS,
        ],
    )
};
