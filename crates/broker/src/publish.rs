//! Publishing: from a message to the queues it belongs in, and what follows once the engine has it.

use crate::api::Published;
use crate::broker::Broker;
use crate::delay::{self, Store};
use crate::exchange::ExchangeKind;
use crate::queue::Queue;
use crate::refuse::{self, Resource};
use crate::route::{Found, route};
use crate::users::{Access, Verb};
use crate::waiters::Waiter;
use engine::{Batch, EntryKey, Ticket};
use model::{Message, Now, Principal, QueueId, Table};
use protocol::Refusal;
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// A queue that a batch has put something into.
#[derive(Debug)]
pub(crate) struct Touched {
    /// Its id, so that many are put in order without a look at each.
    pub(crate) id: QueueId,
    pub(crate) queue: Arc<Queue>,
    /// The entry can be handed out only when the batch is durable.
    pub(crate) after_sync: bool,
}

/// What a batch has put something into.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) queues: Vec<Touched>,
    pub(crate) stores: Vec<Arc<Store>>,
}

/// What becomes of a publish.
#[derive(Debug)]
pub(crate) enum Way {
    /// It goes where was found, and so does every other with its exchange and key.
    Cacheable,
    /// It goes where was found.
    Once,
    /// It is not a message: it takes back what waits under a key.
    Cancel(Arc<Store>, EntryKey),
}

impl Broker {
    /// Whether the user may publish this, and where it goes.
    pub(crate) fn route_publish(
        &self,
        access: &Access,
        message: &Message,
        extra_keys: &[bytes::Bytes],
        now: Now,
        found: &mut Found,
    ) -> Result<Way, Refusal> {
        let exchange = String::from_utf8_lossy(message.exchange());
        let key = String::from_utf8_lossy(message.routing_key());
        let what = Resource::Exchange(&access.vhost, &exchange);
        access.check(Verb::Write, what)?;
        let registry = self.registry.read();
        let vhost = registry.vhosts.get(&access.vhost).ok_or_else(|| refuse::no_vhost(&access.vhost))?;
        if !exchange.is_empty() {
            let Some(known) = vhost.exchanges.get(&*exchange) else {
                return Err(refuse::missing(what));
            };
            if known.spec.internal {
                return Err(refuse::internal_exchange(what));
            }
            if known.spec.kind == ExchangeKind::Topic {
                access.check_topic(Verb::Write, &exchange, &key)?;
            }
            if let Some(store) = &known.store
                && let Some(key) = delay::cancels(&self.headers(message))
            {
                return Ok(Way::Cancel(store.clone(), key));
            }
        }
        let mut headers = || self.headers(message);
        let heeds = Some(now.wall);
        if extra_keys.is_empty() {
            let cacheable = route(vhost, &exchange, &[&*key], &mut headers, heeds, found);
            return Ok(if cacheable { Way::Cacheable } else { Way::Once });
        }
        let extra: Vec<Cow<'_, str>> = extra_keys.iter().map(|k| String::from_utf8_lossy(k)).collect();
        let keys: Vec<&str> = std::iter::once(&*key).chain(extra.iter().map(|k| &**k)).collect();
        route(vhost, &exchange, &keys, &mut headers, heeds, found);
        Ok(Way::Once)
    }

    /// The headers of a message; none if it has none or they cannot be read.
    pub(crate) fn headers(&self, message: &Message) -> Table {
        if !message.envelope.has_headers {
            return Table::new();
        }
        let properties = self.formats.properties(message);
        properties.ok().and_then(|p| p.headers).unwrap_or_default()
    }

