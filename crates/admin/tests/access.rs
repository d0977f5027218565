//! Who is let in by which listener, asked of the whole routers over a real broker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use model::definitions::{Definitions, PasswordDef, UserDef, VhostDef};
use model::{Mono, Now, Secret, Wall};
use sluicegate_admin::{Access, Role, State, Tokens, admin, management};
use std::sync::Arc;
use tower_service::Service;

fn user(name: &str, tag: &str) -> UserDef {
    let password = PasswordDef::Plain(Secret::new(format!("{name}-pw")));
    UserDef { name: name.to_owned(), password, tags: vec![tag.to_owned()] }
}

fn state() -> Arc<State> {
    let definitions = Definitions {
        vhosts: vec![VhostDef { name: "/".to_owned() }],
        users: vec![
            user("guest", "administrator"),
            user("ann", "monitoring"),
            user("app", ""),
            user("root", "administrator"),
        ],
        ..Definitions::default()
    };
    // Nobody changes anything here.
    let (state, _) = support::state(&definitions, Arc::new(|| Now { mono: Mono(1), wall: Wall(1) }));
    state
}

/// What a GET with these credentials (`user:password`) answers, and whether it asks for others.
fn get(router: &Router, target: &str, credentials: &str) -> (u16, bool) {
    let mut request = Request::get(target).header(header::HOST, "127.0.0.1:15672");
    if !credentials.is_empty() {
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
        request = request.header(header::AUTHORIZATION, format!("Basic {encoded}"));
    }
    let mut router = router.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(async { router.call(request.body(Body::empty()).unwrap()).await.unwrap() });
    (answer.status().as_u16(), answer.headers().contains_key(header::WWW_AUTHENTICATE))
}

const IN: (u16, bool) = (200, false);
const OUT: (u16, bool) = (401, true);

#[test]
fn the_management_api_asks_who_calls_on_loopback_too() {
    let router = management(state(), Access::Loopback);
    for target in [
        "/api/overview",
        "/api/queues",
        "/api/queues/%2F",
        "/api/exchanges",
        "/api/exchanges/%2F",
        "/api/connections",
        "/api/routes",
    ] {
        for (credentials, answer) in [
            ("guest:guest-pw", IN),
            ("ann:ann-pw", IN),
            ("root:root-pw", IN),
            ("", OUT),
            ("guest:wrong", OUT),
            ("nobody:nobody-pw", OUT),
            // Right, but without a tag of the management plugin.
            ("app:app-pw", OUT),
        ] {
            assert_eq!(get(&router, target, credentials), answer, "{target} as {credentials:?}");
        }
    }
}

#[test]
fn the_page_itself_and_the_admin_listener_ask_nobody_on_loopback() {
    let state = state();
    for (router, targets) in [
        (management(Arc::clone(&state), Access::Loopback), ["/", "/page.css", "/page.js", "/icon.svg"]),
        (admin(state, Access::Loopback), ["/status", "/status/ready", "/metrics", "/metrics?queues=true"]),
    ] {
        for target in targets {
            assert_eq!(get(&router, target, ""), IN, "{target}");
            assert_eq!(get(&router, target, "guest:wrong"), IN, "{target}");
        }
    }
}

#[test]
fn off_loopback_only_administrators_but_guest_get_in() {
    let state = state();
    for (router, targets) in [
        (management(Arc::clone(&state), Access::Administrators), ["/", "/api/queues"]),
        (admin(state, Access::Administrators), ["/status/ready", "/metrics"]),
    ] {
        for target in targets {
            assert_eq!(get(&router, target, "root:root-pw"), IN, "{target}");
            for credentials in ["", "guest:guest-pw", "ann:ann-pw", "app:app-pw", "root:wrong"] {
                assert_eq!(get(&router, target, credentials), OUT, "{target} as {credentials:?}");
            }
        }
    }
}

#[test]
fn whoever_tls_let_in_is_in() {
    let router = management(state(), Access::ClientCertificate);
    assert_eq!((get(&router, "/", ""), get(&router, "/api/queues", "")), (IN, IN));
}

/// What a request to the Admin API with this token answers.
fn with_token(router: &Router, method: &str, target: &str, token: &str) -> u16 {
    let mut request = Request::builder().method(method).uri(target).header(header::HOST, "127.0.0.1:8001");
    if !token.is_empty() {
        request = request.header("Kong-Admin-Token", token);
    }
    let mut router = router.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { router.call(request.body(Body::empty()).unwrap()).await.unwrap() }).status().as_u16()
}

#[test]
fn tokens_once_configured_are_asked_for_on_loopback_too() {
    let state = state();
    let (loopback, elsewhere) =
        (admin(Arc::clone(&state), Access::Loopback), admin(Arc::clone(&state), Access::Administrators));
    assert_eq!((with_token(&loopback, "GET", "/status", ""), with_token(&elsewhere, "GET", "/status", "")), (200, 401));
    let (reads, writes) = ("reads-0123456789", "writes-0123456789");
    state.tokens.store(Arc::new(Tokens::new([(reads, Role::Read), (writes, Role::Write)])));
    for router in [&loopback, &elsewhere] {
        for (method, token, answer) in [
            ("GET", "", 401),
            ("GET", "wrong-0123456789", 401),
            ("GET", reads, 200),
            ("GET", writes, 200),
            ("HEAD", reads, 200),
            ("POST", reads, 403),
            ("PUT", reads, 403),
            ("PATCH", reads, 403),
            ("DELETE", reads, 403),
            ("DELETE", "", 401),
            ("DELETE", writes, 405),
        ] {
            assert_eq!(with_token(router, method, "/status", token), answer, "{method} with {token:?}");
        }
        // The broker's administrators need none.
        assert_eq!(get(router, "/status", "root:root-pw"), IN);
        assert_eq!(get(router, "/status", "guest:guest-pw"), OUT);
        assert_eq!(get(router, "/status", "app:app-pw"), OUT);
    }
    assert_eq!(with_token(&loopback, "GET", "/status/ready", ""), 200);
    assert_eq!(with_token(&elsewhere, "GET", "/status/ready", ""), 401);
    let certificate = admin(Arc::clone(&state), Access::ClientCertificate);
    assert_eq!(with_token(&certificate, "GET", "/status", ""), 401, "a certificate says who, not what they may");
    assert_eq!(with_token(&certificate, "GET", "/status", reads), 200);
}
