//! Why an exchange with an upstream failed, and whether trying again can do harm.

use http::Method;
use std::fmt;
use std::io;

/// What failed. Kong answers 504 to the timeouts of write and read, 503 to `Dns`, 502 to the rest; the last two are
/// ours, and 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamErrorKind {
    /// The name has no address, or asking failed.
    Dns,
    /// Nobody listens, or the network says no.
    Refused,
    /// No connection, TLS included, in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The upstream did not take the request in time.
    WriteTimeout,
    /// The upstream did not answer, or stopped answering, in time.
    ReadTimeout,
    /// The connection ended before the response did.
    Reset,
    /// The response is not HTTP/1, or is ambiguous.
    InvalidResponse,
    /// The client's request body failed, so the upstream was left.
    RequestBody,
    /// No further connection to the upstream may be made, and too many wait for one.
    BulkheadFull,
    /// There was none for it in time.
    QueueTimeout,
}

/// Whether the same request may be sent again, elsewhere or here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing of the request left: any request may be.
    Safe,
    /// It may have been processed: only if its method is idempotent.
    IfIdempotent,
    /// Its body is gone, or the response had begun.
    Never,
}

/// An exchange failed.
#[derive(Debug)]
pub struct UpstreamError {
    /// What failed.
    pub kind: UpstreamErrorKind,
    /// Whether to try again.
    pub retry: Retry,
    /// What the system, TLS or the parser said.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl UpstreamError {
    pub(super) fn new(kind: UpstreamErrorKind, retry: Retry) -> Self {
        Self { kind, retry, source: None }
    }

    pub(super) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of a socket's failure after it was connected.
    pub(super) fn io(error: io::Error, retry: Retry) -> Self {
        Self::new(UpstreamErrorKind::Reset, retry).because(error)
    }

    /// Whether a request of this method may be sent again.
    #[must_use]
    pub fn may_retry(&self, method: &Method) -> bool {
        match self.retry {
            Retry::Safe => true,
            Retry::IfIdempotent => method.is_idempotent(),
            Retry::Never => false,
        }
    }
}

impl fmt::Display for UpstreamErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "name resolution failed",
            Self::Refused => "connection refused",
            Self::ConnectTimeout => "connect timeout",
            Self::Tls => "TLS handshake failed",
            Self::WriteTimeout => "write timeout",
            Self::ReadTimeout => "read timeout",
            Self::Reset => "connection ended early",
            Self::InvalidResponse => "invalid response",
            Self::RequestBody => "request body failed",
            Self::BulkheadFull => "all connections are in use",
            Self::QueueTimeout => "no connection was free in time",
        })
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UpstreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
