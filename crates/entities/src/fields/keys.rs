//! Keys, key sets and vaults.

use super::{CREATED_AT, Def, ID, TAGS, UPDATED_AT, cascade};
use crate::kind::Kind;
use crate::rules::Rules;
use crate::syntax::{VARIABLE_PREFIX, VAULT_PREFIX};
use plugin::{Field, Kind as FieldKind, Problem, ProblemKind, Schema};
use serde_json::Value;

pub(crate) static KEY_SETS: Def = Def {
    path: "key-sets",
    nested_path: "key-sets",
    endpoint_key: Some("name"),
    ..Def::new(
        "key_sets",
        &[
            ID,
            Field::optional("name", FieldKind::Text, "unique name of the set").unique(),
            TAGS,
            CREATED_AT,
            UPDATED_AT,
        ],
    )
};

pub(crate) static KEYS: Def = Def {
    endpoint_key: Some("name"),
    references: &[cascade("set", Kind::KeySets)],
    unique_together: &["kid", "set"],
    rules: key,
    ..Def::new(
        "keys",
        &[
            ID,
            Field::optional("set", FieldKind::Foreign("key_sets"), "the set it belongs to"),
            Field::optional("name", FieldKind::Text, "unique name of the key").unique(),
            Field::required("kid", FieldKind::Text, "id of the key in tokens"),
            Field::optional("jwk", FieldKind::Text, "the key as a JSON Web Key in a text").referenceable().secret(),
            Field::optional("pem", FieldKind::RuledRecord(&PEM), "the key in PEM").nullable(),
            TAGS,
            CREATED_AT,
            UPDATED_AT,
        ],
    )
};

static PEM: Schema = Schema {
    fields: &[
        Field::optional("private_key", FieldKind::Text, "private key").referenceable().secret(),
        Field::optional("public_key", FieldKind::Text, "public key").referenceable(),
    ],
    check: |record| {
        let problem = |kind| vec![Problem { path: Vec::new(), kind }];
        let rule = "at least one of these fields must be non-empty: 'private_key', 'public_key'";
        if record.values().all(Value::is_null) {
            return problem(ProblemKind::Rule(rule.to_owned()));
        }
        let unlike = |field: &str, begin: &str| {
            record.get(field).and_then(Value::as_str).is_some_and(|text| {
                !(text.starts_with("{vault://") || text.contains("-----BEGIN ") && text.contains(begin))
            })
        };
        if unlike("public_key", "PUBLIC KEY-----") {
            return problem(ProblemKind::Value { message: "could not load public key".to_owned(), expected: None });
        }
        if unlike("private_key", "PRIVATE KEY-----") {
            return problem(ProblemKind::Value { message: "could not load private key".to_owned(), expected: None });
        }
        Vec::new()
    },
};

fn key(rules: &mut Rules<'_>) {
    if rules.is_set("jwk") && rules.is_set("pem") {
        rules.entity("only one or none of these fields must be set: 'jwk', 'pem'");
    }
    rules.at_least_one_of(&["jwk", "pem"]);
    let Some(jwk) = rules.text("jwk").filter(|jwk| !jwk.starts_with("{vault://")) else { return };
    if rules.has_problem("jwk") || rules.has_problem("kid") {
        return;
    }
    let Ok(parsed) = serde_json::from_str::<Value>(jwk) else {
        return rules.entity("could not json decode jwk string");
    };
    if parsed.get("kid").and_then(Value::as_str) != rules.text("kid") {
        return rules.entity("kid in jwk.kid must be equal to keys.kid");
    }
    let needs: &[&str] = match parsed.get("kty").and_then(Value::as_str) {
        Some("RSA") => &["n", "e"],
        Some("EC") => &["crv", "x", "y"],
        Some("OKP") => &["crv", "x"],
        Some("oct") => &["k"],
        _ => &["kty"],
    };
    let there = |name: &&str| parsed.get(*name).is_some_and(Value::is_string);
    if !needs.iter().all(there) || parsed.get("kty").is_none() {
        rules.entity("could not load JWK, likely not a valid key");
    }
}

pub(crate) static VAULTS: Def = Def {
    endpoint_key: Some("prefix"),
    rules: vault,
    ..Def::new(
        "vaults",
        &[
            ID,
            Field::required("prefix", FieldKind::Like(&VAULT_PREFIX), "the name of the vault in references").unique(),
            Field::required("name", FieldKind::Text, "kind of vault"),
            Field::optional("description", FieldKind::Text, "what it is for"),
            Field::optional(
                "config",
                FieldKind::Record(&[Field::optional(
                    "prefix",
                    FieldKind::Like(&VARIABLE_PREFIX),
                    "what the names of variables begin with",
                )]),
                "of the kind of vault",
            ),
            CREATED_AT,
            UPDATED_AT,
            TAGS,
        ],
    )
};

fn vault(rules: &mut Rules<'_>) {
    if let Some(name) = rules.text("name").filter(|name| *name != "env") {
        rules.only("name", format!("vault '{name}' is not installed"));
    }
}
