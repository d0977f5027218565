//! The fields that frame a message and end a connection (RFC 9112 §6, §9), for both roles.
//!
//! One pass over the header map. What is not in the one form accepted is an error; nothing is repaired.

use crate::error::FramingError;
use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    Empty,
    /// Exactly this many bytes, at least one.
    Length(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked,
    /// Until the peer closes; responses only.
    UntilClose,
}

/// Whether the connection can carry another message after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open.
    KeepAlive,
    /// It is closed after this message.
    Close,
}

/// The length of a body as its fields give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeclaredLength {
    /// Neither field is there.
    Absent,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// What Connection says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionOptions {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
}

/// The length the fields declare, or why they cannot be trusted.
pub(crate) fn declared_length(version: Version, headers: &HeaderMap) -> Result<DeclaredLength, FramingError> {
    let length = match at_most_one(headers, &header::CONTENT_LENGTH) {
        Ok(value) => value,
        Err(Repeated) => return Err(FramingError::DuplicateLength),
    };
    let encoding = match at_most_one(headers, &header::TRANSFER_ENCODING) {
        Ok(value) => value,
        Err(Repeated) => return Err(FramingError::DuplicateEncoding),
    };
    match (length, encoding) {
        (None, None) => Ok(DeclaredLength::Absent),
        (Some(_), Some(_)) => Err(FramingError::LengthAndEncoding),
        (Some(value), None) => content_length(value).map(DeclaredLength::Length),
        (None, Some(_)) if version == Version::HTTP_10 => Err(FramingError::EncodingInHttp10),
        (None, Some(value)) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(DeclaredLength::Chunked),
        (None, Some(_)) => Err(FramingError::UnsupportedEncoding),
    }
}

/// A Content-Length: digits only, at most 2^63 - 1 so that sums of lengths cannot overflow.
pub fn content_length(value: &HeaderValue) -> Result<u64, FramingError> {
    let digits = value.as_bytes();
    if digits.is_empty() || digits.len() > 20 {
        return Err(FramingError::InvalidLength);
    }
    let mut length: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(FramingError::InvalidLength);
        }
        length = length
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')))
            .filter(|n| *n <= i64::MAX as u64)
            .ok_or(FramingError::InvalidLength)?;
    }
    Ok(length)
}

/// The options of Connection; naming a field that frames or routes is refused, because the next hop would
/// remove that field and read another message than we did.
pub(crate) fn connection_options(headers: &HeaderMap) -> Result<ConnectionOptions, FramingError> {
    let mut options = ConnectionOptions::default();
    for value in headers.get_all(header::CONNECTION) {
        for token in tokens(value) {
            match token {
                t if t.eq_ignore_ascii_case(b"close") => options.close = true,
                t if t.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                t if t.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                t if t.eq_ignore_ascii_case(b"content-length")
                    || t.eq_ignore_ascii_case(b"transfer-encoding")
                    || t.eq_ignore_ascii_case(b"host") =>
                {
                    return Err(FramingError::ConnectionNamesFraming);
                }
                _ => {}
            }
        }
    }
    Ok(options)
}

/// Refuse the names lenient peers fold into framing fields (underscore read as hyphen, as CGI does).
pub(crate) fn no_look_alikes(headers: &HeaderMap) -> Result<(), FramingError> {
    if headers.contains_key("content_length") || headers.contains_key("transfer_encoding") {
        return Err(FramingError::LookAlikeField);
    }
    Ok(())
}

impl ConnectionOptions {
    /// Persistence by version and options (RFC 9112 §9.3).
    pub(crate) fn persistence(self, version: Version) -> Persistence {
        let keep = !self.close && (version == Version::HTTP_11 || self.keep_alive);
        if keep { Persistence::KeepAlive } else { Persistence::Close }
    }
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Remove what belongs to one connection: the fields Connection names and the well-known ones (RFC 9110
/// §7.6.1). `TE: trailers` is the caller's to put back.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    headers.remove(header::TE);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    headers.remove(&KEEP_ALIVE);
    headers.remove(&PROXY_CONNECTION);
}

/// The members of a comma-separated list, without the whitespace around them.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// A field that may be there once was there more often.
pub(crate) struct Repeated;

/// The value of a field that may be there once.
pub(crate) fn at_most_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Repeated),
    }
}
