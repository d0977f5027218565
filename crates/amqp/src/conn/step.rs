//! What a connection has parsed and not done yet, strictly in order.
//!
//! Requests wait for the broker to take them; things the connection does alone wait behind them, so that a client
//! never sees an answer or an error overtake what it asked before.

use crate::error::Violation;
use crate::wire::MethodId;
use model::{ChannelId, ConsumerId};
use protocol::Request;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask the broker.
    Ask(Request, Reply),
    /// Answer without asking.
    Tell(ChannelId, Tell),
    /// Close a channel with an error.
    FailChannel(ChannelId, Violation),
    /// Close the connection with an error.
    FailConnection(Violation),
    /// The client closed the connection.
    ConnectionCloseOk,
}

/// Which reply a request gets, and what the client is told then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) channel: ChannelId,
    /// The method that asked.
    pub(super) method: MethodId,
    pub(super) then: Then,
}

/// What the client is told when the reply is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// No reply comes: publish and settle.
    NoReply,
    /// A reply comes; the client hears nothing (`nowait`, or we closed the channel).
    Silent,
    /// `connection.tune`
    Tune,
    /// `connection.open-ok`
    ConnectionOpenOk,
    /// `channel.open-ok`
    ChannelOpenOk,
    /// `channel.close-ok`, and the channel is gone.
    ChannelCloseOk,
    /// A method without arguments.
    Bare(MethodId),
    /// `queue.declare-ok`
    QueueDeclareOk,
    /// A method with a count of messages.
    Count(MethodId),
    /// `basic.consume-ok`
    ConsumeOk(ConsumerId),
    /// `basic.cancel-ok`
    CancelOk(ConsumerId),
    /// `basic.cancel` was sent with `nowait`.
    CancelSilent(ConsumerId),
    /// `basic.get-ok` or `basic.get-empty`
    Get {
        /// Nothing is kept to be settled.
        no_ack: bool,
    },
}

/// Answers that need no broker.
#[derive(Debug)]
pub(super) enum Tell {
    /// `channel.flow-ok`
    Flow,
    /// `access.request-ok`
    AccessRequest,
    /// `confirm.select-ok`
    ConfirmSelect,
    /// `channel.close-ok`
    ChannelClose,
    /// `basic.recover-ok`
    Recover,
    /// `basic.cancel-ok` for a consumer that is not there.
    Cancel(String),
}

impl Step {
    /// The channel it is about; `None` for the connection.
    pub(super) fn channel(&self) -> Option<ChannelId> {
        match self {
            Self::Ask(_, reply) => Some(reply.channel),
            Self::Tell(channel, _) | Self::FailChannel(channel, _) => Some(*channel),
            Self::FailConnection(_) | Self::ConnectionCloseOk => None,
        }
    }
}
