//! The gateway: the current snapshot, the counters, and the start of every request.

use crate::access_log::{AccessLog, Kept};
use crate::balancer::random::mix;
use crate::balancer::{Balancer, Resolution};
use crate::decision::Decision;
use crate::entity::{Entities, TargetAddress, UpstreamId};
use crate::error;
use crate::exchange::{CLIENT_CLOSED_REQUEST, Exchange};
use crate::forward;
use crate::mirror::Mirrors;
use crate::real_ip::RealIp;
use crate::reason::Reason;
use crate::router::{Ask, split_port};
use crate::snapshot::{BuildError, RouteChange, Snapshot};
use crate::stats::Stats;
use crate::stream::{Client, Session};
use crate::tls::CertificateTable;
use crate::uri;
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, request};
use http1::FieldLines;
use model::Now;
use parking_lot::Mutex;
use plugin::{Connection, Context, Registry, RequestId, Services, Source};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What requests count in, and what numbers them. Shared by the gateway and its exchanges.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) stats: Stats,
    /// Requests that became a pair of byte streams and have not ended.
    pub(crate) n_tunnels: AtomicU64,
    pub(crate) mirrors: Arc<Mirrors>,
    /// Clients that ask are told which route and service took them.
    pub(crate) allow_debug_header: AtomicBool,
    /// Clients get what upstreams say before their answer.
    early_hints: AtomicBool,
    pub(crate) telling: Telling,
}

/// What the gateway tells about requests, beside counting them. Nothing by default.
#[derive(Clone, Default)]
pub struct Telling {
    /// Failures of ours carry `Proxy-Status` (RFC 9209).
    pub proxy_status: bool,
    /// Takes a line for each request.
    pub access_log: Option<Arc<dyn AccessLog>>,
}

/// The API gateway of a node.
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    /// What the current snapshot's listeners show.
    certificates: Arc<CertificateTable>,
    /// Whom the next snapshot believes; none if nobody.
    real_ip: ArcSwapOption<RealIp>,
    registry: Registry,
    services: Arc<dyn Services>,
    counters: Arc<Counters>,
    /// Held while the snapshot or the addresses of its upstreams change, so that neither misses the other.
    changing: Mutex<()>,
    /// Random per process; with the number of the request it makes the request's id.
    id_seed: [u64; 2],
    n_requests: AtomicU64,
}

