//! A no, with its reason.
//!
//! The kinds say whose fault it is and how far it reaches; each protocol maps them to its own codes in one
//! exhaustive match. The text is the explanation RabbitMQ gives, without the name of the code.

use std::fmt;

/// Why a request was refused, as far as a protocol needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// Login failed.
    LoginRefused,
    /// The user may not do this. (AMQP 403)
    AccessRefused,
    /// The thing does not exist. (AMQP 404)
    NotFound,
    /// The thing belongs to another connection. (AMQP 405)
    ResourceLocked,
    /// It exists differently, is in use, or an argument is wrong. (AMQP 406)
    PreconditionFailed,
    /// The client broke a rule of the protocol's session, such as an unknown vhost. (AMQP 530)
    NotAllowed,
    /// The request names something that does not exist as a kind of thing. (AMQP 503)
    CommandInvalid,
    /// Not built yet, by name. (AMQP 540)
    NotImplemented,
    /// The server cannot, for lack of a resource. Worth retrying later. (AMQP 506)
    ResourceError,
    /// The server failed. (AMQP 541)
    InternalError,
}

/// A no, with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// The explanation.
    pub text: String,
}

impl Refusal {
    /// A refusal of that kind.
    #[must_use]
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
