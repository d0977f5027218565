//! The headers the gateway adds and takes away, on the way up and on the way down.
//!
//! Names of headers are Kong's, for its clients read them (`X-Kong-*`); the product token in `Via` and `Server` is ours.
//! `X-Forwarded-Proto`, `-Host`, `-Port`, `-Path` and `-Prefix` of the client are replaced, unless the peer is trusted
//! ([`crate::real_ip`]).
//! Hop-by-hop headers go (RFC 9110 §7.6.1), `Transfer-Encoding` too, since framing belongs to the encoder of each
//! side; `Content-Length` stays. A wish to upgrade is no header here: [`http1::Upgrade`] travels with the request's
//! extensions, and what cannot be passed on is left out, which RFC 9110 §7.8 allows.

use crate::reason::Reason;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, SERVER, SET_COOKIE, TE, VIA};
use http1::{FieldLines, NameLengths};
use plugin::{Connection, Context, RequestId, RouteInfo, Scheme, ServiceInfo};
use std::net::IpAddr;

/// Our product token, as `Server` has it.
pub const PRODUCT: &str = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));
const PRODUCT_VALUE: HeaderValue = HeaderValue::from_static(PRODUCT);
const VIA_VALUE: HeaderValue = HeaderValue::from_static(concat!("1.1 sluicegate/", env!("CARGO_PKG_VERSION")));

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(const $name: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    KONG_DEBUG = "kong-debug";
    KONG_ROUTE_ID = "kong-route-id";
    KONG_ROUTE_NAME = "kong-route-name";
    KONG_SERVICE_ID = "kong-service-id";
    KONG_SERVICE_NAME = "kong-service-name";
    PROXY = "proxy";
    PROXY_STATUS = "proxy-status";
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

/// Room for the lines of a usual request.
const LINES_BYTES: usize = 512;

/// Turns the client's headers into the upstream's; those that are added stand in `lines`.
///
/// `host` is the upstream's host, or none to keep the client's.
pub(crate) fn to_upstream(cx: &mut Context, lines: &mut FieldLines, host: Option<&HeaderValue>, seen: &Seen<'_>) {
    let connection = &cx.connection;
    let headers = &mut cx.request.headers;
    match host {
        Some(host) => drop(headers.insert(HOST, host.clone())),
        None if headers.contains_key(HOST) => {}
        // The target was in absolute form or the protocol is HTTP/2.
        None => drop(headers.insert(HOST, client_host(&cx.request.uri, seen.host))),
    }
    *lines = FieldLines::with_capacity(LINES_BYTES);
    if seen.is_trusted || headers.contains_key(X_FORWARDED_FOR) {
        say_what_is_told(cx, lines, seen);
    } else {
        remove_all(headers, is_of_the_request);
        lines.append(connection.said.get_or_init(|| said(connection)));
        lines.put(&X_FORWARDED_HOST, seen.host);
        put_path(lines, cx);
        put_prefix(lines, seen);
    }
    lines.put(&VIA, &VIA_VALUE);
    put_request_id(lines, &cx.request_id);
}

/// What every request of a connection says of it, if nobody in front says otherwise.
fn said(connection: &Connection) -> FieldLines {
    let mut lines = FieldLines::default();
    lines.put(&X_FORWARDED_FOR, &connection.peer_ip_value);
    lines.put(&X_REAL_IP, &connection.peer_ip_value);
    lines.put(&X_FORWARDED_PROTO, scheme_value(connection.scheme));
    lines.put(&X_FORWARDED_PORT, &connection.local_port_value);
    lines
}

/// The same of a request that came by proxies: what a trusted one says stays.
fn say_what_is_told(cx: &mut Context, lines: &mut FieldLines, seen: &Seen<'_>) {
    let connection = &cx.connection;
    let headers = &mut cx.request.headers;
    let told = if seen.is_trusted { Told::take(headers) } else { Told::default() };
    let peer_ip = &connection.peer_ip_value;
    let told_ip = (cx.client_ip != connection.peer.ip().to_canonical()).then(|| ip_value(cx.client_ip));
    let client_ip = told_ip.as_ref().unwrap_or(peer_ip);
    let mut hops = headers.get_all(X_FORWARDED_FOR).iter().peekable();
    let last_hop = if hops.peek().is_some() { peer_ip } else { client_ip };
    lines.put_list(&X_FORWARDED_FOR, hops, last_hop);
    remove_all(headers, is_of_the_request);
    lines.put(&X_REAL_IP, client_ip);
    lines.put(&X_FORWARDED_PROTO, told.proto.as_ref().unwrap_or_else(|| scheme_value(connection.scheme)));
    lines.put(&X_FORWARDED_HOST, told.host.as_ref().unwrap_or(seen.host));
    lines.put(&X_FORWARDED_PORT, told.port.as_ref().unwrap_or(&connection.local_port_value));
    match &told.path {
        Some(path) => lines.put(&X_FORWARDED_PATH, path),
        None => put_path(lines, cx),
    }
    match &told.prefix {
        Some(prefix) => lines.put(&X_FORWARDED_PREFIX, prefix),
        None => put_prefix(lines, seen),
    }
}

/// The path as the client has it. It was a header's text all along, or it would not have been parsed.
fn put_path(lines: &mut FieldLines, cx: &Context) {
    let _ = lines.put_text(&X_FORWARDED_PATH, cx.request.uri.path());
}

fn put_prefix(lines: &mut FieldLines, seen: &Seen<'_>) {
    if seen.stripped.len() > 1 {
        let _ = lines.put_text(&X_FORWARDED_PREFIX, seen.stripped);
    }
}

/// The client's request as it was seen here.
pub(crate) struct Seen<'a> {
    /// The host it asked for.
    pub(crate) host: &'a HeaderValue,
    /// The prefix that was taken off its path.
    pub(crate) stripped: &'a str,
    /// Whether its peer is a trusted proxy.
    pub(crate) is_trusted: bool,
}

