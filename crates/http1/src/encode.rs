//! Heads, chunks and trailers on the way out (RFC 9112 §3, §4, §7.1).
//!
//! Invariants: Content-Length, Transfer-Encoding and the connection's fields are written from the arguments and
//! never from the header map, so a forwarded field cannot frame the message we send. Who sends Upgrade names it in
//! Connection (RFC 9110 §7.8), which is done for an Upgrade in the map of a request, a 101 or a 426. A head is
//! written in one piece into the caller's buffer, without formatting machinery.

use crate::framing::Persistence;
use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::Uri;
use http::{Method, StatusCode, Version};
use model::field_lines::{FieldLines, decimal};

/// How the message we send is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutgoingFraming {
    /// No field: no body, or one that ends by closing.
    Unmarked,
    /// `content-length`.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// What ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Write a request head. The target is the path and query of `uri` (`*` stays), and `host` is taken from
/// `headers`, where the caller has put it. `lines` follow the headers.
pub fn encode_request_head(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    lines: &FieldLines,
    framing: OutgoingFraming,
    persistence: Persistence,
    dst: &mut BytesMut,
) {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    dst.reserve(method.as_str().len() + target.len() + 64 + 48 * headers.len() + lines.as_bytes().len());
    dst.put_slice(method.as_str().as_bytes());
    dst.put_u8(b' ');
    if target.starts_with('?') {
        dst.put_u8(b'/');
    }
    dst.put_slice(target.as_bytes());
    dst.put_slice(b" HTTP/1.1\r\n");
    let upgrade = put_fields(headers, dst);
    dst.extend_from_slice(lines.as_bytes());
    put_framing(framing, dst);
    if persistence == Persistence::Close {
        dst.put_slice(b"connection: close\r\n");
    }
    if upgrade {
        dst.put_slice(b"connection: upgrade\r\n");
    }
    dst.put_slice(b"\r\n");
}

/// Write a response head. `peer` is the version of the request: an HTTP/1.0 client is told when the
/// connection stays, any other when it closes. The head itself is always HTTP/1.1 (RFC 9112 §2.3). `lines` follow
/// the headers.
pub fn encode_response_head(
    peer: Version,
    status: StatusCode,
    headers: &HeaderMap,
    lines: &FieldLines,
    framing: OutgoingFraming,
    persistence: Persistence,
    dst: &mut BytesMut,
) {
    dst.reserve(96 + 48 * headers.len() + lines.as_bytes().len());
    if status == StatusCode::OK {
        dst.put_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        dst.put_slice(b"HTTP/1.1 ");
        dst.put_slice(status.as_str().as_bytes());
        dst.put_u8(b' ');
        dst.put_slice(status.canonical_reason().unwrap_or("").as_bytes());
        dst.put_slice(b"\r\n");
    }
    let upgrade = put_fields(headers, dst);
    dst.extend_from_slice(lines.as_bytes());
    put_framing(framing, dst);
    match persistence {
        Persistence::Close => dst.put_slice(b"connection: close\r\n"),
        Persistence::KeepAlive if peer == Version::HTTP_10 => {
            dst.put_slice(b"connection: keep-alive\r\n");
        }
        Persistence::KeepAlive => {}
    }
    let may_upgrade = matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    if upgrade && may_upgrade {
        dst.put_slice(b"connection: upgrade\r\n");
    }
    dst.put_slice(b"\r\n");
}

/// Write the line before `n_bytes` of chunk data; CR LF follows the data. `n_bytes` must not be 0, which would end
/// the body.
pub fn encode_chunk_head(n_bytes: usize, dst: &mut BytesMut) {
    debug_assert!(n_bytes > 0, "an empty chunk ends the body");
    let n_digits = (usize::BITS - n_bytes.leading_zeros()).div_ceil(4);
    for digit in (0..n_digits).rev() {
        let nibble = (n_bytes >> (4 * digit)) & 0xf;
        dst.put_u8(b"0123456789abcdef"[nibble]);
    }
    dst.put_slice(b"\r\n");
}

/// Write the last chunk with trailers. Fields forbidden in trailers are left out.
pub fn encode_trailers(trailers: &HeaderMap, dst: &mut BytesMut) {
    dst.put_slice(b"0\r\n");
    for (name, value) in trailers {
        if !crate::body::is_forbidden_trailer(name) {
            put_field(name, value.as_bytes(), dst);
        }
    }
    dst.put_slice(b"\r\n");
}

/// Write the fields; whether Upgrade is one of them.
fn put_fields(headers: &HeaderMap, dst: &mut BytesMut) -> bool {
    let mut upgrade = false;
    for (name, value) in headers {
        if !is_ours(name) {
            put_field(name, value.as_bytes(), dst);
            upgrade |= name == header::UPGRADE;
        }
    }
    upgrade
}

/// The fields this module writes itself.
fn is_ours(name: &HeaderName) -> bool {
    name == header::CONTENT_LENGTH
        || name == header::TRANSFER_ENCODING
        || name == header::CONNECTION
        || name.as_str() == "keep-alive"
}

fn put_field(name: &HeaderName, value: &[u8], dst: &mut BytesMut) {
    let name = name.as_str().as_bytes();
    dst.reserve(name.len() + value.len() + 4);
    dst.put_slice(name);
    dst.put_slice(b": ");
    dst.put_slice(value);
    dst.put_slice(b"\r\n");
}

fn put_framing(framing: OutgoingFraming, dst: &mut BytesMut) {
    match framing {
        OutgoingFraming::Unmarked => {}
        OutgoingFraming::Chunked => dst.put_slice(b"transfer-encoding: chunked\r\n"),
        OutgoingFraming::Length(length) => {
            dst.put_slice(b"content-length: ");
            let (digits, start) = decimal(length);
            dst.put_slice(&digits[start..]);
            dst.put_slice(b"\r\n");
        }
    }
}
