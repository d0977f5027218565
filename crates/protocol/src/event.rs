//! What a connection is told: replies in the order of its requests, and events nobody asked for.

use crate::refusal::Refusal;
use crate::request::Receipt;
use bytes::Bytes;
use model::{ChannelId, ConsumerId, Message, PublishSeq};

/// Something a connection is told.
#[derive(Debug)]
pub enum Event {
    /// Reply: the client is who it claims to be.
    Authenticated,
    /// Reply: the vhost is open.
    VhostOpened,
    /// Reply: the channel is open.
    ChannelOpened(ChannelId),
    /// Reply: the channel is closed.
    ChannelClosed(ChannelId),
    /// Reply: the exchange exists as asked.
    ExchangeDeclared(ChannelId),
    /// Reply: the exchange is gone.
    ExchangeDeleted(ChannelId),
    /// Reply: the binding exists.
    Bound(ChannelId),
    /// Reply: the binding is gone.
    Unbound(ChannelId),
    /// Reply: the queue exists as asked.
    QueueDeclared {
        /// The channel that asked.
        channel: ChannelId,
        /// Its name.
        queue: String,
        /// Ready messages.
        messages: u64,
        /// Consumers.
        consumers: u32,
    },
    /// Reply: the queue is gone.
    QueueDeleted {
        /// The channel that asked.
        channel: ChannelId,
        /// Ready messages that went with it.
        messages: u64,
    },
    /// Reply: the queue is empty.
    QueuePurged {
        /// The channel that asked.
        channel: ChannelId,
        /// Messages dropped.
        messages: u64,
    },
    /// Reply: the limit holds.
    QosSet(ChannelId),
    /// Reply: the consumer has started; deliveries follow.
    Consuming {
        /// The channel that asked.
        channel: ChannelId,
        /// The consumer.
        consumer: ConsumerId,
    },
    /// Reply: the consumer has ended; no delivery for it follows.
    Cancelled {
        /// The channel that asked.
        channel: ChannelId,
        /// The consumer.
        consumer: ConsumerId,
    },
    /// Reply: here is a message.
    Got {
        /// The channel that asked.
        channel: ChannelId,
        /// By what it is settled.
        receipt: Receipt,
        /// The message.
        message: Message,
        /// It may have been delivered before.
        redelivered: bool,
        /// Ready messages left.
        remaining: u64,
    },
    /// Reply: the queue has no ready message.
    GetEmpty(ChannelId),
    /// Reply: the unsettled deliveries of the channel are back in their queues.
    Recovered(ChannelId),
    /// Reply: the step of the transaction is done; after a commit, everything in it is safe.
    TxDone(ChannelId),
    /// Instead of a reply: no. Also for a publish or a settle.
    Refused {
        /// The channel that asked; `CONNECTION` for requests of the connection itself.
        channel: ChannelId,
        /// What and why.
        refusal: Refusal,
    },
    /// A delivery for a consumer.
    Deliver {
        /// The consumer's channel.
        channel: ChannelId,
        /// The consumer.
        consumer: ConsumerId,
        /// By what it is settled.
        receipt: Receipt,
        /// The message.
        message: Message,
        /// It may have been delivered before.
        redelivered: bool,
    },
    /// A mandatory message reached no queue. Comes before its confirm.
    Returned(Returned),
    /// Published messages are safe, or were not taken.
    Confirmed(Confirmed),
    /// The server ended a consumer: its queue is gone.
    ConsumerLost {
        /// The consumer's channel.
        channel: ChannelId,
        /// The consumer.
        consumer: ConsumerId,
    },
    /// What [`crate::Connection::poll_body`] asked for; `None` if it cannot be read or is not what was written.
    BodyPiece(Option<Bytes>),
    /// Publishers are not being read for now; why, in RabbitMQ's words (`low on memory`, `low on disk`).
    Blocked(&'static str),
    /// Publishers are read again.
    Unblocked,
}

/// A message that comes back.
#[derive(Debug)]
pub struct Returned {
    /// The channel it was published on.
    pub channel: ChannelId,
    /// The message.
    pub message: Message,
}

/// Published messages of a channel, by number, all of `first..=last` that were not told of before.
///
/// Confirms of a channel come in the order of its publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// The channel they were published on.
    pub channel: ChannelId,
    /// The first.
    pub first: PublishSeq,
    /// The last.
    pub last: PublishSeq,
    /// Whether they were taken; if not, nothing was kept.
    pub accepted: bool,
}
