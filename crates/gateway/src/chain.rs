//! Which configuration of each plugin runs for a request.
//!
//! For every plugin at most one configuration runs, the most specific one (Kong's order): route+service+consumer,
//! route+consumer, service+consumer, route+service, consumer, route, service, global. All that does not depend on the
//! consumer is decided when the snapshot is built; a consumer found by an authentication plugin changes the choice of
//! the plugins after it, never of those before.
//!
//! Invariant: what a plugin does when its configuration is dropped ends nothing else, not even if it panics.

use crate::entity::{ApiConsumerId, Id, RouteId, RouteProtocols, ServiceId};
use foldhash::fast::RandomState;
use plugin::Handler;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A configured plugin and the schemes it runs for.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) protocols: RouteProtocols,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:?})", self.protocols)
    }
}

/// Where a configuration applies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) route: Option<RouteId>,
    pub(crate) service: Option<ServiceId>,
    pub(crate) consumer: Option<ApiConsumerId>,
}

/// The enabled configurations of every plugin, by the plugin's place in the registry. Most plugins have none, which every
/// route asks for eight scopes.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<OfPlugin>);

/// Those of one plugin.
#[derive(Debug, Default)]
struct OfPlugin {
    by_scope: HashMap<Scope, Link, RandomState>,
    /// The scopes of consumers' configurations, without the consumer.
    of_consumers: HashSet<Scope, RandomState>,
}

impl Links {
    /// Adds a configuration; `false` if there is one of the same plugin and scope.
    pub(crate) fn add(&mut self, plugin: usize, scope: Scope, link: Link) -> bool {
        if self.0.len() <= plugin {
            self.0.resize_with(plugin + 1, OfPlugin::default);
        }
        let of_plugin = &mut self.0[plugin];
        if scope.consumer.is_some() {
            of_plugin.of_consumers.insert(Scope { consumer: None, ..scope });
        }
        of_plugin.by_scope.insert(scope, link).is_none()
    }

    fn get(&self, plugin: usize, scope: Scope) -> Option<&Link> {
        self.0.get(plugin)?.by_scope.get(&scope)
    }

    /// Whether a configuration of a consumer might apply to this route and service.
    fn has_consumer(&self, plugin: usize, at: Scope) -> bool {
        let Some(OfPlugin { of_consumers, .. }) = self.0.get(plugin) else { return false };
        let none = Scope::default();
        let mut scopes =
            [at, Scope { route: at.route, ..none }, Scope { service: at.service, ..none }, none].into_iter();
        scopes.any(|scope| of_consumers.contains(&scope))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        std::mem::take(&mut self.0)
            .into_iter()
            .flat_map(|of_plugin| of_plugin.by_scope.into_values())
            .for_each(drop_alone);
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.base).for_each(drop_alone);
    }
}

/// A configuration may be dropped for good in the task that replaced it, or in any request's. The panic has told of itself.
fn drop_alone(link: Link) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(link)));
}

/// The plugins of a route, in the order in which they run.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    at: Scope,
    slots: Vec<Slot>,
    /// Some slot depends on the consumer.
    by_consumer: bool,
}

/// One plugin of a chain.
#[derive(Debug)]
struct Slot {
    plugin: usize,
    /// The choice without a consumer.
    base: Option<Link>,
    /// That choice is for this very route and service, so a configuration of the consumer alone does not beat it.
    base_is_exact: bool,
    by_consumer: bool,
}

impl Chain {
    /// The chain of a route (or, with an empty scope, of requests without one). `implied` is a plugin that runs even if
    /// nothing configures it.
    pub(crate) fn new(links: &Links, n_plugins: usize, at: Scope, implied: Option<(usize, Link)>) -> Self {
        let mut chain = Self { at, slots: Vec::new(), by_consumer: false };
        for plugin in 0..n_plugins {
            let none = Scope::default();
            let exact = match (at.route, at.service) {
                (Some(_), Some(_)) => links.get(plugin, at),
                _ => None,
            };
            let scopes = [Scope { route: at.route, ..none }, Scope { service: at.service, ..none }, none];
            let base = exact.or_else(|| scopes.into_iter().find_map(|scope| links.get(plugin, scope))).cloned();
            let implied = implied.as_ref().filter(|(implied, _)| *implied == plugin).map(|(_, link)| link.clone());
            let by_consumer = links.has_consumer(plugin, at);
            let base_is_exact = exact.is_some();
            let base = base.or(implied);
            if base.is_some() || by_consumer {
                chain.by_consumer |= by_consumer;
                chain.slots.push(Slot { plugin, base, base_is_exact, by_consumer });
            }
        }
        chain
    }

