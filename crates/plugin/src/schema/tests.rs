//! The schema check finds every problem and fills every default.

use super::*;
use serde_json::json;

static SCHEMA: Schema = Schema {
    fields: &[
        Field::with_default("names", Kind::List { of: &Kind::HeaderName, len_min: 1 }, DefaultValue::Texts(&["a"]), ""),
        Field::with_default("flag", Kind::Bool, DefaultValue::Bool(true), ""),
        Field::optional(
            "policy",
            Kind::Choice { allowed: &["local"], refused: &[("redis", "no Redis client is built in")] },
            "",
        ),
        Field::optional("mode", Kind::OneOf(&["x", "y"]), ""),
        Field::optional("rate", Kind::NumberAbove(0.0), ""),
        Field::required("must", Kind::Text, ""),
        Field::optional(
            "sub",
            Kind::Record(&[Field::with_default("port", Kind::Int { min: 1, max: 10 }, DefaultValue::Int(7), "")]),
            "",
        ),
    ],
    check: |map| match map["must"].as_str() {
        Some("bad") => vec![Problem::of_field("must", "must not be bad")],
        _ => Vec::new(),
    },
};

#[test]
fn defaults_are_filled_and_null_is_not_given() {
    let resolved = SCHEMA.resolve(&json!({"must": "m", "flag": null, "sub": {}})).unwrap();
    assert_eq!(resolved, json!({"names": ["a"], "flag": true, "must": "m", "sub": {"port": 7}}));
}

#[test]
fn every_problem_is_found_with_its_path() {
    let config = json!({
        "names": ["ok", "not a name"], "flag": "yes", "policy": "redis", "mode": "z", "rate": 0,
        "sub": {"port": 11, "prot": 1}, "nam": 1
    });
    let problems: Vec<String> = SCHEMA.resolve(&config).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "nam: unknown field",
            "names[1]: bad header name 'not a name', allowed characters are A-Z, a-z, 0-9, '_', and '-'",
            "flag: expected a boolean",
            "policy: `redis` is not available: no Redis client is built in",
            "mode: expected one of: x, y",
            "rate: value must be greater than 0",
            "must: required field missing",
            "sub.prot: unknown field",
            "sub.port: value should be between 1 and 10",
        ]
    );
}

#[test]
fn an_unknown_field_carries_the_names_to_suggest() {
    let problems = SCHEMA.resolve(&json!({"must": "m", "nmaes": []})).unwrap_err();
    let ProblemKind::UnknownField { known } = &problems[0].kind else { panic!("{problems:?}") };
    assert!(known.contains(&"names"));
}

#[test]
fn the_rule_over_fields_runs_last() {
    let problems = SCHEMA.resolve(&json!({"must": "bad"})).unwrap_err();
    assert_eq!(problems, [Problem::of_field("must", "must not be bad")]);
    assert_eq!(SCHEMA.resolve(&json!([1])).unwrap_err(), [Problem::of_root("expected a record")]);
}
