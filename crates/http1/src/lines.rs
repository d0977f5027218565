//! What httparse tolerates and we do not: line endings other than CR LF, and when a partial head is worth
//! another look. Also the step both roles share: a head's fields as a header map that shares the head's bytes.

use crate::error::HeadError;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Whether every CR is followed by LF and every LF preceded by CR (RFC 9112 §2.2).
pub(crate) fn only_crlf(bytes: &[u8]) -> bool {
    let cr = bytes.iter().filter(|b| **b == b'\r').count();
    let lf = bytes.iter().filter(|b| **b == b'\n').count();
    let crlf = bytes.windows(2).filter(|w| *w == b"\r\n").count();
    cr == crlf && lf == crlf
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
        let last = buf[from..].iter().rposition(|b| *b == b'\n')?;
        Some(&buf[..=from + last])
    }

    /// Forget the head that was parsed or refused.
    pub(crate) fn reset(&mut self) {
        self.seen = 0;
    }
}

/// Where a field lies in its head.
pub(crate) struct FieldSpan {
    name: (usize, usize),
    value: (usize, usize),
}

/// The place of `part`, which must be a slice of `whole`, as start and end.
pub(crate) fn span(whole: &[u8], part: &[u8]) -> (usize, usize) {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    // An empty value may point past the head's end in principle; it is then empty anywhere.
    if start + part.len() > whole.len() {
        return (0, 0);
    }
    (start, start + part.len())
}

/// The fields' places, so that the buffer they borrow can be split.
pub(crate) fn field_spans<'a>(
    head: &[u8],
    fields: &[httparse::Header<'_>],
    spans: &'a mut [FieldSpan],
) -> &'a [FieldSpan] {
    let n_fields = fields.len().min(spans.len());
    for (slot, field) in spans.iter_mut().zip(fields) {
        *slot = FieldSpan { name: span(head, field.name.as_bytes()), value: span(head, field.value) };
    }
    &spans[..n_fields]
}

impl FieldSpan {
    /// The unused slot of an array.
    pub(crate) const EMPTY: Self = Self { name: (0, 0), value: (0, 0) };
}

/// The fields as a map whose values share `head`.
pub(crate) fn header_map(head: &Bytes, spans: &[FieldSpan]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(spans.len());
    for FieldSpan { name, value } in spans {
        let name = HeaderName::from_bytes(&head[name.0..name.1]).map_err(|_| HeadError::FieldName)?;
        let value = HeaderValue::from_maybe_shared(head.slice(value.0..value.1)).map_err(|_| HeadError::FieldValue)?;
        headers.try_append(name, value).map_err(|_| HeadError::TooManyFields)?;
    }
    Ok(headers)
}