/// What a trusted proxy says of the request.
#[derive(Default)]
struct Told {
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
    path: Option<HeaderValue>,
    prefix: Option<HeaderValue>,
}

impl Told {
    fn take(headers: &HeaderMap) -> Self {
        let of = |name| headers.get(name).cloned();
        Self {
            proto: of(X_FORWARDED_PROTO),
            host: of(X_FORWARDED_HOST),
            port: of(X_FORWARDED_PORT),
            path: of(X_FORWARDED_PATH),
            prefix: of(X_FORWARDED_PREFIX),
        }
    }
}

/// The scheme that a trusted proxy was asked by.
pub(crate) fn scheme_told(headers: &HeaderMap) -> Option<Scheme> {
    match headers.get(X_FORWARDED_PROTO)?.as_bytes() {
        b"https" => Some(Scheme::Https),
        _ => Some(Scheme::Http),
    }
}

fn ip_value(ip: IpAddr) -> HeaderValue {
    HeaderValue::try_from(ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn scheme_value(scheme: Scheme) -> &'static HeaderValue {
    static HTTP: HeaderValue = HeaderValue::from_static("http");
    static HTTPS: HeaderValue = HeaderValue::from_static("https");
    match scheme {
        Scheme::Http => &HTTP,
        Scheme::Https => &HTTPS,
    }
}

fn client_host(uri: &http::Uri, host_seen: &HeaderValue) -> HeaderValue {
    uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()).unwrap_or_else(|| host_seen.clone())
}

/// Whether the gateway alone says this to an upstream.
fn is_of_the_request(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-")
        && matches!(
            &name[2..],
            "forwarded-for"
                | "forwarded-host"
                | "forwarded-path"
                | "forwarded-port"
                | "forwarded-prefix"
                | "forwarded-proto"
                | "kong-request-id"
                | "real-ip"
        )
}

/// Whether the gateway alone says this to a client.
fn is_of_the_response(name: &[u8]) -> bool {
    name.len() > 7
        && name[..7].eq_ignore_ascii_case(b"x-kong-")
        && [&b"proxy-latency"[..], b"request-id", b"upstream-latency"]
            .iter()
            .any(|own| name[7..].eq_ignore_ascii_case(own))
}

