//! Reads the elementary types of §4.2.5 from a slice, borrowing what is long.

use super::table;
use model::Table;
use std::fmt;

/// Why bytes inside a frame make no sense. A peer's fault: 502 `SYNTAX_ERROR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// A value reaches over the end of what contains it.
    CutShort,
    /// Bytes are left over behind the last value.
    TrailingBytes,
    /// Tables or arrays are nested deeper than `TABLE_DEPTH_MAX`.
    TooDeep,
    /// No field type has this letter.
    UnknownFieldType(u8),
    /// A name is not UTF-8.
    NotUtf8,
    /// A property flag that basic does not define.
    UnknownProperty,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => f.write_str("a value reaches over the end of its frame or table"),
            Self::TrailingBytes => f.write_str("bytes are left over behind the last value"),
            Self::TooDeep => write!(f, "tables are nested deeper than {} levels", model::limits::TABLE_DEPTH_MAX),
            Self::UnknownFieldType(letter) => write!(f, "unknown field type {letter}"),
            Self::NotUtf8 => f.write_str("a name is not UTF-8"),
            Self::UnknownProperty => f.write_str("unknown property flags"),
        }
    }
}

/// A slice that is read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::TrailingBytes) }
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Malformed::CutShort)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::CutShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A short string: at most 255 bytes of anything.
    pub(crate) fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.u8()?;
        self.take(usize::from(n))
    }

    /// A short string that names something.
    pub(crate) fn name(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.short()?).map_err(|_| Malformed::NotUtf8)
    }

    /// A long string: bytes with a length of 32 bits.
    pub(crate) fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.u32()?;
        self.take(usize::try_from(n).map_err(|_| Malformed::CutShort)?)
    }

    /// A field table.
    pub(crate) fn table(&mut self) -> Result<Table, Malformed> {
        table::decode(self.long()?)
    }
}
