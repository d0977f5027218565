//! One request to an upstream and its response.

use super::connect::connect;
use super::connection::{UpstreamBody, UpstreamConnection};
use super::error::{Retry, UpstreamError};
use super::pool::{Timeouts, UpstreamPool, UpstreamTarget};
use crate::http::body::Body;
use crate::http::service::Answer;
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http_body::Body as _;
use http1::{
    FieldLines, OutgoingFraming, Persistence, ResponseHead, Upgrade, encode_request_head, is_hop_by_hop,
    strip_hop_by_hop,
};
use std::future::poll_fn;

impl UpstreamPool {
    /// Send a request and read the head of its response; the response's body goes on in the caller's task.
    ///
    /// Target and headers are sent as they are in `head`, without hop-by-hop fields and Expect, and `lines` behind
    /// them; Host is the caller's to set. A body that can be sent again stays in `body`; another is taken when a connection stands. A kept
    /// connection that turns out to be closed is replaced once, if the request may be sent again. An [`Upgrade`] among the
    /// extensions is asked for; if the upstream switches, the response is a 101 with a [`Body::Tunnel`].
    ///
    /// # Errors
    /// [`UpstreamError`], with whether to retry.
    pub async fn exchange(
        &self,
        target: &UpstreamTarget,
        head: &mut Parts,
        lines: &FieldLines,
        body: &mut Body,
        timeouts: Timeouts,
    ) -> Result<Box<Answer>, UpstreamError> {
        if target.http2 {
            // Boxed, so that the futures of HTTP/1 stay small.
            return Box::pin(self.exchange_http2(target, head, lines, body, timeouts)).await.map(Box::from);
        }
        prepare(&mut head.headers);
        let upgrade = head.extensions.get::<Upgrade>();
        if let Some(upgrade) = upgrade {
            head.headers.insert(header::UPGRADE, upgrade.value().clone());
        }
        let framing = outgoing_framing(&head.method, body);
        let slot = self.slot(target);
        let mut may_be_kept = true;
        let mut kept = match target.connections {
            None => poll_fn(|cx| std::task::Poll::Ready(slot.take(cx))).await,
            Some(_) => None,
        };
        loop {
            let (mut connection, was_kept) = match (kept.take(), &target.connections) {
                (Some(connection), _) => (connection, true),
                (None, None) => (connect(&self.resolver, target, timeouts.connect_ms, None).await?, false),
                (None, Some(connections)) => {
                    Box::pin(self.bounded(connections, &slot, (target, timeouts), may_be_kept)).await?
                }
            };
            may_be_kept = false;
            let replayable = body.is_replayable();
            encode_request_head(
                &head.method,
                &head.uri,
                &head.headers,
                lines,
                framing,
                Persistence::KeepAlive,
                connection.outbox.flat(),
            );
            connection.begin(body.take(), framing, &head.extensions, timeouts);
            match poll_fn(|cx| connection.poll_head(&head.method, cx)).await {
                Ok(response) => return Ok(assemble(response, connection, slot, upgrade)),
                Err(error) => {
                    let silent = !connection.response_began();
                    if was_kept && silent && replayable && error.kind.is_loss() && error.may_retry(&head.method) {
                        continue;
                    }
                    let retry = if replayable { error.retry } else { Retry::Never };
                    return Err(UpstreamError { retry, ..error });
                }
            }
        }
    }
}

impl super::error::UpstreamErrorKind {
    /// Whether the connection was lost, as a kept one is when the upstream closed it meanwhile.
    fn is_loss(self) -> bool {
        self == Self::Reset
    }
}

/// Remove what is this connection's business and not the next one's.
pub(super) fn prepare(headers: &mut HeaderMap) {
    if headers.keys().all(|name| !is_hop_by_hop(name.as_str().as_bytes()) && name != header::EXPECT) {
        return;
    }
    let is_trailers = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
    let wants_trailers = headers.iter().any(|(name, value)| name == header::TE && is_trailers(value));
    strip_hop_by_hop(headers);
    if headers.keys().any(|name| name == header::EXPECT) {
        headers.remove(header::EXPECT);
    }
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// A method that usually has a body says so when it has none (RFC 9110 §8.6).
fn outgoing_framing(method: &Method, body: &Body) -> OutgoingFraming {
    let expects_body = *method == Method::POST || *method == Method::PUT || *method == Method::PATCH;
    match body.size_hint().exact() {
        Some(0) if !expects_body => OutgoingFraming::Unmarked,
        Some(length) => OutgoingFraming::Length(length),
        None => OutgoingFraming::Chunked,
    }
}

fn assemble(
    head: ResponseHead,
    mut connection: Box<UpstreamConnection>,
    slot: std::sync::Arc<super::pool::Slot>,
    upgrade: Option<&Upgrade>,
) -> Box<Answer> {
    let switches = head.switches_protocols();
    let ResponseHead { parts, lines, .. } = head;
    if let (true, Some(protocol)) = (switches, upgrade) {
        let tunnel = connection.into_tunnel(protocol.clone());
        return Box::new(Answer { head: parts, body: Body::Tunnel(Box::new(tunnel)), lines });
    }
    let body = match connection.ready_body() {
        Some(bytes) => {
            slot.put(connection);
            Body::from(bytes)
        }
        None => Body::Upstream(UpstreamBody::new(connection, slot)),
    };
    Box::new(Answer { head: parts, body, lines })
}
