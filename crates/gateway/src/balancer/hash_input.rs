//! The value of a request that consistent hashing hashes.
//!
//! As in Kong: what `hash_on` names, else what `hash_fallback` does, else nothing, which is a value too. A request
//! without the cookie it is to be hashed on gets one made for it, so it falls back no further.

use super::ring::hash;
use crate::entity::{HashInput, Hashing};
use crate::router::{Match, Router};
use http::header::{COOKIE, HeaderName, HeaderValue};
use plugin::Context;
use std::net::IpAddr;

/// A request before it is changed for the upstream.
#[derive(Debug)]
pub(crate) struct HashedRequest<'a> {
    pub(crate) cx: &'a Context,
    /// Its path in normal form.
    pub(crate) path: &'a str,
    /// How it was routed, for what the route's regular expressions find in the path.
    pub(crate) routed: Option<(&'a Router, Match)>,
}

/// The hashed value, and the cookie to set for it.
#[derive(Debug, Default)]
pub(crate) struct Key {
    pub(crate) hash: u64,
    pub(crate) cookie: Option<HeaderValue>,
}

/// Hashes a request; `random` makes the value of a new cookie.
pub(super) fn key(hashing: &Hashing, request: &HashedRequest<'_>, random: u128) -> Key {
    let nothing = || Key { hash: hash(b""), cookie: None };
    let fallback = || hashed(&hashing.fallback, request, random);
    hashed(&hashing.on, request, random).or_else(fallback).unwrap_or_else(nothing)
}

/// Hashes what `input` names, if the request has it; a cookie is made where it is missing.
pub(crate) fn hashed(input: &HashInput, request: &HashedRequest<'_>, random: u128) -> Option<Key> {
    let found = |value: &[u8]| Key { hash: hash(value), cookie: None };
    match (value(input, request), input) {
        (Some(value), _) => Some(found(&value)),
        (None, HashInput::Cookie { name, path }) => {
            let value = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().to_string();
            let line = format!("{name}={value}; Path={path}; SameSite=Lax; HttpOnly");
            Some(Key { cookie: HeaderValue::try_from(line).ok(), ..found(value.as_bytes()) })
        }
        (None, _) => None,
    }
}

/// Hashes a connection, of which only the client's address is known: what is on anything else has its fallback.
pub(super) fn key_of_client(hashing: &Hashing, client_ip: IpAddr) -> Key {
    let is_ip = matches!(hashing.on, HashInput::Ip) || matches!(hashing.fallback, HashInput::Ip);
    let value = if is_ip { client_ip.to_string() } else { String::new() };
    Key { hash: hash(value.as_bytes()), cookie: None }
}

fn value(input: &HashInput, request: &HashedRequest<'_>) -> Option<Vec<u8>> {
    let cx = request.cx;
    match input {
        HashInput::None => None,
        HashInput::Consumer => {
            let consumer = cx.consumer.as_ref().map(|consumer| consumer.id);
            let id = consumer.or_else(|| cx.credential.as_ref().map(|credential| credential.id));
            id.map(|id| id.to_string().into_bytes())
        }
        HashInput::Ip => Some(cx.client_ip.to_string().into_bytes()),
        HashInput::Header(name) => {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            let values: Vec<&[u8]> = cx.request.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            (!values.is_empty()).then(|| values.join(&b", "[..]))
        }
        HashInput::Cookie { name, .. } => cookie(cx, name).map(|value| value.as_bytes().to_vec()),
        HashInput::Path => Some(request.path.as_bytes().to_vec()),
        HashInput::QueryArg(name) => query_arg(cx.request.uri.query()?, name),
        HashInput::UriCapture(name) => {
            let (router, found) = request.routed?;
            router.uri_captures(&found, request.path).get(name).map(|group| group.as_bytes().to_vec())
        }
    }
}

fn cookie<'a>(cx: &'a Context, name: &str) -> Option<&'a str> {
    let lines = cx.request.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The values of an argument, decoded; several sorted and joined by commas. One without a value is `true`.
fn query_arg(query: &str, name: &str) -> Option<Vec<u8>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut values: Vec<Vec<u8>> = pairs
        .map(|pair| pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value))))
        .filter(|(key, _)| decode(key) == name.as_bytes())
        .map(|(_, value)| value.map_or_else(|| b"true".to_vec(), decode))
        .collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values.join(&b','))
}

