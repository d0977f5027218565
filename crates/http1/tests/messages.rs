//! Limits, response framing, and round trips of what the encoders write through what the parsers read.

use bytes::{Buf, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};
use model::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_BYTES_MAX};
use proptest::prelude::*;
use sluicegate_http1::{
    BodyDecoder, BodyError, BodyFraming, BodyStep, FieldLines, FramingError, HeadError, LAST_CHUNK, OutgoingFraming,
    Persistence, RequestError, RequestHead, RequestParser, ResponseError, ResponseHead, ResponseParser, Upgrade,
    encode_chunk_head, encode_request_head, encode_response_head, encode_trailers, strip_hop_by_hop,
};

fn request(raw: &[u8]) -> Result<Option<RequestHead>, RequestError> {
    RequestParser::default().parse(&mut BytesMut::from(raw))
}

fn response(method: &Method, raw: &[u8]) -> Result<Option<ResponseHead>, ResponseError> {
    ResponseParser::default().parse(method, &mut BytesMut::from(raw))
}

#[test]
fn a_head_framed_elsewhere_has_no_second_framing() {
    use sluicegate_http1::framing::check_framed_elsewhere;
    let of = |pairs: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        check_framed_elsewhere(&headers)
    };
    assert_eq!(of(&[("content-length", "5"), ("x", "y")]), Ok(()));
    assert_eq!(of(&[("content-length", "5"), ("content-length", "5")]), Err(FramingError::DuplicateLength));
    assert_eq!(of(&[("content_length", "5")]), Err(FramingError::LookAlikeField));
    assert_eq!(of(&[("transfer_encoding", "chunked")]), Err(FramingError::LookAlikeField));
}

fn decode(framing: BodyFraming, raw: &[u8], bytes_max: u64) -> Result<Vec<u8>, BodyError> {
    let mut input = BytesMut::from(raw);
    let mut decoder = BodyDecoder::new(framing, bytes_max);
    let mut body = Vec::new();
    loop {
        match decoder.decode(&mut input)? {
            BodyStep::Data(n_bytes) => {
                body.extend_from_slice(&input[..n_bytes]);
                input.advance(n_bytes);
            }
            BodyStep::NeedInput => {
                decoder.close()?;
                return Ok(body);
            }
            BodyStep::End => return Ok(body),
        }
    }
}

