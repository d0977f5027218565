//! `mirror` of a route or service and `split` of a route: what Kong does not have. Off until named; services are named by id or
//! name.

use model::limits::SPLIT_SERVICES_MAX;
use plugin::schema::syntax;
use plugin::{DefaultValue, Field, Kind as FieldKind, Problem, ProblemKind, Schema};
use serde_json::{Map, Value};

const PERCENT: FieldKind = FieldKind::NumberIn { min: 0.0, max: 100.0 };

/// A copy of requests for another service.
pub(super) static MIRROR: &[Field] = &[
    Field::required("service", FieldKind::Text, "id or name of the service that gets the copies"),
    Field::with_default("percent", PERCENT, DefaultValue::Int(100), "how many of the requests are copied"),
];

/// Other services that share a route's requests.
pub(super) static SPLIT: Schema = Schema {
    fields: &[
        Field::required(
            "services",
            FieldKind::List { of: &FieldKind::Record(PART), len_min: 1 },
            "the services; what is left of the requests goes to the route's own",
        ),
        Field::with_default(
            "hash_on",
            FieldKind::OneOf(&["none", "consumer", "ip", "header", "cookie"]),
            DefaultValue::Text("none"),
            "what keeps a client with a service",
        ),
        Field::optional("hash_on_header", FieldKind::HeaderName, "the header"),
        Field::optional(
            "hash_on_cookie",
            FieldKind::Like(&syntax::COOKIE_NAME),
            "the cookie; it is set where it is missing",
        ),
        Field::with_default(
            "hash_on_cookie_path",
            FieldKind::Like(&syntax::PATH),
            DefaultValue::Text("/"),
            "path of the cookie",
        ),
    ],
    check: split,
};

static PART: &[Field] = &[
    Field::required("service", FieldKind::Text, "id or name of the service"),
    Field::required("percent", PERCENT, "its share of the requests"),
];

fn split(record: &Map<String, Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut rule = |text: String| problems.push(Problem { path: Vec::new(), kind: ProblemKind::Rule(text) });
    let parts = record.get("services").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if parts.len() > SPLIT_SERVICES_MAX {
        rule(format!("at most {SPLIT_SERVICES_MAX} services can share a route's requests"));
    }
    let percent: f64 = parts.iter().filter_map(|part| part.get("percent")?.as_f64()).sum();
    // Shares are kept to a ten-thousandth; what the sum of fractions is off by is less.
    if percent > 100.000_05 {
        rule(format!("the services' shares are {percent} percent together; 100 is all there is"));
    }
    let on = record.get("hash_on").and_then(Value::as_str).unwrap_or("none");
    for (word, field) in [("header", "hash_on_header"), ("cookie", "hash_on_cookie")] {
        if on == word && record.get(field).is_none_or(Value::is_null) {
            rule(format!("'hash_on' of '{word}' needs '{field}'"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(split: &Value) -> Vec<String> {
        let found = super::split(split.as_object().unwrap());
        found.into_iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn shares_are_at_most_all_and_services_as_many_as_may_be() {
        let part = |percent: f64| json!({"service": "a", "percent": percent});
        assert_eq!(problems(&json!({"services": [part(60.0), part(40.0)]})), [""; 0]);
        assert_eq!(problems(&json!({"services": [part(60.0), part(40.5)]})).len(), 1);
        assert_eq!(problems(&json!({"services": [part(60.0), part(40.0001)]})).len(), 1);
        assert_eq!(
            problems(&json!({"services": [part(2.2), part(85.9), part(11.9)]})),
            [""; 0],
            "a hundred in decimals"
        );
        assert_eq!(problems(&json!({"services": vec![part(1.0); SPLIT_SERVICES_MAX]})), [""; 0]);
        assert_eq!(problems(&json!({"services": vec![part(1.0); SPLIT_SERVICES_MAX + 1]})).len(), 1);
    }

    #[test]
    fn what_is_hashed_has_a_name() {
        for (word, field) in [("header", "hash_on_header"), ("cookie", "hash_on_cookie")] {
            assert_eq!(problems(&json!({"services": [], "hash_on": word})).len(), 1);
            assert_eq!(problems(&json!({"services": [], "hash_on": word, field: "x"})), [""; 0]);
        }
    }
}
