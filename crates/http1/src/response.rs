//! The response head as a client reads it (RFC 9112 §4, §6.3).
//!
//! Framing depends on the request: a response to HEAD and those with 1xx, 204 and 304 have no body whatever their
//! fields say. The fields are checked all the same. The reason phrase is dropped. Fields that are passed on come out as
//! lines: most of them are only written out again, and a map of them is the greater part of a head's cost.

use crate::error::{HeadError, ResponseError};
use crate::framing::{BodyFraming, Decisive, DeclaredLength, Once, Persistence, Role, nominated};
use crate::lines::{LineWatch, lines_end_in_crlf};
use crate::upgrade::Upgrade;
use bytes::{Buf, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, StatusCode, Version};
use model::FieldLines;
use model::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use std::mem::MaybeUninit;

/// Room for the fields a proxy adds.
const LINES_ADDED_BYTES: usize = 384;

/// A response whose framing is decided.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status and version. Of the fields only the length of the body that GET would have (HEAD, 304).
    pub parts: http::response::Parts,
    /// The other fields as received, but those of this connection (RFC 9110 §7.6.1) and those that frame the body.
    pub lines: FieldLines,
    /// Where the body ends.
    pub framing: BodyFraming,
    /// Whether the server keeps the connection.
    pub persistence: Persistence,
}

impl ResponseHead {
    /// Whether another head follows for the same request (1xx but not 101).
    pub fn is_interim(&self) -> bool {
        self.parts.status.is_informational() && !self.switches_protocols()
    }

    /// Whether the connection speaks another protocol behind this head.
    pub fn switches_protocols(&self) -> bool {
        self.parts.status == StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Reads response heads; one a connection.
#[derive(Debug, Default)]
pub struct ResponseParser {
    watch: LineWatch,
    upgrade: Option<Upgrade>,
}

impl ResponseParser {
    /// The protocol that the next request asks for; only that may be switched to.
    pub fn expect(&mut self, upgrade: Option<Upgrade>) {
        self.upgrade = upgrade;
    }

    /// Take one head off the front of `buf`; `None` if it is not complete yet. `method` is that of the request
    /// it answers.
    pub fn parse(&mut self, method: &Method, buf: &mut BytesMut) -> Result<Option<ResponseHead>, ResponseError> {
        let start = buf.len().min("HTTP/".len());
        if buf[..start] != b"HTTP/"[..start] {
            return Err(HeadError::StartLine.into());
        }
        let Some(lines) = self.watch.lines(buf) else {
            return partial(buf);
        };
        let mut fields = [const { MaybeUninit::uninit() }; HTTP_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, lines, &mut fields);
        let head_len = match parsed {
            Ok(httparse::Status::Complete(head_len)) => head_len,
            Ok(httparse::Status::Partial) => return partial(buf),
            Err(error) => return Err(HeadError::from(error).into()),
        };
        let (Some(code), Some(version)) = (response.code, response.version) else {
            return Err(HeadError::StartLine.into());
        };
        if !lines_end_in_crlf(&lines[..head_len], response.headers) {
            return Err(HeadError::LineEnding.into());
        }
        if head_len > HTTP_HEAD_BYTES_MAX {
            return Err(HeadError::TooLarge.into());
        }
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(code).map_err(|_| HeadError::StartLine)?;
        parts.version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let head = frame(method, self.upgrade.as_ref(), parts, response.headers, head_len)?;
        buf.advance(head_len);
        self.watch.reset();
        Ok(Some(head))
    }
}

/// The verdict on bytes that are not a whole head yet.
fn partial<T>(buf: &[u8]) -> Result<Option<T>, ResponseError> {
    if buf.len() > HTTP_HEAD_BYTES_MAX {
        return Err(HeadError::TooLarge.into());
    }
    Ok(None)
}

fn frame(
    method: &Method,
    upgrade: Option<&Upgrade>,
    mut parts: http::response::Parts,
    fields: &[httparse::Header<'_>],
    head_len: usize,
) -> Result<ResponseHead, ResponseError> {
    let raw = || fields.iter().map(|field| (field.name.as_bytes(), field.value));
    let mut decisive = Decisive::default();
    let mut lines = FieldLines::with_capacity(head_len + LINES_ADDED_BYTES);
    for (name, value) in raw() {
        let role = Role::of(name);
        decisive.see(role, value);
        if role.is_passed_on() {
            lines.put_received(name, value);
        }
    }
    let declared = decisive.declared_length(parts.version)?;
    let options = decisive.connection_options(raw())?;
    if options.names_fields {
        let nominated = nominated(raw());
        lines.retain(|name| !nominated.contains(&name.to_ascii_lowercase()));
    }
    let status = parts.status;
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let asked_for = || options.upgrade && upgrade.is_some_and(|upgrade| upgrade.is_answered_by(raw()));
    if (switches && !asked_for()) || (method == Method::CONNECT && status.is_success()) {
        return Err(ResponseError::UnexpectedUpgrade);
    }
    let bodiless = method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let says_length = method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    if says_length && let Once::Value(length) = decisive.length {
        let length = HeaderValue::from_bytes(length).map_err(|_| HeadError::FieldValue)?;
        parts.headers.insert(CONTENT_LENGTH, length);
    }
    let framing = match declared {
        _ if bodiless => BodyFraming::Empty,
        DeclaredLength::Length(0) => BodyFraming::Empty,
        DeclaredLength::Length(length) => BodyFraming::Length(length),
        DeclaredLength::Chunked => BodyFraming::Chunked,
        DeclaredLength::Absent => BodyFraming::UntilClose,
    };
    let persistence = if switches || framing == BodyFraming::UntilClose {
        Persistence::Close
    } else {
        options.persistence(parts.version)
    };
    Ok(ResponseHead { parts, lines, framing, persistence })
}