#[test]
fn target_one_byte_over_the_limit_is_414() {
    let at_limit = "/".repeat(HTTP_TARGET_BYTES_MAX);
    let head = request(format!("GET {at_limit} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    assert!(matches!(head, Ok(Some(_))));
    for raw in [
        format!("GET /{at_limit} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /{at_limit} HTTP/1.1\r\n"),
        format!("GET /{at_limit}{at_limit}"),
    ] {
        assert_eq!(request(raw.as_bytes()).unwrap_err(), RequestError::TargetTooLong);
    }
}

#[test]
fn head_over_the_limit_is_431_complete_or_not() {
    let filler = "y".repeat(HTTP_HEAD_BYTES_MAX);
    for end in ["", "\r\n\r\n"] {
        let raw = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {filler}{end}");
        let error = request(raw.as_bytes()).unwrap_err();
        assert_eq!(error, RequestError::Head(HeadError::TooLarge));
        assert_eq!(error.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
}

#[test]
fn one_field_over_the_limit_is_431() {
    let fields = |n_fields: usize| "X: y\r\n".repeat(n_fields - 1);
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(HTTP_HEADERS_MAX));
    assert!(matches!(request(raw.as_bytes()), Ok(Some(_))));
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(HTTP_HEADERS_MAX + 1));
    let error = request(raw.as_bytes()).unwrap_err();
    assert_eq!(error.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[test]
fn http2_preface_is_named() {
    let error = request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_err();
    assert_eq!(error, RequestError::Http2Preface);
}

#[test]
fn persistence_follows_version_and_connection() {
    for (raw, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Persistence::KeepAlive),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", Persistence::Close),
        ("GET / HTTP/1.0\r\n\r\n", Persistence::Close),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Persistence::KeepAlive),
    ] {
        let head = request(raw.as_bytes()).unwrap().unwrap();
        assert_eq!(head.persistence, expected, "{raw:?}");
    }
}

#[test]
fn expect_and_upgrade_are_reported() {
    let raw = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n";
    assert!(request(raw).unwrap().unwrap().expect_continue);
    let raw = b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n";
    assert!(!request(raw).unwrap().unwrap().expect_continue, "there is no body to wait for");
    let raw = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    assert!(request(raw).unwrap().unwrap().upgrade);
}

#[test]
fn response_framing_follows_request_and_status() {
    let cases: &[(Method, &str, BodyFraming, Persistence)] = &[
        (Method::GET, "200 OK\r\nContent-Length: 3", BodyFraming::Length(3), Persistence::KeepAlive),
        (Method::GET, "200 OK\r\nContent-Length: 0", BodyFraming::Empty, Persistence::KeepAlive),
        (Method::GET, "200\r\nTransfer-Encoding: chunked", BodyFraming::Chunked, Persistence::KeepAlive),
        (Method::GET, "200 OK\r\nX: y", BodyFraming::UntilClose, Persistence::Close),
        (Method::HEAD, "200 OK\r\nContent-Length: 3", BodyFraming::Empty, Persistence::KeepAlive),
        (Method::HEAD, "200 OK\r\nTransfer-Encoding: chunked", BodyFraming::Empty, Persistence::KeepAlive),
        (Method::GET, "304 Not Modified\r\nContent-Length: 3", BodyFraming::Empty, Persistence::KeepAlive),
        (Method::GET, "204 No Content\r\nConnection: close", BodyFraming::Empty, Persistence::Close),
        (Method::GET, "100 Continue\r\nX: y", BodyFraming::Empty, Persistence::KeepAlive),
    ];
    for (method, rest, framing, persistence) in cases {
        let raw = format!("HTTP/1.1 {rest}\r\n\r\n");
        let head = response(method, raw.as_bytes()).unwrap().unwrap();
        assert_eq!((head.framing, head.persistence), (*framing, *persistence), "{method} {rest}");
    }
}

#[test]
fn an_upgrade_is_asked_for_in_the_connection_field_too() {
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
    let encode = |status, persistence| {
        let mut wire = BytesMut::new();
        let framing = OutgoingFraming::Length(0);
        encode_response_head(
            Version::HTTP_11,
            status,
            &headers,
            &FieldLines::default(),
            framing,
            persistence,
            &mut wire,
        );
        String::from_utf8(wire.to_vec()).unwrap()
    };
    let kept = encode(StatusCode::UPGRADE_REQUIRED, Persistence::KeepAlive);
    assert!(kept.contains("\r\nconnection: upgrade\r\n"), "{kept}");
    let closed = encode(StatusCode::UPGRADE_REQUIRED, Persistence::Close);
    assert!(closed.contains("\r\nconnection: close\r\nconnection: upgrade\r\n"), "{closed}");
    let other = encode(StatusCode::OK, Persistence::KeepAlive);
    assert!(!other.contains("connection:"), "{other}");
}

#[test]
fn ambiguous_responses_are_refused() {
    let framing = |error| ResponseError::Framing(error);
    let head = |error| ResponseError::Head(error);
    let cases: &[(&str, ResponseError)] = &[
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            framing(FramingError::LengthAndEncoding),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", framing(FramingError::DuplicateLength)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n", framing(FramingError::InvalidLength)),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", framing(FramingError::InvalidLength)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", framing(FramingError::UnsupportedEncoding)),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            framing(FramingError::DuplicateEncoding),
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", framing(FramingError::EncodingInHttp10)),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", head(HeadError::FieldName)),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", head(HeadError::FieldName)),
        ("HTTP/1.1 200 OK\nX: y\n\n", head(HeadError::LineEnding)),
        ("HTTP/1.1 20 OK\r\n\r\n", head(HeadError::StartLine)),
        ("HTTP/1.1 099 OK\r\n\r\n", head(HeadError::StartLine)),
        ("HTTP/2.0 200 OK\r\n\r\n", head(HeadError::Version)),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", head(HeadError::StartLine)),
        ("SSH-2.0-OpenSSH_9\r\n", head(HeadError::StartLine)),
        ("garbage without a line", head(HeadError::StartLine)),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", ResponseError::UnexpectedUpgrade),
    ];
    for (raw, expected) in cases {
        let error = response(&Method::GET, raw.as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!(error, *expected, "{raw:?}");
    }
}

#[test]
fn a_switch_of_protocols_must_be_the_one_asked_for() {
    let answer = |asked: Option<Upgrade>, fields: &str| {
        let mut parser = ResponseParser::default();
        parser.expect(asked);
        let raw = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\nbytes");
        let mut wire = BytesMut::from(raw.as_bytes());
        let head = parser.parse(&Method::GET, &mut wire)?.unwrap();
        assert_eq!(
            (head.framing, head.persistence, &wire[..]),
            (BodyFraming::Empty, Persistence::Close, &b"bytes"[..])
        );
        Ok(head.switches_protocols() && !head.is_interim())
    };
    let asked = || Some(Upgrade::websocket());
    assert_eq!(answer(asked(), "Connection: Upgrade\r\nUpgrade: WebSocket"), Ok(true));
    assert_eq!(answer(asked(), "Connection: keep-alive, upgrade\r\nUpgrade: websocket"), Ok(true));
    for (asked, fields) in [
        (None, "Connection: Upgrade\r\nUpgrade: websocket"),
        (asked(), "Upgrade: websocket"),
        (asked(), "Connection: Upgrade"),
        (asked(), "Connection: Upgrade\r\nUpgrade: h2c"),
        (asked(), "Connection: Upgrade\r\nUpgrade: websocket, h2c"),
    ] {
        assert_eq!(answer(asked, fields), Err(ResponseError::UnexpectedUpgrade), "{fields}");
    }
}

