//! Keys whose time (`ttl`) is over: not shown by any path, though nobody has taken them away yet; and when they are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use entities::{Kind, Origin, Store, Write};
use http_body_util::BodyExt;
use model::definitions::Definitions;
use model::{Mono, Now, Wall};
use parking_lot::Mutex;
use plugin::Id;
use serde_json::{Value, json};
use sluicegate_admin::{Access, Clock, Control, Kept, State, admin};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tower_service::Service;

/// Where there is nothing yet.
fn state(clock: Clock) -> Arc<State> {
    // Nobody takes away what has expired here.
    support::state(&Definitions::default(), clock).0
}

/// Has the file say that ann has a key without end, and one that expires after three seconds from now.
async fn declare(control: &Control, now_ms: u64) {
    let (registry, mut n) = (plugins::registry(), 0);
    let mut fresh = || {
        n += 1;
        Id::from_bytes(u128::to_be_bytes(0xa000_0000_0000_4000_8000_0000_0000_0000 + n))
    };
    let origin = Origin::File;
    let mut write =
        Write { registry: &registry, now_ms, fresh: &mut fresh, origin, keeps_times: false, is_kept: false };
    let key = |key: &str, ttl: Option<u64>| json!({"key": key, "ttl": ttl, "tags": ["t", key], "consumer": {"username": "ann"}});
    let mut file = Store::new();
    for (kind, body) in [
        (Kind::Consumers, json!({"username": "ann"})),
        (Kind::KeyauthCredentials, key("long", None)),
        (Kind::KeyauthCredentials, key("short", Some(3))),
    ] {
        file = file.insert(kind, body, &mut write).unwrap().store;
    }
    control.reload(file, Kept::default).await.unwrap_or_else(|errors| panic!("{errors:?}")).commit();
}

async fn get(router: &mut Router, target: &str) -> (u16, Value) {
    let request = Request::get(target).header(header::HOST, "127.0.0.1:8001").body(Body::empty()).unwrap();
    let (head, body) = router.call(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn an_expired_key_is_not_shown_by_any_path() {
    let now_ms = Arc::new(AtomicU64::new(1_000));
    let clock = Arc::clone(&now_ms);
    let state = state(Arc::new(move || Now { mono: Mono(1), wall: Wall(clock.load(Ordering::Relaxed)) }));
    declare(&state.control, 1_000).await;
    let mut router = admin(Arc::clone(&state), Access::Loopback);
    let id = get(&mut router, "/key-auths/short").await.1["id"].as_str().unwrap().to_owned();

    for (at_ms, is_there) in [(3_999, true), (4_000, false)] {
        now_ms.store(at_ms, Ordering::Relaxed);
        for list in ["/key-auths", "/key-auths?tags=t", "/consumers/ann/key-auth", "/tags/t", "/tags", "/config"] {
            let (status, page) = get(&mut router, list).await;
            let said = page.to_string();
            let found = [said.contains("short") || said.contains(&id), said.contains("next") || said.contains("long")];
            assert_eq!((status, found), (200, [is_there, true]), "{list} at {at_ms}: {said}");
        }
        let tags_of_its_own = get(&mut router, "/tags/short").await.1["data"].as_array().map(Vec::len);
        assert_eq!(tags_of_its_own, Some(usize::from(is_there)), "{at_ms}");
        for key in ["short", &id] {
            for path in ["/key-auths/KEY", "/consumers/ann/key-auth/KEY", "/key-auths/KEY/consumer"] {
                let status = get(&mut router, &path.replace("KEY", key)).await.0;
                assert_eq!(status, if is_there { 200 } else { 404 }, "{path} of {key} at {at_ms}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_removal_that_was_refused_the_next_try_is_a_minute_later() {
    let (began, looks) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&looks);
    let state = state(Arc::new(move || {
        let passed = began.elapsed();
        seen.lock().push(passed.as_secs());
        Now { mono: Mono(1), wall: Wall(1_000 + u64::try_from(passed.as_millis()).unwrap()) }
    }));
    declare(&state.control, 1_000).await;
    looks.lock().clear();
    // Whoever makes changes has gone, so each of them is refused.
    let watched = Duration::from_millis(123_500);
    tokio::time::timeout(watched, state.control.forget_expired(pending())).await.unwrap_err();
    assert_eq!(*looks.lock(), [1, 2, 3, 63, 123], "every second, until it cannot be");
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_keys_away_stops_when_told_though_a_minute_is_left() {
    let state = state(Arc::new(|| Now { mono: Mono(1), wall: Wall(4_000) }));
    declare(&state.control, 1_000).await;
    let (began, told) = (Instant::now(), Duration::from_millis(1_500));
    let work = state.control.forget_expired(tokio::time::sleep(told));
    tokio::time::timeout(Duration::from_secs(90), work).await.unwrap();
    assert_eq!(began.elapsed(), told);
}
