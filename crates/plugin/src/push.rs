//! What the bridge may ask of the rest of the program to push a queue to an HTTP service.
//!
//! The composition root implements it: a feed is a consumer like any other, a request goes through the gateway's
//! upstream connections.

use crate::services::BoxFuture;
use bytes::Bytes;
use http::{Request, Response};
use model::{Principal, Properties};
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

/// The program's services, as a push sees them.
pub trait PushServices: Send + Sync {
    /// Starts to consume a queue, with at most `prefetch` messages unsettled.
    ///
    /// # Errors
    /// Why the broker refused, for people.
    fn subscribe(&self, principal: &Principal, queue: &str, prefetch: u16) -> Result<Box<dyn Feed>, String>;

    /// Sends a request and waits for the whole answer, at most `timeout` in all and `body_bytes_max` of body; what is
    /// longer is cut off.
    fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_bytes_max: usize,
    ) -> BoxFuture<Result<Response<Bytes>, SendError>>;

    /// Keeps a small value under a key across restarts. Not waited for: a crash may lose the last 200 ms.
    fn remember(&self, key: &str, value: &[u8]);

    /// What is kept under a key.
    fn recall(&self, key: &str) -> Option<Vec<u8>>;

    /// Forgets a key.
    fn forget(&self, key: &str);

    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;
}

/// Messages of a queue, to be settled one by one. Dropping it requeues what is not settled.
pub trait Feed: Send {
    /// The next message; `None` when the queue is gone.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Fed>>;

    /// Settles a message that was fed.
    fn settle(&mut self, id: FedId, verdict: Verdict);
}

/// A message of a feed, by which it is settled. Unique in its feed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FedId(pub u64);

/// How a message of a feed is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Done with.
    Ack,
    /// To the queue's own dead-letter exchange, or dropped.
    Reject,
}

/// A message of a feed.
#[derive(Clone, Debug)]
pub struct Fed {
    /// By what it is settled.
    pub id: FedId,
    /// Where it lies, the same after a restart.
    pub place: String,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
    /// It may have been fed before.
    pub redelivered: bool,
}

/// Why no answer came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendError {
    /// No connection: refused, unreachable, no such name, TLS.
    Connect(String),
    /// The time was up.
    Timeout,
    /// The connection broke or the answer was not HTTP.
    Broken(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "cannot connect: {why}"),
            Self::Timeout => f.write_str("timed out"),
            Self::Broken(why) => write!(f, "broken answer: {why}"),
        }
    }
}

impl std::error::Error for SendError {}
