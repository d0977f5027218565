//! The request head as a server reads it (RFC 9112 §3, §5, §6).
//!
//! The parser takes a whole head off the front of the caller's buffer or nothing. The target comes out in
//! origin form (`*` for OPTIONS): an absolute target must name the same host as Host and is reduced to its path.
//! CONNECT and TRACE are refused. It does not decode or normalise the path.

use crate::error::{HeadError, RequestError};
use crate::framing::{BodyFraming, Decisive, DeclaredLength, Once, Persistence, raw_fields, tokens};
use crate::lines::{LineWatch, header_map, lines_end_in_crlf, span};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version};
use model::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_METHOD_BYTES_MAX, HTTP_TARGET_BYTES_MAX};
use std::mem::MaybeUninit;

/// A request whose framing is decided.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target in origin form, version and fields as received.
    pub parts: http::request::Parts,
    /// Where the body ends.
    pub framing: BodyFraming,
    /// Whether the client keeps the connection for another request.
    pub persistence: Persistence,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Whether the client asks for another protocol, named by the Upgrade field.
    pub upgrade: bool,
}

/// Reads request heads; one a connection.
#[derive(Debug, Default)]
pub struct RequestParser {
    watch: LineWatch,
}

impl RequestParser {
    /// Take one head off the front of `buf`; `None` if it is not complete yet. After an error the connection
    /// is lost.
    pub fn parse(&mut self, buf: &mut BytesMut) -> Result<Option<RequestHead>, RequestError> {
        let Some(lines) = self.watch.lines(buf) else {
            return partial(buf, None);
        };
        let skipped = skip_empty_line(lines)?;
        let Some((head_len, head)) = read(&lines[skipped..])? else {
            return partial(buf, None);
        };
        self.watch.reset();
        buf.advance(skipped + head_len);
        Ok(Some(head))
    }
}

/// One empty line before the head is ignored (RFC 9112 §2.2).
fn skip_empty_line(buf: &[u8]) -> Result<usize, RequestError> {
    let skipped = if buf.starts_with(b"\r\n") { 2 } else { 0 };
    match buf.get(skipped) {
        Some(b'\r' | b'\n') => Err(HeadError::LineEnding.into()),
        _ => Ok(skipped),
    }
}

/// The verdict on bytes that are not a whole head yet.
fn partial<T>(buf: &[u8], target: Option<&str>) -> Result<Option<T>, RequestError> {
    let line = HTTP_METHOD_BYTES_MAX + HTTP_TARGET_BYTES_MAX + " HTTP/1.1 \r\n".len();
    let line_too_long = target.is_none() && buf.len() > line && !buf[..line].contains(&b'\n');
    if line_too_long || target.is_some_and(|target| target.len() > HTTP_TARGET_BYTES_MAX) {
        return Err(RequestError::TargetTooLong);
    }
    if buf.len() > HTTP_HEAD_BYTES_MAX {
        return Err(HeadError::TooLarge.into());
    }
    match buf.first() {
        // A TLS hello or other binary on a plain port is answered at once.
        Some(byte) if !byte.is_ascii_graphic() && *byte != b'\r' => Err(HeadError::StartLine.into()),
        _ => Ok(None),
    }
}

/// The head at the front of `buf` and its length.
fn read(buf: &[u8]) -> Result<Option<(usize, RequestHead)>, RequestError> {
    let mut fields = [const { MaybeUninit::uninit() }; HTTP_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let head_len = match request.parse_with_uninit_headers(buf, &mut fields) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) => return partial(buf, request.path),
        Err(httparse::Error::Version) if buf.starts_with(b"PRI * HTTP/2.0\r\n") => {
            return Err(RequestError::Http2Preface);
        }
        Err(error) => return Err(HeadError::from(error).into()),
    };
    let head = &buf[..head_len];
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(HeadError::StartLine.into());
    };
    if !lines_end_in_crlf(head, request.headers) {
        return Err(HeadError::LineEnding.into());
    }
    if target.len() > HTTP_TARGET_BYTES_MAX {
        return Err(RequestError::TargetTooLong);
    }
    if head_len > HTTP_HEAD_BYTES_MAX {
        return Err(HeadError::TooLarge.into());
    }
    if method.len() > HTTP_METHOD_BYTES_MAX {
        return Err(RequestError::Method);
    }
    let copy = Bytes::copy_from_slice(head);
    let headers = header_map(head, request.headers, &copy)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| RequestError::Method)?;
    let (start, end) = span(head, target.as_bytes());
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let head = assemble(method, copy.slice(start..end), version, headers)?;
    Ok(Some((head_len, head)))
}

