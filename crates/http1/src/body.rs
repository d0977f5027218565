//! The extent of a body: where its bytes lie in the input and where it ends (RFC 9112 §6, §7.1).
//!
//! The decoder removes framing from the front of the caller's buffer and says how many bytes of body now stand
//! there; it never copies body bytes. Framing of chunks is read byte by byte through a state machine, so a
//! verdict cannot depend on how the input was split. Chunk extensions are checked and dropped.

use crate::error::BodyError;
use crate::framing::BodyFraming;
use crate::lines::header_map;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use model::limits::{HTTP_CHUNK_EXTENSION_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TRAILER_BYTES_MAX};

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// This many bytes of body, at least one. Take exactly these before the next call.
    Data(usize),
    /// Nothing more without more input.
    NeedInput,
    /// The body has ended; what follows belongs to the next message.
    End,
}

/// Finds the bytes of one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes of body still allowed.
    allowance: u64,
    /// Bytes of chunk extensions still allowed.
    extension_allowance: usize,
    trailers: Option<HeaderMap>,
}

#[derive(Debug)]
enum State {
    Length { remaining: u64 },
    UntilClose,
    Chunk(Chunk),
    Ended,
}

/// Where in the chunked framing the next byte falls.
#[derive(Debug)]
enum Chunk {
    Size { value: u64, n_digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    Trailer { section: Vec<u8> },
}

impl BodyDecoder {
    /// A decoder for one body of at most `bytes_max` bytes.
    pub fn new(framing: BodyFraming, bytes_max: u64) -> Self {
        let state = match framing {
            BodyFraming::Empty | BodyFraming::Length(0) => State::Ended,
            BodyFraming::Length(remaining) => State::Length { remaining },
            BodyFraming::Chunked => State::Chunk(Chunk::SIZE),
            BodyFraming::UntilClose => State::UntilClose,
        };
        Self { state, allowance: bytes_max, extension_allowance: HTTP_CHUNK_EXTENSION_BYTES_MAX, trailers: None }
    }

    /// Remove framing from the front of `input` and say what stands there. After an error the connection is lost.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<BodyStep, BodyError> {
        match &mut self.state {
            State::Ended => Ok(BodyStep::End),
            _ if input.is_empty() => Ok(BodyStep::NeedInput),
            State::UntilClose => {
                allow(&mut self.allowance, input.len() as u64)?;
                Ok(BodyStep::Data(input.len()))
            }
            State::Length { remaining } => {
                let n_bytes = clamp(*remaining, input.len());
                allow(&mut self.allowance, n_bytes as u64)?;
                *remaining -= n_bytes as u64;
                if *remaining == 0 {
                    self.state = State::Ended;
                }
                Ok(BodyStep::Data(n_bytes))
            }
            State::Chunk(_) => self.decode_chunks(input),
        }
    }

    /// The peer closed. An error unless that is how this body ends, or it had ended.
    pub fn close(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Ended => Ok(()),
            State::UntilClose => {
                self.state = State::Ended;
                Ok(())
            }
            State::Length { .. } | State::Chunk(_) => Err(BodyError::Incomplete),
        }
    }

    /// Whether nothing of the body is left to read. A chunked body ends with its last line, not with its data.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Bytes of body still to come, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Ended => Some(0),
            State::Length { remaining } => Some(remaining),
            State::UntilClose | State::Chunk(_) => None,
        }
    }

    /// The trailer fields, once, after [`BodyStep::End`].
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    fn decode_chunks(&mut self, input: &mut BytesMut) -> Result<BodyStep, BodyError> {
        let mut n_framing = 0;
        while let State::Chunk(chunk) = &mut self.state {
            if let Chunk::Data { remaining } = chunk {
                input.advance(n_framing);
                if input.is_empty() {
                    return Ok(BodyStep::NeedInput);
                }
                let n_bytes = clamp(*remaining, input.len());
                allow(&mut self.allowance, n_bytes as u64)?;
                *remaining -= n_bytes as u64;
                if *remaining == 0 {
                    *chunk = Chunk::DataCr;
                }
                return Ok(BodyStep::Data(n_bytes));
            }
            let Some(byte) = input.get(n_framing) else {
                input.advance(n_framing);
                return Ok(BodyStep::NeedInput);
            };
            n_framing += 1;
            if let Some(section) = chunk.step(*byte, &mut self.extension_allowance)? {
                self.trailers = parse_trailers(section)?;
                self.state = State::Ended;
            }
        }
        input.advance(n_framing);
        Ok(BodyStep::End)
    }
}

