//! HTTP/2 to upstreams: many requests over one connection, and another connection only when all are full.
//!
//! Full is what the upstream says (SETTINGS_MAX_CONCURRENT_STREAMS), up to a limit of ours. Whoever needs a connection waits
//! for the one that is being made, so a burst makes one and not a hundred. A connection that says GOAWAY, or has carried
//! enough requests, gets no more; what is on it goes on to its end. Framing is hyper's; its tasks, and ours beside each connection,
//! live as long as the pool.
//!
//! Deadlines: no byte of the request taken and none of the response come for the read timeout. So a stream in which only
//! one side speaks stays open, as gRPC needs.

use super::bounded::place;
use super::connect::connect;
use super::error::{Retry, UpstreamError, UpstreamErrorKind};
use super::exchange::prepare;
use super::pool::{PoolSettings, Timeouts, UpstreamPool, UpstreamTarget};
use crate::Tasks;
use crate::http::body::{Body, BodyFault};
use crate::http::timer::LazyTimer;
use bytes::Bytes;
use gateway::balancer::{Connections, Place};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap};
use http::request::Parts;
use http::uri::{Scheme, Uri};
use http::{Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http1::{FieldLines, strip_hop_by_hop};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::limits::{H2_UPSTREAM_CONNECTIONS_MAX, H2_UPSTREAM_STREAMS_MAX};
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes that an upstream may send on one stream ahead of the client that reads it.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same on all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of a stream that wait to be written.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Silence after which a connection with requests on it is pinged; as long again without an answer, and it is given up.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// When it is first looked whether the upstream's settings have come.
const LOOK_FIRST: Duration = Duration::from_millis(1);
/// How often at last, in an upstream that allows no stream at all.
const LOOK_LAST: Duration = Duration::from_millis(256);

/// The HTTP/2 connections to one target.
#[derive(Debug, Default)]
pub(super) struct Http2Slot {
    connections: Mutex<Vec<Arc<Http2Connection>>>,
    /// Held by whoever makes a connection.
    connecting: tokio::sync::Mutex<()>,
    /// Whether who holds it waits for a place, and is not connecting yet.
    is_queued: watch::Sender<bool>,
    /// Those of hyper, and ours beside each connection.
    tasks: Arc<Mutex<Tasks>>,
}

/// Runs hyper's tasks among those of a slot, for as long as there is one.
#[derive(Clone, Debug)]
struct Executor(Weak<Mutex<Tasks>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.lock().spawn(task);
        }
    }
}

/// When to look for streams that an upstream allows: soon, and less and less often while there are none.
#[derive(Debug)]
struct Looks {
    pause: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Looks {
    fn new() -> Self {
        Self { pause: LOOK_FIRST, sleep: Box::pin(tokio::time::sleep(LOOK_FIRST)) }
    }

    /// Has the task looked at again in time.
    fn again(&mut self, cx: &mut Context<'_>) {
        while self.sleep.as_mut().poll(cx).is_ready() {
            self.pause = (self.pause * 2).min(LOOK_LAST);
            self.sleep.as_mut().reset(Instant::now() + self.pause);
        }
    }

    /// There are some.
    fn found(&mut self) {
        self.pause = LOOK_FIRST;
    }
}

#[derive(Debug)]
struct Http2Connection {
    sender: SendRequest<Sending>,
    /// Streams that the upstream allows at once.
    allowed: watch::Receiver<usize>,
    n_streams: AtomicUsize,
    n_requests: AtomicU32,
    idle_since: Mutex<Instant>,
    /// Where it has its own, if connections are bounded.
    places: Option<Connections>,
}

/// One stream's place on a connection, until dropped.
#[derive(Debug)]
struct Lease(Arc<Http2Connection>);

impl Http2Slot {
    /// Lets go of a connection without requests; `false` if there is none.
    pub(super) fn close_idle(&self) -> bool {
        let mut connections = self.connections.lock();
        let idle = connections.iter().position(|connection| connection.n_streams.load(Ordering::Relaxed) == 0);
        let closed = idle.map(|at| connections.swap_remove(at));
        drop(connections);
        closed.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.lock().is_empty()
    }

