//! What the routes of a snapshot have in common: services, configurations of plugins, upstreams, certificates.
//!
//! All of it is built together, whatever of it changed; of an upstream that has not, the balancer is the very same as before.
//! A change of routes alone leaves it as it is.

use super::{BuildError, Target, Upstream};
use crate::balancer::Balancer;
use crate::chain::{Chain, Link, Links, Scope};
use crate::entity::{
    self, ApiConsumer, Backend, CertificateId, Entities, HttpBackend, Id, KeyAuthCredential, PluginConfig, PluginId,
    RouteProtocols, Service, ServiceId, StreamBackend, StreamProtocol, UpstreamId,
};
use crate::forward;
use crate::stream::StreamService;
use crate::tls::{Certificates, Identity};
use model::Principal;
use plugin::{Consumer, Credential, Directory, QueueTarget, Registry, Services, Setup};
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The plugin that a service of `protocol: queue` runs.
pub(super) const QUEUE_PUBLISH: &str = "queue-publish";

/// Services, with what stands behind each.
pub(crate) type ReadyServices = HashMap<ServiceId, (Service, Target)>;

/// What routes have in common.
#[derive(Debug, Default)]
pub(crate) struct Common {
    pub(crate) services: ReadyServices,
    pub(crate) links: Links,
    /// The queue's plugin with its defaults, if the registry has it.
    pub(super) implied: Option<(usize, Link)>,
    /// How many plugins the registry has.
    pub(super) n_plugins: usize,
    /// The chain of requests without a route: global plugins.
    pub(crate) unmatched: Chain,
    pub(crate) balancers: HashMap<UpstreamId, Arc<Balancer>>,
    /// The services that upstreams fall back to.
    pub(crate) fallbacks: HashMap<ServiceId, Arc<Upstream>>,
    /// What listeners show for server names.
    pub(crate) certificates: Arc<Certificates>,
}

fn directory(consumers: &[ApiConsumer], keys: &[KeyAuthCredential]) -> Directory {
    let mut directory = Directory::default();
    for consumer in consumers {
        let made = Consumer::new(consumer.id.0, consumer.username.as_deref(), consumer.custom_id.as_deref());
        directory.add_consumer(Arc::new(made));
    }
    for key in keys {
        // A key of no consumer identifies nobody.
        directory.add_key(&key.key, Credential::new(key.id.0).until(key.expires), key.consumer.0);
    }
    directory
}

/// A build under way.
pub(super) struct Build<'a> {
    entities: &'a Entities,
    registry: &'a Registry,
    services: &'a Arc<dyn Services>,
    directory: Arc<Directory>,
    identities: HashMap<CertificateId, Arc<Identity>>,
    before: &'a Common,
    errors: Vec<BuildError>,
}

impl<'a> Build<'a> {
    pub(super) fn new(
        entities: &'a Entities,
        registry: &'a Registry,
        services: &'a Arc<dyn Services>,
        before: &'a Common,
    ) -> Self {
        let directory = Arc::new(directory(&entities.consumers, &entities.keyauth_credentials));
        let certificates = entities.certificates.iter();
        let identities = certificates.map(|it| (it.id, Arc::clone(&it.identity))).collect();
        Self { entities, registry, services, directory, identities, before, errors: Vec::new() }
    }

    /// What could be built, and every entity that cannot be used.
    pub(super) fn run(mut self) -> (Common, Vec<BuildError>) {
        let links = self.links();
        let balancers = self.balancers();
        let names = self.names(&balancers);
        let targets = self.entities.services.iter().map(|service| {
            let target = self.target(service, &names);
            (service.id, (service.clone(), target))
        });
        let services: ReadyServices = targets.collect();
        let fallbacks = self.fallbacks(&services);
        let common = Common {
            unmatched: Chain::new(&links, self.registry.len(), Scope::default(), None),
            implied: self.implied(),
            n_plugins: self.registry.len(),
            certificates: self.certificates(),
            services,
            links,
            balancers,
            fallbacks,
        };
        (common, self.errors)
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

    fn fallbacks(&mut self, services: &ReadyServices) -> HashMap<ServiceId, Arc<Upstream>> {
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
}
