//! Queues as the broker sees them, and who waits on them.
//!
//! The engine holds the entries; here are the consumers, their turn, and what is known from the declaration.
//! Invariants: a consumer is in `ring` if it may have credit; else it is in the starved list of its mailbox, or gone.
//! `ring` is a subset of `consumers`. With a single active consumer only that one is in either.

use crate::arguments::QueueArguments;
use crate::behaviour::{Behaviour, Dispatch};
use crate::consumer::Consumer;
use crate::dedup::Dedup;
use crate::kind::QueueKind;
use crate::mailbox::Mailbox;
use crate::quotas::QueueRates;
use crate::registry::VhostName;
use crate::ring::Ring;
use arc_swap::{ArcSwap, ArcSwapOption};
use engine::{Durability, Limits};
use model::{ConnectionId, Mono, QueueId, Wall};
use parking_lot::Mutex;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

/// A queue. What every publish and every delivery looks at comes first and lies together.
#[repr(C)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    /// Consumers there are, readable without the lock.
    pub(crate) consumer_count: AtomicU32,
    pub(crate) durable: bool,
    /// Persistent messages in it are safe once they are synced.
    syncs: bool,
    /// Of the behaviour, for those who look with every batch: it has a dead-letter exchange, and what is too much pushes
    /// its head out.
    dead_letters: AtomicBool,
    drops_head: AtomicBool,
    /// Entries may have a time to live, so its head must be watched.
    pub(crate) may_expire: AtomicBool,
    pub(crate) auto_delete: bool,
    deduplicates: bool,
    /// Held from taking dead entries until they are dead-lettered, so they keep their order whoever does it.
    pub(crate) burial: Mutex<()>,
    pub(crate) state: Mutex<QueueState>,
    /// What its quotas leave, if it has any.
    pub(crate) rates: ArcSwapOption<QueueRates>,
    /// What it has seen, if it [deduplicates](Queue::deduplicates).
    pub(crate) dedup: Option<Box<Mutex<Dedup>>>,
    behaviour: ArcSwap<Behaviour>,
    /// The arguments; what of them can change is in the behaviour.
    pub(crate) arguments: Arc<QueueArguments>,
    pub(crate) vhost: Arc<VhostName>,
    pub(crate) name: Box<str>,
    owner: Option<NonZeroU64>,
}

/// What changes, under the queue's lock.
#[derive(Default)]
pub(crate) struct QueueState {
    /// Consumers that may have credit.
    pub(crate) ring: Ring,
    /// See [`QueueState::waited_since`].
    waited_since: Option<NonZeroU64>,
    /// Last declared, got from or consumed.
    pub(crate) used_at: Mono,
    /// Whoever uses it, if anybody does.
    crowd: Option<Box<Crowd>>,
    pub(crate) dispatch: Dispatch,
    /// It is gone; nobody may join.
    pub(crate) deleted: bool,
}

/// Who uses a queue.
#[derive(Default)]
struct Crowd {
    /// In the order they came.
    consumers: Vec<Arc<Consumer>>,
    /// The single active consumer.
    active: Option<Arc<Consumer>>,
    /// Connections whose `get` waits for the head to become readable.
    getters: Vec<Arc<Mailbox>>,
}

/// What a queue is made from.
pub(crate) struct QueueParts<'a> {
    pub(crate) id: QueueId,
    pub(crate) vhost: Arc<VhostName>,
    pub(crate) name: &'a str,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) owner: Option<ConnectionId>,
    pub(crate) arguments: QueueArguments,
    /// It may hold entries already, with a time to live of their own.
    pub(crate) recovered: bool,
}

impl Queue {
    pub(crate) fn new(parts: QueueParts<'_>, now: Mono) -> Self {
        let arguments = parts.arguments;
        let behaviour = arguments.behaviour.clone();
        Self {
            id: parts.id,
            vhost: parts.vhost,
            name: parts.name.into(),
            durable: parts.durable,
            syncs: parts.durable && arguments.durability.unwrap_or_default() == Durability::Sync,
            auto_delete: parts.auto_delete,
            owner: parts.owner.and_then(|owner| NonZeroU64::new(owner.0)),
            deduplicates: arguments.dedup.is_some(),
            burial: Mutex::default(),
            dedup: arguments.dedup.clone().map(|spec| Box::new(Mutex::new(Dedup::new(parts.id, spec)))),
            arguments: arguments.shared(),
            dead_letters: behaviour.dead_letter_exchange.is_some().into(),
            drops_head: behaviour.drops_head().into(),
            may_expire: (parts.recovered || behaviour.ttl_ms.is_some()).into(),
            consumer_count: 0.into(),
            rates: None.into(),
            state: Mutex::new(QueueState {
                used_at: now,
                dispatch: behaviour.dispatch.unwrap_or_default(),
                ..QueueState::default()
            }),
            behaviour: ArcSwap::new(behaviour.shared()),
        }
    }

