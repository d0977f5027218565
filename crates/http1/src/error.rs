//! Why a message was refused, in three groups: the head's syntax, its framing fields, the body.
//!
//! A request's error maps to one status in [`RequestError::status`]; a response's error has none, a gateway
//! answers 502. After any of them the connection must be closed: the end of the message is unknown.

use http::StatusCode;
use std::fmt;

/// The syntax of a head was wrong, in either role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The request line or status line is not one.
    StartLine,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A line does not end in exactly CR LF, or more than one empty line precedes the head.
    LineEnding,
    /// A field name is not a token, is followed by whitespace, or the line is folded.
    FieldName,
    /// A field value holds a control character.
    FieldValue,
    /// More than `HTTP_HEADERS_MAX` fields.
    TooManyFields,
    /// More than `HTTP_HEAD_BYTES_MAX` bytes.
    TooLarge,
}

/// The fields that frame a message contradict each other or are not in the one form accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// Content-Length and Transfer-Encoding in one message.
    LengthAndEncoding,
    /// More than one Content-Length, equal or not.
    DuplicateLength,
    /// A Content-Length that is not digits, is a list, or exceeds 2^63 - 1.
    InvalidLength,
    /// More than one Transfer-Encoding.
    DuplicateEncoding,
    /// A Transfer-Encoding other than exactly `chunked`.
    UnsupportedEncoding,
    /// A Transfer-Encoding in an HTTP/1.0 message.
    EncodingInHttp10,
    /// Connection names a field that frames or routes the message, so that a hop would remove it.
    ConnectionNamesFraming,
    /// A field that lenient peers read as a framing field (`content_length`, `transfer_encoding`).
    LookAlikeField,
}

/// Why a request head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The head's syntax.
    Head(HeadError),
    /// The framing fields.
    Framing(FramingError),
    /// The HTTP/2 preface on a connection that speaks HTTP/1.
    Http2Preface,
    /// The method is too long or not a token.
    Method,
    /// CONNECT or TRACE, which a gateway does not serve.
    MethodNotAllowed,
    /// The target is longer than `HTTP_TARGET_BYTES_MAX`.
    TargetTooLong,
    /// The target has a form or a character that is not allowed.
    Target,
    /// HTTP/1.1 without Host.
    MissingHost,
    /// More than one Host.
    DuplicateHost,
    /// Host is not `name[:port]`.
    InvalidHost,
    /// The target's authority and Host differ.
    HostMismatch,
    /// An Expect other than `100-continue`.
    Expectation,
}

/// Why a response head was refused; the gateway answers 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// The head's syntax.
    Head(HeadError),
    /// The framing fields.
    Framing(FramingError),
    /// A switch of protocols or a tunnel that was not asked for.
    UnexpectedUpgrade,
}

/// Why a body was refused. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk size that is not 1 to 16 hexadecimal digits, or exceeds 2^63 - 1.
    ChunkSize,
    /// A control character in a chunk extension.
    ChunkExtension,
    /// Chunk extensions beyond `HTTP_CHUNK_EXTENSION_BYTES_MAX` in total.
    ChunkExtensionsTooLarge,
    /// A line or a chunk does not end in exactly CR LF.
    ChunkEnding,
    /// A trailer section that is not valid fields.
    Trailer,
    /// A trailer field that frames, routes or authenticates the message.
    ForbiddenTrailer,
    /// A trailer section beyond `HTTP_TRAILER_BYTES_MAX` or `HTTP_HEADERS_MAX`.
    TrailersTooLarge,
    /// More body than the limit given to the decoder.
    TooLarge,
    /// The peer closed before the body's end.
    Incomplete,
}

impl RequestError {
    /// The status to answer before closing.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Head(HeadError::TooManyFields | HeadError::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Head(
                HeadError::StartLine
                | HeadError::Version
                | HeadError::LineEnding
                | HeadError::FieldName
                | HeadError::FieldValue,
            )
            | Self::Framing(_)
            | Self::Http2Preface
            | Self::Method
            | Self::Target
            | Self::MissingHost
            | Self::DuplicateHost
            | Self::InvalidHost
            | Self::HostMismatch => StatusCode::BAD_REQUEST,
        }
    }
}

impl BodyError {
    /// The status to answer, if no response was begun, before closing.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkExtensionsTooLarge
            | Self::ChunkEnding
            | Self::Trailer
            | Self::ForbiddenTrailer
            | Self::TrailersTooLarge
            | Self::Incomplete => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName => Self::FieldName,
            httparse::Error::HeaderValue => Self::FieldValue,
            httparse::Error::NewLine => Self::LineEnding,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
            httparse::Error::Status | httparse::Error::Token => Self::StartLine,
        }
    }
}

impl From<HeadError> for RequestError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl From<FramingError> for RequestError {
    fn from(error: FramingError) -> Self {
        Self::Framing(error)
    }
}

impl From<HeadError> for ResponseError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl From<FramingError> for ResponseError {
    fn from(error: FramingError) -> Self {
        Self::Framing(error)
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartLine => "malformed start line",
            Self::Version => "unsupported HTTP version",
            Self::LineEnding => "line does not end in CR LF",
            Self::FieldName => "malformed header field name",
            Self::FieldValue => "control character in a header field value",
            Self::TooManyFields => "too many header fields",
            Self::TooLarge => "head too large",
        })
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LengthAndEncoding => "both content-length and transfer-encoding",
            Self::DuplicateLength => "more than one content-length",
            Self::InvalidLength => "invalid content-length",
            Self::DuplicateEncoding => "more than one transfer-encoding",
            Self::UnsupportedEncoding => "transfer-encoding is not exactly `chunked`",
            Self::EncodingInHttp10 => "transfer-encoding in an HTTP/1.0 message",
            Self::ConnectionNamesFraming => "connection names a framing field",
            Self::LookAlikeField => "field resembles a framing field",
        })
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head(error) => return error.fmt(f),
            Self::Framing(error) => return error.fmt(f),
            Self::Http2Preface => "HTTP/2 preface on an HTTP/1 connection",
            Self::Method => "malformed method",
            Self::MethodNotAllowed => "method not served by a gateway",
            Self::TargetTooLong => "request target too long",
            Self::Target => "malformed request target",
            Self::MissingHost => "missing host",
            Self::DuplicateHost => "more than one host",
            Self::InvalidHost => "invalid host",
            Self::HostMismatch => "host differs from the request target",
            Self::Expectation => "unknown expectation",
        })
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => error.fmt(f),
            Self::Framing(error) => error.fmt(f),
            Self::UnexpectedUpgrade => f.write_str("switch of protocols that was not asked for"),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChunkSize => "malformed chunk size",
            Self::ChunkExtension => "control character in a chunk extension",
            Self::ChunkExtensionsTooLarge => "chunk extensions too large",
            Self::ChunkEnding => "chunk does not end in CR LF",
            Self::Trailer => "malformed trailer section",
            Self::ForbiddenTrailer => "forbidden trailer field",
            Self::TrailersTooLarge => "trailer section too large",
            Self::TooLarge => "body too large",
            Self::Incomplete => "connection closed inside a body",
        })
    }
}

impl std::error::Error for HeadError {}
impl std::error::Error for FramingError {}
impl std::error::Error for RequestError {}
impl std::error::Error for ResponseError {}
impl std::error::Error for BodyError {}
