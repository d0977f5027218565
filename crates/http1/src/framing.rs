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

/// A field that may be there once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Once<'a> {
    #[default]
    Absent,
    Value(&'a HeaderValue),
    Repeated,
}

/// The fields that decide where a message ends and what becomes of its connection, found in one pass.
#[derive(Debug, Default)]
pub(crate) struct Decisive<'a> {
    pub(crate) host: Once<'a>,
    pub(crate) expects: bool,
    pub(crate) upgrade: bool,
    length: Once<'a>,
    encoding: Once<'a>,
    connection: bool,
    look_alike: bool,
}

impl<'a> Decisive<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            if name == header::HOST {
                found.host.see(value);
            } else if name == header::CONTENT_LENGTH {
                found.length.see(value);
            } else if name == header::TRANSFER_ENCODING {
                found.encoding.see(value);
            } else if name == header::CONNECTION {
                found.connection = true;
            } else if name == header::EXPECT {
                found.expects = true;
            } else if name == header::UPGRADE {
                found.upgrade = true;
            } else {
                // Lenient peers fold these into framing fields (underscore read as hyphen, as CGI does).
                found.look_alike |= matches!(name.as_str(), "content_length" | "transfer_encoding");
            }
        }
        found
    }

    /// Refuse the names that lenient peers fold into framing fields.
    pub(crate) fn no_look_alikes(&self) -> Result<(), FramingError> {
        if self.look_alike { Err(FramingError::LookAlikeField) } else { Ok(()) }
    }

    /// The length the fields declare, or why they cannot be trusted.
    pub(crate) fn declared_length(&self, version: Version) -> Result<DeclaredLength, FramingError> {
        match (self.length, self.encoding) {
            (Once::Repeated, _) => Err(FramingError::DuplicateLength),
            (_, Once::Repeated) => Err(FramingError::DuplicateEncoding),
            (Once::Absent, Once::Absent) => Ok(DeclaredLength::Absent),
            (Once::Value(_), Once::Value(_)) => Err(FramingError::LengthAndEncoding),
            (Once::Value(value), Once::Absent) => content_length(value).map(DeclaredLength::Length),
            (Once::Absent, Once::Value(_)) if version == Version::HTTP_10 => Err(FramingError::EncodingInHttp10),
            (Once::Absent, Once::Value(value)) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                Ok(DeclaredLength::Chunked)
            }
            (Once::Absent, Once::Value(_)) => Err(FramingError::UnsupportedEncoding),
        }
    }

    /// The options of Connection in these headers.
    pub(crate) fn connection_options(&self, headers: &HeaderMap) -> Result<ConnectionOptions, FramingError> {
        if self.connection { connection_options(headers) } else { Ok(ConnectionOptions::default()) }
    }
}

impl<'a> Once<'a> {
    fn see(&mut self, value: &'a HeaderValue) {
        *self = if matches!(self, Self::Absent) { Self::Value(value) } else { Self::Repeated };
    }
}

/// Checks a head whose framing came by other means, as HTTP/2's does: it must not hold what a reader of HTTP/1.1 could
/// frame it by in another way.
///
/// # Errors
/// A field that resembles a framing field, or a second length.
pub fn check_framed_elsewhere(headers: &HeaderMap) -> Result<(), FramingError> {
    let decisive = Decisive::of(headers);
    decisive.no_look_alikes()?;
    match decisive.length {
        Once::Repeated => Err(FramingError::DuplicateLength),
        Once::Absent | Once::Value(_) => Ok(()),
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
fn connection_options(headers: &HeaderMap) -> Result<ConnectionOptions, FramingError> {
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

impl ConnectionOptions {
    /// Persistence by version and options (RFC 9112 §9.3).
    pub(crate) fn persistence(self, version: Version) -> Persistence {
        let keep = !self.close && (version == Version::HTTP_11 || self.keep_alive);
        if keep { Persistence::KeepAlive } else { Persistence::Close }
    }
}

/// Remove what belongs to one connection: the fields Connection names and the well-known ones (RFC 9110
/// §7.6.1). `TE: trailers` is the caller's to put back. Costs one look at each name if there is nothing to remove.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages that have a Connection name nothing in it that is not removed anyway: then nothing is allocated.
    let connection = headers.get_all(header::CONNECTION).iter();
    let nominated =
        connection.flat_map(tokens).filter(|token| !is_option(token) && !token.eq_ignore_ascii_case(b"host"));
    let nominated: Vec<HeaderName> = nominated.filter_map(|token| HeaderName::from_bytes(token).ok()).collect();
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
    for name in nominated {
        headers.remove(name);
    }
}

/// Options of Connection that name no field, or one that [`is_hop_by_hop`].
fn is_option(token: &[u8]) -> bool {
    [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|option| token.eq_ignore_ascii_case(option))
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    name == header::CONNECTION
        || name == header::TE
        || name == header::TRANSFER_ENCODING
        || name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// The members of a comma-separated list, without the whitespace around them.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
