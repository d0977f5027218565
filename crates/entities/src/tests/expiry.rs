//! What is gone after a while: given in seconds, kept as a moment, shown as what is left.

use super::{NOW_MS, World};
use crate::declarative::export;
use crate::{EXPIRES_MS, Entity, Kind};
use serde_json::{Value, json};
use std::sync::Arc;

fn with_key(ttl: Value) -> (World, Value) {
    let mut world = World::new();
    world.insert(Kind::Consumers, json!({"username": "ann"})).unwrap();
    let key = world.insert(Kind::KeyauthCredentials, json!({"key": "k", "consumer": {"username": "ann"}, "ttl": ttl}));
    let key = key.unwrap();
    (world, key)
}

fn key(world: &World) -> Arc<Entity> {
    Arc::clone(world.store.by_unique(Kind::KeyauthCredentials, "key", "k").unwrap())
}

#[test]
fn what_is_left_is_shown_and_the_moment_is_kept() {
    let (world, shown) = with_key(json!(60));
    assert_eq!(shown["ttl"], 60);
    assert!(shown.get(EXPIRES_MS).is_none());
    let key = key(&world);
    let left = |ms: u64| world.store.show(&key, NOW_MS + ms)["ttl"].clone();
    assert_eq!([left(1), left(1_000), left(59_999), left(60_000)], [60, 59, 1, 0]);
    assert!(!key.is_expired(NOW_MS + 59_999) && key.is_expired(NOW_MS + 60_000));
    assert_eq!(key.record()[EXPIRES_MS], NOW_MS + 60_000);
}

#[test]
fn what_has_no_end_never_expires() {
    for ttl in [Value::Null, json!(0)] {
        let (world, _) = with_key(ttl);
        assert!(!key(&world).is_expired(u64::MAX));
    }
}

#[test]
fn a_change_moves_the_end_only_if_it_says_so() {
    let (mut world, _) = with_key(json!(60));
    world.update(Kind::KeyauthCredentials, "k", json!({"tags": ["a"]})).unwrap();
    assert!(key(&world).is_expired(NOW_MS + 60_000));
    world.update(Kind::KeyauthCredentials, "k", json!({"ttl": 90})).unwrap();
    assert!(!key(&world).is_expired(NOW_MS + 60_000) && key(&world).is_expired(NOW_MS + 90_000));
    world.update(Kind::KeyauthCredentials, "k", json!({"ttl": null})).unwrap();
    assert!(!key(&world).is_expired(u64::MAX));
}

#[test]
fn declared_again_it_keeps_its_end_until_that_is_over() {
    let mut world = World::new();
    let mut declared = |ms: u64, ttl: u64, tag: &str| {
        world.now_ms = NOW_MS + ms;
        let key = json!({"id": World::id(101), "key": "k", "consumer": World::id(100), "ttl": ttl});
        let ann = json!({"id": World::id(100), "username": "ann", "tags": [tag]});
        world
            .declare(&json!({"_format_version": "3.0", "consumers": [ann], "keyauth_credentials": [key]}))
            .unwrap()
            .store
    };
    let before = declared(0, 60, "a");
    for (ms, ttl, end_ms, n_put) in
        [(30_000, 60, 60_000, 1), (59_999, 60, 60_000, 1), (60_000, 60, 120_000, 2), (30_000, 90, 120_000, 2)]
    {
        let mut after = declared(ms, ttl, "b");
        assert_eq!(after.succeed(&before, NOW_MS + ms).put.len(), n_put, "{ms} {ttl}");
        let key = after.by_unique(Kind::KeyauthCredentials, "key", "k").unwrap();
        assert!(!key.is_expired(NOW_MS + end_ms - 1) && key.is_expired(NOW_MS + end_ms), "{ms} {ttl}");
    }
}

#[test]
fn a_file_has_the_seconds() {
    let (world, _) = with_key(json!(60));
    let tree = export(&world.store, |_| true);
    let key = &tree["keyauth_credentials"][0];
    assert_eq!((&key["ttl"], key.get(EXPIRES_MS)), (&json!(60), None));
}

#[test]
fn what_a_client_cannot_say_is_refused() {
    let mut world = World::new();
    world.insert(Kind::Consumers, json!({"username": "ann"})).unwrap();
    let body = |field: &str, value: Value| json!({"key": "k", "consumer": {"username": "ann"}, field: value});
    assert!(world.insert(Kind::KeyauthCredentials, body(EXPIRES_MS, json!(1))).is_err());
    let words = "must be an integer between 0 and 100000000";
    for ttl in [json!(-1), json!(100_000_001), json!(1.5), json!("x")] {
        let refused = world.insert(Kind::KeyauthCredentials, body("ttl", ttl.clone())).unwrap_err();
        let message = format!("invalid option (ttl: {words})");
        let expected = json!({"code": 11, "name": "invalid options", "message": message, "options": {"ttl": words}});
        assert_eq!(refused.body(), expected, "{ttl}");
    }
    assert!(world.insert(Kind::KeyauthCredentials, body("ttl", json!(100_000_000))).is_ok());
}

#[test]
fn a_bad_ttl_is_told_when_the_fields_fit_and_is_an_unknown_field_elsewhere() {
    let mut world = World::new();
    let both = json!({"key": 1, "consumer": {"id": World::id(1)}, "ttl": -1});
    let refused = world.insert(Kind::KeyauthCredentials, both).unwrap_err().body();
    assert_eq!((&refused["code"], &refused["fields"]), (&json!(2), &json!({"key": "expected a string"})));
    let refused = world.insert(Kind::Consumers, json!({"username": "ann", "ttl": -1})).unwrap_err().body();
    assert_eq!((&refused["code"], &refused["fields"]), (&json!(2), &json!({"ttl": "unknown field"})));
}
