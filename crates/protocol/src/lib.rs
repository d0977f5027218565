//! The protocol port: what a client connection of any protocol may ask of the broker and is told, and the sans-IO
//! [`Connection`] that every protocol implements.
//!
//! How a driver runs a connection, for each piece of input or wake-up:
//!
//! 1. [`Connection::handle_input`] with the bytes read; it parses what is whole and keeps requests.
//! 2. [`Connection::poll_request`] until it is empty. A [`Request`] other than a publish or a settle gets exactly one
//!    reply through [`Connection::handle_event`] before the next request is polled; a publish or settle gets one only
//!    if it is refused, and then before the next request is polled too. A reply may have to wait until something is durable; then polling waits too.
//! 3. Events that nobody asked for (deliveries, confirms, cancels) go to [`Connection::handle_event`] as they come.
//! 4. What is in [`Outgoing`] is written to the socket.
//! 5. While little is outgoing, [`Connection::poll_body`]: what it asks for comes as [`Event::BodyPiece`], and it asks for
//!    nothing more before that. While [`Connection::is_sending_body`], deliveries are kept from it; replies are not.
//!
//! Invariants: a connection performs no IO, reads no clock, draws no random numbers and never blocks; it can be run
//! from a script. Requests are answered in order. Nothing a peer sends makes it panic.

mod event;
mod format;
mod outgoing;
mod refusal;
mod request;

pub use event::{Confirmed, Event, Returned};
pub use format::{Format, Formats, Malformed};
pub use outgoing::Outgoing;
pub use refusal::{Refusal, RefusalKind};
pub use request::{
    BindingRequest, BodyRead, ConsumeRequest, Destination, ExchangeDeclaration, Login, Publish, QueueDeclaration,
    Receipt, Request, Settle, Settlement, Tx,
};

use model::{Message, Mono, Now};
use std::borrow::Cow;

/// What a connection wants the driver to do after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Go on: read, write, ask again.
    Open,
    /// Write what is outgoing, read on (the peer's answer is awaited), ask nothing of the broker any more.
    Closing,
    /// Write what is outgoing, then close the socket.
    Closed,
}

/// A client connection, for people: the management page and the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The protocol and version, such as `AMQP 0-9-1`.
    pub protocol: &'static str,
    /// The user, once authenticated.
    pub user: Option<String>,
    /// The vhost, once open.
    pub vhost: Option<String>,
    /// What the client calls itself.
    pub client: Option<String>,
    /// Open channels.
    pub channels: usize,
}

/// One connection of one protocol.
pub trait Connection: Send {
    /// Takes in what was read and returns how many bytes it used; the driver keeps the rest and offers it again with
    /// more behind it. Never uses part of a frame it will need again.
    fn handle_input(&mut self, input: &[u8], now: Now, out: &mut Outgoing) -> usize;

    /// The next thing to ask of the broker.
    fn poll_request(&mut self) -> Option<Request>;

    /// A message that will be asked to be published soon, some requests after the next one. A hint: what is known of its way
    /// can be looked for in the meantime.
    fn upcoming(&self) -> Option<&Message> {
        None
    }

    /// The next piece of a large body to send, if one is under way.
    fn poll_body(&mut self) -> Option<BodyRead> {
        None
    }

    /// Whether a large body is under way. What has to wait for it counts in [`Connection::bytes_behind_body`].
    fn is_sending_body(&self) -> bool {
        false
    }

    /// Bytes that will be outgoing once a large body is through.
    fn bytes_behind_body(&self) -> usize {
        0
    }

    /// Takes in a reply, or something nobody asked for.
    fn handle_event(&mut self, event: Event, now: Now, out: &mut Outgoing);

    /// To be called when [`Connection::poll_timeout`] is due.
    fn handle_timeout(&mut self, now: Now, out: &mut Outgoing);

    /// The driver does not read for now, for a reason of the broker's: the peer's silence says nothing about the peer.
    fn note_unread(&mut self, now: Now);

    /// When the connection next wants [`Connection::handle_timeout`].
    fn poll_timeout(&self) -> Option<Mono>;

    /// The server wants to stop: say goodbye in the protocol's words, with the reason for people.
    fn shut_down(&mut self, reason: &str, now: Now, out: &mut Outgoing);

    /// What the driver should do next.
    fn status(&self) -> Status;

    /// Why it ended or is ending, for the log, if there is something to say.
    fn failure(&self) -> Option<Cow<'_, str>>;

    /// Who this is, for people.
    fn info(&self) -> ConnectionInfo;
}
