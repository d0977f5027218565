//! What a connection asks of the broker.
//!
//! Names and keys are owned where the request is rare and lie in the message where it is frequent.

use bytes::Bytes;
use model::{ChannelId, ConsumerId, LargeBody, Message, PublishSeq, QueueId, Secret, Seq, Table};
use std::sync::Arc;

/// A user name and its proof.
#[derive(Debug)]
pub struct Login {
    /// Who it claims to be.
    pub user: String,
    /// The proof.
    pub password: Secret,
}

/// A request. The reply is named at each variant; every variant may be answered by [`crate::Event::Refused`].
#[derive(Debug)]
pub enum Request {
    /// Proves who the client is. Reply: `Authenticated`.
    Authenticate(Login),
    /// Opens a vhost for the authenticated user. Reply: `VhostOpened`.
    OpenVhost(String),
    /// Opens a channel. Reply: `ChannelOpened`.
    OpenChannel(ChannelId),
    /// Closes a channel: its consumers end and its unsettled deliveries are requeued. Reply: `ChannelClosed`.
    CloseChannel(ChannelId),
    /// Declares an exchange. Reply: `ExchangeDeclared`.
    DeclareExchange(ChannelId, ExchangeDeclaration),
    /// Deletes an exchange. Reply: `ExchangeDeleted`.
    DeleteExchange {
        /// Where the reply goes.
        channel: ChannelId,
        /// The exchange.
        exchange: String,
        /// Only if nothing is bound to it.
        if_unused: bool,
    },
    /// Binds. Reply: `Bound`.
    Bind(ChannelId, BindingRequest),
    /// Unbinds; unknown bindings are fine. Reply: `Unbound`.
    Unbind(ChannelId, BindingRequest),
    /// Declares a queue. Reply: `QueueDeclared`.
    DeclareQueue(ChannelId, QueueDeclaration),
    /// Deletes a queue; a missing one is fine. Reply: `QueueDeleted`.
    DeleteQueue {
        /// Where the reply goes.
        channel: ChannelId,
        /// The queue.
        queue: String,
        /// Only if it has no consumers.
        if_unused: bool,
        /// Only if it has no ready messages.
        if_empty: bool,
    },
    /// Drops the ready messages of a queue. Reply: `QueuePurged`.
    PurgeQueue {
        /// Where the reply goes.
        channel: ChannelId,
        /// The queue.
        queue: String,
    },
    /// Limits unsettled deliveries. Reply: `QosSet`.
    Qos {
        /// The channel it counts on.
        channel: ChannelId,
        /// Unsettled deliveries; 0 is no limit.
        prefetch: u16,
        /// For all consumers of the channel together, rather than for each made after this.
        global: bool,
    },
    /// Starts a consumer. Reply: `Consuming`.
    Consume(ChannelId, ConsumeRequest),
    /// Ends a consumer; its unsettled deliveries stay with the channel. Reply: `Cancelled`.
    Cancel {
        /// Where the reply goes.
        channel: ChannelId,
        /// The consumer.
        consumer: ConsumerId,
    },
    /// Takes one message. Reply: `Got` or `GetEmpty`.
    Get {
        /// Where the reply goes.
        channel: ChannelId,
        /// The queue.
        queue: String,
        /// It counts as settled when handed out.
        no_ack: bool,
    },
    /// Requeues everything the channel has not settled. Reply: `Recovered`.
    Recover(ChannelId),
    /// A step of a channel's transactions. Reply: `TxDone`.
    Tx(ChannelId, Tx),
    /// Publishes. No reply unless refused; see [`Publish`].
    Publish(Publish),
    /// Settles deliveries. No reply unless refused.
    Settle(Settle),
    /// Begins a message whose body is too large for memory; its parts follow. No reply unless refused. Whatever ends the
    /// channel takes it back.
    BeginBody {
        /// The channel it comes on, which has no other body under way.
        channel: ChannelId,
        /// Bytes of the body.
        len: u64,
    },
    /// The next part of the channel's body. No reply unless refused.
    AppendBody {
        /// The channel.
        channel: ChannelId,
        /// What comes next.
        part: Bytes,
    },
    /// Publishes a message whose body is the channel's, which is whole; in the message there is none. No reply unless
    /// refused.
    PublishLarge(Box<Publish>),
}

