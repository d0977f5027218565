//! One connection's side of the broker.

use crate::api::Reply;
use model::{ConnectionId, Now};
use protocol::{ConnectionInfo, Event, Request};

/// A connection to the broker, of a client or of a part of this process. Owned by the task that drives it.
///
/// Dropping it closes it.
pub struct Link {}

impl Link {
    /// Its id, unique in the process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        ConnectionId(0)
    }

    /// Takes in a request. Publishes and acknowledgements are collected until [`Link::flush`].
    pub fn handle(&mut self, _request: Request, _now: Now) -> Reply {
        Reply::None
    }

    /// Gives what was collected to the engine. To be called when there is no further request for now.
    pub fn flush(&mut self, _now: Now) {}

    /// The next thing to tell: returns, confirms, deliveries, lost consumers, blocked and unblocked.
    pub fn poll_event(&mut self, _now: Now) -> Option<Event> {
        None
    }

    /// Whether the driver should read more from the peer. If not, the link is woken when it changes.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        true
    }

    /// To be called after each write: `outgoing` bytes are still to be written. What was written makes room for
    /// deliveries.
    pub fn written(&mut self, _outgoing: usize, _now: Now) {}

    /// What is shown to people of this connection.
    pub fn set_info(&mut self, _info: ConnectionInfo) {}

    /// Ends it: consumers go, unsettled deliveries are requeued, exclusive queues are deleted.
    pub fn close(&mut self, _now: Now) {}
}
