//! AMQP 0-9-1 frames (section 4.2 of the specification): splitting input into frames, reading and writing fields.
//!
//! Frames borrow from the input; nothing is copied. Tables are written only empty and never read.

use std::fmt;

/// Opens every connection: protocol 0-9-1 (section 4.2.2).
pub(crate) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// The one channel the generator uses.
pub(crate) const CHANNEL: u16 = 1;
/// Type, channel and size in front of each payload.
pub(crate) const FRAME_HEADER_SIZE: usize = 7;
const FRAME_END: u8 = 0xCE;

/// Class and method number of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method(pub(crate) u16, pub(crate) u16);

/// The methods the generator sends or understands.
pub(crate) mod method {
    use super::Method;

    pub(crate) const CONNECTION_START: Method = Method(10, 10);
    pub(crate) const CONNECTION_START_OK: Method = Method(10, 11);
    pub(crate) const CONNECTION_TUNE: Method = Method(10, 30);
    pub(crate) const CONNECTION_TUNE_OK: Method = Method(10, 31);
    pub(crate) const CONNECTION_OPEN: Method = Method(10, 40);
    pub(crate) const CONNECTION_OPEN_OK: Method = Method(10, 41);
    pub(crate) const CONNECTION_CLOSE: Method = Method(10, 50);
    pub(crate) const CONNECTION_CLOSE_OK: Method = Method(10, 51);
    pub(crate) const CHANNEL_OPEN: Method = Method(20, 10);
    pub(crate) const CHANNEL_OPEN_OK: Method = Method(20, 11);
    pub(crate) const CHANNEL_CLOSE: Method = Method(20, 40);
    pub(crate) const EXCHANGE_DECLARE: Method = Method(40, 10);
    pub(crate) const EXCHANGE_DECLARE_OK: Method = Method(40, 11);
    pub(crate) const QUEUE_DECLARE: Method = Method(50, 10);
    pub(crate) const QUEUE_DECLARE_OK: Method = Method(50, 11);
    pub(crate) const QUEUE_BIND: Method = Method(50, 20);
    pub(crate) const QUEUE_BIND_OK: Method = Method(50, 21);
    pub(crate) const QUEUE_DELETE: Method = Method(50, 40);
    pub(crate) const QUEUE_DELETE_OK: Method = Method(50, 41);
    pub(crate) const BASIC_QOS: Method = Method(60, 10);
    pub(crate) const BASIC_QOS_OK: Method = Method(60, 11);
    pub(crate) const BASIC_CONSUME: Method = Method(60, 20);
    pub(crate) const BASIC_CONSUME_OK: Method = Method(60, 21);
    pub(crate) const BASIC_CANCEL: Method = Method(60, 30);
    pub(crate) const BASIC_CANCEL_OK: Method = Method(60, 31);
    pub(crate) const BASIC_PUBLISH: Method = Method(60, 40);
    pub(crate) const BASIC_DELIVER: Method = Method(60, 60);
    pub(crate) const BASIC_ACK: Method = Method(60, 80);
    pub(crate) const BASIC_NACK: Method = Method(60, 120);
    pub(crate) const CONFIRM_SELECT: Method = Method(85, 10);
    pub(crate) const CONFIRM_SELECT_OK: Method = Method(85, 11);
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A method and its arguments.
    Method,
    /// Class, body size and properties of a content.
    Header,
    /// A piece of a content's body.
    Body,
    /// Nothing.
    Heartbeat,
}

/// One frame, lying in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What it carries.
    pub(crate) kind: FrameKind,
    /// Its channel; 0 is the connection itself.
    pub(crate) channel: u16,
    /// What lies between frame header and frame end.
    pub(crate) payload: &'a [u8],
}

/// The server broke the frame format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireError {
    /// A frame type that 0-9-1 does not have.
    FrameKind(u8),
    /// A frame larger than was negotiated.
    FrameSize(usize),
    /// The octet after the payload is not 0xCE.
    FrameEnd(u8),
    /// A payload ended inside a field.
    Short,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameKind(kind) => write!(f, "unknown frame type {kind}"),
            Self::FrameSize(size) => write!(f, "frame of {size} octets exceeds the negotiated size"),
            Self::FrameEnd(octet) => write!(f, "frame ends with {octet:#04x}"),
            Self::Short => f.write_str("frame payload ends inside a field"),
        }
    }
}

/// The first frame of `input` and the octets it takes; none if it is not complete yet.
#[inline]
pub(crate) fn split_frame(input: &[u8], frame_size_max: usize) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Some((head, rest)) = input.split_first_chunk::<FRAME_HEADER_SIZE>() else {
        return Ok(None);
    };
    let kind = match head[0] {
        1 => FrameKind::Method,
        2 => FrameKind::Header,
        3 => FrameKind::Body,
        8 => FrameKind::Heartbeat,
        other => return Err(WireError::FrameKind(other)),
    };
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let total = FRAME_HEADER_SIZE + size + 1;
    if total > frame_size_max {
        return Err(WireError::FrameSize(total));
    }
    if rest.len() <= size {
        return Ok(None);
    }
    if rest[size] != FRAME_END {
        return Err(WireError::FrameEnd(rest[size]));
    }
    let channel = u16::from_be_bytes([head[1], head[2]]);
    Ok(Some((Frame { kind, channel, payload: &rest[..size] }, total)))
}

