//! From a store of entities to the typed set that a snapshot is built from.
//!
//! A store's records fit their kinds, so what can fail here is only what this gateway cannot run: `refusals` is the list of
//! it. One file a group of kinds. A [`Converter`] keeps what it made: a record that has not changed is not read again, and of a
//! change of routes alone nothing else is looked at.

mod certificate;
mod consumer;
mod made;
mod plugin;
mod record;
mod refusals;
mod resilience;
mod route;
mod service;
mod stream_route;
mod traffic;
mod upstream;
mod vault;

use crate::entity::{
    ApiConsumer, CaCertificate, Certificate, Entities, Id, KeyAuthCredential, PluginConfig, Route, RouteId, Service,
    Sni, StreamRoute, Target, Upstream,
};
use crate::snapshot::RouteChange;
use ::plugin::Registry;
use entities::{Difference, Kind, Store};
use made::{Inputs, Made};
use record::Record;
use std::fmt;
use vault::Vaults;

/// An entity that this gateway cannot run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: Id,
    /// The field it is about, if it is about one.
    pub field: Option<&'static str>,
    /// The place in the field's list, if it is about one element.
    pub index: Option<usize>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.kind, self.id)?;
        if let Some(field) = self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

/// What references to vaults are resolved with.
#[derive(Clone, Copy)]
pub struct Sources<'s> {
    /// The plugins there are: their schemas say where references may stand.
    pub registry: &'s Registry,
    /// The value of a variable of the environment.
    pub variable: &'s dyn Fn(&str) -> Option<String>,
}

/// The typed form of a store, in the order in which its entities came.
///
/// # Errors
/// Everything that cannot be run.
pub fn entities(store: &Store, sources: Sources<'_>) -> Result<Entities, Vec<Refusal>> {
    Converter::default().entities(store, sources)
}

/// Patterns of routes that the router cannot use. A snapshot finds them too, when it compiles them; this tells all of them,
/// each with its place, and compiles all of them to do so.
#[must_use]
pub fn patterns(entities: &Entities) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for route in &entities.routes {
        route::check_patterns(route, &mut refusals);
    }
    for route in &entities.stream_routes {
        stream_route::check_patterns(route, &mut refusals);
    }
    refusals
}

/// Makes typed sets of one store after another.
#[derive(Default)]
pub struct Converter {
    services: Made<Service>,
    routes: Made<AnyRoute>,
    consumers: Made<ApiConsumer>,
    keyauth_credentials: Made<KeyAuthCredential>,
    plugins: Made<PluginConfig>,
    certificates: Made<Certificate>,
    snis: Made<Sni>,
    ca_certificates: Made<CaCertificate>,
    upstreams: Made<Upstream>,
    targets: Made<Target>,
}

impl Converter {
    /// The typed form of a store.
    ///
    /// # Errors
    /// Everything that cannot be run.
    pub fn entities(&mut self, store: &Store, sources: Sources<'_>) -> Result<Entities, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let found = &mut refusals;
        let vaults = Vaults::of(store, sources);
        let inputs = &Inputs { store, vaults: &vaults };
        let (mut routes, mut stream_routes) = (Vec::new(), Vec::new());
        for route in self.routes.all(inputs, Kind::Routes, found, any_route) {
            match route {
                AnyRoute::Http(route) => routes.push(route),
                AnyRoute::Stream(route) => stream_routes.push(route),
            }
        }
        let entities = Entities {
            routes,
            stream_routes,
            services: self.services.all(inputs, Kind::Services, found, service::service),
            consumers: self.consumers.all(inputs, Kind::Consumers, found, consumer::consumer),
            keyauth_credentials: self.keyauth_credentials.all(inputs, Kind::KeyauthCredentials, found, consumer::key),
            plugins: self.plugins.all(inputs, Kind::Plugins, found, plugin::plugin),
            certificates: self.certificates.all(inputs, Kind::Certificates, found, certificate::certificate),
            snis: self.snis.all(inputs, Kind::Snis, found, certificate::sni),
            ca_certificates: self.ca_certificates.all(inputs, Kind::CaCertificates, found, certificate::ca_certificate),
            upstreams: self.upstreams.all(inputs, Kind::Upstreams, found, upstream::upstream),
            targets: self.targets.all(inputs, Kind::Targets, found, upstream::target),
        };
        // Nothing runs them yet, but what cannot be resolved is told all the same.
        for entity in store.in_order(Kind::Keys).into_iter().filter(|entity| vault::may_refer(entity.text())) {
            vaults.resolve(&mut Record::of(entity), &mut refusals);
        }
        // What a service or upstream names may have gone without a change of its own.
        for service in &entities.services {
            service::check_anchors(service, store, &mut refusals);
            traffic::check_service(service, store, &mut refusals);
        }
        for route in &entities.routes {
            traffic::check_route(route, store, &mut refusals);
        }
        for upstream in &entities.upstreams {
            upstream::check_fallback(upstream, store, &mut refusals);
        }
        if refusals.is_empty() { Ok(entities) } else { Err(refusals) }
    }

    /// What differs between two stores, if that is nothing but routes for requests. `before` could be run, and `sources` are
    /// the same as then. It costs what those routes cost.
    ///
    /// # Errors
    /// Everything of the difference that cannot be run.
    pub fn routes_alone(
        &mut self,
        before: &Store,
        after: &Store,
        sources: Sources<'_>,
    ) -> Option<Result<RouteChange, Vec<Refusal>>> {
        let differs = |kind: Kind| kind != Kind::Routes && !after.difference(before, kind).is_empty();
        if before.is_empty() || Kind::ALL.into_iter().any(differs) {
            return None;
        }
        let Difference { put, removed } = after.difference(before, Kind::Routes);
        let replaced = put.iter().filter_map(|route| before.get(Kind::Routes, route.id()));
        let mut all = put.iter().chain(&removed).chain(replaced);
        if all.any(|route| stream_route::is_for_connections(&Record::of(route))) {
            return None;
        }
        // What was made for a change that was refused.
        self.routes.keep_only_those_of(before, Kind::Routes);
        let vaults = Vaults::of(after, sources);
        let inputs = &Inputs { store: after, vaults: &vaults };
        let (mut refusals, mut change) = (Vec::new(), RouteChange::default());
        for entity in &put {
            if let Some(AnyRoute::Http(route)) = self.routes.one(inputs, entity, &mut refusals, any_route) {
                traffic::check_route(route, after, &mut refusals);
                change.put.push(route.clone());
            }
        }
        for entity in &removed {
            self.routes.forget(entity.id());
            change.gone.push(RouteId(entity.id()));
        }
        Some(if refusals.is_empty() { Ok(change) } else { Err(refusals) })
    }
}

impl fmt::Debug for Converter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Converter({} routes)", self.routes.len())
    }
}

/// A route of either kind; one kind of entity makes both.
#[derive(Clone)]
enum AnyRoute {
    Http(Route),
    Stream(StreamRoute),
}

fn any_route(record: &Record, store: &Store, refusals: &mut Vec<Refusal>) -> Option<AnyRoute> {
    stream_route::stream_route(record, refusals)
        .map(AnyRoute::Stream)
        .or_else(|| route::route(record, store, refusals).map(AnyRoute::Http))
}

#[cfg(test)]
mod tests;
