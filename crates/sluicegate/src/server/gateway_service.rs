//! The gateway behind a listener: performs the steps an [`Exchange`] decides, in the task of the client's connection.

use super::mirroring::{Mirroring, mirrored};
use super::proxy::{failure, full, proxy};
use bytes::{Bytes, BytesMut};
use gateway::{BodyBudget, BodyFailure, BodyRoom, Decision, Exchange, Gateway, Transferred};
use http::{HeaderMap, Request, Response, request, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use model::limits::HTTP_COLLECTED_BYTES_MAX;
use net::http::{Answer, Body, BodyFault, HttpService, PoolSettings, Refusal, UpstreamPool, UpstreamTlsCache};
use net::resolve::Resolver;
use net::{Clock, Peer};
use plugin::{Connection, Scheme};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// The gateway behind the HTTP listeners.
pub(crate) struct GatewayService {
    gateway: Arc<Gateway>,
    /// The upstream connections of each shard.
    pub(super) pools: Vec<UpstreamPool>,
    pub(super) clock: Clock,
    pub(super) mirroring: Mirroring,
    connections: AtomicU64,
    bodies: BodyBudget,
}

impl GatewayService {
    pub(crate) fn new(gateway: Arc<Gateway>, resolver: &Arc<Resolver>, shards: usize, clock: Clock) -> Self {
        let tls = Arc::new(UpstreamTlsCache::default());
        let pool = |_| UpstreamPool::new(PoolSettings::default(), Arc::clone(resolver)).with_tls(Arc::clone(&tls));
        let pools = (0..shards).map(pool).collect();
        Self {
            gateway,
            pools,
            clock,
            mirroring: Mirroring::new(),
            connections: AtomicU64::new(0),
            bodies: BodyBudget::new(HTTP_COLLECTED_BYTES_MAX),
        }
    }

    /// Ends what is under way beside requests.
    pub(crate) async fn stop(&self) {
        self.mirroring.stop().await;
    }

    /// Closes upstream connections that were idle too long.
    pub(crate) fn sweep(&self) {
        self.pools.iter().for_each(UpstreamPool::sweep);
    }

    /// Runs the decisions until there is a response.
    async fn carry_out(
        self: &Arc<Self>,
        shard: usize,
        exchange: &mut Exchange,
        mut decision: Decision,
        mut body: Body,
    ) -> Box<Answer> {
        let (pool, mut room) = (&self.pools[shard], self.bodies.room());
        loop {
            decision = match decision {
                Decision::Respond(response) => return response.map(full).into(),
                Decision::Wait(pending) => {
                    let then = pending.await;
                    exchange.resume(then, self.clock.now())
                }
                Decision::Body { bytes_max } => match collect(std::mem::take(&mut body), bytes_max, &mut room).await {
                    Ok(collected) => exchange.body(collected, self.clock.now()),
                    Err(failure) => return exchange.body_failed(failure, self.clock.now()).map(full).into(),
                },
                Decision::Queue { queued, timeout_ms } => {
                    let granted = tokio::time::timeout(Duration::from_millis(timeout_ms.into()), queued).await.ok();
                    exchange.turn(granted, self.clock.now())
                }
                Decision::Proxy => {
                    body = mirrored(self, shard, exchange, body);
                    match proxy(pool, exchange, &mut body, self.clock).await {
                        Ok(answer) => return answer,
                        Err(decision) => decision,
                    }
                }
            }
        }
    }
}

/// The gateway as one client connection sees it.
pub(crate) struct ClientConnection {
    service: Arc<GatewayService>,
    connection: Arc<Connection>,
    shard: usize,
    requests: AtomicU64,
}

impl HttpService for ClientConnection {
    async fn call(&self, request: Request<Body>, _: &Peer) -> Box<Answer> {
        let service = &self.service;
        let (head, body) = request.into_parts();
        let bytes_in = request_bytes(&head, &body);
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let received = service.clock.now();
        let (mut exchange, decision) = service.gateway.begin(&self.connection, number, head, received);
        let mut answer = service.carry_out(self.shard, &mut exchange, decision, body).await;
        let bytes_out = response_bytes(&answer.head) + answer.lines.as_bytes().len() as u64;
        let transferred = Transferred { bytes_in, bytes_out };
        let clock = service.clock;
        if let Body::Empty | Body::Full(_) = answer.body {
            let body_bytes = answer.body.size_hint().exact().unwrap_or_default();
            let bytes_out = transferred.bytes_out + body_bytes;
            exchange.finish(Transferred { bytes_out, ..transferred }, clock.after(received));
            return answer;
        }
        answer.body = match std::mem::take(&mut answer.body) {
            Body::Tunnel(mut tunnel) => {
                tunnel.on_end(move |carried| {
                    let bytes_in = bytes_in + carried.up_bytes;
                    let bytes_out = bytes_out + carried.down_bytes;
                    exchange.finish(Transferred { bytes_in, bytes_out }, clock.now());
                });
                Body::Tunnel(tunnel)
            }
            streamed => {
                let watched = Watched { body: streamed, exchange: Some(exchange), transferred, clock };
                Body::Boxed(watched.boxed_unsync())
            }
        };
        answer
    }

    fn passes_interims(&self) -> bool {
        self.service.gateway.passes_early_hints()
    }

    fn refuse(&self, refusal: &Refusal, _: &Peer) -> Response<Body> {
        self.service.gateway.reject(refusal.status(), &refusal.to_string(), &HeaderMap::new()).map(full)
    }
}

impl GatewayService {
    /// The service of one client connection.
    pub(crate) fn connection(self: &Arc<Self>, peer: &Peer) -> ClientConnection {
        let scheme = if peer.tls.is_some() { Scheme::Https } else { Scheme::Http };
        let serial = self.connections.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(peer.address, peer.local, scheme, peer.sni.as_deref(), serial);
        let connection = Connection { tls: peer.tls.clone(), ..connection };
        ClientConnection {
            service: Arc::clone(self),
            connection: Arc::new(connection),
            shard: peer.shard,
            requests: AtomicU64::new(0),
        }
    }
}

async fn collect(mut body: Body, bytes_max: usize, room: &mut BodyRoom<'_>) -> Result<Bytes, BodyFailure> {
    let mut collected = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|fault| match fault {
            BodyFault::ClientTimeout => BodyFailure::Timeout,
            _ => BodyFailure::Malformed,
        })?;
        if let Ok(data) = frame.into_data() {
            if data.len() > bytes_max - collected.len() {
                return Err(BodyFailure::TooLarge);
            }
            room.grow(data.len())?;
            collected.extend_from_slice(&data);
        }
    }
    Ok(collected.freeze())
}

