//! The gateway behind a listener for connections: performs the steps a [`Session`] decides, in the task of the client's
//! connection.
//!
//! ```text
//! accepted ─► ClientHello, if it is TLS ─► route ─┬─ tls_passthrough ──────────┬─► enter ─► connect, and again ─► relay ─► finish
//!                                                 └─ else the handshake is ours ┘
//! ```
//!
//! Who stops in the handshake takes nobody's place at the upstream.

use super::proxy::{at, failure, kept, make};
use bytes::BytesMut;
use gateway::router::StreamKind;
use gateway::stream::{Client, Session, SessionPlan, SessionStep};
use gateway::{Gateway, Reason, Transferred, Upstream, UpstreamFailure};
use net::http::{ServerTls, UpstreamPool, UpstreamTarget};
use net::resolve::Resolver;
use net::stream::{Hello, HelloError, Relay, RelayEnd, Stream, connect_stream};
use net::{Accepted, Clock, Drain, Peer};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// The gateway behind the listeners for connections.
pub(crate) struct StreamService {
    pub(super) gateway: Arc<Gateway>,
    pub(super) resolver: Arc<Resolver>,
    /// Only for its TLS configurations.
    pub(super) pool: Arc<UpstreamPool>,
    pub(super) clock: Clock,
}

/// What a listener knows of TLS.
#[derive(Clone)]
pub(super) enum StreamTls {
    /// None comes.
    None,
    /// It comes, and only passes through.
    PassingThrough,
    /// It comes, and may end here.
    Ending(Arc<ServerTls>),
}

/// A session and what was carried for it; finishes it however it ends.
struct UnderWay {
    session: Option<Session>,
    relay: Relay,
    clock: Clock,
}

impl StreamService {
    /// Serves one connection from first to last.
    pub(super) async fn serve(&self, io: Accepted, peer: Peer, tls: StreamTls, drain: Drain) {
        let Accepted::Plain(stream) = io else { return };
        let client = Client { kind: StreamKind::Tcp, source: peer.address, destination: peer.local, sni: None };
        let tls = match tls {
            StreamTls::None => {
                let session = self.gateway.begin_session(client, self.clock.now());
                return self.carry(Box::new(stream), BytesMut::new(), session, drain).await;
            }
            StreamTls::PassingThrough => None,
            StreamTls::Ending(tls) => Some(tls),
        };
        self.serve_tls(stream, client, tls.as_deref(), drain).await;
    }

    async fn serve_tls(&self, mut stream: TcpStream, client: Client, tls: Option<&ServerTls>, drain: Drain) {
        let client = Client { kind: StreamKind::Tls, ..client };
        let hello = match Hello::read(&mut stream).await {
            Ok(hello) => hello,
            Err(error) => {
                tracing::debug!(client = %client.source, %error, "no TLS");
                let reason = match error {
                    HelloError::Timeout => Reason::RequestTimeout,
                    HelloError::Closed(_) => Reason::ClientLeft,
                    HelloError::TooLong | HelloError::Malformed(_) => Reason::ClientTls,
                };
                return self.gateway.reject_session(client, reason, self.clock.now());
            }
        };
        let source = client.source;
        let client = Client { sni: hello.server_name().cloned(), ..client };
        let mut session = self.gateway.begin_session(client, self.clock.now());
        if !session.has_service() {
            hello.refuse(&mut stream).await;
            return session.finish(Transferred::default(), self.clock.now());
        }
        if session.passes_through() {
            return self.carry(Box::new(stream), hello.into_bytes(), session, drain).await;
        }
        let accepted = match tls {
            Some(tls) => hello.accept(stream, tls).await.map_err(|error| error.to_string()),
            None => {
                hello.refuse(&mut stream).await;
                Err("the listener has no certificate, so only tls_passthrough can be served".to_owned())
            }
        };
        match accepted {
            Ok(stream) => self.carry(Box::new(stream), BytesMut::new(), session, drain).await,
            Err(error) => {
                tracing::debug!(client = %source, %error, "the TLS handshake failed");
                session.broke(Reason::ClientTls);
                session.finish(Transferred::default(), self.clock.now());
            }
        }
    }

