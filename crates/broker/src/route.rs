//! From exchange and key to queues.
//!
//! Invariants: each exchange is visited once a publish and each queue gets one copy, whatever the graph looks like.
//! A cached route holds for one epoch of the topology and one user.

use crate::delay::{self, Store};
use crate::exchange::{ExchangeKind, Target};
use crate::publish::{Touched, note};
use crate::queue::Queue;
use crate::registry::Vhost;
use foldhash::fast::RandomState;
use model::limits::ROUTE_EXCHANGES_MAX;
use model::{Message, QueueId, Table, Wall, near};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Routes a connection keeps; beyond it starts afresh.
const ROUTES_MAX: usize = 4_096;
/// Routes that stay in the cache without being asked for.
const FEW_ROUTES: usize = 64;

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
    fn touch(&self, batch: u64, persistent: bool) -> bool {
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

impl RouteKey {
    fn head(&self) -> &[u8] {
        match self {
            Self::Short(len, head) => &head[..usize::from(*len)],
            Self::Long(head) => head,
        }
    }
}

/// The routes a connection has used, for one epoch of the topology.
///
/// With thousands of them each lies in no cache when its turn comes. So they are found by the hash of their key alone, in
/// little memory, and [asked for](RouteCache::expect) ahead of time; the same with their queues, for many at a time.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    hasher: RandomState,
    /// Where the route with a hash is. Of two with the same hash the later one is kept.
    places: HashMap<u64, u32, RandomState>,
    routes: Vec<Route>,
    /// Routes that were touched, and whether by a persistent message.
    noted: Vec<(u32, bool)>,
}

/// Exchange and key of a message in one slice.
fn head(message: &Message) -> &[u8] {
    let (exchange, key, _) = message.lengths();
    &message.bytes()[..usize::from(exchange) + usize::from(key)]
}

impl RouteCache {
    /// Forgets all routes. The queues noted since they were last taken go into `touched`, as in [`RouteCache::put`].
    pub(crate) fn clear(&mut self, touched: &mut Vec<Touched>) {
        self.take_touched(touched);
        self.places.clear();
        self.routes.clear();
    }

    fn place(&self, message: &Message) -> Option<usize> {
        self.places.get(&self.hasher.hash_one(head(message))).map(|&at| at as usize)
    }

    fn find(&self, message: &Message) -> Option<(usize, &Route)> {
        let at = self.place(message)?;
        let route = self.routes.get(at)?;
        (route.exchange_len == message.lengths().0 && route.key.head() == head(message)).then_some((at, route))
    }

    pub(crate) fn get(&self, message: &Message) -> Option<&Route> {
        self.find(message).map(|(_, route)| route)
    }

    /// A message that will be routed soon: asks for what is known of its way.
    pub(crate) fn expect(&self, message: &Message) {
        if self.routes.len() > FEW_ROUTES
            && let Some(route) = self.place(message).and_then(|at| self.routes.get(at))
        {
            near::ask_for(route, size_of::<Route>());
        }
    }

    /// The route of a message of a batch. Its queues are noted, once a batch for persistent messages and once for others.
    pub(crate) fn touch(&mut self, message: &Message, batch: u64) -> Option<&Route> {
        let (at, route) = self.find(message)?;
        let persistent = message.envelope.persistent || route.keeps;
        if route.touch(batch, persistent) {
            self.noted.push((u32::try_from(at).unwrap_or(u32::MAX), persistent));
        }
        self.routes.get(at)
    }

    /// Takes out what was noted.
    pub(crate) fn take_touched(&mut self, touched: &mut Vec<Touched>) {
        let Self { noted, routes, .. } = self;
        let route = |at: u32| routes.get(at as usize);
        for queue in noted.iter().filter_map(|&(at, _)| route(at)).flat_map(Route::queues) {
            near::ask_for(&**queue, size_of::<Queue>());
        }
        for (at, persistent) in noted.drain(..) {
            note(touched, route(at).map_or(&[], Route::queues), persistent);
        }
    }

