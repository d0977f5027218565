//! Everything that decides about requests, built once from entities and then immutable.
//!
//! A reload builds the next snapshot and swaps it in; a request keeps the one it began with. Building reports every
//! entity that cannot work, so a bad set never replaces a good one.

use crate::balancer::Balancer;
use crate::chain::{Chain, Link, Links, Scope};
use crate::entity::{
    self, ApiConsumer, Backend, CertificateId, Entities, HttpBackend, HttpsRedirect, Id, KeyAuthCredential,
    PluginConfig, PluginId, Route, RouteId, RouteProtocols, Service, ServiceId, StreamBackend, StreamProtocol,
    UpstreamId,
};
use crate::forward;
use crate::mirror::Mirroring;
use crate::real_ip::RealIp;
use crate::router::Router;
use crate::split::Splitting;
use crate::stats::{RouteStats, Stats};
use crate::stream::{self, StreamRouteView, StreamRoutes, StreamService};
use crate::tls::{Certificates, Identity};
use http::HeaderValue;
use model::Principal;
use plugin::{Consumer, Credential, Directory, QueueTarget, Registry, RouteInfo, Scheme, ServiceInfo, Services, Setup};
use rustls::pki_types::CertificateDer;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The plugin that a service of `protocol: queue` runs.
const QUEUE_PUBLISH: &str = "queue-publish";

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
    /// Whatever those who connect want to keep with it; made once, gone with the snapshot.
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
    pub(crate) routes: Vec<CompiledRoute>,
    /// Routes for connections.
    pub(crate) streams: StreamRoutes,
    pub(crate) links: Links,
    /// The chain of requests without a route: global plugins.
    pub(crate) unmatched: Chain,
    pub(crate) balancers: HashMap<UpstreamId, Arc<Balancer>>,
    /// The services that upstreams fall back to.
    pub(crate) fallbacks: HashMap<ServiceId, Arc<Upstream>>,
    /// What listeners show for server names.
    pub(crate) certificates: Arc<Certificates>,
    /// Whose word is taken for where a request comes from; none if nobody's.
    pub(crate) real_ip: Option<Arc<RealIp>>,
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
        let directory = Arc::new(directory(&entities.consumers, &entities.keyauth_credentials));
        let certificates = entities.certificates.iter();
        let identities = certificates.map(|it| (it.id, Arc::clone(&it.identity))).collect();
        let mut build =
            Build { entities, registry, services, directory, identities, stats, before, errors: Vec::new() };
        let snapshot = build.run();
        if build.errors.is_empty() { Ok(snapshot) } else { Err(build.errors) }
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
}

impl Snapshot {
    /// The routes for connections, for people and metrics.
    pub fn stream_routes(&self) -> impl Iterator<Item = StreamRouteView> {
        self.streams.views()
    }
}

fn directory(consumers: &[ApiConsumer], keys: &[KeyAuthCredential]) -> Directory {
    let mut directory = Directory::default();
    for consumer in consumers {
        let made = Consumer::new(consumer.id.0, consumer.username.as_deref(), consumer.custom_id.as_deref());
        directory.add_consumer(Arc::new(made));
    }
    for key in keys {
        // A key of no consumer identifies nobody.
        directory.add_key(&key.key, Credential::new(key.id.0), key.consumer.0);
    }
    directory
}

/// A build under way.
struct Build<'a> {
    entities: &'a Entities,
    registry: &'a Registry,
    services: &'a Arc<dyn Services>,
    directory: Arc<Directory>,
    identities: HashMap<CertificateId, Arc<Identity>>,
    stats: &'a Stats,
    before: &'a Snapshot,
    errors: Vec<BuildError>,
}

