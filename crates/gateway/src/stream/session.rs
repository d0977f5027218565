//! One TCP connection, or the datagrams of one UDP client, from the first to the last.
//!
//! ```text
//! begin ─► enter() ─► gate ─► address ─► Connect ─► plan() ─► connected() ─► finish()
//!                      ▲ │                ▲  ▲  └───► failed() ─► Close ───────┘
//!                      │ Queue ─ turn() ──┘  └───────────┤
//!                      └─ fallback, once, if it may not go, or nobody answered ◄┘
//! ```
//!
//! Invariants: it is counted and logged exactly once, however it ends. Until it enters, it holds nothing of the upstream's;
//! from then on it is under way to its address and holds its place in the bulkhead. The breaker and the address hear of the
//! connection, not of what came after, but for datagrams that are refused. One that ends without a connection has a reason.
//!
//! Datagrams know no connection: the first answer is one, a refusal before it is a try that failed, and silence is their end.
//! The breaker does not wait for either: what was not refused in time for a connection is a success for it.

use super::log;
use super::routes::{CompiledStream, StreamService};
use crate::balancer::{Call, Gate, Granted, Member, Peer, Queued, Verdict};
use crate::decision::{Datagrams, Transferred, UpstreamFailure};
use crate::entity::{StreamProtocol, StreamProtocols};
use crate::exchange::micros;
use crate::gateway::Counters;
use crate::proxying::{Try, TryEnd, no_peer};
use crate::reason::Reason;
use crate::router::{StreamAsk, StreamKind};
use crate::snapshot::{Snapshot, Upstream};
use crate::stats::StreamStats;
use model::Now;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who came, and to what.
#[derive(Clone, Debug)]
pub struct Client {
    /// What came.
    pub kind: StreamKind,
    /// The client.
    pub source: SocketAddr,
    /// Our address.
    pub destination: SocketAddr,
    /// The server name it asked for, in lower case.
    pub sni: Option<Arc<str>>,
}

/// What to do next.
#[derive(Debug)]
pub enum SessionStep {
    /// Close it; nothing is to be said to the client.
    Close,
    /// Await its turn, but no longer than that; then call [`Session::turn`].
    Queue {
        /// Resolves when it is the session's turn.
        queued: Queued,
        /// How long it may take.
        timeout_ms: u32,
    },
    /// Wait that long, which is 0 for the first try, then connect as [`Session::plan`] says.
    Connect {
        /// How long.
        wait_ms: u64,
    },
}

/// Where to connect.
#[derive(Clone, Debug)]
pub struct SessionPlan {
    /// The service: timeouts, TLS, and the address if it has no targets.
    pub upstream: Arc<Upstream>,
    /// The address, if the service has targets.
    pub member: Option<Arc<Member>>,
    /// TLS of our own is spoken to it.
    pub tls: bool,
    /// The server name that TLS asks for, if it is not the upstream's.
    pub server_name: Option<Arc<str>>,
}

/// A session under way.
pub struct Session {
    pub(super) snapshot: Arc<Snapshot>,
    counters: Arc<Counters>,
    pub(super) client: Client,
    pub(super) route_idx: Option<usize>,
    pub(super) began: Now,
    now: Now,
    random: u128,
    /// The service it goes to: its route's, or that one's fallback.
    pub(super) service: Option<StreamService>,
    call: Option<Call>,
    pub(super) peer: Option<Peer>,
    retries_left: u16,
    tried_at: Now,
    pub(super) tries: Vec<Try>,
    /// From its beginning to its connection, in microseconds.
    pub(super) connected_us: Option<u64>,
    pub(super) reason: Option<Reason>,
    pub(super) transferred: Transferred,
    pub(super) datagrams: Datagrams,
    finished: bool,
}

impl Session {
    pub(crate) fn begin(
        snapshot: Arc<Snapshot>,
        counters: Arc<Counters>,
        client: Client,
        random: u128,
        now: Now,
    ) -> Self {
        let route_idx = snapshot.streams.router.route(&StreamAsk {
            kind: client.kind,
            sni: client.sni.as_deref(),
            source: client.source,
            destination: client.destination,
        });
        let mut session = Self::new(snapshot, counters, client, route_idx, now);
        session.random = random;
        session.stats().begin();
        session.reason = match session.route().map(|route| route.target.is_some()) {
            None => Some(Reason::NoRoute),
            Some(false) => Some(Reason::NoService),
            Some(true) => None,
        };
        session
    }

    /// One that ended before it could be routed.
    pub(crate) fn reject(snapshot: Arc<Snapshot>, counters: Arc<Counters>, client: Client, reason: Reason, now: Now) {
        let mut session = Self::new(snapshot, counters, client, None, now);
        session.stats().begin();
        session.broke(reason);
    }