impl Chunk {
    const SIZE: Self = Self::Size { value: 0, n_digits: 0 };

    /// Take one byte of framing; the whole trailer section when it ends the body.
    fn step(&mut self, byte: u8, extension_allowance: &mut usize) -> Result<Option<Vec<u8>>, BodyError> {
        match self {
            Self::Size { value, n_digits } => match byte {
                b'\r' if *n_digits > 0 => *self = Self::SizeLf { value: *value },
                b';' if *n_digits > 0 => *self = Self::Extension { value: *value },
                _ => {
                    *value = push_hex_digit(*value, byte, *n_digits)?;
                    *n_digits += 1;
                }
            },
            Self::Extension { value } => match byte {
                b'\r' => *self = Self::SizeLf { value: *value },
                b'\t' | b' '..=b'~' | 0x80.. => {
                    *extension_allowance =
                        extension_allowance.checked_sub(1).ok_or(BodyError::ChunkExtensionsTooLarge)?;
                }
                _ => return Err(BodyError::ChunkExtension),
            },
            Self::SizeLf { value } => match (byte, *value) {
                (b'\n', 0) => *self = Self::Trailer { section: Vec::new() },
                (b'\n', remaining) => *self = Self::Data { remaining },
                _ => return Err(BodyError::ChunkEnding),
            },
            Self::DataCr if byte == b'\r' => *self = Self::DataLf,
            Self::DataLf if byte == b'\n' => *self = Self::SIZE,
            Self::DataCr | Self::DataLf => return Err(BodyError::ChunkEnding),
            Self::Trailer { section } => return push_trailer_byte(section, byte),
            // The caller takes data without stepping through it.
            Self::Data { .. } => {}
        }
        Ok(None)
    }
}

/// At most 2^63 - 1 in at most 16 digits, so that a run of zeros is bounded too.
fn push_hex_digit(value: u64, byte: u8, n_digits: u8) -> Result<u64, BodyError> {
    let digit = char::from(byte).to_digit(16).ok_or(BodyError::ChunkSize)?;
    if n_digits >= 16 || value >> 59 != 0 {
        return Err(BodyError::ChunkSize);
    }
    Ok((value << 4) | u64::from(digit))
}

fn push_trailer_byte(section: &mut Vec<u8>, byte: u8) -> Result<Option<Vec<u8>>, BodyError> {
    let after_cr = section.last() == Some(&b'\r');
    if after_cr != (byte == b'\n') {
        return Err(BodyError::ChunkEnding);
    }
    if section.len() >= HTTP_TRAILER_BYTES_MAX {
        return Err(BodyError::TrailersTooLarge);
    }
    section.push(byte);
    let ended = section == b"\r\n" || section.ends_with(b"\r\n\r\n");
    Ok(ended.then(|| std::mem::take(section)))
}

fn parse_trailers(section: Vec<u8>) -> Result<Option<HeaderMap>, BodyError> {
    if section == b"\r\n" {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let fields = match httparse::parse_headers(&section, &mut fields) {
        Ok(httparse::Status::Complete((n_bytes, fields))) if n_bytes == section.len() => fields,
        Ok(_) => return Err(BodyError::Trailer),
        Err(httparse::Error::TooManyHeaders) => return Err(BodyError::TrailersTooLarge),
        Err(_) => return Err(BodyError::Trailer),
    };
    let copy = Bytes::copy_from_slice(&section);
    let trailers = header_map(&section, fields, &copy).map_err(|_| BodyError::Trailer)?;
    if trailers.keys().any(is_forbidden_trailer) {
        return Err(BodyError::ForbiddenTrailer);
    }
    Ok(Some(trailers))
}

/// Fields that frame, route, authenticate or describe the content (RFC 9110 §6.5.1): a hop that merges trailers
/// into the header would act on them after the decision was made.
pub fn is_forbidden_trailer(name: &HeaderName) -> bool {
    const FORBIDDEN: [HeaderName; 17] = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::WWW_AUTHENTICATE,
        header::COOKIE,
        header::SET_COOKIE,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
    ];
    FORBIDDEN.contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "content_length" | "transfer_encoding")
}

fn allow(allowance: &mut u64, n_bytes: u64) -> Result<(), BodyError> {
    *allowance = allowance.checked_sub(n_bytes).ok_or(BodyError::TooLarge)?;
    Ok(())
}

fn clamp(remaining: u64, available: usize) -> usize {
    usize::try_from(remaining).map_or(available, |remaining| remaining.min(available))
}