/// Percent-decoding, with `+` for a space; what is not an escape stays.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 2;
            }
            (b'+', _, _) => decoded.push(b' '),
            (byte, _, _) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Route, RouteId};
    use crate::router::Ask;
    use model::Now;
    use plugin::{Connection, Consumer, Id, RequestId, Scheme};
    use std::sync::Arc;

    fn context(target: &str, headers: &[(&str, &str)]) -> Context {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = ([10, 0, 0, 9], 4000).into();
        let connection = Arc::new(Connection::new(peer, ([10, 0, 0, 1], 80).into(), Scheme::Http, None, 1));
        Context {
            request: request.body(()).unwrap().into_parts().0,
            body: None,
            client_ip: connection.peer.ip(),
            connection,
            request_number: 1,
            request_id: RequestId::new(1),
            route: None,
            service: None,
            queue: None,
            consumer: None,
            credential: None,
            correlation_id: None,
            response_headers: http1::FieldLines::default(),
            received: Now::default(),
            now: Now::default(),
        }
    }

    fn hashing(on: HashInput, fallback: HashInput) -> Hashing {
        Hashing { on, fallback, slots: 100 }
    }

    fn text(input: HashInput, cx: &Context) -> Option<String> {
        let mut route = Route::new(RouteId(Id::from_bytes([1; 16])));
        route.paths = vec!["~/users/(?<user>[a-z]+)".to_owned()];
        let router = Router::new(&[route], None).unwrap();
        let ask = Ask {
            scheme: Scheme::Http,
            method: &cx.request.method,
            host: "",
            path: cx.request.uri.path(),
            query: cx.request.uri.query(),
            headers: &cx.request.headers,
            sni: None,
            source: cx.connection.peer,
            destination: cx.connection.local,
        };
        let routed = router.route(&ask).map(|found| (&router, found));
        let request = HashedRequest { cx, path: cx.request.uri.path(), routed };
        value(&input, &request).map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn values_of_a_request() {
        let cx = context("/users/ann?a=2&b&a=1&c=%41+b&c%", &[("x-key", "1"), ("x-key", "2"), ("cookie", "s=1; t=2")]);
        let arg = |name: &str| text(HashInput::QueryArg(name.to_owned()), &cx);
        assert_eq!(arg("a").as_deref(), Some("1,2"));
        assert_eq!(arg("b").as_deref(), Some("true"));
        assert_eq!(arg("c").as_deref(), Some("A b"));
        assert_eq!(arg("d"), None);
        assert_eq!(text(HashInput::Header("X-Key".to_owned()), &cx).as_deref(), Some("1, 2"));
        assert_eq!(text(HashInput::Header("x-other".to_owned()), &cx), None);
        assert_eq!(text(HashInput::Path, &cx).as_deref(), Some("/users/ann"));
        assert_eq!(text(HashInput::Ip, &cx).as_deref(), Some("10.0.0.9"));
        assert_eq!(text(HashInput::UriCapture("user".to_owned()), &cx).as_deref(), Some("ann"));
        assert_eq!(text(HashInput::UriCapture("other".to_owned()), &cx), None);
        let of = |name: &str| text(HashInput::Cookie { name: name.to_owned(), path: "/".to_owned() }, &cx);
        assert_eq!((of("t").as_deref(), of("u")), (Some("2"), None));
        assert_eq!(text(HashInput::Consumer, &cx), None);
        let mut cx = cx;
        cx.consumer = Some(Arc::new(Consumer::new(Id::from_bytes([7; 16]), Some("ann"), None)));
        assert!(text(HashInput::Consumer, &cx).is_some());
    }

    #[test]
    fn without_a_value_the_fallback_counts() {
        let cx = context("/", &[]);
        let request = HashedRequest { cx: &cx, path: "/", routed: None };
        let of = |on, fallback| key(&hashing(on, fallback), &request, 1).hash;
        let header = || HashInput::Header("x-key".to_owned());
        assert_eq!(of(header(), HashInput::Ip), of(HashInput::Ip, HashInput::None));
        assert_eq!(of(header(), HashInput::None), hash(b""));
    }

    #[test]
    fn a_cookie_is_made_once() {
        let on = || HashInput::Cookie { name: "sid".to_owned(), path: "/a".to_owned() };
        let cx = context("/", &[]);
        let made = key(&hashing(on(), HashInput::None), &HashedRequest { cx: &cx, path: "/", routed: None }, 5);
        let line = made.cookie.unwrap().to_str().unwrap().to_owned();
        let (pair, rest) = line.split_once(';').unwrap();
        assert_eq!(rest, " Path=/a; SameSite=Lax; HttpOnly");
        let cx = context("/", &[("cookie", pair)]);
        let kept = key(&hashing(on(), HashInput::None), &HashedRequest { cx: &cx, path: "/", routed: None }, 6);
        assert_eq!((kept.hash, kept.cookie), (made.hash, None));
    }
}
