//! The identifier of a gateway entity: 128 bits, written as a UUID.
//!
//! This crate is pure, so it makes no identifiers: `gateway::entity` derives them (UUIDv5), the edges read them.
//! Ordering is the byte order of the UUID, which Kong's router uses to break ties.

use std::fmt;
use std::str::FromStr;

/// A UUID. Displayed in lower case with hyphens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

/// The text is not a UUID of the form `8-4-4-4-12` in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl Id {
    /// The identifier with these sixteen bytes, most significant first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Its sixteen bytes, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(NotAnId);
        }
        let mut value = 0u128;
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return Err(NotAnId);
                }
                continue;
            }
            let digit = char::from(*byte).to_digit(16).ok_or(NotAnId)?;
            value = value << 4 | u128::from(digit);
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            v >> 96,
            (v >> 80) & 0xffff,
            (v >> 64) & 0xffff,
            (v >> 48) & 0xffff,
            v & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID")
    }
}

impl std::error::Error for NotAnId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let text = "0dc6f45b-8f8d-40d2-a504-473544ee190b";
        let id: Id = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(Id::from_bytes(id.to_bytes()), id);
    }

    #[test]
    fn what_is_not_a_uuid_is_refused() {
        for text in [
            "",
            "0dc6f45b8f8d40d2a504473544ee190b",
            "0dc6f45b-8f8d-40d2-a504-473544ee190",
            "0dc6f45b-8f8d-40d2-a504_473544ee190b",
            "0dc6f45b-8f8d-40d2-a504-473544ee190g",
        ] {
            assert_eq!(text.parse::<Id>(), Err(NotAnId), "{text}");
        }
    }
}
