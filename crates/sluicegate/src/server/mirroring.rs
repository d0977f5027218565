//! Copies of requests on their way to another service: a body that streams is copied as it goes by, and the copy is sent when
//! all of it is there.
//!
//! Invariants: the request never waits for its copy: whatever a copy has no room or time for ends the copy. Its body is copied
//! once if it streams and shared if it was collected. Tasks of copies are owned and joined.

use super::gateway_service::GatewayService;
use super::proxy::{Failed, failure, send};
use bytes::{Bytes, BytesMut};
use gateway::{Exchange, Mirror, UpstreamFailure};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use model::limits::{MIRROR_ANSWER_BYTES_MAX, MIRROR_MS_MAX};
use net::Tasks;
use net::http::{Body, BodyFault};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Time for the copies under way when all ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// The tasks of copies under way.
#[derive(Default)]
pub(super) struct Mirroring(Mutex<Option<Tasks>>);

impl Mirroring {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Tasks::new())))
    }

    /// Ends the copies; there are no more from now on.
    pub(super) async fn stop(&self) {
        let tasks = self.0.lock().take();
        if let Some(tasks) = tasks {
            tasks.join(PATIENCE).await;
        }
    }
}

/// What it takes to send copies: the service, and the shard whose upstream connections they use.
struct Place {
    service: Arc<GatewayService>,
    shard: usize,
}

/// The body of a request that is about to be sent, as it is to be sent; its copy, if there is to be one, is under way.
pub(super) fn mirrored(service: &Arc<GatewayService>, shard: usize, exchange: &Exchange, body: Body) -> Body {
    let Some(mut mirror) = exchange.mirror() else { return body };
    let place = Place { service: Arc::clone(service), shard };
    let collected = match (&exchange.context().body, &body) {
        (Some(collected), _) | (None, Body::Full(collected)) => collected.clone(),
        (None, Body::Empty) => Bytes::new(),
        _ => {
            let (left, copying) = (body.size_hint().exact(), Some((mirror, BytesMut::new(), place)));
            return Body::Boxed(Copied { body, left, copying }.boxed_unsync());
        }
    };
    if mirror.grow(collected.len()) {
        place.start(mirror, collected);
    }
    body
}

impl Place {
    /// Sends a copy, in a task of this shard.
    fn start(self, mirror: Mirror, body: Bytes) {
        let service = Arc::clone(&self.service);
        if let Some(tasks) = &mut *service.mirroring.0.lock() {
            tasks.spawn(async move { self.deliver(mirror, body).await });
        }
    }

    async fn deliver(&self, mut mirror: Mirror, body: Bytes) {
        let (clock, mut body) = (self.service.clock, Body::from(body));
        let until = Instant::now() + Duration::from_millis(MIRROR_MS_MAX);
        let pool = &self.service.pools[self.shard];
        let Some(plan) = mirror.plan(clock.now()) else { return };
        let sent = timeout_at(until, Box::pin(send(pool, plan, &mut body))).await;
        match sent {
            Err(_) => mirror.failed(UpstreamFailure::ReadTimeout, clock.now()),
            Ok(Err(Failed { failure, .. })) => mirror.failed(failure, clock.now()),
            Ok(Ok(answer)) => {
                let (head, answer) = answer.into_response().into_parts();
                mirror.answered(&head, clock.now());
                let broke = timeout_at(until, read_away(answer)).await;
                mirror.ended(broke.unwrap_or(Some(UpstreamFailure::ReadTimeout)), clock.now());
            }
        }
    }
}

/// Reads an answer to its end, so that its connection can be used again; how it broke off, if it did.
async fn read_away(mut answer: Body) -> Option<UpstreamFailure> {
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(BodyFault::Upstream(kind)) => return Some(failure(kind)),
            Err(_) => return Some(UpstreamFailure::Reset),
        }
        if bytes > MIRROR_ANSWER_BYTES_MAX {
            break;
        }
    }
    None
}

/// A request's body that is copied as it goes by.
struct Copied {
    body: Body,
    /// Bytes to come, if that is known: then nobody asks for its end.
    left: Option<u64>,
    copying: Option<(Mirror, BytesMut, Place)>,
}

impl HttpBody for Copied {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let copied = self.get_mut();
        let polled = Pin::new(&mut copied.body).poll_frame(cx);
        match &polled {
            // Trailers, which nothing follows, are not copied; often nobody asks again after them.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => copied.end(),
            Poll::Ready(Some(Ok(frame))) => copied.copy(frame.data_ref()),
            Poll::Ready(None) => copied.end(),
            Poll::Ready(Some(Err(_))) => copied.copying = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Copied {
    fn copy(&mut self, data: Option<&Bytes>) {
        let (Some((mirror, copy, _)), Some(data)) = (&mut self.copying, data) else { return };
        if !mirror.grow(data.len()) {
            self.copying = None;
            return;
        }
        copy.extend_from_slice(data);
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        if self.left == Some(0) || self.body.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some((mirror, copy, place)) = self.copying.take() {
            place.start(mirror, copy.freeze());
        }
    }
}
