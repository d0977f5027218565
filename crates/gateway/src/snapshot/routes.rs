//! The routes of a snapshot: each compiled with what it shares with others, in the place that the router gave it.
//!
//! They are made from those of the snapshot before: what is not named by a change is the very same as before. A disabled
//! service takes its routes out of the router. A route's counters live as long as the route is in force.

use super::common::{Common, QUEUE_PUBLISH};
use super::{BuildError, CompiledRoute, Snapshot, Target};
use crate::chain::{Chain, Scope};
use crate::entity::{Route, RouteId, Service};
use crate::mirror::Mirroring;
use crate::router::{RouteError, Router};
use crate::shared::Slots;
use crate::split::Splitting;
use crate::stats::RouteStats;
use plugin::{RouteInfo, ServiceInfo};
use std::sync::Arc;

/// A change of routes under way.
pub(super) struct Build<'a> {
    before: &'a Snapshot,
    common: &'a Common,
    errors: Vec<BuildError>,
}

impl<'a> Build<'a> {
    pub(super) const fn new(before: &'a Snapshot, common: &'a Common) -> Self {
        Self { before, common, errors: Vec::new() }
    }

    /// The routes after a change: with those of `put`, without those of `gone`. And every one of `put` that cannot be used.
    pub(super) fn run(
        mut self,
        put: &[Route],
        gone: impl IntoIterator<Item = RouteId>,
    ) -> (Router, Slots<CompiledRoute>, Vec<BuildError>) {
        let is_enabled = |route: &&Route| self.service(route).is_none_or(|(service, _)| service.enabled);
        let (alive, resting): (Vec<&Route>, Vec<&Route>) = put.iter().partition(is_enabled);
        let gone: Vec<RouteId> = gone.into_iter().chain(resting.iter().map(|route| route.id)).collect();
        let (before, mut routes) = (&self.before.router, self.before.routes.clone());
        for place in gone.iter().filter_map(|id| before.place_of(*id)) {
            routes.set(place, None);
        }
        let router = before.changed(alive.iter().copied(), gone).unwrap_or_else(|errors| {
            let error =
                |error: RouteError| BuildError { kind: "routes", id: error.route.0, what: error.error.to_string() };
            self.errors.extend(errors.into_iter().map(error));
            Router::default()
        });
        for route in alive {
            let compiled = Arc::new(self.compiled(route));
            if let Some(place) = router.place_of(route.id) {
                routes.set(place, Some(compiled));
            }
        }
        (router, routes, self.errors)
    }

    fn error(&mut self, route: &Route, what: String) {
        self.errors.push(BuildError { kind: "routes", id: route.id.0, what });
    }

    fn service(&self, route: &Route) -> Option<&'a (Service, Target)> {
        self.common.services.get(&route.service?)
    }

    fn compiled(&mut self, route: &Route) -> CompiledRoute {
        let common = self.common;
        let service = self.service(route);
        if route.service.is_some() && service.is_none() {
            self.error(route, "service: there is no such service".to_owned());
        }
        let target = match service {
            None => Target::None,
            Some((_, Target::Queue(queue))) => Target::Queue(Arc::clone(queue)),
            Some((_, Target::Http(upstream))) => Target::Http(Arc::clone(upstream)),
            Some((_, Target::None)) => Target::None,
            Some((service, Target::Stream(_))) => {
                let protocol = service.protocol().as_str();
                let what = format!("service: one of `{protocol}` cannot serve a route of http, https, grpc or grpcs");
                self.error(route, what);
                Target::None
            }
        };
        let implied = common.implied.as_ref().filter(|_| matches!(target, Target::Queue(_))).cloned();
        if matches!(target, Target::Queue(_)) && implied.is_none() {
            self.error(route, format!("a queue as service needs the plugin `{QUEUE_PUBLISH}`"));
        }
        let at = Scope { route: Some(route.id), service: route.service, consumer: None };
        let (mirror, split) = self.traffic(route);
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
            chain: Chain::new(&common.links, common.n_plugins, at, implied),
            matches: matches(route).into(),
            stats: self
                .before
                .route(route.id)
                .map_or_else(|| Arc::new(RouteStats::new()), |before| Arc::clone(&before.stats)),
        }
    }

    /// Where else a route's requests go.
    fn traffic(&mut self, route: &Route) -> (Option<Mirroring>, Option<Box<Splitting>>) {
        let (own, services) = (self.service(route), &self.common.services);
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
            self.error(route, what);
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