#[test]
fn chunk_extensions_are_bounded_over_the_whole_body() {
    let extension = "x".repeat(1000);
    let chunk = format!("1;{extension}\r\na\r\n");
    let body = decode(BodyFraming::Chunked, format!("{}0\r\n\r\n", chunk.repeat(4)).as_bytes(), 9);
    assert_eq!(body.unwrap(), b"aaaa");
    let body = decode(BodyFraming::Chunked, format!("{}0\r\n\r\n", chunk.repeat(5)).as_bytes(), 9);
    assert_eq!(body.unwrap_err(), BodyError::ChunkExtensionsTooLarge);
}

#[test]
fn trailers_are_bounded() {
    let raw = format!("0\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    let error = decode(BodyFraming::Chunked, raw.as_bytes(), 9).unwrap_err();
    assert_eq!(error, BodyError::TrailersTooLarge);
    let raw = format!("0\r\n{}\r\n", "X: y\r\n".repeat(HTTP_HEADERS_MAX + 1));
    let error = decode(BodyFraming::Chunked, raw.as_bytes(), 9).unwrap_err();
    assert_eq!(error, BodyError::TrailersTooLarge);
}

#[test]
fn body_beyond_the_limit_is_413() {
    for (framing, raw) in [
        (BodyFraming::Length(4), &b"abcd"[..]),
        (BodyFraming::Chunked, b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"),
        (BodyFraming::UntilClose, b"abcd"),
    ] {
        let error = decode(framing, raw, 3).unwrap_err();
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(decode(framing, raw, 4).unwrap(), b"abcd");
    }
}

#[test]
fn early_close_is_incomplete() {
    for (framing, raw) in [
        (BodyFraming::Length(4), &b"abc"[..]),
        (BodyFraming::Chunked, b"3\r\nabc\r\n0\r\n"),
        (BodyFraming::Chunked, b"3\r\nab"),
    ] {
        assert_eq!(decode(framing, raw, 9).unwrap_err(), BodyError::Incomplete);
    }
}

#[test]
fn hop_by_hop_fields_and_those_named_are_removed() {
    let raw = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Mine, close\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\nX-Other: 2\r\n\r\n";
    let mut headers = request(raw).unwrap().unwrap().parts.headers;
    strip_hop_by_hop(&mut headers);
    let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["host", "x-other"]);
}

#[test]
fn of_a_response_only_what_is_passed_on_becomes_a_line() {
    let raw = b"HTTP/1.1 200 OK\r\nServer: a\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nContent-Length: 3\r\n\
        Upgrade: h2c\r\nProxy-Connection: x\r\nx-MINE: 2\r\nX-Other:  y \r\n\r\n";
    let head = response(&Method::GET, raw).unwrap().unwrap();
    assert_eq!(head.lines.as_bytes(), b"Server: a\r\nX-Other: y\r\n");
    assert_eq!((head.framing, head.parts.headers.len()), (BodyFraming::Length(3), 0));
    // There the length says what GET would have been answered with.
    let head = response(&Method::HEAD, raw).unwrap().unwrap();
    assert_eq!(
        (head.framing, &head.parts.headers["content-length"]),
        (BodyFraming::Empty, &HeaderValue::from_static("3"))
    );
    let head = response(&Method::GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.framing, head.parts.headers.len()), (BodyFraming::Empty, 0), "204 has no length to say");
}

#[test]
fn framing_fields_of_a_map_are_never_written() {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("a"));
    headers.insert("content-length", HeaderValue::from_static("7"));
    headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    let mut dst = BytesMut::new();
    let uri = Uri::from_static("/a?b");
    let (method, keep) = (Method::POST, Persistence::KeepAlive);
    encode_request_head(&method, &uri, &headers, &FieldLines::default(), OutgoingFraming::Length(3), keep, &mut dst);
    assert_eq!(&dst[..], b"POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n");
}

fn field_name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z0-9!#$%&'*+.^_`|~-]{0,20}".prop_map(|name| name.parse().expect("a token"))
}

fn field_value() -> impl Strategy<Value = HeaderValue> {
    proptest::collection::vec(prop_oneof![0x21u8..0x7f, 0x80u8..=0xff], 0..40)
        .prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("visible bytes"))
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    proptest::collection::vec((field_name(), field_value()), 0..20).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    })
}

