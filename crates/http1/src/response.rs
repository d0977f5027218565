//! The response head as a client reads it (RFC 9112 §4, §6.3).
//!
//! Framing depends on the request: a response to HEAD and those with 1xx, 204 and 304 have no body whatever their
//! fields say. The fields are checked all the same. The reason phrase is dropped.

use crate::error::{HeadError, ResponseError};
use crate::framing::{BodyFraming, Decisive, DeclaredLength, Persistence};
use crate::lines::{LineWatch, header_map, lines_end_in_crlf};
use crate::upgrade::Upgrade;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use model::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use std::mem::MaybeUninit;

/// A response whose framing is decided.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, version and fields as received.
    pub parts: http::response::Parts,
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
        let head = &lines[..head_len];
        let headers = header_map(head, response.headers, &Bytes::copy_from_slice(head))?;
        buf.advance(head_len);
        self.watch.reset();

        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(code).map_err(|_| HeadError::StartLine)?;
        parts.version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        parts.headers = headers;
        frame(method, self.upgrade.as_ref(), parts).map(Some)
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
    parts: http::response::Parts,
) -> Result<ResponseHead, ResponseError> {
    let decisive = Decisive::of(&parts.headers);
    let declared = decisive.declared_length(parts.version)?;
    let options = decisive.connection_options(&parts.headers)?;
    let status = parts.status;
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let asked_for = || options.upgrade && upgrade.is_some_and(|upgrade| upgrade.is_answered_by(&parts.headers));
    if (switches && !asked_for()) || (method == Method::CONNECT && status.is_success()) {
        return Err(ResponseError::UnexpectedUpgrade);
    }
    let bodiless = method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
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
    Ok(ResponseHead { parts, framing, persistence })
}
