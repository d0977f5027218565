//! What httparse tolerates and we do not: line endings other than CR LF, and when a partial head is worth
//! another look. Also the step both roles share: a head's fields as a header map that shares the head's bytes.

use crate::error::HeadError;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Whether every line of a head that httparse accepted ends in CR LF (RFC 9112 §2.2). httparse also takes a bare LF; a
/// CR anywhere else it refuses itself. So it is enough to look before each field name, where a line starts, and at the
/// two line ends that close the head.
pub(crate) fn lines_end_in_crlf(head: &[u8], fields: &[httparse::Header<'_>]) -> bool {
    let starts_a_line = |field: &httparse::Header<'_>| {
        let (start, _) = span(head, field.name.as_bytes());
        head[..start].ends_with(b"\r\n")
    };
    head.ends_with(b"\r\n\r\n") && fields.iter().all(starts_a_line)
}

/// Remembers how far a partial head was looked at, so that a head that trickles in is parsed again only when a
/// line was completed. The number of lines is bounded, hence the work is too.
#[derive(Debug, Default)]
pub(crate) struct LineWatch {
    seen: usize,
}

impl LineWatch {
    /// The complete lines of `buf`, if one was completed since the last call. What follows the last line end is
    /// left out, so that a verdict depends on whole lines and not on where a read stopped.
    pub(crate) fn lines<'a>(&mut self, buf: &'a [u8]) -> Option<&'a [u8]> {
        let from = self.seen.min(buf.len());
        self.seen = buf.len();
        let last = memchr::memrchr(b'\n', &buf[from..])?;
        Some(&buf[..=from + last])
    }

    /// Forget the head that was parsed or refused.
    pub(crate) fn reset(&mut self) {
        self.seen = 0;
    }
}

/// The place of `part`, which must be a slice of `whole`, as start and end.
pub(crate) fn span(whole: &[u8], part: &[u8]) -> (usize, usize) {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => (start, end),
        // An empty value may be a literal of httparse's and lie elsewhere; it is empty anywhere.
        _ => (0, 0),
    }
}

/// Fields that fit a map of the usual size, with room for those a proxy adds. The next size doubles its memory.
const FIELDS_USUAL: usize = 12;
/// Room for the fields a proxy adds to a message with more of its own.
const FIELDS_ADDED: usize = 9;

/// The fields as a map whose values share `copy`, a copy of `head`, in which the fields lie. The copy costs less than
/// sharing the read buffer would: that stays whole and is never pinned by a field somebody keeps.
pub(crate) fn header_map(head: &[u8], fields: &[httparse::Header<'_>], copy: &Bytes) -> Result<HeaderMap, HeadError> {
    let usual = fields.len() + FIELDS_ADDED / 2 < FIELDS_USUAL;
    let mut headers = HeaderMap::with_capacity(if usual { FIELDS_USUAL } else { fields.len() + FIELDS_ADDED });
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::FieldName)?;
        let (start, end) = span(head, field.value);
        let value = HeaderValue::from_maybe_shared(copy.slice(start..end)).map_err(|_| HeadError::FieldValue)?;
        headers.try_append(name, value).map_err(|_| HeadError::TooManyFields)?;
    }
    Ok(headers)
}