/// Sets all fields of `set` instead of others of the same name, but for those that are ours to say; of the lines an upstream
/// sent, these go too.
pub(crate) fn set_all(headers: &mut HeaderMap, lines: &mut FieldLines, set: &FieldLines) {
    if lines.name_lengths().meet(set.name_lengths().and(NOT_OF_AN_UPSTREAM)) {
        lines.retain(|name| {
            !is_of_the_response(name)
                && !name.eq_ignore_ascii_case(b"proxy")
                && !name.eq_ignore_ascii_case(b"trailer")
                && !set.iter().any(|(other, _)| name.eq_ignore_ascii_case(other))
        });
    }
    if !headers.is_empty() {
        for (name, _) in set.iter() {
            if let Ok(name) = HeaderName::from_bytes(name) {
                headers.remove(name);
            }
        }
    }
    if set.name_lengths().meet(NOT_OF_A_PLUGIN) {
        lines.extend(set, |name| !is_of_the_response(name) && !http1::is_hop_by_hop(name));
    } else {
        lines.append(set);
    }
}

/// Lengths of names that are taken off the lines of an upstream.
const NOT_OF_AN_UPSTREAM: NameLengths = OURS.and(NameLengths::of_all(&[b"proxy", b"trailer"]));
/// Lengths of names that no plugin sets.
const NOT_OF_A_PLUGIN: NameLengths = OURS.and(http1::HOP_BY_HOP_LENGTHS);
/// Lengths of names that the gateway alone says to a client.
const OURS: NameLengths =
    NameLengths::of_all(&[b"x-kong-proxy-latency", b"x-kong-request-id", b"x-kong-upstream-latency"]);

/// Removes the headers whose names `is_ours`; costs one look at each name if there is none.
fn remove_all(headers: &mut HeaderMap, is_ours: fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_ours(name)).cloned() {
        headers.remove(name);
    }
}

/// Removes what concerns one connection only, before any plugin adds a header: so no client can have one of those
/// removed by naming it in `Connection`. `TE: trailers` stays.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.keys().all(|name| !http1::is_hop_by_hop(name.as_str().as_bytes()) && *name != PROXY && *name != TRAILER)
    {
        return;
    }
    let trailers = headers.iter().any(|(name, value)| name == TE && asks_for_trailers(value));
    http1::strip_hop_by_hop(headers);
    remove_all(headers, |name| *name == PROXY || *name == TRAILER);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn asks_for_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|byte| *byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// What a proxied response is told about itself. `lines` are fields that came without those of the connection.
pub(crate) fn from_upstream(headers: &mut HeaderMap, lines: &mut FieldLines, upstream_ms: u64, proxy_ms: u64) {
    if !headers.is_empty() {
        remove_hop_by_hop(headers);
        remove_all(headers, |name| is_of_the_response(name.as_str().as_bytes()));
    }
    lines.put(&VIA, &VIA_VALUE);
    if lines.get(&SERVER).is_none() && headers.keys().all(|name| name != SERVER) {
        lines.put(&SERVER, &PRODUCT_VALUE);
    }
    lines.put_number(&X_KONG_UPSTREAM_LATENCY, upstream_ms);
    lines.put_number(&X_KONG_PROXY_LATENCY, proxy_ms);
}

/// Sets a cookie of ours, instead of one of the same name that the upstream sets.
pub(crate) fn set_cookie(headers: &mut HeaderMap, cookie: HeaderValue) {
    let name = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    let ours = name(&cookie);
    let others: Vec<HeaderValue> =
        headers.get_all(SET_COOKIE).iter().filter(|value| name(value) != ours).cloned().collect();
    headers.remove(SET_COOKIE);
    for value in others.into_iter().chain([cookie]) {
        headers.append(SET_COOKIE, value);
    }
}

/// What a response of our own is told about itself.
pub(crate) fn from_us(headers: &mut HeaderMap, response_ms: u64) {
    headers.insert(SERVER, PRODUCT_VALUE);
    headers.insert(X_KONG_RESPONSE_LATENCY, HeaderValue::from(response_ms));
}

/// Says why a request failed, as RFC 9209 has it.
pub(crate) fn add_proxy_status(headers: &mut HeaderMap, reason: Reason) {
    let text = format!("sluicegate; error={}; details=\"{reason}\"", reason.proxy_error());
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(PROXY_STATUS, value);
    }
}

/// Whether a client wants to know which route took its request.
pub(crate) fn asks_for_debug(request: &HeaderMap) -> bool {
    request.contains_key(KONG_DEBUG)
}

