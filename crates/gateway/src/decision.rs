//! What an exchange tells the owner of the sockets to do, and what it is told back.

use crate::balancer::{Member, Outcome, Queued};
use crate::entity::Hedge;
use crate::reason::Reason;
use crate::snapshot::Upstream;
use bytes::Bytes;
use http::{Response, StatusCode, request};
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
    /// Await its turn, but no longer than that; then call [`crate::Exchange::turn`].
    Queue {
        /// Resolves when it is the request's turn.
        queued: Queued,
        /// How long it may take.
        timeout_ms: u32,
    },
}

/// What to do after a try.
#[derive(Debug)]
pub enum Next {
    /// Wait that long, then send [`crate::Exchange::plan`] again.
    Again {
        /// How long.
        wait_ms: u64,
    },
    /// Nothing is left to try at this service: go on with this.
    Otherwise(Decision),
}

/// The request for the upstream. Its body is the context's, if a plugin collected it; else the client's is streamed.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Method, target in origin form, and headers; `Host` is set, hop-by-hop headers and `Transfer-Encoding` are gone.
    /// Whoever sends it may change what only concerns its own connection.
    pub request: &'a mut request::Parts,
    /// Further headers of it.
    pub lines: &'a FieldLines,
    /// The service: timeouts, TLS, and where to send it if it has no targets.
    pub upstream: Arc<Upstream>,
    /// The address to send it to, if the service has targets.
    pub member: Option<Arc<Member>>,
    /// Time for this try, up to the head of its answer; 0 is not limited.
    pub per_try_timeout_ms: u32,
    /// What to do if this try is slow, see [`crate::Exchange::hedge`].
    pub hedge: Option<Hedge>,
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
    /// Nobody listens: 502.
    Refused,
    /// The TLS handshake failed: 502.
    Tls,
    /// The connection ended before the answer did: 502.
    Reset,
    /// An answer that is not HTTP: 502.
    BadResponse,
    /// The client's body broke off: 502, if anybody still listens.
    RequestBody,
    /// It cannot be asked, as when its TLS settings are unusable: 503.
    Unavailable,
    /// No connection in time: 504.
    ConnectTimeout,
    /// It did not take the request in time: 504.
    WriteTimeout,
    /// It did not answer in time: 504.
    ReadTimeout,
    /// This try took too long: 504.
    PerTryTimeout,
    /// No further connection to the upstream may be made, and too many requests wait for one: 503.
    NoConnection,
    /// There was no connection for it in time: 503.
    NoConnectionInTime,
}

impl UpstreamFailure {
    /// The reason it is for the request.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Resolve => Reason::NameResolution,
            Self::Refused => Reason::ConnectRefused,
            Self::Tls | Self::Unavailable => Reason::TlsFailed,
            Self::Reset => Reason::UpstreamReset,
            Self::BadResponse => Reason::InvalidResponse,
            Self::RequestBody => Reason::RequestBody,
            Self::ConnectTimeout => Reason::ConnectTimeout,
            Self::WriteTimeout => Reason::WriteTimeout,
            Self::ReadTimeout => Reason::ReadTimeout,
            Self::PerTryTimeout => Reason::PerTryTimeout,
            Self::NoConnection => Reason::BulkheadFull,
            Self::NoConnectionInTime => Reason::QueueTimeout,
        }
    }

    /// What it says of the address; nothing if the address is not to blame.
    pub(crate) const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Resolve | Self::Refused | Self::Tls | Self::Reset => Some(Outcome::TcpFailure),
            Self::BadResponse => Some(Outcome::Garbage),
            Self::ConnectTimeout | Self::WriteTimeout | Self::ReadTimeout | Self::PerTryTimeout => {
                Some(Outcome::Timeout)
            }
            Self::RequestBody | Self::Unavailable | Self::NoConnection | Self::NoConnectionInTime => None,
        }
    }

    /// Whether another try could come to anything else: all addresses share the upstream's places and our TLS.
    pub(crate) const fn may_differ_elsewhere(self) -> bool {
        !matches!(self, Self::Unavailable | Self::NoConnection | Self::NoConnectionInTime)
    }
}

/// How one of several tries at once ended that is not the one that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lost {
    /// It was given up, because another had answered.
    #[default]
    GivenUp,
    /// It failed.
    Failed(UpstreamFailure),
    /// It was answered, but another try had the better answer.
    Answered(StatusCode),
}

/// What went over the client's connection for a request, heads included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Transferred {
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// Datagrams of a session of UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Datagrams {
    /// From the client.
    pub n_in: u64,
    /// To the client.
    pub n_out: u64,
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Respond(response) => write!(f, "Respond({})", response.status()),
            Self::Proxy => f.write_str("Proxy"),
            Self::Body { bytes_max } => write!(f, "Body({bytes_max})"),
            Self::Wait(_) => f.write_str("Wait"),
            Self::Queue { timeout_ms, .. } => write!(f, "Queue({timeout_ms} ms)"),
        }
    }
}
