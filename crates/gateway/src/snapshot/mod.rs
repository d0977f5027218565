//! Everything that decides about requests, built once from entities and then immutable.
//!
//! A change builds the next snapshot and swaps it in; a request keeps the one it began with. Building reports every
//! entity that cannot work, so a bad set never replaces a good one. What routes have in common is built as a whole, routes
//! one by one: a change of routes alone costs what those routes cost, and shares everything else with the snapshot before.

mod common;
mod routes;

use crate::balancer::Balancer;
use crate::chain::Chain;
use crate::entity::{Entities, HttpBackend, HttpsRedirect, Id, Route, RouteId, RouteProtocols, ServiceId};
use crate::mirror::Mirroring;
use crate::real_ip::RealIp;
use crate::router::Router;
use crate::shared::Slots;
use crate::split::Splitting;
use crate::stats::{RouteStats, Stats};
use crate::stream::{self, StreamRouteView, StreamRoutes, StreamService};
use crate::tls::Identity;
pub(crate) use common::{Common, ReadyServices};
use http::HeaderValue;
use plugin::{QueueTarget, Registry, RouteInfo, Scheme, ServiceInfo, Services};
use rustls::pki_types::CertificateDer;
use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// An entity that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildError {
    /// Kong's name of the kind: `routes`, `plugins`, …
    pub kind: &'static str,
    /// Which one.
    pub id: Id,
    /// What is wrong, with the field where there is one.
    pub what: String,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.id, self.what)
    }
}

impl std::error::Error for BuildError {}

/// A service of HTTP or of connections, ready for use. Shared by its routes.
#[derive(Debug)]
pub struct Upstream {
    /// The service it belongs to.
    pub service: ServiceId,
    /// Address, timeouts, retries and TLS.
    pub backend: HttpBackend,
    /// The trust anchors that `backend` names; empty means the system's.
    pub ca_certificates: Vec<CertificateDer<'static>>,
    /// What it is shown if it asks who we are: the service's, or else that of the upstream with its targets.
    pub identity: Option<Arc<Identity>>,
    /// The `Host` it is asked by, unless a target says otherwise.
    pub host_value: HeaderValue,
    /// The upstream whose name is the service's host, if there is one.
    pub balancer: Option<Arc<Balancer>>,
    /// Whatever those who connect want to keep with it; made once, gone with what routes have in common. Not for failures.
    pub connector: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// What stands behind a route.
#[derive(Debug)]
pub(crate) enum Target {
    /// No service.
    None,
    /// An upstream.
    Http(Arc<Upstream>),
    /// An upstream of connections.
    Stream(StreamService),
    /// A queue; its plugin answers.
    Queue(Arc<QueueTarget>),
}

impl Target {
    /// What carries connections.
    pub(crate) const fn stream(&self) -> Option<&StreamService> {
        match self {
            Self::Stream(service) => Some(service),
            Self::None | Self::Http(_) | Self::Queue(_) => None,
        }
    }
}

/// A route with all it needs.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) info: Arc<RouteInfo>,
    pub(crate) service: Option<Arc<ServiceInfo>>,
    pub(crate) target: Target,
    pub(crate) protocols: RouteProtocols,
    /// Only for gRPC.
    pub(crate) grpc: bool,
    pub(crate) redirect: HttpsRedirect,
    pub(crate) strip_path: bool,
    pub(crate) preserve_host: bool,
    pub(crate) mirror: Option<Mirroring>,
    pub(crate) split: Option<Box<Splitting>>,
    pub(crate) chain: Chain,
    pub(crate) matches: Arc<str>,
    pub(crate) stats: Arc<RouteStats>,
}

/// A route as it is shown to people and metrics.
#[derive(Clone, Debug)]
pub struct RouteView {
    /// The route.
    pub route: Arc<RouteInfo>,
    /// Its service.
    pub service: Option<Arc<ServiceInfo>>,
    /// What it matches, for people.
    pub matches: Arc<str>,
    /// What was counted for it.
    pub stats: Arc<RouteStats>,
}

/// The immutable whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(crate) router: Router,
    /// In the router's places.
    pub(crate) routes: Slots<CompiledRoute>,
    /// Routes for connections.
    pub(crate) streams: Arc<StreamRoutes>,
    pub(crate) common: Arc<Common>,
    /// Whose word is taken for where a request comes from; none if nobody's.
    pub(crate) real_ip: Option<Arc<RealIp>>,
}

/// A change of routes for requests alone.
#[derive(Debug, Default)]
pub struct RouteChange {
    /// New ones and those that are different, whole.
    pub put: Vec<Route>,
    /// Those that are gone.
    pub gone: Vec<RouteId>,
}

impl Snapshot {
    /// Builds a snapshot; what `before` compiled, and knows of the same upstreams, is kept.
    ///
    /// # Errors
    /// Every entity that cannot be used.
    pub fn build(
        entities: &Entities,
        registry: &Registry,
        services: &Arc<dyn Services>,
        stats: &Stats,
        before: &Self,
    ) -> Result<Self, Vec<BuildError>> {
        let (common, mut errors) = common::Build::new(entities, registry, services, &before.common).run();
        let there: HashSet<RouteId> = entities.routes.iter().map(|route| route.id).collect();
        let gone = before.router.ids().filter(|id| !there.contains(id));
        let (router, routes, of_routes) = routes::Build::new(before, &common).run(&entities.routes, gone);
        errors.extend(of_routes);
        let mut error = |kind, id, what| errors.push(BuildError { kind, id, what });
        let streams = Arc::new(stream::compile(entities, &common.services, stats, &mut error));
        let snapshot = Self { router, routes, streams, common: Arc::new(common), real_ip: None };
        if errors.is_empty() { Ok(snapshot) } else { Err(errors) }
    }

    /// The snapshot after a change of routes alone. What they name has not changed.
    ///
    /// # Errors
    /// Every route of the change that cannot be used.
    pub fn with_routes(&self, change: &RouteChange) -> Result<Self, Vec<BuildError>> {
        let gone = change.gone.iter().copied();
        let (router, routes, errors) = routes::Build::new(self, &self.common).run(&change.put, gone);
        let (streams, common) = (Arc::clone(&self.streams), Arc::clone(&self.common));
        let snapshot = Self { router, routes, streams, common, real_ip: None };
        if errors.is_empty() { Ok(snapshot) } else { Err(errors) }
    }

    fn route(&self, id: RouteId) -> Option<&Arc<CompiledRoute>> {
        self.routes.get(self.router.place_of(id)?)
    }

    /// The routes, for people and metrics.
    pub fn routes(&self) -> impl Iterator<Item = RouteView> {
        self.routes.iter().map(|route| RouteView {
            route: Arc::clone(&route.info),
            service: route.service.clone(),
            matches: Arc::clone(&route.matches),
            stats: Arc::clone(&route.stats),
        })
    }

    /// The routes for connections, for people and metrics.
    pub fn stream_routes(&self) -> impl Iterator<Item = StreamRouteView> {
        self.streams.views()
    }
}

/// Whether a plain request to a route must be told to use TLS.
pub(crate) fn needs_https(route: &CompiledRoute, scheme: Scheme) -> bool {
    route.protocols == RouteProtocols::Https && scheme == Scheme::Http
}