    /// Forget the connections that are closed, or were idle for this long.
    pub(super) fn sweep(&self, idle_timeout: Duration) {
        self.connections.lock().retain(|connection| {
            let busy = connection.n_streams.load(Ordering::Relaxed) > 0;
            !connection.sender.is_closed() && (busy || connection.idle_since.lock().elapsed() < idle_timeout)
        });
    }

    /// A place on a connection, on a new one if there is none; the second value says whether it is new.
    async fn lease(
        &self,
        pool: &UpstreamPool,
        target: &UpstreamTarget,
        timeouts: Timeouts,
    ) -> Result<(Lease, bool), UpstreamError> {
        if let Some(lease) = self.place(pool.settings, false) {
            return Ok((lease, false));
        }
        let queue_ms = target.connections.as_ref().map(|connections| connections.queue_timeout_ms().into());
        let queue_end = queue_ms.map(|queue_ms| Instant::now() + Duration::from_millis(queue_ms));
        let made = async {
            let _turn = self.turn(queue_end).await?;
            if let Some(lease) = self.place(pool.settings, false) {
                return Ok((lease, false));
            }
            let is_full = self.connections.lock().len() >= H2_UPSTREAM_CONNECTIONS_MAX;
            if (is_full || target.connections.as_ref().is_some_and(|connections| !connections.has_room()))
                && let Some(lease) = self.place(pool.settings, true)
            {
                return Ok((lease, false));
            }
            let place = self.place_for_another(target, queue_end).await?;
            self.connect(pool, target, timeouts, place).await.map(|lease| (lease, true))
        };
        let patience_ms = timeouts.connect_ms.saturating_add(queue_ms.unwrap_or(0));
        tokio::time::timeout(Duration::from_millis(patience_ms), made)
            .await
            .unwrap_or_else(|_| Err(UpstreamError::new(UpstreamErrorKind::ConnectTimeout, Retry::Safe)))
    }

    /// The turn to make a connection. Who is behind one that waits for a place waits in the queue as well, and no longer.
    async fn turn(&self, queue_end: Option<Instant>) -> Result<tokio::sync::MutexGuard<'_, ()>, UpstreamError> {
        let Some(queue_end) = queue_end else { return Ok(self.connecting.lock().await) };
        let mut is_queued = self.is_queued.subscribe();
        let too_late = async {
            tokio::time::sleep_until(queue_end).await;
            // Its sender is here.
            let _ = is_queued.wait_for(|is_queued| *is_queued).await;
        };
        tokio::select! {
            biased;
            turn = self.connecting.lock() => Ok(turn),
            () = too_late => Err(UpstreamError::new(UpstreamErrorKind::QueueTimeout, Retry::Safe)),
        }
    }

    /// A place for a further connection, if those to the target are bounded; asked by whose turn it is.
    async fn place_for_another(
        &self,
        target: &UpstreamTarget,
        queue_end: Option<Instant>,
    ) -> Result<Option<Place>, UpstreamError> {
        let Some(queue_end) = queue_end else { return Ok(None) };
        self.is_queued.send_replace(true);
        let place = tokio::time::timeout_at(queue_end, place(target)).await;
        self.is_queued.send_replace(false);
        place.unwrap_or_else(|_| Err(UpstreamError::new(UpstreamErrorKind::QueueTimeout, Retry::Safe)))
    }

