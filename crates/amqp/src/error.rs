//! Reply codes, and which mistake gets which (§1.2 and RabbitMQ's usage).
//!
//! A soft code closes the channel, a hard one the connection. Texts are `<NAME> - <explanation>`, cut to 255 bytes,
//! with the numbers of the method that failed.

use crate::wire::MethodId;
use crate::wire::frame::{Frame, FrameError};
use crate::wire::reader::Malformed;
use model::limits::NAME_BYTES_MAX;
use protocol::RefusalKind;
use std::borrow::Cow;
use std::fmt::Write as _;

/// A reply code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    AccessRefused,
    NotFound,
    ResourceLocked,
    PreconditionFailed,
    ConnectionForced,
    FrameError,
    SyntaxError,
    CommandInvalid,
    ChannelError,
    UnexpectedFrame,
    ResourceError,
    NotAllowed,
    NotImplemented,
    InternalError,
}

impl Code {
    /// Number and name.
    pub(crate) fn reply(self) -> (u16, &'static str) {
        match self {
            Self::AccessRefused => (403, "ACCESS_REFUSED"),
            Self::NotFound => (404, "NOT_FOUND"),
            Self::ResourceLocked => (405, "RESOURCE_LOCKED"),
            Self::PreconditionFailed => (406, "PRECONDITION_FAILED"),
            Self::ConnectionForced => (320, "CONNECTION_FORCED"),
            Self::FrameError => (501, "FRAME_ERROR"),
            Self::SyntaxError => (502, "SYNTAX_ERROR"),
            Self::CommandInvalid => (503, "COMMAND_INVALID"),
            Self::ChannelError => (504, "CHANNEL_ERROR"),
            Self::UnexpectedFrame => (505, "UNEXPECTED_FRAME"),
            Self::ResourceError => (506, "RESOURCE_ERROR"),
            Self::NotAllowed => (530, "NOT_ALLOWED"),
            Self::NotImplemented => (540, "NOT_IMPLEMENTED"),
            Self::InternalError => (541, "INTERNAL_ERROR"),
        }
    }

    /// Whether the connection ends, not only the channel.
    pub(crate) fn is_hard(self) -> bool {
        match self {
            Self::AccessRefused | Self::NotFound | Self::ResourceLocked | Self::PreconditionFailed => false,
            Self::ConnectionForced
            | Self::FrameError
            | Self::SyntaxError
            | Self::CommandInvalid
            | Self::ChannelError
            | Self::UnexpectedFrame
            | Self::ResourceError
            | Self::NotAllowed
            | Self::NotImplemented
            | Self::InternalError => true,
        }
    }
}

impl From<RefusalKind> for Code {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::LoginRefused | RefusalKind::AccessRefused => Self::AccessRefused,
            RefusalKind::NotFound => Self::NotFound,
            RefusalKind::ResourceLocked => Self::ResourceLocked,
            RefusalKind::PreconditionFailed => Self::PreconditionFailed,
            RefusalKind::NotAllowed => Self::NotAllowed,
            RefusalKind::CommandInvalid => Self::CommandInvalid,
            RefusalKind::NotImplemented => Self::NotImplemented,
            RefusalKind::ResourceError => Self::ResourceError,
            RefusalKind::InternalError => Self::InternalError,
        }
    }
}

/// A broken rule: what the peer is told before its channel or connection is closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    pub(crate) code: Code,
    pub(crate) text: Cow<'static, str>,
    pub(crate) method: MethodId,
}

impl Violation {
    pub(crate) fn new(code: Code, method: MethodId, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), method }
    }

    /// Bytes of a method or header that make no sense.
    pub(crate) fn malformed(method: MethodId, why: Malformed) -> Self {
        Self::new(Code::SyntaxError, method, why.to_string())
    }

    /// A frame that may not come here; in RabbitMQ's words.
    pub(crate) fn unexpected_frame(frame: &Frame<'_>) -> Self {
        Self::new(Code::UnexpectedFrame, MethodId::NONE, snippet(frame.kind, frame.payload))
    }

    /// A frame of no known type; in RabbitMQ's words.
    pub(crate) fn unknown_frame(frame: &Frame<'_>) -> Self {
        let text = format!("{}: unknown_frame", snippet(frame.kind, frame.payload));
        Self::new(Code::FrameError, MethodId::NONE, text)
    }

    /// The text as it goes out: at most 255 bytes.
    pub(crate) fn reply_text(&self) -> String {
        let (_, name) = self.code.reply();
        let mut text = format!("{name} - {}", self.text);
        text.truncate(text.floor_char_boundary(NAME_BYTES_MAX));
        text
    }
}

impl From<FrameError<'_>> for Violation {
    fn from(error: FrameError<'_>) -> Self {
        let text = match error {
            FrameError::TooLarge { kind, size, max } => {
                format!("{}: {{frame_too_large,{size},{max}}}", snippet(kind, &[]))
            }
            FrameError::BadEnd { frame, end } => {
                format!("{}: {{invalid_frame_end_marker,{end}}}", snippet(frame.kind, frame.payload))
            }
        };
        Self::new(Code::FrameError, MethodId::NONE, text)
    }
}

/// `type 1, first 16 octets = <<0,10,…>>`, or `<<"text">>` if it is text.
fn snippet(kind: u8, payload: &[u8]) -> String {
    let (shown, amount) = match payload.split_at_checked(16) {
        Some((first, rest)) if !rest.is_empty() => (first, "first 16"),
        _ => (payload, "all"),
    };
    let mut text = format!("type {kind}, {amount} octets = <<");
    if !shown.is_empty() && shown.iter().all(|b| matches!(b, b' '..=b'~')) {
        let _ = write!(text, "\"{}\"", shown.escape_ascii());
    } else {
        for (i, byte) in shown.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(text, "{comma}{byte}");
        }
    }
    text.push_str(">>");
    text
}
