//! Header fields as they stand on the wire: one line each, behind those of a header map.
//!
//! A proxy passes on most fields unread, and adds the same dozen to every message. In a header map each of them costs a
//! hash, an index and a value of its own, only to be written out once; as lines they are written where they are made.
//!
//! Invariants: every line is `name: value` and CR LF, the name is a token and the value has no control character but tabs,
//! so whatever is in it cannot end a line. No line frames a message or says whether its connection stays: those fields are the
//! encoder's, and are not taken.
//!
//! Looking a field up reads the lines one after another. What must replace a field of the map is removed there by the
//! caller.

mod names;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of a line, as usual in what a proxy answers.
const USUAL_LINE_BYTES: usize = 36;

/// Fields to add to a message, in order.
#[derive(Clone, Debug, Default)]
pub struct FieldLines {
    text: Vec<u8>,
    lengths: NameLengths,
    /// Of names whose value is another one in each message.
    unique: NameLengths,
}

/// How long some names are: what tells without reading them that none of them is another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NameLengths(u64);

impl NameLengths {
    /// The length of one name.
    #[must_use]
    pub const fn of(name: &[u8]) -> Self {
        let bit = if name.len() < 63 { name.len() } else { 63 };
        Self(1 << bit)
    }

    /// The lengths of several names.
    #[must_use]
    pub const fn of_all(names: &[&[u8]]) -> Self {
        let (mut lengths, mut at) = (Self(0), 0);
        while at < names.len() {
            lengths = lengths.and(Self::of(names[at]));
            at += 1;
        }
        lengths
    }

    /// These and others.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are among others too.
    #[must_use]
    pub const fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether a name of these lengths can be one of the others.
    #[must_use]
    pub const fn meet(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

/// A value that cannot be sent, for it would not be one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotALine;

impl FieldLines {
    /// No fields, and room for `n_bytes` of them.
    #[must_use]
    pub fn with_capacity(n_bytes: usize) -> Self {
        Self { text: Vec::with_capacity(n_bytes), ..Self::default() }
    }

    /// Makes room for `n_bytes` more.
    pub fn reserve(&mut self, n_bytes: usize) {
        self.text.reserve(n_bytes);
    }

    /// Adds a field.
    pub fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.put_received(name.as_str().as_bytes(), value.as_bytes());
    }

    /// Says that the value of a field is another one in each message: see [`FieldLines::move_to`].
    pub fn never_repeats(&mut self, name: &[u8]) {
        self.unique = self.unique.and(NameLengths::of(name));
    }

    /// Adds a field whose value is this number.
    pub fn put_number(&mut self, name: &HeaderName, value: u64) {
        let (digits, start) = decimal(value);
        self.put_received(name.as_str().as_bytes(), &digits[start..]);
    }

    /// Adds a field whose value is this text.
    ///
    /// # Errors
    /// [`NotALine`], and nothing is added.
    pub fn put_text(&mut self, name: &HeaderName, value: &str) -> Result<(), NotALine> {
        if value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(NotALine);
        }
        self.put_received(name.as_str().as_bytes(), value.as_bytes());
        Ok(())
    }

