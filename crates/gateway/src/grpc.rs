//! What the gateway says to gRPC clients by itself: no body, but `grpc-status` and `grpc-message` in the head, with Kong's
//! numbers for each HTTP status.
//!
//! A request is gRPC by its content type. gRPC that is proxied is HTTP/2 with trailers, nothing more.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// gRPC's CANCELLED.
pub(crate) const CANCELLED: u16 = 1;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is gRPC: `application/grpc`, with whatever follows (`+proto`, `;…`).
pub(crate) fn is_grpc(request: &HeaderMap) -> bool {
    request.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// An answer to a gRPC request.
pub(crate) fn response(status: StatusCode, grpc_status: u16, message: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    say(headers, grpc_status, message);
    response
}

/// A plugin's whole answer, made for HTTP: its status and headers stay, its message moves to the head.
pub(crate) fn translated(response: Response<Bytes>) -> Response<Bytes> {
    if response.headers().contains_key(GRPC_STATUS) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let message = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let message = message.as_ref().and_then(|body| body.get("message")?.as_str()).unwrap_or_default();
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    say(&mut head.headers, status_of(head.status), message);
    Response::from_parts(head, Bytes::new())
}

fn say(headers: &mut HeaderMap, grpc_status: u16, message: &str) {
    headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status));
    if let Ok(message) = HeaderValue::try_from(percent_encoded(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// A message as gRPC writes it: printable ASCII but for `%`, the rest encoded.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The gRPC status that stands for an HTTP status.
pub(crate) fn status_of(status: StatusCode) -> u16 {
    match status.as_u16() {
        200..=299 => 0,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        499 => CANCELLED,
        400..=499 => 3,
        501 => 12,
        503 => 14,
        504 => 4,
        500..=599 => 13,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_s_answer_moves_to_the_head() {
        let mut answer = Response::new(Bytes::from_static(b"{\"message\":\"100% d\xc3\xa9j\xc3\xa0\"}"));
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        answer.headers_mut().insert("retry-after", HeaderValue::from_static("3"));
        let answer = translated(answer);
        assert_eq!((answer.status().as_u16(), answer.body().len()), (429, 0));
        let headers = answer.headers();
        assert_eq!((&headers[GRPC_STATUS], &headers["retry-after"]), (&HeaderValue::from(8), &HeaderValue::from(3)));
        assert_eq!(headers[GRPC_MESSAGE], "100%25 d%C3%A9j%C3%A0");
        assert_eq!(headers[CONTENT_LENGTH], "0");
    }

    #[test]
    fn requests_are_grpc_by_their_content_type() {
        let asks =
            |kind: &'static str| is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]));
        assert!(asks("application/grpc") && asks("application/grpc+proto") && asks("application/grpc; x=y"));
        assert!(!asks("application/json") && !is_grpc(&HeaderMap::new()));
    }
}