    /// A transient queue without arguments.
    #[cfg(test)]
    pub(crate) fn for_tests(id: u64) -> Self {
        let parts = QueueParts {
            id: QueueId(id),
            vhost: Arc::new(VhostName("/".into())),
            name: "q",
            durable: false,
            auto_delete: false,
            owner: None,
            arguments: QueueArguments::default(),
            recovered: false,
        };
        Self::new(parts, Mono(0))
    }

    /// Changes what it does; false if it did that already. The engine is to be told the [limits](Queue::limits) after
    /// that, if they are others.
    pub(crate) fn change(&self, behaviour: Behaviour) -> bool {
        let mut state = self.state.lock();
        if **self.behaviour.load() == behaviour {
            return false;
        }
        self.dead_letters.store(behaviour.dead_letter_exchange.is_some(), SeqCst);
        self.drops_head.store(behaviour.drops_head(), SeqCst);
        if behaviour.ttl_ms.is_some() {
            self.may_expire.store(true, SeqCst);
        }
        let dispatch = behaviour.dispatch.unwrap_or_default();
        if state.dispatch != dispatch {
            state.dispatch = dispatch;
            for consumer in state.ring.drain() {
                state.rejoin(consumer);
            }
        }
        self.behaviour.store(behaviour.shared());
        true
    }

    /// The connection it belongs to, if it is exclusive.
    pub(crate) fn owner(&self) -> Option<ConnectionId> {
        self.owner.map(|id| ConnectionId(id.get()))
    }

    /// What it does at the moment.
    pub(crate) fn behaviour(&self) -> Arc<Behaviour> {
        self.behaviour.load_full()
    }

    /// Whether persistent messages in it survive a restart.
    pub(crate) fn keeps(&self) -> bool {
        self.durability().is_some_and(|durability| durability != Durability::Memory)
    }

    /// When persistent messages in it are safe; none if it is not durable.
    pub(crate) fn durability(&self) -> Option<Durability> {
        self.durable.then(|| self.arguments.durability.unwrap_or_default())
    }

    /// Whether it leaves out what it has seen before.
    pub(crate) fn deduplicates(&self) -> bool {
        self.deduplicates
    }

    /// Whether persistent messages in it can be handed out only when they are synced.
    pub(crate) fn syncs(&self) -> bool {
        self.syncs
    }

    pub(crate) fn has_dead_letter(&self) -> bool {
        self.dead_letters.load(SeqCst)
    }

    /// Whether what is too much pushes its head out.
    pub(crate) fn drops_head(&self) -> bool {
        self.drops_head.load(SeqCst)
    }

    /// Whether it may refuse a publish.
    pub(crate) fn refuses_publishes(&self) -> bool {
        self.behaviour.load().refuses_publishes()
    }

    /// Whether a publish may leave something dead behind that is to be dead-lettered.
    pub(crate) fn buries_on_publish(&self) -> bool {
        self.has_dead_letter() && self.behaviour.load().limits_length()
    }

    /// The same for what is given back.
    pub(crate) fn buries_given_back(&self) -> bool {
        self.buries_on_publish() || (self.has_dead_letter() && self.behaviour.load().delivery_limit.is_some())
    }

    /// Whether it counts, for ever, how often entries were handed out, and says so in `x-delivery-count`.
    pub(crate) fn counts_attempts(&self) -> bool {
        self.limits().counts_attempts
    }

    /// What the engine is to heed.
    pub(crate) fn limits(&self) -> Limits {
        self.behaviour.load().limits(self.arguments.kind)
    }

    /// Whether what is published to it is kept whatever the publisher asked for.
    pub(crate) fn keeps_everything(&self) -> bool {
        self.arguments.kind == QueueKind::Quorum
    }

    fn count(&self, consumers: &[Arc<Consumer>]) {
        self.consumer_count.store(u32::try_from(consumers.len()).unwrap_or(u32::MAX), SeqCst);
    }

