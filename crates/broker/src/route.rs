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
use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
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
            found.queues.extend(keys.iter().filter_map(|key| vhost.queue(key).cloned()));
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

/// Where a publish with some exchange and key goes. It fills one line of memory and shares it with nothing.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Route {
    key: RouteKey,
    goes: Goes,
    /// The batch in which it was last noted as touched, and by which messages: bit 0 transient, bit 1 persistent ones.
    touched: Cell<u64>,
    exchange_len: u8,
    /// A queue keeps everything, so what goes this way is persistent.
    pub(crate) keeps: bool,
    /// A queue may refuse a publish.
    pub(crate) refuses: bool,
}

/// The queues of a route and, in the same order, their ids, as a batch wants them.
#[derive(Debug)]
enum Goes {
    One(QueueId, Arc<Queue>),
    Many(Box<(Vec<QueueId>, Vec<Arc<Queue>>)>),
}

impl Route {
    fn new(message: &Message, mut queues: Vec<Arc<Queue>>) -> Self {
        let (key, exchange_len) = (head(message).into(), message.lengths().0);
        let keeps = queues.iter().any(|queue| queue.keeps_everything());
        let refuses = queues.iter().any(|queue| queue.refuses_publishes());
        let goes = match queues.pop() {
            Some(one) if queues.is_empty() => Goes::One(one.id, one),
            last => {
                queues.extend(last);
                Goes::Many(Box::new((queues.iter().map(|queue| queue.id).collect(), queues)))
            }
        };
        Self { key, goes, touched: Cell::new(0), exchange_len, keeps, refuses }
    }

    /// Notes that a message of a batch goes here; false if such a one did already.
    pub(crate) fn touch(&self, batch: u64, persistent: bool) -> bool {
        let (bit, touched) = (1 << u8::from(persistent), self.touched.get());
        let before = if touched >> 2 == batch { touched & 3 } else { 0 };
        self.touched.set(batch << 2 | before | bit);
        before & bit == 0
    }

    pub(crate) fn queues(&self) -> &[Arc<Queue>] {
        match &self.goes {
            Goes::One(_, queue) => std::slice::from_ref(queue),
            Goes::Many(many) => &many.1,
        }
    }

    pub(crate) fn targets(&self) -> &[QueueId] {
        match &self.goes {
            Goes::One(id, _) => std::slice::from_ref(id),
            Goes::Many(many) => &many.0,
        }
    }
}

/// Octets of exchange and key, together, that need no memory of their own.
const SHORT_KEY: usize = 30;

/// Exchange and key, one behind the other as they lie in a message.
#[derive(Debug)]
enum RouteKey {
    Short(u8, [u8; SHORT_KEY]),
    Long(Box<[u8]>),
}

impl From<&[u8]> for RouteKey {
    fn from(head: &[u8]) -> Self {
        let mut short = [0; SHORT_KEY];
        match (u8::try_from(head.len()), short.get_mut(..head.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(head);
                Self::Short(len, short)
            }
            _ => Self::Long(head.into()),
        }
    }
}

impl Borrow<[u8]> for Route {
    fn borrow(&self) -> &[u8] {
        match &self.key {
            RouteKey::Short(len, head) => &head[..usize::from(*len)],
            RouteKey::Long(head) => head,
        }
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        let (own, others): (&[u8], &[u8]) = (self.borrow(), other.borrow());
        own == others
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let own: &[u8] = self.borrow();
        own.hash(state);
    }
}

/// The routes a connection has used, for one epoch of the topology.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    routes: HashSet<Route, RandomState>,
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

    pub(crate) fn get(&self, message: &Message) -> Option<&Route> {
        self.routes.get(head(message)).filter(|route| route.exchange_len == message.lengths().0)
    }

    pub(crate) fn put(&mut self, message: &Message, queues: Vec<Arc<Queue>>) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.replace(Route::new(message, queues));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Envelope, MessageArena, Origin};

    fn message(exchange: &[u8], key: &[u8]) -> Message {
        let envelope = Envelope {
            origin: Origin::Amqp091,
            persistent: true,
            priority: 0,
            ttl_ms: None,
            received_at: Wall(1),
            has_headers: false,
            producer: 0,
        };
        MessageArena::new().draft(exchange, key, &[], 0).finish(envelope)
    }

    #[test]
    fn a_route_fits_a_line_and_is_touched_once_a_batch_by_each_kind() {
        assert_eq!((size_of::<Route>(), align_of::<Route>()), (64, 64));
        let route = Route::new(&message(b"", b"key"), vec![Arc::new(Queue::for_tests(1))]);
        for batch in [1, 2, u64::MAX >> 2] {
            assert!(route.touch(batch, true) && !route.touch(batch, true));
            assert!(route.touch(batch, false) && !route.touch(batch, false) && !route.touch(batch, true));
        }
    }

    #[test]
    fn a_route_is_found_by_exchange_and_key_of_any_length() {
        let mut cache = RouteCache::default();
        let long = [b'k'; 255];
        for (n, len) in [0, 1, SHORT_KEY - 2, SHORT_KEY - 1, SHORT_KEY, 200, 255].into_iter().enumerate() {
            let queues: Vec<_> = (0..n as u64 % 3).map(|id| Arc::new(Queue::for_tests(id))).collect();
            let (exchange, key) = (&b"x"[..], &long[..len]);
            assert!(cache.get(&message(exchange, key)).is_none());
            cache.put(&message(exchange, key), queues.clone());
            let route = cache.get(&message(exchange, key)).expect("it was put there");
            assert!(route.queues().iter().map(|q| q.id).eq(queues.iter().map(|q| q.id)));
            assert!(route.targets().iter().eq(route.queues().iter().map(|q| &q.id)));
            assert!(cache.get(&message(b"y", key)).is_none());
        }
        // The same octets, parted elsewhere.
        assert!(cache.get(&message(b"xk", &long[1..1])).is_none());
        assert!(cache.get(&message(b"", b"xk")).is_none());
    }
}
