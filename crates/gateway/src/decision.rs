//! What an exchange tells the owner of the sockets to do, and what it is told back.

use crate::snapshot::Upstream;
use bytes::Bytes;
use http::{Response, request};
use http1::FieldLines;
use plugin::Pending;
use std::fmt;
use std::sync::Arc;

/// What to do next with a request.
pub enum Decision {
    /// Send this response. The body of an answer to HEAD is not sent.
    Respond(Response<Bytes>),
    /// Send [`crate::Exchange::plan`] to the upstream.
    Proxy,
    /// Collect the request's body, then call [`crate::Exchange::body`] or [`crate::Exchange::body_failed`].
    Body {
        /// The most bytes to take; a larger body is [`BodyFailure::TooLarge`].
        bytes_max: usize,
    },
    /// Await, then call [`crate::Exchange::resume`].
    Wait(Pending),
}

/// The request for the upstream.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Method, target in origin form, and headers; `Host` is set, hop-by-hop headers and `Transfer-Encoding` are gone.
    /// Whoever sends it may change what only concerns its own connection.
    pub request: &'a mut request::Parts,
    /// Further headers of it.
    pub lines: &'a FieldLines,
    /// The body, if a plugin collected it; else the client's is streamed.
    pub body: Option<&'a Bytes>,
    /// Where to send it.
    pub upstream: Arc<Upstream>,
}

/// Why a body could not be collected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyFailure {
    /// More bytes than allowed: 413.
    TooLarge,
    /// The framing was broken: 400.
    Malformed,
    /// The client was too slow: 408.
    Timeout,
    /// Too much of other requests is being collected: 503.
    Overload,
}

/// Why the upstream did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamFailure {
    /// Its name has no address: 503.
    Resolve,
    /// Refused, reset or TLS failed: 502.
    Connect,
    /// An answer that is not HTTP, or none: 502.
    BadResponse,
    /// No pooled or new connection may be used now: 503.
    Unavailable,
    /// Connecting, writing or waiting took too long: 504.
    Timeout,
}

/// What went over the client's connection for a request, heads included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Transferred {
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Respond(response) => write!(f, "Respond({})", response.status()),
            Self::Proxy => f.write_str("Proxy"),
            Self::Body { bytes_max } => write!(f, "Body({bytes_max})"),
            Self::Wait(_) => f.write_str("Wait"),
        }
    }
}
