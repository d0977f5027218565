//! Requests of our own: one request, its whole answer, one deadline.

use super::error::{UpstreamError, UpstreamErrorKind};
use super::pool::{Timeouts, UpstreamPool, UpstreamTarget};
use crate::http::body::{Body, BodyFault};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, request, response};
use http_body::Body as _;
use http1::FieldLines;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use tokio::time::Instant;

/// There is no whole answer.
#[derive(Debug)]
pub enum FetchError {
    /// The exchange failed.
    Upstream(UpstreamError),
    /// The answer broke off.
    Broken(BodyFault),
    /// It is larger than this.
    TooLarge(usize),
    /// It did not come in time.
    Timeout,
}

/// A whole answer.
#[derive(Debug)]
pub struct Fetched {
    /// Its status and headers.
    pub head: response::Parts,
    /// Its body.
    pub body: Bytes,
    /// Its trailers; empty if it has none.
    pub trailers: HeaderMap,
}

/// Sends a request with this body and collects the answer's, up to `body_bytes_max`. Whoever calls sets Host.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    pool: &UpstreamPool,
    target: &UpstreamTarget,
    head: request::Parts,
    body: Bytes,
    until: Instant,
    body_bytes_max: usize,
) -> Result<Fetched, FetchError> {
    let fetched = async {
        let (head, body) = exchange(pool, target, head, Body::from(body), until).await?.into_parts();
        let (body, trailers) = collect(body, body_bytes_max).await?;
        Ok(Fetched { head, body, trailers })
    };
    tokio::time::timeout_at(until, fetched).await.unwrap_or(Err(FetchError::Timeout))
}

/// The same without a body, for who wants no more than the answer's head.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_head(
    pool: &UpstreamPool,
    target: &UpstreamTarget,
    head: request::Parts,
    until: Instant,
) -> Result<response::Parts, FetchError> {
    let fetched = async { Ok(exchange(pool, target, head, Body::Empty, until).await?.into_parts().0) };
    tokio::time::timeout_at(until, fetched).await.unwrap_or(Err(FetchError::Timeout))
}

async fn exchange(
    pool: &UpstreamPool,
    target: &UpstreamTarget,
    mut head: request::Parts,
    mut body: Body,
    until: Instant,
) -> Result<Response<Body>, FetchError> {
    let patience = until.saturating_duration_since(Instant::now());
    let ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let timeouts = Timeouts { connect_ms: ms, write_ms: ms, read_ms: ms };
    let lines = FieldLines::default();
    let exchanged = Box::pin(pool.exchange(target, &mut head, &lines, &mut body, timeouts)).await;
    exchanged.map(|answer| answer.into_response()).map_err(|error| match error.kind {
        UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::WriteTimeout | UpstreamErrorKind::ReadTimeout => {
            FetchError::Timeout
        }
        _ => FetchError::Upstream(error),
    })
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<(Bytes, HeaderMap), FetchError> {
    let (mut collected, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map_err(FetchError::Broken)?.into_data() {
            Ok(data) if data.len() > bytes_max - collected.len() => return Err(FetchError::TooLarge(bytes_max)),
            Ok(data) => collected.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((collected.freeze(), trailers))
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(error) => error.fmt(f),
            Self::Broken(fault) => fault.fmt(f),
            Self::TooLarge(limit) => write!(f, "the answer has more than {limit} bytes"),
            Self::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for FetchError {}
