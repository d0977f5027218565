//! DNS messages on the wire, as much of them as a stub resolver needs (RFC 1035 §4, RFC 2782, RFC 3596).
//!
//! ```text
//! | id u16 | flags u16 | questions u16 | answers u16 | authority u16 | additional u16 |
//! | name | type u16 | class u16 |                                        a question
//! | name | type u16 | class u16 | ttl u32 | length u16 | data |          a record
//! ```
//!
//! A name is labels, each behind its length, up to an empty one or a pointer to where the rest stands. Pointers lead only
//! backwards, so a name always ends. Records of types that nobody asks for are stepped over.
//!
//! Invariants: decoding reads no byte outside the message and never panics, whatever the bytes are. Not here: EDNS, DNSSEC.

use super::name::{NAME_BYTES_MAX, Name};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER_BYTES: usize = 12;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;
/// A label's two highest bits: a pointer.
const POINTER: u8 = 0b1100_0000;
/// Recursion is desired.
const FLAG_RD: u16 = 0x0100;
const FLAG_QR: u16 = 0x8000;
const FLAG_TC: u16 = 0x0200;
const OPCODE: u16 = 0x7800;

/// What is asked of a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    A,
    Aaaa,
    Srv,
}

impl Kind {
    const fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Srv => 33,
        }
    }
}

/// How a server says that it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rcode {
    Ok,
    /// NXDOMAIN: there is no such name.
    NameError,
    /// SERVFAIL, REFUSED and the like.
    Failure(u8),
}

/// An answer to one question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// It did not fit; ask by TCP.
    pub(super) truncated: bool,
    pub(super) rcode: Rcode,
    /// Of the answer and the additional section.
    pub(super) records: Vec<Record>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) ttl_s: u32,
    pub(super) data: Data,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        /// `None`, the root: the service is not available (RFC 2782).
        target: Option<Name>,
    },
    Cname(Name),
}

/// Why bytes are not the answer that is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotAnswer {
    /// They are not a message.
    Malformed,
    /// They answer something else, or nothing.
    Other,
}

