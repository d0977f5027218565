//! From exchange and key to queues.
//!
//! Invariants: each exchange is visited once a publish and each queue gets one copy, whatever the graph looks like.
//! A cached route holds for one epoch of the topology and one user.

use crate::delay::{self, Store};
use crate::exchange::{ExchangeKind, Target};
use crate::queue::Queue;
use crate::registry::Vhost;
use foldhash::fast::RandomState;
use model::limits::ROUTE_EXCHANGES_MAX;
use model::{Message, QueueId, Table, Wall};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Routes a connection keeps; beyond it starts afresh.
const ROUTES_MAX: usize = 4_096;

/// Where a publish goes.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) queues: Vec<Arc<Queue>>,
    /// Where it waits until it is due.
    pub(crate) stores: Vec<Arc<Store>>,
    pub(crate) due: Option<Wall>,
}

impl Found {
    /// It goes nowhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.stores.is_empty()
    }
}

/// Finds the queues of a publish, each once. Returns whether that depends on the topology and the keys alone.
///
/// An exchange that does not exist routes nowhere. `headers` is called only for headers exchanges, and for those that
/// delay if it is `now`; without a time nothing is delayed any more.
pub(crate) fn route(
    vhost: &Vhost,
    exchange: &str,
    keys: &[&str],
    headers: &mut dyn FnMut() -> Table,
    now: Option<Wall>,
    found: &mut Found,
) -> bool {
    let mut cacheable = true;
    let mut visited: HashSet<Arc<str>> = HashSet::new();
    let mut todo: Vec<Arc<str>> = vec![exchange.into()];
    while let Some(name) = todo.pop() {
        if visited.len() >= ROUTE_EXCHANGES_MAX || !visited.insert(name.clone()) {
            continue;
        }
        if name.is_empty() {
            found.queues.extend(keys.iter().filter_map(|key| vhost.queues.get(*key).cloned()));
            continue;
        }
        let Some(exchange) = vhost.exchanges.get(&name) else {
            continue;
        };
        cacheable &= exchange.spec.kind != ExchangeKind::Headers;
        if let Some((store, now)) = exchange.store.as_ref().zip(now) {
            cacheable = false;
            if let Some(due) = delay::due(&headers(), now) {
                found.due = Some(due);
                found.stores.push(store.clone());
                continue;
            }
        }
        let mut hit = false;
        for key in keys {
            exchange.route(key, headers, |target| {
                hit = true;
                match target {
                    Target::Queue(queue) => found.queues.push(queue.clone()),
                    Target::Exchange(name) => todo.push(name.clone()),
                }
            });
        }
        if !hit && let Some(alternate) = &exchange.alternate {
            todo.push(alternate.as_str().into());
        }
    }
    found.queues.sort_unstable_by_key(|queue| queue.id);
    found.queues.dedup_by_key(|queue| queue.id);
    cacheable
}

/// Where a publish with some exchange and key goes.
#[derive(Debug, Default)]
pub(crate) struct Route {
    exchange_len: usize,
    /// The queues' ids, as a batch wants them.
    pub(crate) targets: Vec<QueueId>,
    /// The queues, in the same order.
    pub(crate) queues: Vec<Arc<Queue>>,
    /// A queue keeps everything, so what goes this way is persistent.
    pub(crate) keeps: bool,
    /// A queue may refuse a publish.
    pub(crate) refuses: bool,
    /// The batch in which it was last noted as touched, by persistent and by transient messages.
    pub(crate) touched: [u64; 2],
}

impl Route {
    pub(crate) fn new(exchange_len: usize, queues: Vec<Arc<Queue>>) -> Self {
        Self {
            exchange_len,
            targets: queues.iter().map(|q| q.id).collect(),
            keeps: queues.iter().any(|q| q.keeps_everything()),
            refuses: queues.iter().any(|q| q.refuses_publishes()),
            queues,
            touched: [0; 2],
        }
    }
}

/// The routes a connection has used, for one epoch of the topology.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    /// By exchange and key, one behind the other as they lie in a message.
    routes: HashMap<Box<[u8]>, Route, RandomState>,
}

/// Exchange and key of a message in one slice.
fn head(message: &Message) -> &[u8] {
    let (exchange, key, _) = message.lengths();
    &message.bytes()[..usize::from(exchange) + usize::from(key)]
}

impl RouteCache {
    pub(crate) fn clear(&mut self) {
        self.routes.clear();
    }

    pub(crate) fn get(&mut self, message: &Message) -> Option<&mut Route> {
        self.routes.get_mut(head(message)).filter(|route| route.exchange_len == message.exchange().len())
    }

    pub(crate) fn put(&mut self, message: &Message, queues: Vec<Arc<Queue>>) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        let route = Route::new(message.exchange().len(), queues);
        self.routes.insert(head(message).into(), route);
    }
}