    /// Whoever waits to get looks again.
    pub(crate) fn wake_getters(&self) {
        let getters = self.state.lock().take_getters();
        getters.iter().for_each(|getter| getter.wake());
    }
}

impl QueueState {
    /// Just before a consumer with credit began to wait for entries; none once an entry had to wait for credit.
    /// Whatever has come since was waited for and does not expire on its way, however long its sync takes.
    pub(crate) fn waited_since(&self) -> Option<Wall> {
        self.waited_since.map(|since| Wall(since.get()))
    }

    pub(crate) fn set_waited_since(&mut self, since: Option<Wall>) {
        self.waited_since = since.and_then(|since| NonZeroU64::new(since.0));
    }

    /// In the order they came.
    pub(crate) fn consumers(&self) -> &[Arc<Consumer>] {
        self.crowd.as_ref().map_or(&[], |crowd| &crowd.consumers)
    }

    /// The single active consumer.
    pub(crate) fn active(&self) -> Option<&Arc<Consumer>> {
        self.crowd.as_ref()?.active.as_ref()
    }

    /// Notes a connection whose `get` waits for the head to become readable.
    pub(crate) fn add_getter(&mut self, mailbox: &Arc<Mailbox>) {
        let getters = &mut self.crowd.get_or_insert_default().getters;
        if !getters.iter().any(|getter| Arc::ptr_eq(getter, mailbox)) {
            getters.push(mailbox.clone());
        }
    }

    /// Lets all go whose `get` waits.
    pub(crate) fn take_getters(&mut self) -> Vec<Arc<Mailbox>> {
        let getters = self.crowd.as_mut().map(|crowd| std::mem::take(&mut crowd.getters)).unwrap_or_default();
        self.leave_empty();
        getters
    }

    /// Lets all consumers go.
    pub(crate) fn take_consumers(&mut self) -> Vec<Arc<Consumer>> {
        self.ring = Ring::default();
        let Some(crowd) = &mut self.crowd else { return Vec::new() };
        crowd.active = None;
        let consumers = std::mem::take(&mut crowd.consumers);
        self.leave_empty();
        consumers
    }

    /// Gives back the memory for a crowd if nobody is there.
    fn leave_empty(&mut self) {
        self.crowd.take_if(|crowd| crowd.consumers.is_empty() && crowd.getters.is_empty());
    }

    /// Lets a new consumer in.
    pub(crate) fn join(&mut self, queue: &Queue, consumer: Arc<Consumer>) {
        let crowd = self.crowd.get_or_insert_default();
        crowd.consumers.push(consumer.clone());
        queue.count(&crowd.consumers);
        if !queue.arguments.single_active {
            self.rejoin(consumer);
        } else if crowd.active.is_none() {
            crowd.active = Some(consumer.clone());
            self.rejoin(consumer);
        }
    }

    /// Lets a consumer go; if it was the single active one, the next takes over.
    pub(crate) fn leave(&mut self, queue: &Queue, consumer: &Arc<Consumer>) {
        consumer.gone.store(true, SeqCst);
        self.ring.remove(consumer);
        let Some(crowd) = &mut self.crowd else { return };
        crowd.consumers.retain(|other| !Arc::ptr_eq(other, consumer));
        queue.count(&crowd.consumers);
        if crowd.active.take_if(|active| Arc::ptr_eq(active, consumer)).is_some()
            && let Some(next) = successor(&crowd.consumers)
        {
            crowd.active = Some(next.clone());
            self.rejoin(next);
        }
        self.leave_empty();
    }

    /// Puts a consumer that may have credit again behind the others of its priority.
    pub(crate) fn rejoin(&mut self, consumer: Arc<Consumer>) {
        let by_priority = self.dispatch != Dispatch::RoundRobin;
        self.ring.push(consumer, |consumer| if by_priority { consumer.priority } else { 0 });
    }
}

/// The consumer with the highest priority, the first of them to have come.
fn successor(consumers: &[Arc<Consumer>]) -> Option<Arc<Consumer>> {
    let mut best = consumers.first()?;
    for consumer in consumers {
        if consumer.priority > best.priority {
            best = consumer;
        }
    }
    Some(best.clone())
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} {} in {})", self.id, self.name, &**self.vhost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_queue_is_small() {
        // The allocator's next size is 192.
        assert!(size_of::<Queue>() + 2 * size_of::<usize>() <= 160, "{}", size_of::<Queue>());
    }
}