    /// Connects, and carries bytes until the end. `read` was read from the client already.
    async fn carry(&self, mut client: Box<dyn Stream>, read: BytesMut, session: Session, mut drain: Drain) {
        let mut under_way = UnderWay { session: Some(session), relay: Relay::new(Duration::MAX), clock: self.clock };
        let Some(session) = &mut under_way.session else { return };
        let step = session.enter(self.clock.now());
        let Some(mut upstream) = self.connect(session, step).await else { return };
        let of_ms = |ms: u32| Duration::from_millis(ms.into());
        let relay = Relay::new(of_ms(session.idle_timeout_ms()));
        under_way.relay = relay.with_write_timeout(of_ms(session.write_timeout_ms()));
        under_way.relay.from_client(read);
        let draining = pin!(drain.ending());
        let end = under_way.relay.carry(&mut client, &mut upstream, draining).await;
        if let Some(reason) = reason(&end) {
            tracing::debug!(?session, ?end, "it did not end of itself");
            session.broke(reason);
        }
    }

    /// Tries one address after another, as the session says.
    async fn connect(&self, session: &mut Session, mut step: SessionStep) -> Option<Box<dyn Stream>> {
        while self.next_try(session, step).await {
            step = match self.try_once(session.plan()?).await {
                Ok(stream) => {
                    session.connected(self.clock.now());
                    return Some(stream);
                }
                Err(failure) => session.failed(failure, self.clock.now()),
            };
        }
        None
    }

    /// Waits as the session says until its next try begins; `false` if there is none.
    pub(super) async fn next_try(&self, session: &mut Session, mut step: SessionStep) -> bool {
        loop {
            step = match step {
                SessionStep::Close => return false,
                SessionStep::Queue { queued, timeout_ms } => {
                    let granted = tokio::time::timeout(Duration::from_millis(timeout_ms.into()), queued).await.ok();
                    session.turn(granted, self.clock.now())
                }
                SessionStep::Connect { wait_ms } => {
                    if wait_ms > 0 {
                        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    }
                    session.try_begins(self.clock.now());
                    return true;
                }
            }
        }
    }

    async fn try_once(&self, plan: SessionPlan) -> Result<Box<dyn Stream>, UpstreamFailure> {
        let target = target(&self.pool, &plan).map_err(|error| {
            tracing::warn!(host = %plan.upstream.backend.host, %error, "TLS to the upstream");
            UpstreamFailure::Unavailable
        })?;
        let connect_ms = plan.upstream.backend.connect_timeout_ms.into();
        connect_stream(&self.resolver, &target, connect_ms).await.map_err(|error| {
            tracing::debug!(host = %target.host, port = target.port, %error, "a try failed");
            failure(error.kind)
        })
    }
}

/// Where a try goes.
fn target(pool: &UpstreamPool, plan: &SessionPlan) -> Result<UpstreamTarget, String> {
    let target = kept(&plan.upstream, || make_stream(pool, &plan.upstream))?;
    let mut target = plan.member.as_ref().map_or_else(|| target.clone(), |member| at(target, member));
    if !plan.tls {
        target.tls = None;
    }
    target.server_name = plan.server_name.clone().or(target.server_name);
    Ok(target)
}

fn make_stream(pool: &UpstreamPool, upstream: &Upstream) -> Result<UpstreamTarget, String> {
    let target = make(pool, upstream)?;
    Ok(UpstreamTarget { tls: target.tls.map(|tls| tls.for_stream()), ..target })
}

/// Why it ended, if it did not of itself.
const fn reason(end: &RelayEnd) -> Option<Reason> {
    match end {
        RelayEnd::Ended => None,
        RelayEnd::Client(_) => Some(Reason::ClientLeft),
        RelayEnd::Upstream(_) => Some(Reason::UpstreamReset),
        RelayEnd::Idle => Some(Reason::IdleTimeout),
        RelayEnd::Stalled => Some(Reason::WriteTimeout),
        RelayEnd::Drained => Some(Reason::Shutdown),
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let carried = self.relay.carried();
            let transferred = Transferred { bytes_in: carried.up_bytes, bytes_out: carried.down_bytes };
            session.finish(transferred, self.clock.now());
        }
    }
}