/// A piece of a large body that a connection wants to send next.
#[derive(Debug, Clone)]
pub struct BodyRead {
    /// The body.
    pub body: Arc<LargeBody>,
    /// Where the piece begins.
    pub at: u64,
}

/// What is asked when an exchange is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeDeclaration {
    /// Its name.
    pub exchange: String,
    /// Its type as the client wrote it.
    pub kind: String,
    /// Only check that it exists.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Arguments as the client wrote them.
    pub arguments: Table,
}

/// What is asked when a queue is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueDeclaration {
    /// Its name; empty asks the server for one, which is `generated`.
    pub queue: String,
    /// The name it gets if `queue` is empty. The connection makes it, since it has the name source.
    pub generated: Option<String>,
    /// Only check that it exists.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// It belongs to this connection and goes with it.
    pub exclusive: bool,
    /// It goes when its last consumer goes.
    pub auto_delete: bool,
    /// Arguments as the client wrote them.
    pub arguments: Table,
}

/// What a binding leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A queue.
    Queue(String),
    /// Another exchange.
    Exchange(String),
}

/// A binding to make or to remove.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingRequest {
    /// The exchange it starts at.
    pub source: String,
    /// Where it leads.
    pub destination: Destination,
    /// The key, whose meaning is the exchange's.
    pub routing_key: String,
    /// Arguments as the client wrote them.
    pub arguments: Table,
}

/// What is asked when a consumer starts.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumeRequest {
    /// The queue.
    pub queue: String,
    /// The connection's name for the consumer, unique in it.
    pub consumer: ConsumerId,
    /// The client's name for it, for people and errors.
    pub tag: String,
    /// Deliveries count as settled when handed out.
    pub no_ack: bool,
    /// No other consumer may be on the queue.
    pub exclusive: bool,
    /// Arguments as the client wrote them.
    pub arguments: Table,
}

/// A message to route.
#[derive(Debug)]
pub struct Publish {
    /// The channel it came on.
    pub channel: ChannelId,
    /// The message; exchange and routing key are in it.
    pub message: Message,
    /// More routing keys (`CC` and `BCC`). Empty, so without memory, for almost every message.
    pub extra_keys: Vec<Bytes>,
    /// Give it back if it reaches no queue.
    pub mandatory: bool,
    /// Tell when it is safe, by this number.
    pub confirm: Option<PublishSeq>,
    /// The user the message claims to be from, to be checked against the connection's.
    pub user_id: Option<Bytes>,
}

/// How deliveries are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done with.
    Ack,
    /// Not done: back to its place.
    Requeue,
    /// Refused: to the dead-letter exchange, or dropped.
    Reject,
}

/// A step of a channel's transactions.
#[derive(Debug)]
pub enum Tx {
    /// From here on, what is published on the channel is routed at once and kept back until a commit.
    Select,
    /// What was kept back and these settles, in their order, take effect as one; the reply comes when that is safe.
    Commit(Vec<Settle>),
    /// What was kept back is dropped.
    Rollback,
}

/// By what a delivery is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The queue it was taken from.
    pub queue: QueueId,
    /// Its place there.
    pub seq: Seq,
    /// The consumer it went to; `None` if it was got.
    pub consumer: Option<ConsumerId>,
}

/// Deliveries of a channel to settle alike.
#[derive(Debug)]
pub struct Settle {
    /// The channel they were delivered on.
    pub channel: ChannelId,
    /// How.
    pub settlement: Settlement,
    /// Which, in the order the client settled them.
    pub receipts: Vec<Receipt>,
}