    /// A place on the first connection that has one; on the emptiest, full or not, if `crowded`.
    fn place(&self, settings: PoolSettings, crowded: bool) -> Option<Lease> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| {
            !connection.sender.is_closed() && connection.n_requests.load(Ordering::Relaxed) < settings.requests_max
        });
        let streams = |connection: &&Arc<Http2Connection>| connection.n_streams.load(Ordering::Relaxed);
        let chosen = if crowded {
            connections.iter().min_by_key(streams)
        } else {
            connections.iter().find(|connection| streams(connection) < connection.streams_max())
        };
        chosen.map(Lease::take)
    }

    async fn connect(
        &self,
        pool: &UpstreamPool,
        target: &UpstreamTarget,
        timeouts: Timeouts,
        place: Option<Place>,
    ) -> Result<Lease, UpstreamError> {
        let io = connect(&pool.resolver, target, timeouts.connect_ms, place).await?.into_io();
        if io.alpn().is_some_and(|protocol| protocol != b"h2") {
            let error = UpstreamError::new(UpstreamErrorKind::Tls, Retry::Safe);
            return Err(error.because("the upstream does not speak HTTP/2"));
        }
        let handshake = Builder::new(Executor(Arc::downgrade(&self.tasks)))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
            // None before the upstream's settings have come, so that the connection is not filled beyond them.
            .initial_max_send_streams(0)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .handshake(TokioIo::new(io));
        let (sender, connection) = handshake.await.map_err(|error| failure(&error, Retry::Safe).because(error))?;
        let (told, mut allowed) = watch::channel(0);
        self.tasks.lock().spawn(async move {
            let mut connection = pin!(connection);
            let mut looks = Looks::new();
            let ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                let allows = connection.current_max_send_streams();
                told.send_if_modified(|allowed| std::mem::replace(allowed, allows) != allows);
                match (allows, told.is_closed()) {
                    (0, true) => return Poll::Ready(Ok(())),
                    // hyper reads in a task of its own and wakes nobody for settings.
                    (0, false) => looks.again(cx),
                    _ => looks.found(),
                }
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream ended");
            }
        });
        if allowed.wait_for(|allowed| *allowed > 0).await.is_err() {
            return Err(UpstreamError::new(UpstreamErrorKind::Reset, Retry::Safe));
        }
        let connection = Arc::new(Http2Connection {
            sender,
            allowed,
            n_streams: AtomicUsize::new(0),
            n_requests: AtomicU32::new(0),
            idle_since: Mutex::new(Instant::now()),
            places: target.connections.clone(),
        });
        let lease = Lease::take(&connection);
        self.connections.lock().push(connection);
        Ok(lease)
    }
}

impl Http2Connection {
    fn streams_max(&self) -> usize {
        H2_UPSTREAM_STREAMS_MAX.min(*self.allowed.borrow())
    }
}

impl Lease {
    fn take(connection: &Arc<Http2Connection>) -> Self {
        connection.n_streams.fetch_add(1, Ordering::Relaxed);
        connection.n_requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.n_streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.idle_since.lock() = Instant::now();
            if let Some(places) = &self.0.places {
                places.relieve();
            }
        }
    }
}

impl UpstreamPool {
    /// [`UpstreamPool::exchange`] with a target that speaks HTTP/2. A stream that a kept connection refused unprocessed is
    /// tried once more; more often is the caller's to decide.
    pub(super) async fn exchange_http2(
        &self,
        target: &UpstreamTarget,
        head: &mut Parts,
        lines: &FieldLines,
        body: &mut Body,
        timeouts: Timeouts,
    ) -> Result<Response<Body>, UpstreamError> {
        prepare(&mut head.headers);
        let slot = self.slot(target);
        let (lease, is_new) = slot.http2.lease(self, target, timeouts).await?;
        match send(lease, target, head, lines, body, timeouts).await {
            Err(error) if !is_new && error.retry == Retry::Safe => {}
            done => return done,
        }
        let (lease, _) = slot.http2.lease(self, target, timeouts).await?;
        send(lease, target, head, lines, body, timeouts).await
    }
}

async fn send(
    lease: Lease,
    target: &UpstreamTarget,
    head: &Parts,
    lines: &FieldLines,
    body: &mut Body,
    timeouts: Timeouts,
) -> Result<Response<Body>, UpstreamError> {
    let replayable = body.is_replayable();
    let moved = Arc::new(AtomicU64::new(0));
    let sending = Sending { body: body.take(), moved: Arc::clone(&moved) };
    let Some(request) = request(target, head, lines, sending) else {
        return Err(UpstreamError::new(UpstreamErrorKind::InvalidResponse, Retry::Never).because("no authority to ask"));
    };
    let mut sender = lease.0.sender.clone();
    let mut answered = pin!(sender.try_send_request(request));
    let patience = Duration::from_millis(timeouts.read_ms);
    let mut n_moved = 0;
    let answered = loop {
        match tokio::time::timeout(patience, answered.as_mut()).await {
            Ok(answered) => break answered,
            Err(_) if moved.load(Ordering::Relaxed) != n_moved => n_moved = moved.load(Ordering::Relaxed),
            Err(_) => {
                let retry = if replayable { Retry::IfIdempotent } else { Retry::Never };
                return Err(UpstreamError::new(UpstreamErrorKind::ReadTimeout, retry));
            }
        }
    };
    match answered {
        Ok(response) => Ok(assemble(response, lease, moved, patience)),
        Err(mut unsent) => {
            let returned = unsent.take_message().map(|request| request.into_body().body);
            let was_returned = returned.is_some();
            if let Some(returned) = returned {
                *body = returned;
            }
            let error = unsent.into_error();
            let retry = match refused_unprocessed(&error) {
                _ if was_returned => Retry::Safe,
                _ if !replayable => Retry::Never,
                true => Retry::Safe,
                false => Retry::IfIdempotent,
            };
            Err(failure(&error, retry).because(error))
        }
    }
}

