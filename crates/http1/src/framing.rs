//! The fields that frame a message and end a connection (RFC 9112 §6, §9), for both roles.
//!
//! One pass over the fields, as they stand on the wire or in a header map. What is not in the one form accepted is an
//! error; nothing is repaired.

use crate::error::FramingError;
use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use model::field_lines::NameLengths;
use std::collections::HashSet;

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
    /// Fields that are not to be passed on.
    pub(crate) names_fields: bool,
}

/// A field: its name in any case, and its value.
pub(crate) type RawField<'a> = (&'a [u8], &'a [u8]);

/// The fields of a map.
pub(crate) fn raw_fields(headers: &HeaderMap) -> impl Iterator<Item = RawField<'_>> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// What a field is to whoever passes a message on, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Host,
    Length,
    Encoding,
    Connection,
    Expect,
    Upgrade,
    /// Lenient peers fold it into a framing field (underscore read as hyphen, as CGI does).
    LookAlike,
    /// Belongs to one connection, and is none of the above.
    HopByHop,
    EndToEnd,
}

impl Role {
    pub(crate) fn of(name: &[u8]) -> Self {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            2 if is(b"te") => Self::HopByHop,
            4 if is(b"host") => Self::Host,
            6 if is(b"expect") => Self::Expect,
            7 if is(b"upgrade") => Self::Upgrade,
            10 if is(b"connection") => Self::Connection,
            10 if is(b"keep-alive") => Self::HopByHop,
            14 if is(b"content-length") => Self::Length,
            14 if is(b"content_length") => Self::LookAlike,
            14 if is(b"http2-settings") => Self::HopByHop,
            16 if is(b"proxy-connection") => Self::HopByHop,
            17 if is(b"transfer-encoding") => Self::Encoding,
            17 if is(b"transfer_encoding") => Self::LookAlike,
            _ => Self::EndToEnd,
        }
    }

    /// Whether it must not be passed on (RFC 9110 §7.6.1).
    const fn is_hop_by_hop(self) -> bool {
        matches!(self, Self::Connection | Self::Encoding | Self::Upgrade | Self::HopByHop)
    }

    /// Whether it is passed on as it is: not if it is of one connection, or says how the body ends.
    pub(crate) const fn is_passed_on(self) -> bool {
        !self.is_hop_by_hop() && !matches!(self, Self::Length)
    }
}

/// A field that may be there once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Once<'a> {
    #[default]
    Absent,
    Value(&'a [u8]),
    Repeated,
}

/// The fields that decide where a message ends and what becomes of its connection, found in one pass.
#[derive(Debug, Default)]
pub(crate) struct Decisive<'a> {
    pub(crate) host: Once<'a>,
    pub(crate) expects: bool,
    pub(crate) upgrade: bool,
    pub(crate) length: Once<'a>,
    encoding: Once<'a>,
    connection: bool,
    look_alike: bool,
}

impl<'a> Decisive<'a> {
    pub(crate) fn of(fields: impl Iterator<Item = RawField<'a>>) -> Self {
        let mut found = Self::default();
        for (name, value) in fields {
            found.see(Role::of(name), value);
        }
        found
    }

    /// Takes note of one field.
    pub(crate) fn see(&mut self, role: Role, value: &'a [u8]) {
        match role {
            Role::Host => self.host.see(value),
            Role::Length => self.length.see(value),
            Role::Encoding => self.encoding.see(value),
            Role::Connection => self.connection = true,
            Role::Expect => self.expects = true,
            Role::Upgrade => self.upgrade = true,
            Role::LookAlike => self.look_alike = true,
            Role::HopByHop | Role::EndToEnd => {}
        }
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
            (Once::Value(value), Once::Absent) => length_of(value).map(DeclaredLength::Length),
            (Once::Absent, Once::Value(_)) if version == Version::HTTP_10 => Err(FramingError::EncodingInHttp10),
            (Once::Absent, Once::Value(value)) if value.eq_ignore_ascii_case(b"chunked") => Ok(DeclaredLength::Chunked),
            (Once::Absent, Once::Value(_)) => Err(FramingError::UnsupportedEncoding),
        }
    }

    /// The options of Connection in these fields.
    pub(crate) fn connection_options<'f>(
        &self,
        fields: impl Iterator<Item = RawField<'f>>,
    ) -> Result<ConnectionOptions, FramingError> {
        if self.connection { connection_options(fields) } else { Ok(ConnectionOptions::default()) }
    }
}

