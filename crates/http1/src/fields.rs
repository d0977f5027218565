//! Header fields as they stand on the wire: one line each, behind those of a header map.
//!
//! A proxy adds the same dozen fields to every message. In a header map each of them costs a hash, an index and a value of
//! its own, only to be written out once; as lines they are written where they are made.
//!
//! Invariants: every line is `name: value` and CR LF, the name is valid and the value has no control character, so
//! whatever is in it cannot end a line. No line frames a message or concerns a connection: those fields are the
//! encoder's.
//!
//! It does not look fields up: what must replace a field of the map is removed there by the caller.

use bytes::{BufMut, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Fields to add to a message, in order.
#[derive(Clone, Debug, Default)]
pub struct FieldLines(BytesMut);

/// A value that cannot be sent, for it would not be one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotALine;

impl FieldLines {
    /// No fields, and room for `n_bytes` of them.
    #[must_use]
    pub fn with_capacity(n_bytes: usize) -> Self {
        Self(BytesMut::with_capacity(n_bytes))
    }

    /// Adds a field.
    pub fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.put_pieces(name, &[value.as_bytes()]);
    }

    /// Adds a field whose value is this number.
    pub fn put_number(&mut self, name: &HeaderName, value: u64) {
        let (digits, start) = decimal(value);
        self.put_pieces(name, &[&digits[start..]]);
    }

    /// Adds a field whose value is this text.
    ///
    /// # Errors
    /// [`NotALine`], and nothing is added.
    pub fn put_text(&mut self, name: &HeaderName, value: &str) -> Result<(), NotALine> {
        if value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(NotALine);
        }
        self.put_pieces(name, &[value.as_bytes()]);
        Ok(())
    }

    /// Adds a field whose value is a list: the members of all `values`, then `last` (RFC 9110 §5.3).
    pub fn put_list<'a>(
        &mut self,
        name: &HeaderName,
        values: impl Iterator<Item = &'a HeaderValue>,
        last: &HeaderValue,
    ) {
        self.start(name, last.len());
        for value in values.filter(|value| !value.is_empty()) {
            self.0.extend_from_slice(value.as_bytes());
            self.0.extend_from_slice(b", ");
        }
        self.0.extend_from_slice(last.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    fn put_pieces(&mut self, name: &HeaderName, pieces: &[&[u8]]) {
        self.start(name, pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            self.0.put_slice(piece);
        }
        self.0.put_slice(b"\r\n");
    }

    fn start(&mut self, name: &HeaderName, value_len: usize) {
        let name = name.as_str().as_bytes();
        debug_assert!(!is_framing(name), "framing is the encoder's");
        self.0.reserve(name.len() + value_len + 4);
        self.0.put_slice(name);
        self.0.put_slice(b": ");
    }

    /// The lines.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Forgets the fields and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends the fields to a map, for a protocol that has no lines.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        for line in self.as_bytes().split(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\r") else { continue };
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let name = HeaderName::from_bytes(&line[..colon]);
            let value = HeaderValue::from_bytes(line.get(colon + 2..).unwrap_or_default());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
    }
}

fn is_framing(name: &[u8]) -> bool {
    matches!(name, b"content-length" | b"transfer-encoding" | b"connection" | b"keep-alive")
}

/// The digits of a number, at the end of an array from an index on.
pub(crate) fn decimal(mut value: u64) -> ([u8; 20], usize) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return (digits, start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lines_and_become_headers() {
        let name = HeaderName::from_static;
        let mut lines = FieldLines::default();
        lines.put(&name("via"), &HeaderValue::from_static("1.1 a"));
        lines.put_number(&name("x-ms"), 0);
        lines.put_number(&name("x-max"), u64::MAX);
        lines.put_text(&name("x-path"), "/ä b").unwrap();
        let seen = [HeaderValue::from_static("1.1.1.1"), HeaderValue::from_static("")];
        lines.put_list(&name("x-forwarded-for"), seen.iter(), &HeaderValue::from_static("2.2.2.2"));
        let text = "via: 1.1 a\r\nx-ms: 0\r\nx-max: 18446744073709551615\r\nx-path: /ä b\r\n\
                    x-forwarded-for: 1.1.1.1, 2.2.2.2\r\n";
        assert_eq!(std::str::from_utf8(lines.as_bytes()), Ok(text));
        let mut headers = HeaderMap::new();
        headers.insert("via", HeaderValue::from_static("1.0 b"));
        lines.append_to(&mut headers);
        assert_eq!(headers.get_all("via").iter().collect::<Vec<_>>(), ["1.0 b", "1.1 a"]);
        assert_eq!((headers.len(), &headers["x-path"]), (6, &HeaderValue::from_bytes("/ä b".as_bytes()).unwrap()));
        lines.clear();
        assert_eq!(lines.as_bytes(), b"");
    }

    #[test]
    fn no_value_ends_its_line() {
        let mut lines = FieldLines::default();
        for text in ["a\r\nset-cookie: x", "a\nb", "\0", "\x7f", "\t"] {
            assert_eq!(lines.put_text(&HeaderName::from_static("x-path"), text), Err(NotALine), "{text:?}");
        }
        assert_eq!(lines.as_bytes(), b"");
    }
}