impl Gateway {
    /// A gateway without routes: every request is answered 404.
    #[must_use]
    pub fn new(registry: Registry, services: Arc<dyn Services>) -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            snapshot: ArcSwap::default(),
            certificates: Arc::default(),
            real_ip: ArcSwapOption::empty(),
            registry,
            services,
            counters: Arc::default(),
            changing: Mutex::default(),
            id_seed: [high, low],
            n_requests: AtomicU64::new(0),
        }
    }

    /// Tells more about requests than that they were.
    #[must_use]
    pub fn telling(mut self, telling: Telling) -> Self {
        self.counters = Arc::new(Counters { telling, ..Counters::default() });
        self
    }

    /// Builds a snapshot of the entities without using it, for checking a configuration.
    ///
    /// # Errors
    /// Every entity that cannot be used.
    pub fn prepare(&self, entities: &Entities) -> Result<Snapshot, Vec<BuildError>> {
        Snapshot::build(entities, &self.registry, &self.services, &self.counters.stats, &self.snapshot.load())
    }

    /// Builds the snapshot after a change of routes for requests alone, without using it: of the current one everything else
    /// stays. It costs what those routes cost.
    ///
    /// # Errors
    /// Every route of the change that cannot be used.
    pub fn prepare_routes(&self, change: &RouteChange) -> Result<Snapshot, Vec<BuildError>> {
        self.snapshot.load().with_routes(change)
    }

    /// Whose word is taken for where a request comes from, from the next [`Gateway::activate`] on.
    pub fn set_real_ip(&self, real_ip: RealIp) {
        self.real_ip.store((!real_ip.trusted.is_empty()).then(|| Arc::new(real_ip)));
    }

    /// Whether a client that says `Kong-Debug` is told which route and service took it; not unless set.
    pub fn allow_debug_header(&self, allow: bool) {
        self.counters.allow_debug_header.store(allow, Ordering::Relaxed);
    }

    /// Whether clients of HTTP/1.1 get what upstreams say before their answer, such as 103 Early Hints; not unless set.
    pub fn pass_early_hints(&self, pass: bool) {
        self.counters.early_hints.store(pass, Ordering::Relaxed);
    }

    /// What [`Gateway::pass_early_hints`] said last.
    #[must_use]
    pub fn passes_early_hints(&self) -> bool {
        self.counters.early_hints.load(Ordering::Relaxed)
    }

    /// Makes a prepared snapshot the current one, and returns the one before it, which may take long to free. Requests under
    /// way keep theirs.
    pub fn activate(&self, mut snapshot: Snapshot) -> Arc<Snapshot> {
        snapshot.real_ip = self.real_ip.load_full();
        let common = Arc::clone(&snapshot.common);
        let _guard = self.changing.lock();
        if !Arc::ptr_eq(&common, &self.snapshot.load().common) {
            let streams: HashSet<_> = snapshot.streams.routes.iter().map(|route| route.info.id).collect();
            self.counters.stats.retain(|id| streams.contains(&id.0));
            common.balancers.values().for_each(|balancer| balancer.refresh());
            self.certificates.set(Arc::clone(&common.certificates));
        }
        self.snapshot.swap(Arc::new(snapshot))
    }

    /// [`Gateway::prepare`] and [`Gateway::activate`]; after an error the old snapshot stays.
    ///
    /// # Errors
    /// Every entity that cannot be used.
    pub fn load(&self, entities: &Entities) -> Result<(), Vec<BuildError>> {
        self.prepare(entities).map(|snapshot| drop(self.activate(snapshot)))
    }

    /// The certificates of server names, for the listeners: one table over all changes.
    #[must_use]
    pub const fn certificates(&self) -> &Arc<CertificateTable> {
        &self.certificates
    }

    /// The upstreams of the current snapshot.
    #[must_use]
    pub fn balancers(&self) -> Vec<Arc<Balancer>> {
        self.snapshot.load().common.balancers.values().cloned().collect()
    }

    /// The balancer of an upstream, by its id.
    #[must_use]
    pub fn balancer(&self, upstream: UpstreamId) -> Option<Arc<Balancer>> {
        self.snapshot.load().common.balancers.get(&upstream).cloned()
    }

    /// Tells what the name of an upstream's target resolves to; `false` if nothing changed, or nobody asked.
    pub fn set_addresses(&self, upstream: UpstreamId, target: &TargetAddress, resolution: Resolution) -> bool {
        let _guard = self.changing.lock();
        self.balancer(upstream).is_some_and(|balancer| balancer.set_addresses(target, resolution))
    }

    /// The current snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The counters of all requests.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.counters.stats
    }

    /// Copies of requests.
    #[must_use]
    pub fn mirrors(&self) -> &Mirrors {
        &self.counters.mirrors
    }

    /// Upgraded connections that are open.
    #[must_use]
    pub fn n_tunnels(&self) -> u64 {
        self.counters.n_tunnels.load(Ordering::Relaxed)
    }

    /// The plugins this gateway knows.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Begins a request whose head is complete.
    ///
    /// `request` is in origin form, or has its authority in the target as HTTP/2 does. `request_number` counts the
    /// requests of the connection from 1. The exchange is boxed because it is handed on several times.
    pub fn begin(
        &self,
        connection: &Arc<Connection>,
        request_number: u64,
        mut request: request::Parts,
        now: Now,
    ) -> (Box<Exchange>, Decision) {
        forward::remove_hop_by_hop(&mut request.headers);
        let snapshot = self.snapshot.load_full();
        let (host, port) = host_value(&request);
        let (normal_path, bad_path) = match uri::normalize(request.uri.path()) {
            Ok(Cow::Borrowed(_)) => (None, false),
            Ok(Cow::Owned(path)) => (Some(path), false),
            Err(uri::BadPath) => (None, true),
        };
        let trusted = snapshot.real_ip.as_deref().filter(|real_ip| real_ip.trusts(connection.peer.ip()));
        let told = trusted.and_then(|real_ip| real_ip.client_of(&request.headers));
        let (is_trusted, client_ip) = (trusted.is_some(), told.unwrap_or_else(|| connection.peer.ip().to_canonical()));
        let found = snapshot.router.route(&Ask {
            scheme: connection.scheme,
            method: &request.method,
            host: host.to_str().unwrap_or_default(),
            path: normal_path.as_deref().unwrap_or_else(|| request.uri.path()),
            query: request.uri.query(),
            headers: &request.headers,
            sni: connection.sni.as_deref(),
            source: SocketAddr::new(client_ip, connection.peer.port()),
            destination: SocketAddr::new(
                connection.local.ip().to_canonical(),
                port.unwrap_or_else(|| connection.local.port()),
            ),
        });
        let mut cx = self.context(connection, request_number, request, now);
        cx.client_ip = client_ip;
        let mut exchange = Box::new(Exchange {
            snapshot,
            counters: Arc::clone(&self.counters),
            cx,
            is_trusted,
            route_idx: found.map(|found| found.route_idx),
            found,
            normal_path,
            host,
            at: 0,
            chosen: Vec::new(),
            status: CLIENT_CLOSED_REQUEST,
            source: Source::Error,
            proxied_at: None,
            head_at: now.mono,
            upstream_us: None,
            lines: FieldLines::default(),
            upstream: None,
            asked: None,
            fell_back: false,
            cookie: None,
            call: None,
            peer: None,
            tried_at: now,
            tries: Vec::new(),
            retries_left: 0,
            reason: None,
            tunnel: false,
            kept: None,
            finished: false,
        });
        if self.counters.telling.access_log.is_some() {
            let target = exchange.cx.request.uri.path_and_query().map_or("", PathAndQuery::as_str).to_owned();
            exchange.kept = Some(Box::new(Kept { target, ..Kept::default() }));
        }
        let refused = match exchange.cx.request.method {
            _ if bad_path => Some(StatusCode::BAD_REQUEST),
            Method::CONNECT | Method::TRACE => Some(StatusCode::METHOD_NOT_ALLOWED),
            _ => None,
        };
        if let Some(status) = refused {
            exchange.route_idx = None;
            let response = exchange.refuse(Reason::BadRequest, status, error::message_of(status));
            return (exchange, Decision::Respond(response));
        }
        let decision = exchange.start();
        (exchange, decision)
    }

    /// Begins a connection that is carried without a look at what is in it, or the datagrams of a client: finds its route.
    pub fn begin_session(&self, client: Client, now: Now) -> Session {
        let random = self.next_id().value();
        Session::begin(self.snapshot.load_full(), Arc::clone(&self.counters), client, random, now)
    }

    /// Counts a connection that ended before it could be routed.
    pub fn reject_session(&self, client: Client, reason: Reason, now: Now) {
        Session::reject(self.snapshot.load_full(), Arc::clone(&self.counters), client, reason, now);
    }

    /// Answers and counts a request whose head is not usable. `headers` are those that could be read; `reason` is said
    /// where Kong has no words for the status.
    pub fn reject(&self, status: StatusCode, reason: &str, headers: &HeaderMap) -> Response<Bytes> {
        let request_id = self.next_id();
        let message = error::words_for(status).unwrap_or(reason);
        let mut response = error::response(status, message, &request_id, headers);
        forward::from_us(response.headers_mut(), 0);
        forward::set_request_id(response.headers_mut(), &request_id);
        self.counters.stats.count_rejected(status.as_u16(), Reason::BadRequest);
        response
    }

    fn context(&self, connection: &Arc<Connection>, request_number: u64, request: request::Parts, now: Now) -> Context {
        Context {
            request,
            body: None,
            client_ip: connection.peer.ip().to_canonical(),
            connection: Arc::clone(connection),
            request_number,
            request_id: self.next_id(),
            route: None,
            service: None,
            queue: None,
            consumer: None,
            credential: None,
            correlation_id: None,
            response_headers: FieldLines::default(),
            received: now,
            now,
        }
    }

    fn next_id(&self) -> RequestId {
        let n = self.n_requests.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (mix(self.id_seed[0].wrapping_add(n)), mix(self.id_seed[1] ^ n));
        RequestId::new(u128::from(high) << 64 | u128::from(low))
    }
}

/// The host a request asks for, in lower case and without port, empty if it names none; and the port, if it names one.
fn host_value(request: &request::Parts) -> (HeaderValue, Option<u16>) {
    let none = (HeaderValue::from_static(""), None);
    let asked = match request.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers.get(HOST).cloned(),
    };
    let Some(asked) = asked else { return none };
    let Ok(text) = asked.to_str() else { return none };
    let (name, port) = split_port(text);
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    if lower && port.is_none() {
        return (asked, None);
    }
    let port = port.and_then(|port| port.parse().ok());
    let name = HeaderValue::try_from(name.to_ascii_lowercase());
    (name.unwrap_or_else(|_| HeaderValue::from_static("")), port)
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gateway({} routes)", self.snapshot.load().routes.iter().count())
    }
}