    pub(crate) fn put(&mut self, message: &Message, queues: Vec<Arc<Queue>>, touched: &mut Vec<Touched>) {
        if self.routes.len() >= ROUTES_MAX {
            self.clear(touched);
        }
        self.put_at(self.hasher.hash_one(head(message)), Route::new(message, queues));
    }

    fn put_at(&mut self, hash: u64, route: Route) {
        // Not in the place of another one with its hash, which may be noted.
        self.places.insert(hash, u32::try_from(self.routes.len()).unwrap_or(u32::MAX));
        self.routes.push(route);
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
        let (mut cache, mut touched) = (RouteCache::default(), Vec::new());
        let long = [b'k'; 255];
        for (n, len) in [0, 1, SHORT_KEY - 2, SHORT_KEY - 1, SHORT_KEY, 200, 255].into_iter().enumerate() {
            let queues: Vec<_> = (0..n as u64 % 3).map(|id| Arc::new(Queue::for_tests(id))).collect();
            let (exchange, key) = (&b"x"[..], &long[..len]);
            assert!(cache.get(&message(exchange, key)).is_none());
            cache.put(&message(exchange, key), queues.clone(), &mut touched);
            let route = cache.get(&message(exchange, key)).expect("it was put there");
            assert!(route.queues().iter().map(|q| q.id).eq(queues.iter().map(|q| q.id)));
            assert!(route.targets().iter().eq(route.queues().iter().map(|q| &q.id)));
            assert!(cache.get(&message(b"y", key)).is_none());
        }
        // The same octets, parted elsewhere.
        assert!(cache.get(&message(b"xk", &long[1..1])).is_none());
        assert!(cache.get(&message(b"", b"xk")).is_none());
    }

    #[test]
    fn what_was_touched_is_told_once_a_batch_whatever_becomes_of_its_route() {
        let (mut cache, mut touched) = (RouteCache::default(), Vec::new());
        let key = |n: usize| message(b"", format!("queue {n}").as_bytes());
        let put = |cache: &mut RouteCache, touched: &mut Vec<Touched>, n: usize| {
            cache.put(&key(n), vec![Arc::new(Queue::for_tests(n as u64))], touched);
        };
        let told = |touched: &mut Vec<Touched>| touched.drain(..).map(|one| one.id.0).collect::<Vec<_>>();
        for n in 0..ROUTES_MAX {
            cache.expect(&key(n));
            put(&mut cache, &mut touched, n);
            cache.expect(&key(n));
        }
        assert!(cache.touch(&key(ROUTES_MAX), 1).is_none(), "it is not known");
        for n in [7, 3, 7] {
            assert!(cache.touch(&key(n), 1).is_some());
        }
        cache.take_touched(&mut touched);
        assert_eq!(told(&mut touched), [7, 3]);
        assert!(cache.touch(&key(7), 1).is_some() && cache.touch(&key(3), 2).is_some());
        // One more than there is room for: all are forgotten, and what was touched is told.
        put(&mut cache, &mut touched, ROUTES_MAX);
        assert_eq!(told(&mut touched), [3]);
        assert!(cache.get(&key(3)).is_none() && cache.get(&key(ROUTES_MAX)).is_some());
        assert!(cache.touch(&key(ROUTES_MAX), 2).is_some());
        cache.clear(&mut touched);
        assert_eq!(told(&mut touched), [ROUTES_MAX as u64]);
    }

    #[test]
    fn of_two_keys_with_one_hash_the_later_is_known_and_neither_is_taken_for_the_other() {
        let mut cache = RouteCache::default();
        let (first, second) = (message(b"", b"first"), message(b"", b"second"));
        let hash = cache.hasher.hash_one(head(&second));
        cache.put_at(hash, Route::new(&first, vec![Arc::new(Queue::for_tests(1))]));
        assert!(cache.get(&second).is_none() && cache.touch(&second, 1).is_none());
        cache.put_at(hash, Route::new(&second, vec![Arc::new(Queue::for_tests(2))]));
        assert_eq!(cache.get(&second).map(|route| route.targets()[0]), Some(QueueId(2)));
    }
}