    fn new(
        snapshot: Arc<Snapshot>,
        counters: Arc<Counters>,
        client: Client,
        route_idx: Option<usize>,
        now: Now,
    ) -> Self {
        Self {
            snapshot,
            counters,
            client,
            route_idx,
            began: now,
            now,
            random: 0,
            service: None,
            call: None,
            peer: None,
            retries_left: 0,
            tried_at: now,
            tries: Vec::new(),
            connected_us: None,
            reason: None,
            transferred: Transferred::default(),
            datagrams: Datagrams::default(),
            finished: false,
        }
    }

    pub(super) fn route(&self) -> Option<&CompiledStream> {
        self.route_idx.map(|at| &self.snapshot.streams.routes[at])
    }

    fn stats(&self) -> &StreamStats {
        self.route().map_or(self.counters.stats.unmatched_streams(), |route| &route.stats)
    }

    /// Whether there is a service for it.
    #[must_use]
    pub fn has_service(&self) -> bool {
        self.route().is_some_and(|route| route.target.is_some())
    }

    /// Whether the client's TLS goes to the upstream as it is.
    #[must_use]
    pub fn passes_through(&self) -> bool {
        self.route().is_some_and(|route| route.protocols == StreamProtocols::TlsPassthrough)
    }

    /// Time in which something has to move, in milliseconds.
    #[must_use]
    pub fn idle_timeout_ms(&self) -> u32 {
        self.service.as_ref().map_or(0, |service| service.upstream.backend.read_timeout_ms)
    }

    /// Time in which the upstream has to take something of what waits for it, in milliseconds.
    #[must_use]
    pub fn write_timeout_ms(&self) -> u32 {
        self.service.as_ref().map_or(0, |service| service.upstream.backend.write_timeout_ms)
    }

    /// The client is ready, so it takes its place at the service.
    pub fn enter(&mut self, now: Now) -> SessionStep {
        (self.now, self.tried_at) = (now, now);
        match self.route().and_then(|route| route.target.clone()) {
            Some(service) => self.ask_gate(service),
            None => SessionStep::Close,
        }
    }

    /// Asks the gate of the service's upstream, if it has one.
    fn ask_gate(&mut self, service: StreamService) -> SessionStep {
        let Some(balancer) = &service.upstream.balancer else {
            self.retries_left = service.upstream.backend.retries;
            self.service = Some(service);
            return SessionStep::Connect { wait_ms: 0 };
        };
        let (ip, retries) = (self.client.source.ip().to_canonical(), service.upstream.backend.retries);
        let gate = Call::begin_session(balancer, ip, retries, self.random, self.now.mono);
        match gate {
            Gate::Open(call) => {
                self.call = Some(call);
                self.first_address(service)
            }
            Gate::Queued(call, queued, timeout_ms) => {
                (self.call, self.service) = (Some(call), Some(service));
                SessionStep::Queue { queued, timeout_ms }
            }
            Gate::Closed(reason) => self.unavailable(&service, reason),
        }
    }

    /// Goes on after [`SessionStep::Queue`]: its turn came, or did not in time.
    pub fn turn(&mut self, granted: Option<Granted>, now: Now) -> SessionStep {
        (self.now, self.tried_at) = (now, now);
        let Some(service) = self.service.take() else { return self.refuse(Reason::Internal) };
        match granted {
            Some(granted) => {
                if let Some(call) = &mut self.call {
                    call.granted(granted);
                }
                self.first_address(service)
            }
            None => self.unavailable(&service, Reason::QueueTimeout),
        }
    }

    fn first_address(&mut self, service: StreamService) -> SessionStep {
        let Some(call) = &mut self.call else { return self.refuse(Reason::Internal) };
        match call.pick(self.now.mono) {
            Ok(peer) => {
                (self.peer, self.service) = (Some(peer), Some(service));
                SessionStep::Connect { wait_ms: 0 }
            }
            Err(nobody) => self.unavailable(&service, no_peer(nobody)),
        }
    }

    /// Turns to the fallback, or refuses.
    fn unavailable(&mut self, service: &StreamService, reason: Reason) -> SessionStep {
        (self.call, self.peer) = (None, None);
        let own = self.route().and_then(|route| route.target.as_ref());
        let may_fall_back = own.is_some_and(|own| Arc::ptr_eq(&own.upstream, &service.upstream));
        let fallback = service.upstream.balancer.as_ref().and_then(|balancer| balancer.upstream().resilience.fallback);
        let fallback = fallback.filter(|_| may_fall_back).and_then(|id| self.snapshot.streams.fallbacks.get(&id));
        // Datagrams have no TLS.
        let may_serve =
            |fallback: &&StreamService| self.client.kind != StreamKind::Udp || fallback.protocol != StreamProtocol::Tls;
        match fallback.filter(may_serve).cloned() {
            Some(fallback) => self.ask_gate(fallback),
            None => self.refuse(reason),
        }
    }