/// Reads fields from the front of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    /// One octet, or eight packed bits.
    pub(crate) fn octet(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[octet]| octet)
    }

    /// A short unsigned integer.
    pub(crate) fn short(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A long unsigned integer.
    pub(crate) fn long(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A long-long unsigned integer.
    pub(crate) fn long_long(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string.
    pub(crate) fn short_string(&mut self) -> Result<&'a [u8], WireError> {
        let size = usize::from(self.octet()?);
        let (string, rest) = self.0.split_at_checked(size).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(string)
    }

    /// The class and method that open a method frame.
    pub(crate) fn method(&mut self) -> Result<Method, WireError> {
        Ok(Method(self.short()?, self.short()?))
    }
}

/// A value in a table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// A long string.
    Text(&'a str),
    /// A signed long-long that is not negative.
    Long(u64),
}

/// Appends frames to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Output(pub(crate) Vec<u8>);

impl Output {
    /// One octet, or eight packed bits.
    pub(crate) fn octet(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// A short unsigned integer.
    pub(crate) fn short(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A long unsigned integer.
    pub(crate) fn long(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A long-long unsigned integer.
    pub(crate) fn long_long(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A short string; what exceeds 255 octets is cut (all of ours are constants or queue names).
    pub(crate) fn short_string(&mut self, value: &str) -> &mut Self {
        let size = value.len().min(255);
        self.octet(size as u8);
        self.0.extend_from_slice(&value.as_bytes()[..size]);
        self
    }

    /// A long string.
    pub(crate) fn long_string(&mut self, value: &[u8]) -> &mut Self {
        self.long(value.len() as u32);
        self.0.extend_from_slice(value);
        self
    }

    /// A table of these fields.
    pub(crate) fn table(&mut self, fields: &[(&str, Value<'_>)]) -> &mut Self {
        let mut table = Self::default();
        for (name, value) in fields {
            table.short_string(name);
            match value {
                Value::Text(text) => table.octet(b'S').long_string(text.as_bytes()),
                Value::Long(number) => table.octet(b'l').long_long(*number),
            };
        }
        self.long_string(&table.0)
    }

    /// A table without fields.
    pub(crate) fn empty_table(&mut self) -> &mut Self {
        self.long(0)
    }

    /// A frame whose payload is written by `payload`.
    pub(crate) fn frame(&mut self, kind: FrameKind, channel: u16, payload: impl FnOnce(&mut Self)) -> &mut Self {
        self.octet(match kind {
            FrameKind::Method => 1,
            FrameKind::Header => 2,
            FrameKind::Body => 3,
            FrameKind::Heartbeat => 8,
        });
        self.short(channel);
        let size_at = self.0.len();
        self.long(0);
        payload(self);
        let size = (self.0.len() - size_at - 4) as u32;
        self.0[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
        self.octet(FRAME_END)
    }

    /// A method frame.
    pub(crate) fn method(&mut self, channel: u16, method: Method, fields: impl FnOnce(&mut Self)) -> &mut Self {
        self.frame(FrameKind::Method, channel, |out| {
            out.short(method.0).short(method.1);
            fields(out);
        })
    }
}

/// The frames of one method.
pub(crate) fn request(channel: u16, method: Method, fields: impl FnOnce(&mut Output)) -> Vec<u8> {
    let mut out = Output::default();
    out.method(channel, method, fields);
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 4096;

    fn ack() -> Vec<u8> {
        request(CHANNEL, method::BASIC_ACK, |out| {
            out.long_long(7).octet(1);
        })
    }

    #[test]
    fn a_method_frame_has_the_octets_of_the_specification() {
        assert_eq!(ack(), [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0xCE]);
    }

    #[test]
    fn a_frame_is_found_only_when_complete() {
        let bytes = ack();
        for cut in 0..bytes.len() {
            assert_eq!(split_frame(&bytes[..cut], LIMIT), Ok(None), "cut at {cut}");
        }
        let (frame, size) = split_frame(&bytes, LIMIT).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel, size), (FrameKind::Method, CHANNEL, bytes.len()));
        let mut fields = Fields(frame.payload);
        assert_eq!(fields.method(), Ok(method::BASIC_ACK));
        assert_eq!(fields.long_long(), Ok(7));
        assert_eq!(fields.octet(), Ok(1));
        assert_eq!(fields.octet(), Err(WireError::Short));
    }

    #[test]
    fn broken_frames_are_refused() {
        let mut bytes = ack();
        *bytes.last_mut().unwrap() = 0;
        assert_eq!(split_frame(&bytes, LIMIT), Err(WireError::FrameEnd(0)));
        bytes[0] = 4;
        assert_eq!(split_frame(&bytes, LIMIT), Err(WireError::FrameKind(4)));
        assert_eq!(split_frame(&[3, 0, 1, 0, 0, 0x10, 0], LIMIT), Err(WireError::FrameSize(4096 + 8)));
    }

    #[test]
    fn strings_are_bounded_by_the_payload() {
        assert_eq!(Fields(b"\x03abcd").short_string(), Ok(&b"abc"[..]));
        assert_eq!(Fields(b"\x05abcd").short_string(), Err(WireError::Short));
    }
}
