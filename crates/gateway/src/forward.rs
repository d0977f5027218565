//! The headers the gateway adds and takes away, on the way up and on the way down.
//!
//! Names of headers are Kong's, for its clients read them (`X-Kong-*`); the product token in `Via` and `Server` is ours.
//! `X-Forwarded-Proto`, `-Host`, `-Port`, `-Path` and `-Prefix` of the client are replaced: no peer is trusted yet.
//! Hop-by-hop headers go (RFC 9110 §7.6.1), `Transfer-Encoding` too, since framing belongs to the encoder of each
//! side; `Content-Length` stays. An upgrade is not forwarded, which RFC 9110 §7.8 allows: the upstream answers as if
//! none was asked for.

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, SERVER, TE, VIA};
use plugin::{Context, Scheme};
use std::sync::LazyLock;

/// Our product token, as `Server` has it.
pub const PRODUCT: &str = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));
const VIA_VALUE: &str = concat!("1.1 sluicegate/", env!("CARGO_PKG_VERSION"));

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(const $name: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    PROXY = "proxy";
    TRAILER = "trailer";
    X_FORWARDED_FOR = "x-forwarded-for";
    X_FORWARDED_HOST = "x-forwarded-host";
    X_FORWARDED_PATH = "x-forwarded-path";
    X_FORWARDED_PORT = "x-forwarded-port";
    X_FORWARDED_PREFIX = "x-forwarded-prefix";
    X_FORWARDED_PROTO = "x-forwarded-proto";
    X_KONG_PROXY_LATENCY = "x-kong-proxy-latency";
    X_KONG_REQUEST_ID = "x-kong-request-id";
    X_KONG_RESPONSE_LATENCY = "x-kong-response-latency";
    X_KONG_UPSTREAM_LATENCY = "x-kong-upstream-latency";
    X_REAL_IP = "x-real-ip";
}

/// Turns the client's headers into the upstream's.
///
/// `host` is the upstream's host, or none to keep the client's; `host_seen` is the host the client asked for,
/// `stripped` the prefix that was taken off the path.
pub(crate) fn to_upstream(cx: &mut Context, host: Option<&HeaderValue>, host_seen: HeaderValue, stripped: &str) {
    let connection = &cx.connection;
    let path = HeaderValue::from_str(cx.request.uri.path()).ok();
    let headers = &mut cx.request.headers;
    match host {
        Some(host) => drop(headers.insert(HOST, host.clone())),
        None if headers.contains_key(HOST) => {}
        // The target was in absolute form or the protocol is HTTP/2.
        None => drop(headers.insert(HOST, client_host(&cx.request.uri, &host_seen))),
    }
    append_forwarded_for(headers, &connection.peer_ip_value);
    headers.insert(X_REAL_IP, connection.peer_ip_value.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(connection.scheme.as_str()));
    headers.insert(X_FORWARDED_HOST, host_seen);
    headers.insert(X_FORWARDED_PORT, connection.local_port_value.clone());
    if let Some(path) = path {
        headers.insert(X_FORWARDED_PATH, path);
    }
    headers.remove(X_FORWARDED_PREFIX);
    if stripped.len() > 1
        && let Ok(prefix) = HeaderValue::from_str(stripped)
    {
        headers.insert(X_FORWARDED_PREFIX, prefix);
    }
    headers.append(VIA, HeaderValue::from_static(VIA_VALUE));
    headers.insert(X_KONG_REQUEST_ID, cx.request_id.clone());
}

fn client_host(uri: &http::Uri, host_seen: &HeaderValue) -> HeaderValue {
    uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()).unwrap_or_else(|| host_seen.clone())
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: &HeaderValue) {
    let mut joined = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        if !value.is_empty() {
            joined.extend_from_slice(value.as_bytes());
            joined.extend_from_slice(b", ");
        }
    }
    let value = if joined.is_empty() {
        peer.clone()
    } else {
        joined.extend_from_slice(peer.as_bytes());
        HeaderValue::try_from(joined).unwrap_or_else(|_| peer.clone())
    };
    headers.insert(X_FORWARDED_FOR, value);
}

