//! What a listener calls for each request, and why it may have to answer without calling.

use super::body::Body;
use crate::Peer;
use http::{Request, Response, StatusCode, response};
use http1::{BodyError, FieldLines, NameLengths, RequestError};
use std::fmt;
use std::future::Future;

/// A response, and fields that are added to its headers. Boxed where it is handed on, which is often.
#[derive(Debug)]
pub struct Answer {
    /// Status, version and fields.
    pub head: response::Parts,
    /// What follows the head.
    pub body: Body,
    /// Further fields of the head.
    pub lines: FieldLines,
}

impl Answer {
    /// The response with all its fields in one map.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let Self { mut head, body, lines } = self;
        lines.move_to(&mut head.headers, NameLengths::default());
        Response::from_parts(head, body)
    }
}

impl From<Response<Body>> for Box<Answer> {
    fn from(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Self::new(Answer { head, body, lines: FieldLines::default() })
    }
}

/// Serves the requests of a listener.
pub trait HttpService: Send + Sync + 'static {
    /// Answer one request. The target is in origin form, and Host is set when the client named one. A dropped
    /// body is drained or ends the connection. Panics end the connection. Who may be answered with 101 and a
    /// [`Body::Tunnel`] says so by [`http1::Upgrade`] among the request's extensions. Dropped when the client leaves.
    fn call(&self, request: Request<Body>, peer: &Peer) -> impl Future<Output = Box<Answer>> + Send;

    /// Whether clients of HTTP/1.1 get what upstreams say before their answer (1xx, such as 103 Early Hints).
    fn passes_interims(&self) -> bool {
        false
    }

    /// The answer to a request that was refused before or while it was served. Status and closing are the
    /// listener's: only headers and body of this answer are taken.
    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body>;
}

/// Why the listener answers by itself; the connection is closed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head was refused.
    Request(RequestError),
    /// The body was refused.
    Body(BodyError),
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body stopped arriving.
    BodyTimeout,
    /// An extended CONNECT whose upstream answered a success but no switch of protocols.
    NotSwitched,
    /// An HTTP/2 request without an authority, or with one that differs from Host.
    Http2Authority,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Request(error) => error.status(),
            Self::Body(error) => error.status(),
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NotSwitched => StatusCode::BAD_GATEWAY,
            Self::Http2Authority => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Body(error) => error.fmt(f),
            Self::HeadTimeout => f.write_str("request head timeout"),
            Self::BodyTimeout => f.write_str("request body timeout"),
            Self::NotSwitched => f.write_str("the upstream did not switch protocols"),
            Self::Http2Authority => f.write_str("authority and host missing or different"),
        }
    }
}