impl<'a> Once<'a> {
    fn see(&mut self, value: &'a [u8]) {
        *self = if matches!(self, Self::Absent) { Self::Value(value) } else { Self::Repeated };
    }
}

/// Checks a head whose framing came by other means, as HTTP/2's does: it must not hold what a reader of HTTP/1.1 could
/// frame it by in another way.
///
/// # Errors
/// A field that resembles a framing field, or a second length.
pub fn check_framed_elsewhere(headers: &HeaderMap) -> Result<(), FramingError> {
    let decisive = Decisive::of(raw_fields(headers));
    decisive.no_look_alikes()?;
    match decisive.length {
        Once::Repeated => Err(FramingError::DuplicateLength),
        Once::Absent | Once::Value(_) => Ok(()),
    }
}

/// A Content-Length: digits only, at most 2^63 - 1 so that sums of lengths cannot overflow.
pub fn content_length(value: &HeaderValue) -> Result<u64, FramingError> {
    length_of(value.as_bytes())
}

fn length_of(digits: &[u8]) -> Result<u64, FramingError> {
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
fn connection_options<'f>(fields: impl Iterator<Item = RawField<'f>>) -> Result<ConnectionOptions, FramingError> {
    let mut options = ConnectionOptions::default();
    for (_, value) in fields.filter(|(name, _)| Role::of(name) == Role::Connection) {
        for token in tokens(value) {
            match token {
                t if t.eq_ignore_ascii_case(b"close") => options.close = true,
                t if t.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                t if t.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                t => match Role::of(t) {
                    Role::Length | Role::Encoding | Role::Host => return Err(FramingError::ConnectionNamesFraming),
                    _ => options.names_fields = true,
                },
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

/// The names of the fields that Connection names, in lower case.
pub(crate) fn nominated<'f>(fields: impl Iterator<Item = RawField<'f>>) -> HashSet<Vec<u8>> {
    let connection = fields.filter(|(name, _)| Role::of(name) == Role::Connection);
    connection.flat_map(|(_, value)| tokens(value)).map(<[u8]>::to_ascii_lowercase).collect()
}

/// Remove what belongs to one connection: the fields Connection names and the well-known ones (RFC 9110
/// §7.6.1). `TE: trailers` is the caller's to put back. Costs one look at each name if there is nothing to remove.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.keys().all(|name| !is_hop_by_hop(name.as_str().as_bytes())) {
        return;
    }
    // Most messages that have a Connection name nothing in it that is not removed anyway: then nothing is allocated.
    let connection = headers.get_all(header::CONNECTION).iter();
    let nominated = connection
        .flat_map(|value| tokens(value.as_bytes()))
        .filter(|token| !is_option(token) && !token.eq_ignore_ascii_case(b"host"));
    let nominated: Vec<HeaderName> = nominated.filter_map(|token| HeaderName::from_bytes(token).ok()).collect();
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name.as_str().as_bytes())).cloned() {
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

/// Whether a field of that name, in any case, concerns one connection only (RFC 9110 §7.6.1).
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    Role::of(name).is_hop_by_hop()
}

/// How long the names of those fields are.
pub const HOP_BY_HOP_LENGTHS: NameLengths = NameLengths::of_all(&HOP_BY_HOP);
const HOP_BY_HOP: [&[u8]; 7] =
    [b"connection", b"http2-settings", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"];

/// The members of a comma-separated list, without the whitespace around them.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_hop_by_hop_fields_are_listed_with_their_lengths() {
        let roles = HOP_BY_HOP.map(Role::of);
        assert!(roles.iter().all(|role| role.is_hop_by_hop()), "{roles:?}");
        // One name of each length that `Role::of` knows.
        let known: [&[u8]; 8] = [
            b"te",
            b"host",
            b"expect",
            b"upgrade",
            b"connection",
            b"content-length",
            b"proxy-connection",
            b"transfer-encoding",
        ];
        for name in known.into_iter().filter(|name| is_hop_by_hop(name)) {
            assert!(HOP_BY_HOP_LENGTHS.meet(NameLengths::of(name)), "{name:?}");
        }
    }
}