impl Build<'_> {
    fn run(&mut self) -> Snapshot {
        let links = self.links();
        let entities = self.entities;
        let balancers = self.balancers();
        let names = self.names(&balancers);
        let services: HashMap<ServiceId, (&Service, Target)> =
            entities.services.iter().map(|service| (service.id, (service, self.target(service, &names)))).collect();
        let fallbacks = self.fallbacks(&services);
        // A disabled service takes its routes out of the router.
        let enabled =
            |route: &&Route| route.service.and_then(|id| services.get(&id)).is_none_or(|(service, _)| service.enabled);
        let alive: Vec<&Route> = self.entities.routes.iter().filter(enabled).collect();
        let router = Router::new(alive.iter().copied(), Some(&self.before.router)).unwrap_or_else(|errors| {
            for error in errors {
                self.error("routes", error.route.0, error.error.to_string());
            }
            Router::default()
        });
        let implied = self.implied();
        let routes = alive.iter().map(|route| self.route(route, &services, &links, implied.as_ref())).collect();
        let errors = &mut self.errors;
        let mut error = |kind, id, what| errors.push(BuildError { kind, id, what });
        let streams = stream::compile(entities, &services, self.stats, &mut error);
        let unmatched = Chain::new(&links, self.registry.len(), Scope::default(), None);
        let certificates = self.certificates();
        Snapshot { router, routes, streams, links, unmatched, balancers, fallbacks, certificates, real_ip: None }
    }

    fn error(&mut self, kind: &'static str, id: Id, what: String) {
        self.errors.push(BuildError { kind, id, what });
    }

    fn setup(&self, config_id: Id) -> Setup {
        Setup { directory: Arc::clone(&self.directory), services: Arc::clone(self.services), config_id }
    }

    fn links(&mut self) -> Links {
        let mut links = Links::default();
        for config in self.entities.plugins.iter().filter(|config| config.enabled) {
            match self.link(config) {
                Ok((plugin, link)) => {
                    let scope = Scope { route: config.route, service: config.service, consumer: config.consumer };
                    if !links.add(plugin, scope, link) {
                        let what = format!("plugin `{}` is configured twice for the same scope", config.name);
                        self.error("plugins", config.id.0, what);
                    }
                }
                Err(errors) => errors.into_iter().for_each(|what| self.error("plugins", config.id.0, what)),
            }
        }
        links
    }

    fn link(&self, config: &PluginConfig) -> Result<(usize, Link), Vec<String>> {
        let Some((place, plugin)) = self.registry.find(&config.name) else {
            return Err(vec![format!("no plugin `{}`", config.name)]);
        };
        if config.consumer.is_some() && !plugin.allows_consumer_scope() {
            return Err(vec![format!("plugin `{}` cannot be configured for a consumer", config.name)]);
        }
        let (config_id, resolved) = (config.id.0, plugin.schema().resolve(&config.config));
        resolved
            .and_then(|config| plugin.configure(&config, &self.setup(config_id)))
            .map(|handler| (place, Link { handler, protocols: config.protocols }))
            .map_err(|problems| problems.iter().map(|problem| format!("config.{problem}")).collect())
    }

    /// The queue's plugin with its defaults, if the registry has it.
    fn implied(&self) -> Option<(usize, Link)> {
        let (place, plugin) = self.registry.find(QUEUE_PUBLISH)?;
        let config = plugin.schema().resolve(&serde_json::Value::Null).ok()?;
        let handler = plugin.configure(&config, &self.setup(PluginId::derived(QUEUE_PUBLISH).0)).ok()?;
        Some((place, Link { handler, protocols: RouteProtocols::Both }))
    }

    /// The upstreams. One that has not changed is the very same as before; another keeps the state.
    fn balancers(&mut self) -> HashMap<UpstreamId, Arc<Balancer>> {
        let mut targets: HashMap<UpstreamId, Vec<&entity::Target>> = HashMap::new();
        for target in &self.entities.targets {
            targets.entry(target.upstream).or_default().push(target);
        }
        let mut balancers = HashMap::with_capacity(self.entities.upstreams.len());
        for upstream in &self.entities.upstreams {
            let targets = targets.remove(&upstream.id).unwrap_or_default();
            let identity = upstream.client_certificate.and_then(|id| self.identities.get(&id));
            let before = self.before.balancers.get(&upstream.id);
            let is_same = |before: &&Arc<Balancer>| before.is_of(upstream, &targets) && before.identity() == identity;
            if let Some(same) = before.filter(is_same) {
                balancers.insert(upstream.id, Arc::clone(same));
                continue;
            }
            let targets = targets.into_iter().cloned().collect();
            match Balancer::new(upstream, targets, before.map(|before| &**before)) {
                Ok(balancer) => {
                    balancers.insert(upstream.id, Arc::new(balancer.showing(identity.cloned())));
                }
                Err(what) => self.error("upstreams", upstream.id.0, what),
            }
        }
        for target in targets.into_values().flatten() {
            self.error("targets", target.id.0, "upstream: there is no such upstream".to_owned());
        }
        balancers
    }

    fn fallbacks(&mut self, services: &HashMap<ServiceId, (&Service, Target)>) -> HashMap<ServiceId, Arc<Upstream>> {
        let mut fallbacks = HashMap::new();
        for upstream in &self.entities.upstreams {
            let Some(id) = upstream.resilience.fallback else { continue };
            match services.get(&id) {
                Some((_, Target::Http(service))) => drop(fallbacks.insert(id, Arc::clone(service))),
                Some((_, Target::Stream(service))) if service.protocol == StreamProtocol::Udp => {
                    let what = "resilience.fallback: a service of `udp` serves neither requests nor connections";
                    self.error("upstreams", upstream.id.0, what.to_owned());
                }
                // Those are the streams' own.
                Some((_, Target::Stream(_))) => {}
                Some(_) => {
                    let what = "resilience.fallback: not a service with an upstream".to_owned();
                    self.error("upstreams", upstream.id.0, what);
                }
                None => {
                    let what = "resilience.fallback: there is no such service".to_owned();
                    self.error("upstreams", upstream.id.0, what);
                }
            }
        }
        fallbacks
    }

    /// The upstreams by name, and in lower case for hosts written otherwise: of two names that differ in nothing else the
    /// one in lower case, or the first.
    fn names<'b>(&self, balancers: &'b HashMap<UpstreamId, Arc<Balancer>>) -> HashMap<String, &'b Arc<Balancer>> {
        let upstreams =
            || self.entities.upstreams.iter().filter_map(|upstream| Some((upstream, balancers.get(&upstream.id)?)));
        let mut names: HashMap<_, _> =
            upstreams().map(|(upstream, balancer)| (upstream.name.to_string(), balancer)).collect();
        for (upstream, balancer) in upstreams() {
            names.entry(upstream.name.to_ascii_lowercase()).or_insert(balancer);
        }
        names
    }

    fn target(&mut self, service: &Service, balancers: &HashMap<String, &Arc<Balancer>>) -> Target {
        match &service.backend {
            Backend::Http(backend) => self.upstream(service.id, backend, balancers).map_or(Target::None, Target::Http),
            Backend::Stream(StreamBackend { protocol, server }) => {
                let upstream = self.upstream(service.id, server, balancers);
                upstream
                    .map_or(Target::None, |upstream| Target::Stream(StreamService { protocol: *protocol, upstream }))
            }
            Backend::Queue(backend) => Target::Queue(Arc::new(QueueTarget {
                principal: Principal { user: backend.user.as_str().into(), vhost: backend.vhost.as_str().into() },
                queue: backend.queue.clone(),
            })),
        }
    }

    fn certificates(&mut self) -> Arc<Certificates> {
        let mut certificates = Certificates::default();
        for sni in &self.entities.snis {
            let what = match self.identities.get(&sni.certificate) {
                Some(identity) if certificates.add(&sni.name, Arc::clone(identity)) => continue,
                Some(_) => format!("name: `{}` is another's, written in another way", sni.name),
                None => "certificate: there is no such certificate".to_owned(),
            };
            self.error("snis", sni.id.0, what);
        }
        Arc::new(certificates)
    }

    fn upstream(
        &mut self,
        service: ServiceId,
        backend: &HttpBackend,
        balancers: &HashMap<String, &Arc<Balancer>>,
    ) -> Option<Arc<Upstream>> {
        let Some(host_value) = forward::upstream_host(backend.scheme, &backend.host, backend.port) else {
            self.error("services", service.0, "host: not a host name".to_owned());
            return None;
        };
        let balancer = balancers.get(&*backend.host);
        let balancer = balancer.or_else(|| balancers.get(&backend.host.to_ascii_lowercase()));
        let balancer = balancer.map(|balancer| Arc::clone(balancer));
        let own = backend.client_certificate.and_then(|id| self.identities.get(&id));
        let identity = own.or_else(|| balancer.as_ref()?.identity()).cloned();
        Some(Arc::new(Upstream {
            service,
            backend: backend.clone(),
            ca_certificates: self.ca_certificates(backend),
            identity,
            host_value,
            balancer,
            connector: OnceLock::new(),
        }))
    }

    fn ca_certificates(&self, backend: &HttpBackend) -> Vec<CertificateDer<'static>> {
        let all = &self.entities.ca_certificates;
        backend
            .ca_certificates
            .iter()
            .filter_map(|id| all.iter().find(|ca| ca.id == *id))
            .map(|ca| ca.cert.clone())
            .collect()
    }

    fn route(
        &mut self,
        route: &Route,
        services: &HashMap<ServiceId, (&Service, Target)>,
        links: &Links,
        implied: Option<&(usize, Link)>,
    ) -> CompiledRoute {
        let service = route.service.and_then(|id| services.get(&id));
        if route.service.is_some() && service.is_none() {
            self.error("routes", route.id.0, "service: there is no such service".to_owned());
        }
        let target = match service {
            None => Target::None,
            Some((_, Target::Queue(queue))) => Target::Queue(Arc::clone(queue)),
            Some((_, Target::Http(upstream))) => Target::Http(Arc::clone(upstream)),
            Some((_, Target::None)) => Target::None,
            Some((service, Target::Stream(_))) => {
                let protocol = service.protocol().as_str();
                let what = format!("service: one of `{protocol}` cannot serve a route of http, https, grpc or grpcs");
                self.error("routes", route.id.0, what);
                Target::None
            }
        };
        let implied = implied.filter(|_| matches!(target, Target::Queue(_))).cloned();
        if matches!(target, Target::Queue(_)) && implied.is_none() {
            self.error("routes", route.id.0, format!("a queue as service needs the plugin `{QUEUE_PUBLISH}`"));
        }
        let at = Scope { route: Some(route.id), service: route.service, consumer: None };
        let (mirror, split) = self.traffic(route, services);
        CompiledRoute {
            info: Arc::new(RouteInfo { id: route.id.0, name: route.name.as_deref().map(Into::into) }),
            service: service.map(|(service, _)| {
                Arc::new(ServiceInfo { id: service.id.0, name: service.name.as_deref().map(Into::into) })
            }),
            target,
            protocols: route.protocols,
            grpc: route.grpc,
            redirect: route.https_redirect_status_code,
            strip_path: route.strip_path,
            preserve_host: route.preserve_host,
            mirror,
            split,
            chain: Chain::new(links, self.registry.len(), at, implied),
            matches: matches(route).into(),
            stats: self.stats.route(RouteId(route.id.0)),
        }
    }

    /// Where else a route's requests go.
    fn traffic(
        &mut self,
        route: &Route,
        services: &HashMap<ServiceId, (&Service, Target)>,
    ) -> (Option<Mirroring>, Option<Box<Splitting>>) {
        let own = route.service.and_then(|id| services.get(&id));
        let mirror = route.mirror.or_else(|| own.and_then(|(service, _)| service.mirror));
        if mirror.is_none() && route.split.is_none() {
            return (None, None);
        }
        let made = if matches!(own, Some((_, Target::Http(_)))) {
            let mirror = mirror.map(|mirror| Mirroring::new(mirror, services)).transpose();
            let split = route.split.as_ref().map(|split| Splitting::new(split, services).map(Box::new)).transpose();
            mirror.and_then(|mirror| Ok((mirror.flatten(), split?)))
        } else {
            Err("mirror, split: the route has no service of protocol http, https, grpc or grpcs of its own".to_owned())
        };
        made.unwrap_or_else(|what| {
            self.error("routes", route.id.0, what);
            (None, None)
        })
    }
}

/// What a route matches, for people: `GET,POST example.com /orders x-version=2`.
fn matches(route: &Route) -> String {
    let headers = route.headers.iter().map(|(name, values)| format!("{name}={}", values.join("|")));
    let expression = route.expression.clone().unwrap_or_default();
    let parts = [expression, route.methods.join(","), route.hosts.join(","), route.paths.join(",")];
    let parts = parts.into_iter().chain(headers);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Whether a plain request to a route must be told to use TLS.
pub(crate) fn needs_https(route: &CompiledRoute, scheme: Scheme) -> bool {
    route.protocols == RouteProtocols::Https && scheme == Scheme::Http
}
