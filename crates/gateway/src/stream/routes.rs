//! The routes for connections of a snapshot.

use crate::entity::{Entities, Id, ServiceId, StreamProtocol, StreamProtocols, StreamRoute};
use crate::router::StreamRouter;
use crate::snapshot::{ReadyServices, Target, Upstream};
use crate::stats::{Stats, StreamStats};
use plugin::{RouteInfo, ServiceInfo};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The words of protocols that carry connections, for people.
const PROTOCOLS: &str = "tcp, tls, tls_passthrough or udp";

/// The compiled routes for connections.
#[derive(Debug, Default)]
pub(crate) struct StreamRoutes {
    pub(crate) router: StreamRouter,
    pub(crate) routes: Vec<CompiledStream>,
    /// The services that upstreams fall back to.
    pub(crate) fallbacks: HashMap<ServiceId, StreamService>,
}

/// A service for connections, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct StreamService {
    pub(crate) protocol: StreamProtocol,
    pub(crate) upstream: Arc<Upstream>,
}

/// A route for connections with all it needs.
#[derive(Debug)]
pub(crate) struct CompiledStream {
    pub(crate) info: Arc<RouteInfo>,
    pub(crate) service: Option<Arc<ServiceInfo>>,
    pub(crate) target: Option<StreamService>,
    pub(crate) protocols: StreamProtocols,
    pub(crate) preserve_host: bool,
    pub(crate) stats: Arc<StreamStats>,
}

/// A route for connections as it is shown to people and metrics.
#[derive(Clone, Debug)]
pub struct StreamRouteView {
    /// The route.
    pub route: Arc<RouteInfo>,
    /// Its service.
    pub service: Option<Arc<ServiceInfo>>,
    /// What was counted for it.
    pub stats: Arc<StreamStats>,
}

impl StreamRoutes {
    /// The routes, for people and metrics.
    pub(crate) fn views(&self) -> impl Iterator<Item = StreamRouteView> {
        self.routes.iter().map(|route| StreamRouteView {
            route: Arc::clone(&route.info),
            service: route.service.clone(),
            stats: Arc::clone(&route.stats),
        })
    }
}

/// Compiles the routes for connections whose services are enabled. `error` is told every entity that cannot be used.
pub(crate) fn compile(
    entities: &Entities,
    services: &ReadyServices,
    stats: &Stats,
    error: &mut dyn FnMut(&'static str, Id, String),
) -> StreamRoutes {
    plugins(entities, services, error);
    let enabled = |route: &&StreamRoute| {
        route.service.and_then(|id| services.get(&id)).is_none_or(|(service, _)| service.enabled)
    };
    let alive: Vec<&StreamRoute> = entities.stream_routes.iter().filter(enabled).collect();
    let router = StreamRouter::new(alive.iter().copied()).unwrap_or_else(|errors| {
        errors.into_iter().for_each(|found| error("routes", found.route.0, found.error.to_string()));
        StreamRouter::default()
    });
    let routes = alive.into_iter().map(|route| compiled(route, services, stats, error)).collect();
    let fallbacks = entities.upstreams.iter().filter_map(|upstream| {
        let id = upstream.resilience.fallback?;
        Some((id, services.get(&id)?.1.stream()?.clone()))
    });
    StreamRoutes { router, routes, fallbacks: fallbacks.collect() }
}

fn compiled(
    route: &StreamRoute,
    services: &ReadyServices,
    stats: &Stats,
    error: &mut dyn FnMut(&'static str, Id, String),
) -> CompiledStream {
    let service = route.service.and_then(|id| services.get(&id));
    let target = service.and_then(|(_, target)| target.stream());
    match (route.service, service, target) {
        (Some(_), None, _) => error("routes", route.id.0, "service: there is no such service".to_owned()),
        // A service that cannot be used was told of already.
        (_, Some((service, Target::Http(_) | Target::Queue(_))), _) => {
            let protocol = service.protocol().as_str();
            let what = format!("service: one of `{protocol}` cannot serve a route of {PROTOCOLS}");
            error("routes", route.id.0, what);
        }
        (_, _, Some(target)) if target.protocol == StreamProtocol::Tls && has_udp(route.protocols) => {
            let what = "service: one of `tls` cannot serve a route of udp: datagrams have no TLS".to_owned();
            error("routes", route.id.0, what);
        }
        (_, _, Some(target)) if target.protocol == StreamProtocol::Udp && has_connections(route.protocols) => {
            let what =
                "service: one of `udp` serves datagrams, and not a route of tcp, tls or tls_passthrough".to_owned();
            error("routes", route.id.0, what);
        }
        _ => {}
    }
    CompiledStream {
        info: Arc::new(RouteInfo { id: route.id.0, name: route.name.as_deref().map(Into::into) }),
        service: service.map(|(service, _)| {
            Arc::new(ServiceInfo { id: service.id.0, name: service.name.as_deref().map(Into::into) })
        }),
        target: target.cloned(),
        protocols: route.protocols,
        preserve_host: route.preserve_host,
        stats: stats.stream_route(route.id),
    }
}

const fn has_udp(protocols: StreamProtocols) -> bool {
    matches!(protocols, StreamProtocols::Of { udp: true, .. })
}

const fn has_connections(protocols: StreamProtocols) -> bool {
    !matches!(protocols, StreamProtocols::Of { tcp: false, tls: false, .. })
}

/// No plugin here works without a request, so one that is meant for connections would never run.
fn plugins(entities: &Entities, services: &ReadyServices, error: &mut dyn FnMut(&'static str, Id, String)) {
    let routes: HashSet<_> = entities.stream_routes.iter().map(|route| route.id).collect();
    for plugin in entities.plugins.iter().filter(|plugin| plugin.enabled) {
        let of_route = plugin.route.is_some_and(|id| routes.contains(&id));
        let target = plugin.service.and_then(|id| services.get(&id)).map(|(_, target)| target);
        if of_route || target.is_some_and(|target| target.stream().is_some()) {
            let what = format!("plugin `{}` does not run for {PROTOCOLS}", plugin.name);
            error("plugins", plugin.id.0, what);
        }
    }
}