    /// Hands out what a batch has brought, now or when it is durable.
    pub(crate) fn appended(&self, ticket: Ticket, touched: &mut Vec<Touched>, now: Now) {
        touched.sort_by_key(|t| (t.id, t.after_sync));
        touched.dedup_by_key(|t| (t.id, t.after_sync));
        let waits = ticket > self.engine.durable();
        let (mut waiting, mut ready) = (Vec::with_capacity(if waits { touched.len() } else { 0 }), Vec::new());
        for one in touched.drain(..) {
            let queue = &one.queue;
            if queue.may_expire.load(SeqCst) {
                self.watch_head(queue, now);
            }
            if queue.buries_on_publish() {
                self.bury(queue, now);
            }
            // Whoever consumes or gets later looks by itself, and is told when the head becomes readable.
            if queue.consumer_count.load(SeqCst) == 0 {
                continue;
            }
            if one.after_sync && waits {
                waiting.push(one);
            } else {
                ready.push(one);
            }
        }
        self.dispatch_all(&ready, now);
        if !waiting.is_empty() {
            self.wait_for(ticket, Waiter::Queues(waiting), now);
        }
    }

    /// Publishes one message from within the process.
    pub(crate) fn publish_one(
        &self,
        principal: &Principal,
        mut message: Message,
        now: Now,
    ) -> Result<Published, Refusal> {
        let access = self
            .registry
            .read()
            .users
            .access(&principal.user, &principal.vhost)
            .ok_or_else(|| refuse::vhost_access(&principal.vhost, &principal.user))?;
        let mut found = Found::default();
        message.envelope.producer = producer_of(&principal.user);
        let way = self.route_publish(&access, &message, &[], now, &mut found)?;
        if !self.pay_for(&access, &found.queues, now.mono) {
            return Err(refuse::over_quota(&principal.user));
        }
        self.counters.published.add(1);
        if let Way::Cancel(store, key) = way {
            let (taken, ticket) = self.cancel(&store, key, now).map_err(|error| refuse::engine(&error))?;
            return Ok(Published { routed: taken > 0, ticket });
        }
        if found.is_empty() {
            self.counters.unroutable.add(1);
            return Ok(Published { routed: false, ticket: Ticket::NONE });
        }
        let mut touched = Vec::new();
        let mut batch = Batch::new();
        self.schedule_message(&message, &[], &found, &mut batch);
        let targets: Vec<QueueId> = found.queues.iter().map(|q| q.id).collect();
        message.envelope.persistent |= found.queues.iter().any(|queue| queue.keeps_everything());
        touch(&mut touched, &found.queues, &message);
        batch.push(message, &targets);
        let count = batch.len();
        let ticket = self.take_in(&mut batch, count, &touched, now).map_err(|error| refuse::engine(&error))?;
        self.appended(ticket, &mut touched, now);
        for store in &found.stores {
            self.watch_store(store, now);
        }
        if !batch.take_rejected().is_empty() {
            let full = found.queues.iter().find(|queue| queue.refuses_publishes()).or(found.queues.first());
            let name = full.map_or("", |queue| &queue.name);
            return Err(refuse::full(Resource::Queue(&principal.vhost, name)));
        }
        Ok(Published { routed: true, ticket })
    }
}

/// A producer within the process.
fn producer_of(user: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    user.hash(&mut hasher);
    hasher.finish() as u32
}

/// Notes the queues a message goes to.
pub(crate) fn touch(touched: &mut Vec<Touched>, queues: &[Arc<Queue>], message: &Message) {
    note_ttl(queues, message);
    note(touched, queues, message.envelope.persistent);
}

/// Notes queues that a message goes to, a persistent one or not.
pub(crate) fn note(touched: &mut Vec<Touched>, queues: &[Arc<Queue>], persistent: bool) {
    for queue in queues {
        touched.push(Touched { id: queue.id, queue: queue.clone(), after_sync: persistent && queue.syncs() });
    }
}

/// If a message has a time to live, the heads of the queues it goes to must be watched from now on.
pub(crate) fn note_ttl(queues: &[Arc<Queue>], message: &Message) {
    if message.envelope.ttl_ms.is_some() {
        for queue in queues.iter().filter(|queue| !queue.may_expire.load(SeqCst)) {
            queue.may_expire.store(true, SeqCst);
        }
    }
}