/// Writes a question.
pub(super) fn encode(id: u16, name: &Name, kind: Kind, out: &mut Vec<u8>) {
    for word in [id, FLAG_RD, 1, 0, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.labels() {
        // A `Name` has no label of more than 63 bytes.
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.code().to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
}

/// Reads the answer to a question.
///
/// # Errors
/// [`NotAnswer`], if it is not; such bytes are to be ignored.
pub(super) fn decode(bytes: &[u8], id: u16, name: &Name, kind: Kind) -> Result<Message, NotAnswer> {
    let mut reader = Reader { bytes, at: 0 };
    let malformed = NotAnswer::Malformed;
    let mut word = || reader.u16().ok_or(malformed);
    let (found, flags, questions) = (word()?, word()?, word()?);
    let (answers, authority, additional) = (word()?, word()?, word()?);
    if found != id || flags & (FLAG_QR | OPCODE) != FLAG_QR || questions != 1 {
        return Err(NotAnswer::Other);
    }
    let asked = reader.name().ok_or(malformed)?;
    let (asked_kind, class) = (reader.u16().ok_or(malformed)?, reader.u16().ok_or(malformed)?);
    if asked.as_ref() != Some(name) || asked_kind != kind.code() || class != CLASS_IN {
        return Err(NotAnswer::Other);
    }
    let truncated = flags & FLAG_TC != 0;
    let rcode = match flags.to_be_bytes()[1] & 0x0f {
        0 => Rcode::Ok,
        3 => Rcode::NameError,
        other => Rcode::Failure(other),
    };
    let mut records = Vec::new();
    if !truncated {
        for n in 0..usize::from(answers) + usize::from(authority) + usize::from(additional) {
            let of_authority = (usize::from(answers)..usize::from(answers) + usize::from(authority)).contains(&n);
            let record = reader.record().ok_or(malformed)?;
            records.extend(record.filter(|_| !of_authority));
        }
    }
    Ok(Message { truncated, rcode, records })
}

/// Reads forward; `None` is the end of the bytes or nonsense in them.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// A name; the root is `Some(None)`.
    #[expect(clippy::option_option, reason = "no name, and the name without labels")]
    fn name(&mut self) -> Option<Option<Name>> {
        let mut text = String::new();
        let (mut at, mut floor, mut end) = (self.at, self.at, None);
        loop {
            let length = *self.bytes.get(at)?;
            match length & POINTER {
                0 if length == 0 => break,
                0 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
                    // However many labels pointers lead to.
                    if text.len() + label.len() > NAME_BYTES_MAX {
                        return None;
                    }
                    if !text.is_empty() {
                        text.push('.');
                    }
                    // A dot inside a label would make it two.
                    text.push_str(std::str::from_utf8(label).ok().filter(|label| !label.contains('.'))?);
                    at += 1 + usize::from(length);
                }
                POINTER => {
                    let low = *self.bytes.get(at + 1)?;
                    let to = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                    end.get_or_insert(at + 2);
                    if to >= floor || to < HEADER_BYTES {
                        return None;
                    }
                    (at, floor) = (to, to);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at + 1);
        if text.is_empty() { Some(None) } else { Name::parse(&text).map(Some) }
    }

    /// A record; `Some(None)` is one of a type or class that says nothing to us.
    #[expect(clippy::option_option, reason = "no record, and one to step over")]
    fn record(&mut self) -> Option<Option<Record>> {
        let owner = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_s = self.take().map(u32::from_be_bytes)?;
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.bytes.len() {
            return None;
        }
        let known = class == CLASS_IN && owner.is_some();
        let data = match kind {
            1 if known && length == 4 => Some(Data::Address(Ipv4Addr::from(self.take::<4>()?).into())),
            28 if known && length == 16 => Some(Data::Address(Ipv6Addr::from(self.take::<16>()?).into())),
            33 if known => {
                let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
                Some(Data::Srv { priority, weight, port, target: self.name()? })
            }
            TYPE_CNAME if known => self.name()?.map(Data::Cname),
            _ => None,
        };
        if data.is_some() && self.at != end {
            return None;
        }
        self.at = end;
        // RFC 2181 §8: a TTL with the highest bit is zero.
        let ttl_s = if ttl_s > i32::MAX.cast_unsigned() { 0 } else { ttl_s };
        Some(owner.zip(data).map(|(owner, data)| Record { owner, ttl_s, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// An answer to `a.example. A` with these records, whose owner is a pointer to the question.
    fn answer(flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(7, &name("a.example"), Kind::A, &mut bytes);
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (kind, data) in records {
            bytes.extend_from_slice(&[0xc0, 12]);
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Message, NotAnswer> {
        decode(bytes, 7, &name("a.example"), Kind::A)
    }

    #[test]
    fn addresses_names_and_services_are_read() {
        let srv = [0, 1, 0, 5, 0x1f, 0x90, 1, b'b', 0xc0, 14];
        let bytes = answer(0x8180, &[(1, &[10, 0, 0, 1]), (5, &[1, b'b', 0xc0, 14]), (33, &srv), (16, b"\x03txt")]);
        let message = read(&bytes).unwrap();
        let record = |data| Record { owner: name("a.example"), ttl_s: 60, data };
        let target = Some(name("b.example"));
        let expected = [
            record(Data::Address([10, 0, 0, 1].into())),
            record(Data::Cname(name("b.example"))),
            record(Data::Srv { priority: 1, weight: 5, port: 8080, target }),
        ];
        assert_eq!(message, Message { truncated: false, rcode: Rcode::Ok, records: expected.into() });
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let good = answer(0x8180, &[]);
        assert!(read(&good).is_ok());
        assert_eq!(decode(&good, 8, &name("a.example"), Kind::A), Err(NotAnswer::Other));
        assert_eq!(decode(&good, 7, &name("b.example"), Kind::A), Err(NotAnswer::Other));
        assert_eq!(decode(&good, 7, &name("a.example"), Kind::Srv), Err(NotAnswer::Other));
        assert_eq!(read(&answer(0x0180, &[])), Err(NotAnswer::Other), "a question");
    }

    #[test]
    fn codes_and_truncation_are_told() {
        assert_eq!(read(&answer(0x8183, &[])).unwrap().rcode, Rcode::NameError);
        assert_eq!(read(&answer(0x8182, &[])).unwrap().rcode, Rcode::Failure(2));
        let cut = &answer(0x8380, &[(1, &[10, 0, 0, 1])]);
        assert!(read(&cut[..cut.len() - 2]).unwrap().truncated, "what is cut off is not read");
    }

    #[test]
    fn pointers_lead_backwards_only() {
        let record = answer(0x8180, &[(5, &[0xc0, 12])]);
        let itself = u8::try_from(record.len() - 2).unwrap();
        assert!(read(&record).is_ok());
        assert_eq!(read(&answer(0x8180, &[(5, &[0xc0, itself])])), Err(NotAnswer::Malformed));
        assert_eq!(read(&answer(0x8180, &[(5, &[0xc0, 0xff])])), Err(NotAnswer::Malformed));
        assert_eq!(read(&answer(0x8180, &[(5, &[0x80, 12])])), Err(NotAnswer::Malformed));
        assert_eq!(read(&answer(0x8180, &[(5, &[1, b'.', 0])])), Err(NotAnswer::Malformed));
    }

    #[test]
    fn a_name_has_an_end_wherever_pointers_lead() {
        // Labels of one letter, each behind a pointer to those before it: 126 of them are the longest name there is.
        let of = |count: u16| {
            let mut bytes = answer(0x8180, &[]);
            let mut chain = vec![1, b'a', 0];
            let begin = u16::try_from(bytes.len() + 12).unwrap();
            let mut before = begin;
            for n in 1..count {
                chain.extend_from_slice(&[1, b'a']);
                chain.extend_from_slice(&(0xc000 | before).to_be_bytes());
                before = begin + 3 + 4 * (n - 1);
            }
            // A record of a type that says nothing to us holds them; the next one's owner is the last of them.
            bytes.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
            bytes.extend_from_slice(&u16::try_from(chain.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&chain);
            bytes.extend_from_slice(&(0xc000 | before).to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
            bytes[6..8].copy_from_slice(&2u16.to_be_bytes());
            read(&bytes).map(|message| message.records[0].owner.as_str().len())
        };
        assert_eq!(of(3), Ok(5));
        assert_eq!(of(127), Ok(NAME_BYTES_MAX));
        assert_eq!(of(128), Err(NotAnswer::Malformed));
    }

    #[test]
    fn every_damaged_answer_is_read_or_refused() {
        let srv = [0, 1, 0, 5, 0x1f, 0x90, 1, b'b', 0xc0, 14];
        let good = answer(0x8180, &[(1, &[10, 0, 0, 1]), (33, &srv), (28, &[1; 16])]);
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
    }
}
