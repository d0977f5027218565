//! The broker as the shell sees it.

use crate::api::{ConnectionMeta, OpenError, Published, Settings, Wake};
use crate::link::Link;
use engine::{Engine, Pressure, Ticket};
use model::definitions::Definitions;
use model::{Message, Mono, Now, Principal, QueueId};
use protocol::{Formats, Refusal, RefusalKind};
use std::sync::Arc;

/// The broker. One per process; shared by every connection.
pub struct Broker {
    engine: Arc<dyn Engine>,
}

impl Broker {
    /// Opens the broker on what the engine has kept, makes what must exist and applies `definitions`.
    ///
    /// # Errors
    /// [`OpenError`]; a contradiction in the definitions lists all of them.
    pub fn open(
        engine: Arc<dyn Engine>,
        _formats: Formats,
        _definitions: &Definitions,
        _settings: Settings,
        _now: Now,
    ) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self { engine }))
    }

    /// Adds what `definitions` name, verifies what exists already; users and their permissions become exactly these
    /// if any user is named. All or nothing.
    ///
    /// # Errors
    /// Every contradiction.
    pub fn apply_definitions(&self, _definitions: &Definitions, _now: Now) -> Result<Ticket, Vec<String>> {
        Ok(Ticket::NONE)
    }

    /// Declares a durable queue if there is none of that name.
    ///
    /// # Errors
    /// No such vhost, or the engine refuses.
    pub fn ensure_queue(&self, _vhost: &str, _name: &str, _now: Now) -> Result<Ticket, Refusal> {
        Ok(Ticket::NONE)
    }

    /// A new connection of a client that is yet to log in.
    pub fn connect(self: &Arc<Self>, _meta: ConnectionMeta, _wake: Arc<dyn Wake>) -> Link {
        Link {}
    }

    /// A connection from within the process that acts as `principal`, with its permissions and without a password.
    ///
    /// # Errors
    /// The user or the vhost does not exist, or the user has no permissions there.
    pub fn connect_as(
        self: &Arc<Self>,
        _meta: ConnectionMeta,
        principal: &Principal,
        _wake: Arc<dyn Wake>,
    ) -> Result<Link, Refusal> {
        Err(Refusal::new(RefusalKind::NotAllowed, format!("vhost {} not found", principal.vhost)))
    }

    /// Publishes one message as `principal`; exchange and routing key are in the message.
    ///
    /// # Errors
    /// What a client would be refused for, or the engine cannot take it in (`ResourceError`: worth retrying).
    pub fn publish(&self, _principal: &Principal, _message: Message, _now: Now) -> Result<Published, Refusal> {
        Ok(Published { routed: false, ticket: Ticket::NONE })
    }

    /// The highest ticket that is durable.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.engine.durable()
    }

    /// Wakes once when `ticket` is durable, at once if it is.
    pub fn when_durable(&self, _ticket: Ticket, wake: Arc<dyn Wake>) {
        wake.wake();
    }

    /// The engine says: everything up to `ticket` is durable.
    pub fn on_durable(&self, _ticket: Ticket, _now: Now) {}

    /// The engine says: entries of this queue can be handed out.
    pub fn on_readable(&self, _queue: QueueId, _now: Now) {}

    /// The engine says: publishers must stop, or may go on.
    pub fn on_pressure(&self, _pressure: Pressure, _now: Now) {}

    /// To be called when [`Broker::poll_timeout`] is due: expires messages and queues.
    pub fn handle_timeout(&self, _now: Now) {}

    /// When [`Broker::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        None
    }
}
