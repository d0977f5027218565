//! One body type for requests and responses, in both roles, so that a proxied body passes through without a box.

use super::client::{UpstreamBody, UpstreamErrorKind, UpstreamHttp2Body};
use super::server::{ClientBody, Http2Body};
use super::tunnel::Tunnel;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http1::BodyError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of a request or a response.
#[derive(Default)]
pub enum Body {
    /// There is none.
    #[default]
    Empty,
    /// All of it, in memory.
    Full(Bytes),
    /// From the client of an HTTP/1 connection.
    Client(ClientBody),
    /// From the client of an HTTP/2 connection.
    Http2(Http2Body),
    /// From an upstream.
    Upstream(UpstreamBody),
    /// From an upstream that speaks HTTP/2.
    UpstreamHttp2(Box<UpstreamHttp2Body>),
    /// Not a body: the response was 101, and this is what follows it.
    Tunnel(Box<Tunnel>),
    /// From anywhere else.
    Boxed(UnsyncBoxBody<Bytes, BodyFault>),
    /// It was handed to an upstream and cannot be sent again.
    Taken,
}

/// Why a body ended early.
#[derive(Debug)]
pub enum BodyFault {
    /// The client's framing was wrong, or it closed early.
    Client(BodyError),
    /// The client stopped sending.
    ClientTimeout,
    /// The client's connection failed.
    ClientIo(std::io::ErrorKind),
    /// The upstream failed inside its response.
    Upstream(UpstreamErrorKind),
    /// HTTP/2 said why.
    Http2(hyper::Error),
    /// More or fewer bytes than announced.
    LengthMismatch,
    /// The body was used after its request had ended, or twice.
    Taken,
    /// Of a boxed body.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Body {
    /// Whether sending it again sends the same.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        matches!(self, Self::Empty | Self::Full(_))
    }

    /// The same again, of a body that can be sent again; of another, one that cannot be sent.
    #[must_use]
    pub fn copy(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Full(bytes) => Self::Full(bytes.clone()),
            _ => Self::Taken,
        }
    }

    /// Take the body to send it; what can be sent again stays.
    pub(crate) fn take(&mut self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Full(bytes) => Self::Full(bytes.clone()),
            _ => std::mem::replace(self, Self::Taken),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let body = self.get_mut();
        match body {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *body = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Client(client) => client.poll_frame(cx),
            Self::Upstream(upstream) => upstream.poll_frame(cx),
            Self::UpstreamHttp2(upstream) => upstream.poll_frame(cx),
            Self::Http2(stream) => stream.poll_frame(cx),
            Self::Boxed(boxed) => Pin::new(boxed).poll_frame(cx),
            Self::Tunnel(_) => Poll::Ready(None),
            Self::Taken => Poll::Ready(Some(Err(BodyFault::Taken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Tunnel(_) => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Client(_) | Self::Taken => false,
            Self::Upstream(upstream) => upstream.is_ended(),
            Self::UpstreamHttp2(upstream) => upstream.is_ended(),
            Self::Http2(stream) => stream.is_ended(),
            Self::Boxed(boxed) => boxed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client(client) => exact_or_unknown(client.length()),
            Self::Upstream(upstream) => exact_or_unknown(upstream.remaining()),
            Self::UpstreamHttp2(upstream) => upstream.size_hint(),
            Self::Http2(stream) => stream.size_hint(),
            Self::Boxed(boxed) => boxed.size_hint(),
            Self::Taken => SizeHint::new(),
        }
    }
}

fn exact_or_unknown(length: Option<u64>) -> SizeHint {
    length.map_or_else(SizeHint::new, SizeHint::with_exact)
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Body::Empty",
            Self::Full(_) => "Body::Full",
            Self::Client(_) => "Body::Client",
            Self::Http2(_) => "Body::Http2",
            Self::Upstream(_) => "Body::Upstream",
            Self::UpstreamHttp2(_) => "Body::UpstreamHttp2",
            Self::Tunnel(_) => "Body::Tunnel",
            Self::Boxed(_) => "Body::Boxed",
            Self::Taken => "Body::Taken",
        })
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => write!(f, "request body: {error}"),
            Self::ClientTimeout => f.write_str("request body: the client stopped sending"),
            Self::ClientIo(kind) => write!(f, "request body: {kind}"),
            Self::Upstream(kind) => write!(f, "upstream response: {kind}"),
            Self::Http2(error) => write!(f, "HTTP/2 stream: {error}"),
            Self::LengthMismatch => f.write_str("body length differs from the announced one"),
            Self::Taken => f.write_str("body used after its end"),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BodyFault {}