fn request(target: &UpstreamTarget, head: &Parts, lines: &FieldLines, body: Sending) -> Option<Request<Sending>> {
    let mut headers: HeaderMap = head.headers.clone();
    // hyper says the length if it is known.
    headers.remove(CONTENT_LENGTH);
    let host = headers.remove(HOST)?;
    lines.append_to(&mut headers);
    let mut uri = head.uri.clone().into_parts();
    uri.scheme = Some(if target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(host.as_bytes().try_into().ok()?);
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Some(request)
}

fn assemble(response: Response<Incoming>, lease: Lease, moved: Arc<AtomicU64>, patience: Duration) -> Response<Body> {
    let (mut parts, incoming) = response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    // A response that ended with its head, as a gRPC error does, has no body to stream.
    if incoming.is_end_stream() {
        return Response::from_parts(parts, Body::Empty);
    }
    let timer = LazyTimer::default();
    let body = UpstreamHttp2Body { incoming, _lease: lease, timer, patience, moved, n_moved: 0 };
    Response::from_parts(parts, Body::UpstreamHttp2(Box::new(body)))
}

/// Whether the upstream said that it did nothing with the request (RFC 9113 §8.7).
fn refused_unprocessed(error: &hyper::Error) -> bool {
    reason(error).is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
    })
}

fn reason(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn failure(error: &hyper::Error, retry: Retry) -> UpstreamError {
    // hyper blames the user for the body it was given to send.
    let kind = if error.is_user() {
        UpstreamErrorKind::RequestBody
    } else if reason(error).is_some_and(|error| !error.is_io() && !error.is_remote()) {
        UpstreamErrorKind::InvalidResponse
    } else {
        UpstreamErrorKind::Reset
    };
    UpstreamError::new(kind, retry)
}

/// A request's body on its way up; says when something moves.
#[derive(Debug)]
struct Sending {
    body: Body,
    moved: Arc<AtomicU64>,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.moved.fetch_add(1, Ordering::Relaxed);
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

/// A response body on its way down; gives its place back at its end.
pub struct UpstreamHttp2Body {
    incoming: Incoming,
    _lease: Lease,
    timer: LazyTimer,
    patience: Duration,
    /// What the request's body moved, and how much of that was seen.
    moved: Arc<AtomicU64>,
    n_moved: u64,
}

impl UpstreamHttp2Body {
    pub(crate) fn is_ended(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.timer.clear();
                let reset = |error| {
                    tracing::debug!(%error, "an upstream's HTTP/2 stream ended early");
                    BodyFault::Upstream(UpstreamErrorKind::Reset)
                };
                Poll::Ready(frame.map(|frame| frame.map_err(reset)))
            }
            Poll::Pending => {
                if !self.timer.is_set() {
                    self.timer.set(self.patience);
                }
                while self.timer.poll_expired(cx) {
                    let n_moved = self.moved.load(Ordering::Relaxed);
                    if n_moved == self.n_moved {
                        return Poll::Ready(Some(Err(BodyFault::Upstream(UpstreamErrorKind::ReadTimeout))));
                    }
                    self.n_moved = n_moved;
                    self.timer.set(self.patience);
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_allows_no_stream_is_looked_at_less_and_less_often() {
        let (mut looks, mut polls, end) = (Looks::new(), 0, Instant::now() + Duration::from_secs(10));
        poll_fn(|cx| {
            polls += 1;
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            looks.again(cx);
            Poll::Pending
        })
        .await;
        assert!((20..60).contains(&polls), "{polls}");
    }
}