fn assemble(method: Method, target: Bytes, version: Version, headers: HeaderMap) -> Result<RequestHead, RequestError> {
    let decisive = Decisive::of(raw_fields(&headers));
    decisive.no_look_alikes()?;
    let uri = request_target(&method, target, host(version, decisive.host)?)?;
    let framing = match decisive.declared_length(version)? {
        DeclaredLength::Absent | DeclaredLength::Length(0) => BodyFraming::Empty,
        DeclaredLength::Length(length) => BodyFraming::Length(length),
        DeclaredLength::Chunked => BodyFraming::Chunked,
    };
    let options = decisive.connection_options(raw_fields(&headers))?;
    let expect_continue = decisive.expects && expect_continue(version, &headers)?;
    let upgrade = options.upgrade && decisive.upgrade;

    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.version = version;
    parts.headers = headers;
    Ok(RequestHead {
        parts,
        framing,
        persistence: options.persistence(version),
        expect_continue: expect_continue && framing != BodyFraming::Empty,
        upgrade,
    })
}

/// The one Host, which HTTP/1.0 may leave out.
fn host(version: Version, host: Once<'_>) -> Result<Option<&[u8]>, RequestError> {
    match host {
        Once::Repeated => Err(RequestError::DuplicateHost),
        Once::Absent if version == Version::HTTP_10 => Ok(None),
        Once::Absent => Err(RequestError::MissingHost),
        Once::Value(value) if is_host(value) => Ok(Some(value)),
        Once::Value(_) => Err(RequestError::InvalidHost),
    }
}

/// `name[:port]`, where name is a DNS name, an IPv4 address or a bracketed IPv6 address. Of RFC 3986's reg-name
/// only the unreserved characters are taken: a comma or an `@` in Host is an attack, not a name.
pub fn is_host(value: &[u8]) -> bool {
    let (name_ok, port) = if value.first() == Some(&b'[') {
        let Some(end) = value.iter().position(|b| *b == b']') else {
            return false;
        };
        let inside = &value[1..end];
        let address = std::str::from_utf8(inside).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        (address, &value[end + 1..])
    } else {
        let end = value.iter().position(|b| *b == b':').unwrap_or(value.len());
        let name = &value[..end];
        let ok = !name.is_empty()
            && name.len() <= 255
            && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
        (ok, &value[end..])
    };
    name_ok && (port.is_empty() || is_port(port))
}

/// `:` and a port of 1 to 65535.
fn is_port(port: &[u8]) -> bool {
    port.len() > 1
        && port.len() <= 6
        && port[1..].iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(&port[1..])
            .ok()
            .and_then(|digits| digits.parse::<u16>().ok())
            .is_some_and(|port| port != 0)
        && port[0] == b':'
}

/// The target in origin form (RFC 9112 §3.2).
fn request_target(method: &Method, target: Bytes, host: Option<&[u8]>) -> Result<Uri, RequestError> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(RequestError::MethodNotAllowed);
    }
    // httparse lets no space or control character through but DEL; `#` would silently end the path.
    if target.iter().any(|b| matches!(b, 0x7f | b'#')) {
        return Err(RequestError::Target);
    }
    if target.first() == Some(&b'/') {
        return origin_form(target);
    }
    if &target[..] == b"*" {
        return if method == Method::OPTIONS { Ok(Uri::from_static("*")) } else { Err(RequestError::Target) };
    }
    let rest = [&b"http://"[..], &b"https://"[..]]
        .iter()
        .find(|scheme| target.len() >= scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme))
        .map(|scheme| target.slice(scheme.len()..))
        .ok_or(RequestError::Target)?;
    absolute_form(method, rest, host)
}

/// What follows the scheme of an absolute target: an authority that must equal Host, then the path.
fn absolute_form(method: &Method, rest: Bytes, host: Option<&[u8]>) -> Result<Uri, RequestError> {
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let authority = &rest[..end];
    if !is_host(authority) {
        return Err(RequestError::Target);
    }
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
        return Err(RequestError::HostMismatch);
    }
    match rest.get(end) {
        None if method == Method::OPTIONS => Ok(Uri::from_static("*")),
        None => Ok(Uri::from_static("/")),
        Some(b'/') => origin_form(rest.slice(end..)),
        Some(_) => {
            let mut path = BytesMut::with_capacity(rest.len() - end + 1);
            path.extend_from_slice(b"/");
            path.extend_from_slice(&rest[end..]);
            origin_form(path.freeze())
        }
    }
}

fn origin_form(path: Bytes) -> Result<Uri, RequestError> {
    let path = PathAndQuery::from_maybe_shared(path).map_err(|_| RequestError::Target)?;
    Ok(Uri::from(path))
}

fn expect_continue(version: Version, headers: &HeaderMap) -> Result<bool, RequestError> {
    if version == Version::HTTP_10 {
        return Ok(false);
    }
    let mut expected = false;
    for value in headers.get_all(header::EXPECT) {
        for token in tokens(value.as_bytes()) {
            if !token.eq_ignore_ascii_case(b"100-continue") {
                return Err(RequestError::Expectation);
            }
            expected = true;
        }
    }
    Ok(expected)
}