    /// Number of plugins that may run.
    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether a choice depends on the consumer.
    pub(crate) const fn is_by_consumer(&self) -> bool {
        self.by_consumer
    }

    /// The configuration of the `n`th plugin for a request of this consumer.
    pub(crate) fn choose<'a>(&'a self, links: &'a Links, n: usize, consumer: Option<Id>) -> Option<&'a Link> {
        let slot = &self.slots[n];
        let (true, Some(consumer)) = (slot.by_consumer, consumer) else { return slot.base.as_ref() };
        let scope = |route, service| Scope { route, service, consumer: Some(ApiConsumerId(consumer)) };
        let (route, service) = (self.at.route, self.at.service);
        let of_consumer = [scope(route, service), scope(route, None), scope(None, service)].into_iter().find(|scope| {
            (scope.route.is_some() || scope.service.is_some()) && links.get(slot.plugin, *scope).is_some()
        });
        if let Some(scope) = of_consumer {
            return links.get(slot.plugin, scope);
        }
        let alone = if slot.base_is_exact { None } else { links.get(slot.plugin, scope(None, None)) };
        alone.or(slot.base.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin::{Context, Flow};

    struct Named;
    impl Handler for Named {
        fn access(&self, _: &mut Context) -> Flow {
            Flow::Continue
        }
    }

    struct Bomb;
    impl Handler for Bomb {}
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a plugin's bug");
        }
    }

    #[test]
    fn a_plugin_that_panics_when_it_is_dropped_ends_nothing() {
        let bomb = || Link { handler: Arc::new(Bomb), protocols: RouteProtocols::Both };
        let mut links = Links::default();
        for plugin in 0..3 {
            links.add(plugin, Scope::default(), bomb());
        }
        let chain = Chain::new(&links, 4, Scope::default(), Some((3, bomb())));
        drop(links);
        drop(chain);
    }

    const R: Option<RouteId> = Some(RouteId(Id::from_bytes([1; 16])));
    const S: Option<ServiceId> = Some(ServiceId(Id::from_bytes([2; 16])));
    const C: Option<ApiConsumerId> = Some(ApiConsumerId(Id::from_bytes([3; 16])));

    /// Scopes from the most to the least specific.
    fn ladder() -> [Scope; 8] {
        let scope = |route, service, consumer| Scope { route, service, consumer };
        [
            scope(R, S, C),
            scope(R, None, C),
            scope(None, S, C),
            scope(R, S, None),
            scope(None, None, C),
            scope(R, None, None),
            scope(None, S, None),
            scope(None, None, None),
        ]
    }

    fn link() -> Link {
        Link { handler: Arc::new(Named), protocols: RouteProtocols::Both }
    }

    #[test]
    fn the_most_specific_configuration_runs() {
        let ladder = ladder();
        let at = Scope { route: R, service: S, consumer: None };
        for best in 0..8 {
            let mut links = Links::default();
            for scope in &ladder[best..] {
                assert!(links.add(0, *scope, link()));
            }
            let chain = Chain::new(&links, 1, at, None);
            let wanted = links.get(0, ladder[best]).unwrap();
            let got = chain.choose(&links, 0, C.map(|c| c.0)).unwrap();
            // An exact link is a clone in the chain, so the handler tells who it is.
            assert!(Arc::ptr_eq(&got.handler, &wanted.handler), "level {best}");
        }
    }

    #[test]
    fn without_a_consumer_its_configurations_do_not_run() {
        let mut links = Links::default();
        links.add(0, ladder()[1], link());
        let chain = Chain::new(&links, 1, Scope { route: R, service: S, consumer: None }, None);
        assert!(chain.is_by_consumer() && chain.choose(&links, 0, None).is_none());
        assert!(chain.choose(&links, 0, C.map(|c| c.0)).is_some());
        let elsewhere = Scope { route: Some(RouteId(Id::from_bytes([9; 16]))), ..Scope::default() };
        assert_eq!(Chain::new(&links, 1, elsewhere, None).len(), 0);
    }

    #[test]
    fn an_implied_plugin_gives_way_to_a_configured_one() {
        let implied = link();
        let at = Scope { route: R, service: S, consumer: None };
        let chain = Chain::new(&Links::default(), 2, at, Some((1, implied.clone())));
        assert!(Arc::ptr_eq(&chain.choose(&Links::default(), 0, None).unwrap().handler, &implied.handler));
        let mut links = Links::default();
        links.add(1, Scope::default(), link());
        let chain = Chain::new(&links, 2, at, Some((1, implied.clone())));
        assert!(!Arc::ptr_eq(&chain.choose(&links, 0, None).unwrap().handler, &implied.handler));
    }
}