/// Removes what concerns one connection only, before any plugin adds a header: so no client can have one of those
/// removed by naming it in `Connection`. `TE: trailers` stays.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let trailers = headers.get(TE).is_some_and(asks_for_trailers);
    http1::strip_hop_by_hop(headers);
    for name in [PROXY, TRAILER] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn asks_for_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|byte| *byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// What a proxied response is told about itself.
pub(crate) fn from_upstream(headers: &mut HeaderMap, upstream_ms: u64, proxy_ms: u64) {
    remove_hop_by_hop(headers);
    headers.append(VIA, HeaderValue::from_static(VIA_VALUE));
    headers.entry(SERVER).or_insert(HeaderValue::from_static(PRODUCT));
    headers.insert(X_KONG_UPSTREAM_LATENCY, millis(upstream_ms));
    headers.insert(X_KONG_PROXY_LATENCY, millis(proxy_ms));
}

/// What a response of our own is told about itself.
pub(crate) fn from_us(headers: &mut HeaderMap, response_ms: u64) {
    headers.insert(SERVER, HeaderValue::from_static(PRODUCT));
    headers.insert(X_KONG_RESPONSE_LATENCY, millis(response_ms));
}

/// What every response carries.
pub(crate) fn set_request_id(headers: &mut HeaderMap, request_id: &HeaderValue) {
    headers.insert(X_KONG_REQUEST_ID, request_id.clone());
}

/// A header value for milliseconds; small ones are made once.
fn millis(ms: u64) -> HeaderValue {
    static SMALL: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| (0..256u64).map(HeaderValue::from).collect());
    usize::try_from(ms).ok().and_then(|ms| SMALL.get(ms)).cloned().unwrap_or_else(|| HeaderValue::from(ms))
}

/// The `Host` an upstream is asked by: its port only if it is not the scheme's.
pub(crate) fn upstream_host(scheme: Scheme, host: &str, port: u16) -> Option<HeaderValue> {
    let brackets = host.contains(':') && !host.starts_with('[');
    let host = if brackets { format!("[{host}]") } else { host.to_owned() };
    let text = if port == scheme.default_port() { host } else { format!("{host}:{port}") };
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn text(headers: &HeaderMap) -> String {
        headers.iter().map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap())).collect()
    }

    #[test]
    fn hop_by_hop_headers_and_those_connection_names_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Mine, upgrade"),
            ("x-mine", "1"),
            ("te", "gzip, Trailers"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy", "http://evil"),
            ("proxy-connection", "keep-alive"),
            ("content-length", "3"),
            ("host", "h"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(text(&headers), "content-length: 3\nhost: h\nte: trailers\n");
    }

    #[test]
    fn forwarded_for_is_appended_in_one_line() {
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1")]);
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("2.2.2.2"));
        append_forwarded_for(&mut headers, &HeaderValue::from_static("3.3.3.3"));
        assert_eq!(text(&headers), "x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3\n");
    }

    #[test]
    fn the_upstream_s_server_stays_and_ours_fills_in() {
        let mut headers = map(&[("server", "nginx")]);
        from_upstream(&mut headers, 12, 300);
        assert_eq!(headers[SERVER], "nginx");
        assert_eq!((&headers[X_KONG_UPSTREAM_LATENCY], &headers[X_KONG_PROXY_LATENCY]), (&millis(12), &millis(300)));
        let mut headers = HeaderMap::new();
        from_upstream(&mut headers, 0, 0);
        assert_eq!(headers[SERVER], PRODUCT);
    }

    #[test]
    fn the_upstream_host_names_only_an_odd_port() {
        let host = |scheme, host, port| upstream_host(scheme, host, port).unwrap();
        assert_eq!(host(Scheme::Http, "a", 80), "a");
        assert_eq!(host(Scheme::Https, "a", 80), "a:80");
        assert_eq!(host(Scheme::Http, "::1", 9000), "[::1]:9000");
    }
}