    /// Adds a field whose value is a list: the members of all `values`, then `last` (RFC 9110 §5.3).
    pub fn put_list<'a>(
        &mut self,
        name: &HeaderName,
        values: impl Iterator<Item = &'a HeaderValue>,
        last: &HeaderValue,
    ) {
        if is_framing(name.as_str().as_bytes()) {
            return;
        }
        self.start(name.as_str().as_bytes(), last.len());
        for value in values.filter(|value| !value.is_empty()) {
            self.text.extend_from_slice(value.as_bytes());
            self.text.extend_from_slice(b", ");
        }
        self.text.extend_from_slice(last.as_bytes());
        self.text.extend_from_slice(b"\r\n");
    }

    /// Adds a field as it was received: its name is a token, its value has no control character but tabs, which whoever
    /// calls has made sure of.
    pub fn put_received(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(!name.is_empty() && !name.iter().any(|byte| matches!(byte, b':' | b'\r' | b'\n')), "a token");
        debug_assert!(!value.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')), "one line");
        if !is_framing(name) {
            self.start(name, value.len());
            self.text.extend_from_slice(value);
            self.text.extend_from_slice(b"\r\n");
        }
    }

    fn start(&mut self, name: &[u8], value_len: usize) {
        self.lengths = self.lengths.and(NameLengths::of(name));
        self.text.reserve(name.len() + value_len + 4);
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
    }

    /// Adds the fields of `others` whose name passes.
    pub fn extend(&mut self, others: &Self, passes: impl Fn(&[u8]) -> bool) {
        let mut rest = &others.text[..];
        while let Some(line) = Line::first(rest) {
            if passes(line.name) {
                self.text.extend_from_slice(&rest[..line.len]);
            }
            rest = &rest[line.len..];
        }
        self.lengths = self.lengths.and(others.lengths);
        self.unique = self.unique.and(others.unique);
    }

    /// Adds all fields of `others`.
    pub fn append(&mut self, others: &Self) {
        self.text.extend_from_slice(&others.text);
        self.lengths = self.lengths.and(others.lengths);
        self.unique = self.unique.and(others.unique);
    }

    /// Of which lengths the names are whose values never repeat.
    #[must_use]
    pub const fn unique_lengths(&self) -> NameLengths {
        self.unique
    }

    /// Of which lengths names are here; of some there may be none any more.
    #[must_use]
    pub const fn name_lengths(&self) -> NameLengths {
        self.lengths
    }

    /// The fields: name as it stands there, and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.text[..];
        std::iter::from_fn(move || {
            let line = Line::first(rest)?;
            rest = &rest[line.len..];
            Some((line.name, line.value))
        })
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        if !self.lengths.meet(NameLengths::of(name)) {
            return None;
        }
        self.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Keeps the fields whose name passes.
    pub fn retain(&mut self, mut passes: impl FnMut(&[u8]) -> bool) {
        let (mut from, mut kept) = (0, 0);
        while let Some(line) = Line::first(&self.text[from..]) {
            let len = line.len;
            if passes(line.name) {
                if kept < from {
                    self.text.copy_within(from..from + len, kept);
                }
                kept += len;
            }
            from += len;
        }
        self.text.truncate(kept);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The lines.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Appends the fields to a map whose values share the lines' memory, for a protocol that has no lines. Values that never
    /// repeat are marked if the length of their name is among `known`, so that HPACK keeps them out of its table: there they
    /// would take the place of those that do, and of a name that it knows it writes no more than the number.
    pub fn move_to(self, headers: &mut HeaderMap, known: NameLengths) {
        let unique = self.unique.among(known);
        // Room for most, once; a map grows by hashing all of its names again.
        headers.reserve(self.text.len() / USUAL_LINE_BYTES);
        let lines = Bytes::from(self.text);
        let mut at = 0;
        while let Some(line) = Line::first(&lines[at..]) {
            let value_end = at + line.len - 2;
            let value = lines.slice(value_end - line.value.len()..value_end);
            if let (Some(name), Ok(mut value)) = (names::parsed(line.name), HeaderValue::from_maybe_shared(value)) {
                value.set_sensitive(unique.meet(NameLengths::of(line.name)));
                headers.append(name, value);
            }
            at += line.len;
        }
    }

    /// Appends the fields to a map.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
    }
}

/// One line, and the length of all of it.
struct Line<'a> {
    name: &'a [u8],
    value: &'a [u8],
    len: usize,
}

impl<'a> Line<'a> {
    /// The line that `text` begins with.
    fn first(text: &'a [u8]) -> Option<Self> {
        let end = memchr::memchr(b'\n', text)?;
        let line = text[..end].strip_suffix(b"\r")?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some(Self { name: &line[..colon], value: line[colon + 1..].trim_ascii_start(), len: end + 1 })
    }
}

