//! Kong's answers and headers, place by place.

use super::*;
use crate::testing::{Broker, handler, header, id, outcome, problems, request, setup};
use model::{Secret, Wall};
use plugin::PublishError;
use serde_json::json;

/// The outcome for a request, and the request as it goes on.
fn run(config: &Value, mut cx: Context) -> (String, Context) {
    let handler = handler(&KeyAuth, config);
    let outcome = outcome(handler.access(&mut cx));
    (outcome, cx)
}

fn get(config: &Value, target: &str, headers: &[(&str, &str)]) -> String {
    run(config, request("GET", target, headers)).0
}

#[test]
fn the_answers_are_kong_s() {
    let none = json!({});
    let refused = |message: &str| format!("401\nwww-authenticate: Key\n{message}");
    assert_eq!(get(&none, "/", &[]), refused("No API key found in request"));
    assert_eq!(get(&none, "/", &[("apikey", "")]), refused("No API key found in request"));
    assert_eq!(get(&none, "/", &[("apikey", "wrong")]), refused("Unauthorized"));
    assert_eq!(get(&none, "/", &[("apikey", "ann-key"), ("apikey", "b")]), refused("Duplicate API key found"));
    assert_eq!(get(&none, "/?apikey=a&apikey=b", &[]), refused("Duplicate API key found"));
    let realm = get(&json!({"realm": "my\"api"}), "/", &[]);
    assert_eq!(realm, "401\nwww-authenticate: Key realm=\"myapi\"\nNo API key found in request");
}

#[test]
fn a_key_identifies_the_consumer_and_overwrites_what_the_client_claims() {
    let claims = [("APIKEY", "ann-key"), ("x-anonymous-consumer", "true"), ("x-consumer-username", "root")];
    let (outcome, cx) = run(&json!({}), request("GET", "/", &claims));
    assert_eq!(outcome, "continue");
    let names = ["x-consumer-id", "x-consumer-username", "x-consumer-custom-id", "x-credential-identifier"];
    let (ann, credential) = (id(1).to_string(), id(7).to_string());
    assert_eq!(names.map(|name| header(&cx, name)), [ann.as_str(), "ann", "17", credential.as_str()]);
    assert_eq!((header(&cx, "x-anonymous-consumer"), header(&cx, "apikey")), ("-", "ann-key"));
    assert_eq!((cx.consumer.unwrap().id, cx.credential.unwrap().id), (id(1), id(7)));
}

#[test]
fn a_key_whose_time_is_over_is_unknown() {
    let wall = request("GET", "/", &[]).now.wall;
    let asked_at = |at: Wall| {
        let mut directory = Directory::default();
        directory.add_consumer(Arc::new(Consumer::new(id(1), Some("ann"), None)));
        directory.add_key(&Secret::new("ann-key".to_owned()), Credential::new(id(7)).until(Some(wall)), id(1));
        let config = KeyAuth.schema().resolve(&json!({})).unwrap();
        let setup = Setup { directory: Arc::new(directory), ..setup(Broker::answering(Err(PublishError::NotRouted))) };
        let mut cx = request("GET", "/", &[("apikey", "ann-key")]);
        cx.now.wall = at;
        outcome(KeyAuth.configure(&config, &setup).unwrap().access(&mut cx))
    };
    assert_eq!(asked_at(Wall(wall.0 - 1)), "continue");
    assert_eq!(asked_at(wall), "401\nwww-authenticate: Key\nUnauthorized");
}

#[test]
fn keys_are_looked_for_where_configured() {
    let query = json!({"key_names": ["token", "apikey"], "key_in_header": false});
    assert_eq!(get(&query, "/?x=1&apikey=ann%2Dkey", &[("apikey", "wrong")]), "continue");
    assert!(get(&json!({"key_in_query": false}), "/?apikey=ann-key", &[]).starts_with("401"));
    assert_eq!(get(&json!({"key_names": ["X-Api-Key"]}), "/", &[("x-api-key", "ann-key")]), "continue");
}

#[test]
fn hidden_keys_do_not_go_on() {
    let hide = json!({"hide_credentials": true});
    let (_, cx) = run(&hide, request("GET", "/", &[("apikey", "ann-key")]));
    assert_eq!(header(&cx, "apikey"), "-");
    let (_, cx) = run(&hide, request("GET", "/p?a=1&apikey=ann-key&b=%20", &[]));
    assert_eq!(cx.request.uri, "/p?a=1&b=%20");
    let (_, cx) = run(&hide, request("GET", "/p?apikey=ann-key", &[]));
    assert_eq!(cx.request.uri, "/p");
}

#[test]
fn a_key_in_the_body_is_found_and_hidden() {
    let config = json!({"key_in_body": true, "hide_credentials": true});
    assert_eq!(handler(&KeyAuth, &config).body_bytes_max(), Some(KEY_IN_BODY_BYTES_MAX));
    assert_eq!(handler(&KeyAuth, &json!({})).body_bytes_max(), None);
    for (kind, body, rest) in [
        ("application/x-www-form-urlencoded", "a=1&apikey=ann-key", "a=1"),
        ("application/json; charset=utf-8", r#"{"apikey":"ann-key","a":1}"#, r#"{"a":1}"#),
    ] {
        let mut cx = request("POST", "/", &[("content-type", kind)]);
        cx.body = Some(Bytes::from_static(body.as_bytes()));
        let (outcome, cx) = run(&config, cx);
        assert_eq!(outcome, "continue", "{kind}");
        assert_eq!(cx.body.as_deref(), Some(rest.as_bytes()));
        assert_eq!(header(&cx, "content-length"), rest.len().to_string());
    }
    let mut cx = request("POST", "/", &[("content-type", "application/json")]);
    cx.body = Some(Bytes::from_static(b"{not json"));
    assert!(run(&config, cx).0.starts_with("401"));
}

#[test]
fn anonymous_stands_in_for_whoever_has_no_valid_key() {
    for anonymous in ["nobody".to_owned(), id(2).to_string()] {
        let (outcome, cx) = run(&json!({"anonymous": anonymous}), request("GET", "/", &[("apikey", "wrong")]));
        assert_eq!(outcome, "continue");
        assert_eq!((header(&cx, "x-anonymous-consumer"), header(&cx, "x-consumer-username")), ("true", "nobody"));
        assert!(cx.credential.is_none() && cx.consumer.is_some());
    }
    let missing = get(&json!({"anonymous": "ghost"}), "/", &[]);
    assert_eq!(missing, "500\nanonymous consumer ghost is configured but doesn't exist");
}

#[test]
fn with_anonymous_an_earlier_success_is_enough() {
    let mut cx = request("GET", "/", &[]);
    cx.credential = Some(Arc::new(Credential::new(id(5))));
    let (outcome, cx) = run(&json!({"anonymous": "nobody"}), cx);
    assert_eq!((outcome.as_str(), cx.consumer.is_none()), ("continue", true));
}

#[test]
fn preflights_may_pass() {
    let run = |config: &Value| run(config, request("OPTIONS", "/", &[])).0;
    assert!(run(&json!({})).starts_with("401"));
    assert_eq!(run(&json!({"run_on_preflight": false})), "continue");
}

#[test]
fn bad_configurations() {
    let found = problems(&KeyAuth, &json!({"key_names": [], "key_in_heade": true, "hide_credentials": 1}));
    assert_eq!(
        found,
        ["key_in_heade: unknown field", "key_names: length must be at least 1", "hide_credentials: expected a boolean"]
    );
    assert!(!KeyAuth.allows_consumer_scope());
}
