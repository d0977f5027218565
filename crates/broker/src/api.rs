//! The types a driver and the composition root use beside [`crate::Broker`] and [`crate::Link`].

use engine::{EngineError, Ticket};
use protocol::{Event, Request};
use std::fmt;
use std::sync::Arc;

/// Tells whoever waits that there is something for it. Called from any thread, with no lock of the broker held that
/// the called could want; must return at once. Spurious calls are allowed.
pub trait Wake: Send + Sync + 'static {
    /// There is something.
    fn wake(&self);
}

/// What the broker knows of a connection from its accept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionMeta {
    /// The peer's address, for people.
    pub peer: String,
    /// The peer is on this machine, so `guest` may log in.
    pub loopback: bool,
    /// The protocol, such as `AMQP 0-9-1`.
    pub protocol: &'static str,
}

/// How the shell wants the broker to be.
#[derive(Clone, Default)]
pub struct Settings {
    /// Woken when [`crate::Broker::poll_timeout`] became earlier than it last was.
    pub timer: Option<Arc<dyn Wake>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("timer", &self.timer.is_some()).finish()
    }
}

/// What a driver does after [`crate::Link::handle`].
#[derive(Debug)]
pub enum Reply {
    /// Nothing to tell: a publish or a settle. Go on.
    None,
    /// Tell this.
    Now(Event),
    /// Tell this when [`crate::Broker::durable`] has reached the ticket, and poll no request before. The link is
    /// woken then.
    After(Ticket, Event),
    /// Nothing was done yet: hand in the same request again after the next wake, and poll no other before.
    Wait(Request),
}

/// What became of a message published in-process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// It reached a queue.
    pub routed: bool,
    /// It is safe when this is durable; [`Ticket::NONE`] if there is nothing to wait for.
    pub ticket: Ticket,
}

/// Why a broker could not be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The engine refused.
    Engine(EngineError),
    /// A stored record cannot be read: it is damaged or of a newer version.
    Record(String),
    /// The definitions contradict what exists, or themselves; every contradiction.
    Definitions(Vec<String>),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "{error}"),
            Self::Record(what) => write!(f, "cannot read the stored {what}"),
            Self::Definitions(problems) => f.write_str(&problems.join("; ")),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<EngineError> for OpenError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}