fn is_framing(name: &[u8]) -> bool {
    match name.len() {
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let (mut pairs, mut n) = ([[0; 2]; 100], 0);
    while n < 100 {
        #[expect(clippy::cast_possible_truncation, reason = "less than 100")]
        let (tens, ones) = ((n / 10) as u8, (n % 10) as u8);
        pairs[n] = [b'0' + tens, b'0' + ones];
        n += 1;
    }
    pairs
};

/// The digits of a number, at the end of an array from an index on.
#[must_use]
pub fn decimal(mut value: u64) -> ([u8; 20], usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value >= 10 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    // What is left is one digit, or none behind a pair; 0 alone is a digit too.
    if value > 0 || start == digits.len() {
        start -= 1;
        digits[start] = PAIRS[(value % 10) as usize][1];
    }
    (digits, start)
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
        let mut moved = headers.clone();
        lines.never_repeats(b"x-ms");
        lines.clone().move_to(&mut moved, lines.unique_lengths());
        lines.append_to(&mut headers);
        assert_eq!(moved, headers);
        let marked = moved.iter().filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.as_str());
        assert_eq!(marked.collect::<Vec<_>>(), ["x-ms"]);
        let mut unmarked = HeaderMap::new();
        lines.clone().move_to(&mut unmarked, NameLengths::of(b"another"));
        assert!(unmarked.values().all(|value| !value.is_sensitive()));
        assert_eq!(headers.get_all("via").iter().collect::<Vec<_>>(), ["1.0 b", "1.1 a"]);
        assert_eq!((headers.len(), &headers["x-path"]), (6, &HeaderValue::from_bytes("/ä b".as_bytes()).unwrap()));
    }

    #[test]
    fn fields_are_found_and_taken_out_whatever_their_case() {
        let mut lines = FieldLines::default();
        for (name, value) in [("Server", "a"), ("X-One", ""), ("Date", "b: c"), ("x-one", "2"), ("x-two", "3")] {
            lines.put_received(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(lines.get(&HeaderName::from_static("date")), Some(&b"b: c"[..]));
        assert_eq!(lines.get(&HeaderName::from_static("x-one")), Some(&b""[..]));
        assert_eq!(lines.get(&HeaderName::from_static("x-on")), None);
        lines.retain(|name| !name.eq_ignore_ascii_case(b"x-ONE"));
        assert_eq!(lines.as_bytes(), b"Server: a\r\nDate: b: c\r\nx-two: 3\r\n");
        lines.retain(|name| name != b"Server");
        lines.retain(|name| name != b"x-two");
        assert_eq!(lines.as_bytes(), b"Date: b: c\r\n");
        lines.retain(|_| false);
        assert!(lines.is_empty());
    }

    #[test]
    fn what_frames_a_message_is_not_taken() {
        let mut lines = FieldLines::default();
        for name in ["Content-Length", "transfer-encoding", "CONNECTION", "keep-alive"] {
            lines.put_received(name.as_bytes(), b"1");
            lines.put_list(&name.parse().unwrap(), [].iter(), &HeaderValue::from_static("1"));
        }
        assert!(lines.is_empty());
    }

    #[test]
    fn numbers_are_written_with_all_their_digits_and_no_more() {
        let mut numbers: Vec<u64> = (0..=1_000).chain([u64::MAX, u64::MAX - 1]).collect();
        numbers.extend((3..20).flat_map(|zeros| [10_u64.pow(zeros) - 1, 10_u64.pow(zeros), 10_u64.pow(zeros) + 1]));
        for number in numbers {
            let (digits, start) = decimal(number);
            assert_eq!(std::str::from_utf8(&digits[start..]), Ok(&*number.to_string()));
        }
    }

    #[test]
    fn lengths_of_names_rule_out_what_is_not_there() {
        let mut lines = FieldLines::default();
        lines.put_received(b"Server", b"a");
        let long = [b'x'; 70];
        let of = |name: &[u8]| NameLengths::of(name);
        assert!(lines.name_lengths().meet(of(b"server")) && !lines.name_lengths().meet(of(b"date").and(of(&long))));
        let mut more = FieldLines::default();
        more.put_received(&long, b"b");
        lines.append(&more);
        assert!(lines.name_lengths().meet(of(&[b'y'; 64])), "all long names are one length");
        assert_eq!(lines.get(&HeaderName::from_bytes(&long).unwrap()), Some(&b"b"[..]));
        let mut some = FieldLines::default();
        some.extend(&lines, |name| name.len() < 10);
        assert_eq!((some.get(&http::header::SERVER), some.get(&http::header::DATE)), (Some(&b"a"[..]), None));
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