    fn refuse(&mut self, reason: Reason) -> SessionStep {
        self.reason = Some(reason);
        SessionStep::Close
    }

    /// Where to connect, after [`SessionStep::Connect`].
    #[must_use]
    pub fn plan(&self) -> Option<SessionPlan> {
        let service = self.service.as_ref()?;
        let preserves = self.route().is_some_and(|route| route.preserve_host);
        Some(SessionPlan {
            upstream: Arc::clone(&service.upstream),
            member: self.peer.as_ref().map(|peer| Arc::clone(&peer.member)),
            tls: service.protocol == StreamProtocol::Tls && !self.passes_through(),
            server_name: self.client.sni.clone().filter(|_| preserves),
        })
    }

    /// A try begins.
    pub const fn try_begins(&mut self, now: Now) {
        (self.now, self.tried_at) = (now, now);
    }

    /// There is a connection; of UDP, the upstream has answered.
    pub fn connected(&mut self, now: Now) {
        self.now = now;
        if self.connected_us.is_some() {
            return;
        }
        self.connected_us = Some(micros(self.began.mono, now.mono));
        if let (Some(call), Some(peer)) = (&mut self.call, &self.peer) {
            call.connected(peer, self.tried_at.mono, now.mono);
        }
    }

    /// A try to connect failed, before any of the client's bytes went to it; of UDP, or what went to it was refused.
    pub fn failed(&mut self, failure: UpstreamFailure, now: Now) -> SessionStep {
        self.now = now;
        let member = self.peer.as_ref().map(|peer| Arc::clone(&peer.member));
        let us = micros(self.tried_at.mono, now.mono);
        self.tries.push(Try { member, us, end: TryEnd::Failed(failure.reason()) });
        let may_repeat = failure.may_differ_elsewhere();
        let verdict = match (&mut self.call, &self.peer) {
            (Some(call), Some(peer)) => call.failed(peer, failure.outcome(), may_repeat, now.mono),
            _ if may_repeat && self.retries_left > 0 => {
                self.retries_left -= 1;
                return SessionStep::Connect { wait_ms: 0 };
            }
            _ => Verdict::Final,
        };
        let reason = match verdict {
            Verdict::Again(peer, wait_ms) => {
                self.peer = Some(peer);
                return SessionStep::Connect { wait_ms };
            }
            Verdict::Final => failure.reason(),
            Verdict::OverBudget => Reason::RetryBudget,
        };
        match self.service.clone() {
            Some(service) => self.unavailable(&service, reason),
            None => self.refuse(reason),
        }
    }

    /// What was sent was not refused for as long as a connection may take, nor answered.
    pub fn not_refused(&mut self, now: Now) {
        self.now = now;
        if let (None, Some(call)) = (self.connected_us, &mut self.call) {
            call.not_refused(now.mono);
        }
    }

    /// No datagram has come for so long that this is their end, also where there never was an answer.
    pub fn fell_silent(&mut self, now: Now) {
        self.not_refused(now);
        if self.connected_us.is_none() {
            self.connected_us = Some(micros(self.began.mono, self.tried_at.mono));
        }
    }

    /// An upstream that had answered refuses a datagram.
    pub fn refused(&mut self, now: Now) {
        self.now = now;
        self.reason = Some(Reason::ConnectRefused);
        if let (Some(call), Some(peer)) = (&mut self.call, &self.peer) {
            call.lost(peer, UpstreamFailure::Refused.outcome(), now.mono);
        }
    }

    /// Datagrams that were carried.
    pub const fn count_datagrams(&mut self, datagrams: Datagrams) {
        self.datagrams = datagrams;
    }

    /// It did not end of itself.
    pub const fn broke(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// It has ended.
    pub fn finish(mut self, transferred: Transferred, now: Now) {
        (self.transferred, self.now) = (transferred, now);
        self.end();
    }

    fn end(&mut self) {
        self.finished = true;
        if self.connected_us.is_none() && self.reason.is_none() {
            // Its task was given up before there was a connection.
            self.reason = Some(Reason::Shutdown);
        }
        let us = micros(self.began.mono, self.now.mono);
        self.stats().end(us, self.transferred, self.datagrams, self.reason);
        if let Some(access_log) = &self.counters.telling.access_log {
            access_log.write(&log::line(self, us));
        }
    }
}

/// One whose task was given up is counted too, with the time of its last step.
impl Drop for Session {
    fn drop(&mut self) {
        if !self.finished {
            self.end();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?} {}, route {:?})", self.client.kind, self.client.source, self.route_idx)
    }
}
