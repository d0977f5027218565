//! What a plugin may ask of the rest of the program.
//!
//! Only services that exist are here: publishing. The composition root implements the trait.

use bytes::Bytes;
use model::{Principal, Properties};
use std::future::Future;
use std::pin::Pin;

/// A future that owns all it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The program's services, as plugins see them.
pub trait Services: Send + Sync {
    /// Publishes a message.
    ///
    /// The future resolves when the promise of the message holds: a persistent message in a durable queue is covered
    /// by `fdatasync`, any other is enqueued. Dropping the future does not take the message back.
    fn publish(&self, publish: Publish) -> BoxFuture<Result<Published, PublishError>>;
}

/// One message to publish.
#[derive(Clone, PartialEq, Debug)]
pub struct Publish {
    /// Who publishes, and in which vhost.
    pub principal: Principal,
    /// The exchange; empty is the default exchange, whose routing key is a queue's name.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Properties; `delivery_mode` 2 asks for durability.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
    /// A message that no queue takes is [`PublishError::NotRouted`] instead of dropped.
    pub mandatory: bool,
    /// How long the promise may take before [`PublishError::Timeout`].
    pub timeout_ms: u32,
}

/// The message is where it was promised to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Number of queues that took it.
    pub n_queues: u32,
}

/// Why a message was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublishError {
    /// No such vhost or exchange. Retrying does not help.
    NotFound(String),
    /// No queue took a mandatory message. Retrying helps once there is a queue.
    NotRouted,
    /// The user may not write there. Retrying does not help.
    AccessRefused(String),
    /// The message is too large. Retrying does not help.
    TooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// Back-pressure: memory or disk watermark, or too much in flight. Retry later.
    Busy,
    /// The broker stops, or a queue that rejects on overflow is full. Retry later.
    Unavailable(String),
    /// No promise in time. The message may exist: retry with the same idempotency key.
    Timeout,
}
