//! A path, a query, a header and an expression. Checked: no panic; the normal form of a path is stable, survives being
//! written for HTTP, and has no dot segments; an expression that is accepted can be routed by, whatever the request.
#![no_main]

use gateway::entity::{Id, Route, RouteId, Scheme};
use gateway::router::{Ask, Fields, Router, check_expression};
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use model::uri::{escape, normalize};
use std::net::SocketAddr;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (path, query, value, expression) = (format!("/{}", text()), text(), text(), text());
    let Ok(path) = normalize(&path) else { return };
    assert_eq!(normalize(&path).as_deref(), Ok(&*path));
    let written = escape(&path);
    assert!(written.is_ascii());
    assert_eq!(normalize(&written).as_deref(), Ok(&*path));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));

    if check_expression(expression, Fields::Http).is_err() {
        return;
    }
    let mut route = Route::new(RouteId(Id::from_bytes([1; 16])));
    route.expression = Some(expression.to_owned());
    let router = Router::new(&[route], None).expect("a checked expression compiles");
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.append("x-a", value);
    }
    let ask = Ask {
        scheme: Scheme::Http,
        method: &Method::GET,
        host: "a.example.com",
        path: &path,
        query: Some(query),
        headers: &headers,
        sni: None,
        source: SocketAddr::from(([192, 0, 2, 1], 4000)),
        destination: SocketAddr::from(([192, 0, 2, 2], 80)),
    };
    if let Some(found) = router.route(&ask) {
        assert!(found.matched_len.is_none_or(|len| path.is_char_boundary(len)));
        let _ = router.uri_captures(&found, &path).get("1");
    }
});