fn framing() -> impl Strategy<Value = (OutgoingFraming, BodyFraming)> {
    prop_oneof![
        Just((OutgoingFraming::Unmarked, BodyFraming::Empty)),
        Just((OutgoingFraming::Length(0), BodyFraming::Empty)),
        (1..=i64::MAX as u64).prop_map(|n| (OutgoingFraming::Length(n), BodyFraming::Length(n))),
        Just((OutgoingFraming::Chunked, BodyFraming::Chunked)),
    ]
}

fn close_or_keep() -> impl Strategy<Value = Persistence> {
    prop_oneof![Just(Persistence::KeepAlive), Just(Persistence::Close)]
}

proptest! {
    #[test]
    fn request_heads_round_trip(
        method in "[A-Z]{1,20}", path in "/[a-zA-Z0-9/._~%&=?-]{0,60}", mut headers in fields(),
        (outgoing, expected) in framing(), persistence in close_or_keep(), cut in 0usize..400,
    ) {
        prop_assume!(method != "TRACE" && method != "CONNECT");
        let method: Method = method.parse().unwrap();
        let uri: Uri = path.parse().unwrap();
        headers.insert("host", HeaderValue::from_static("a.example:80"));
        let mut wire = BytesMut::new();
        encode_request_head(&method, &uri, &headers, &FieldLines::default(), outgoing, persistence, &mut wire);

        let mut parser = RequestParser::default();
        let rest = wire.split_off(cut.min(wire.len()));
        let early = parser.parse(&mut wire).unwrap();
        prop_assert!(early.is_none() || rest.is_empty());
        wire.unsplit(rest);
        let head = match early {
            Some(head) => head,
            None => parser.parse(&mut wire).unwrap().unwrap(),
        };
        prop_assert_eq!(head.parts.method, method);
        prop_assert_eq!(head.parts.uri, uri);
        prop_assert_eq!(head.framing, expected);
        prop_assert_eq!(head.persistence, persistence);
        for (name, _) in &headers {
            let sent: Vec<_> = headers.get_all(name).iter().collect();
            let read: Vec<_> = head.parts.headers.get_all(name).iter().collect();
            prop_assert_eq!(sent, read);
        }
    }

    #[test]
    fn response_heads_round_trip(
        code in 200u16..600, headers in fields(), persistence in close_or_keep(), length in 1..i64::MAX as u64,
    ) {
        let status = StatusCode::from_u16(code).unwrap();
        let mut wire = BytesMut::new();
        let framing = OutgoingFraming::Length(length);
        encode_response_head(Version::HTTP_11, status, &headers, &FieldLines::default(), framing, persistence, &mut wire);
        let head = ResponseParser::default().parse(&Method::GET, &mut wire).unwrap().unwrap();
        prop_assert_eq!(head.parts.status, status);
        prop_assert_eq!(head.persistence, persistence);
        let expected = if code == 204 || code == 304 { BodyFraming::Empty } else { BodyFraming::Length(length) };
        prop_assert_eq!(head.framing, expected);
        let mut received = HeaderMap::new();
        head.lines.append_to(&mut received);
        for (name, _) in &headers {
            let sent: Vec<_> = headers.get_all(name).iter().collect();
            let read: Vec<_> = received.get_all(name).iter().collect();
            prop_assert_eq!(sent, read);
        }
    }

    #[test]
    fn chunked_bodies_round_trip(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..10),
        trailers in fields(), segment in 1usize..50,
    ) {
        let mut wire = BytesMut::new();
        for chunk in &chunks {
            encode_chunk_head(chunk.len(), &mut wire);
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        if trailers.is_empty() {
            wire.extend_from_slice(LAST_CHUNK);
        } else {
            encode_trailers(&trailers, &mut wire);
        }
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked, u64::MAX);
        let (mut body, mut input) = (Vec::new(), BytesMut::new());
        loop {
            match decoder.decode(&mut input).unwrap() {
                BodyStep::Data(n_bytes) => {
                    body.extend_from_slice(&input[..n_bytes]);
                    input.advance(n_bytes);
                }
                BodyStep::NeedInput => {
                    prop_assert!(!wire.is_empty());
                    input.extend_from_slice(&wire.split_to(segment.min(wire.len())));
                }
                BodyStep::End => break,
            }
        }
        prop_assert_eq!(body, chunks.concat());
        let read = decoder.take_trailers().unwrap_or_default();
        prop_assert_eq!(read.len(), trailers.len());
        prop_assert!(wire.is_empty() && input.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = request(&raw);
        let _ = response(&Method::GET, &raw);
        let _ = decode(BodyFraming::Chunked, &raw, 1000);
    }
}
