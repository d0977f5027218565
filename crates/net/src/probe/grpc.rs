//! gRPC's health service (`grpc.health.v1.Health/Check`): what is asked, and whether the answer says that a server serves.
//!
//! Asked is for the server as a whole, which has the empty name. A server without that service is not healthy: it says
//! UNIMPLEMENTED, and nobody knows how it is.

use crate::http::Fetched;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, StatusCode, Uri, request};

/// The longest answer there can be, with room for fields to come.
pub(super) const ANSWER_BYTES_MAX: usize = 1_024;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// A message that is not compressed and has no bytes: the request for the server as a whole.
const QUESTION: &[u8] = &[0, 0, 0, 0, 0];
/// The field `status` of the answer, a varint.
const STATUS: u8 = 1 << 3;
const SERVING: u8 = 1;

/// Makes a request ask that; its other headers stay.
pub(super) fn ask(head: &mut request::Parts) -> Bytes {
    head.method = Method::POST;
    head.uri = Uri::from_static("/grpc.health.v1.Health/Check");
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    Bytes::from_static(QUESTION)
}

/// Whether an answer says that the server serves.
pub(super) fn serves(answer: &Fetched) -> bool {
    let said = |headers: &HeaderMap| headers.get(GRPC_STATUS).map(|status| status == "0");
    let is_ok = said(&answer.trailers).or_else(|| said(&answer.head.headers)).unwrap_or(false);
    answer.head.status == StatusCode::OK && is_ok && status(&answer.body) == Some(SERVING)
}

/// The status of a `HealthCheckResponse`; none if it is no such message. One without the field is UNKNOWN.
fn status(body: &[u8]) -> Option<u8> {
    let (prefix, message) = body.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [STATUS, status] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        head: &[(&'static str, &'static str)],
        body: &'static [u8],
        trailers: &[(&'static str, &'static str)],
    ) -> Fetched {
        let map = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
        };
        let mut parts = http::Response::new(()).into_parts().0;
        parts.headers = map(head);
        Fetched { head: parts, body: Bytes::from_static(body), trailers: map(trailers) }
    }

    #[test]
    fn only_a_whole_answer_that_says_so_is_good() {
        let ok = &[("grpc-status", "0")][..];
        assert!(serves(&answer(&[], &[0, 0, 0, 0, 2, 8, 1], ok)));
        for (body, why) in [
            (&[0, 0, 0, 0, 2, 8, 2][..], "NOT_SERVING"),
            (&[0, 0, 0, 0, 0], "UNKNOWN"),
            (&[1, 0, 0, 0, 2, 8, 1], "compressed"),
            (&[0, 0, 0, 0, 3, 8, 1], "cut off"),
            (&[0, 0, 0, 0, 2, 16, 1], "another field"),
            (&[0, 0], "no message"),
            (&[], "nothing"),
        ] {
            assert!(!serves(&answer(&[], body, ok)), "{why}");
        }
        assert!(!serves(&answer(&[], &[0, 0, 0, 0, 2, 8, 1], &[("grpc-status", "2")])));
        assert!(!serves(&answer(&[], &[0, 0, 0, 0, 2, 8, 1], &[])), "no status");
        assert!(!serves(&answer(&[("grpc-status", "12")], &[], &[])), "UNIMPLEMENTED");
        let mut refused = answer(ok, &[0, 0, 0, 0, 2, 8, 1], &[]);
        refused.head.status = StatusCode::SERVICE_UNAVAILABLE;
        assert!(!serves(&refused));
    }
}