/// Bytes of a request as it came, near enough for bandwidth: its line, its headers, and the body it announced.
fn request_bytes(head: &request::Parts, body: &Body) -> u64 {
    let line = head.method.as_str().len() + head.uri.path_and_query().map_or(1, |target| target.as_str().len()) + 12;
    line as u64 + header_bytes(&head.headers) + body.size_hint().exact().unwrap_or(0)
}

fn response_bytes(head: &response::Parts) -> u64 {
    17 + header_bytes(&head.headers)
}

fn header_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}

/// A response's body that ends its exchange when it has ended, or the client has left.
struct Watched {
    body: Body,
    exchange: Option<Box<Exchange>>,
    transferred: Transferred,
    clock: Clock,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let watched = self.get_mut();
        let polled = Pin::new(&mut watched.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                watched.transferred.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
                // Whoever knows the length does not ask for the end.
                if watched.body.is_end_stream() {
                    watched.upstream_is_done();
                }
            }
            Poll::Ready(None) => watched.upstream_is_done(),
            Poll::Ready(Some(Err(BodyFault::Upstream(kind)))) => {
                if let Some(exchange) = &mut watched.exchange {
                    exchange.upstream_broke(failure(*kind), watched.clock.now());
                }
            }
            _ => {}
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

impl Watched {
    /// All of the answer is here. Told before the client has it, so that its next request finds what this one taught.
    fn upstream_is_done(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.upstream_done(self.clock.now());
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(self.transferred, self.clock.now());
        }
    }
}