/// Says which route and service took a request. Names that no header can hold are left out.
pub(crate) fn add_debug(set: &mut FieldLines, route: &RouteInfo, service: Option<&ServiceInfo>) {
    let mut say = |name: HeaderName, value: Option<&str>| {
        if let Some(value) = value {
            // Names of entities are letters, digits and punctuation.
            let _ = set.put_text(&name, value);
        }
    };
    say(KONG_ROUTE_ID, Some(&route.id.to_string()));
    say(KONG_ROUTE_NAME, route.name.as_deref());
    say(KONG_SERVICE_ID, service.map(|service| service.id.to_string()).as_deref());
    say(KONG_SERVICE_NAME, service.and_then(|service| service.name.as_deref()));
}

/// What every response carries.
pub(crate) fn set_request_id(headers: &mut HeaderMap, request_id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(X_KONG_REQUEST_ID, value);
    }
}

/// What every request to an upstream and every proxied response carries.
pub(crate) fn put_request_id(lines: &mut FieldLines, request_id: &RequestId) {
    lines.put_received(b"x-kong-request-id", request_id.as_bytes());
    lines.never_repeats(b"x-kong-request-id");
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
        let mut lines: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap())).collect();
        lines.sort();
        lines.concat()
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
            ("http2-settings", "AAMAAABk"),
            ("content-length", "3"),
            ("host", "h"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(text(&headers), "content-length: 3\nhost: h\nte: trailers\n");
    }

    #[test]
    fn what_the_upstream_claims_of_us_is_replaced() {
        let mut headers = map(&[("x-kong-request-id", "forged"), ("x-kong-proxy-latency", "9"), ("x-kong-else", "1")]);
        told(&mut headers, 1, 2);
        assert_eq!(headers.get_all(X_KONG_PROXY_LATENCY).iter().collect::<Vec<_>>(), ["2"]);
        assert!(!headers.contains_key(X_KONG_REQUEST_ID) && headers.contains_key("x-kong-else"));
    }

    /// What [`from_upstream`] makes of these headers.
    fn told(headers: &mut HeaderMap, upstream_ms: u64, proxy_ms: u64) {
        let mut lines = FieldLines::default();
        from_upstream(headers, &mut lines, upstream_ms, proxy_ms);
        lines.append_to(headers);
    }

    #[test]
    fn the_upstream_s_server_stays_and_ours_fills_in() {
        let mut headers = map(&[("server", "nginx")]);
        told(&mut headers, 12, 300);
        assert_eq!(headers[SERVER], "nginx");
        assert_eq!(headers[X_KONG_UPSTREAM_LATENCY], "12");
        assert_eq!(headers[X_KONG_PROXY_LATENCY], "300");
        let mut headers = HeaderMap::new();
        told(&mut headers, 0, 0);
        assert_eq!(headers[SERVER], PRODUCT);
    }

    #[test]
    fn what_is_set_replaces_lines_and_fields_of_the_same_name() {
        let lines_of = |pairs: &[(&str, &str)]| {
            let mut lines = FieldLines::default();
            pairs.iter().for_each(|(name, value)| lines.put_received(name.as_bytes(), value.as_bytes()));
            lines
        };
        let mut lines =
            lines_of(&[("X-Limit", "theirs"), ("X-Kong-Request-Id", "forged"), ("Trailer", "x"), ("Etag", "1")]);
        let mut headers = map(&[("x-left", "theirs"), ("vary", "a")]);
        let set = [("x-limit", "5"), ("x-left", "4"), ("Content-Length", "9"), ("TE", "x"), ("x-kong-request-id", "1")];
        set_all(&mut headers, &mut lines, &lines_of(&set));
        assert_eq!(lines.as_bytes(), b"Etag: 1\r\nx-limit: 5\r\nx-left: 4\r\n");
        assert_eq!(text(&headers), "vary: a\n");
    }

    #[test]
    fn a_cookie_of_ours_replaces_its_namesake() {
        let mut headers = map(&[("set-cookie", "sid=theirs; Path=/")]);
        headers.append(SET_COOKIE, HeaderValue::from_static("other=1"));
        set_cookie(&mut headers, HeaderValue::from_static("sid=ours"));
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["other=1", "sid=ours"]);
    }

    #[test]
    fn the_upstream_host_names_only_an_odd_port() {
        let host = |scheme, host, port| upstream_host(scheme, host, port).unwrap();
        assert_eq!(host(Scheme::Http, "a", 80), "a");
        assert_eq!(host(Scheme::Https, "a", 80), "a:80");
        assert_eq!(host(Scheme::Http, "::1", 9000), "[::1]:9000");
    }
}
