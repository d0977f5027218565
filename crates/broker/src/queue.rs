//! Queues as the broker sees them, and who waits on them.
//!
//! The engine holds the entries; here are the consumers, their turn, and what is known from the declaration.
//! Invariants: a consumer is in `ring` if it may have credit; else it is in the starved list of its mailbox, or gone.
//! `ring` is a subset of `consumers`. With a single active consumer only that one is in either.

use crate::arguments::QueueArguments;
use crate::behaviour::{Behaviour, Dispatch};
use crate::dedup::Dedup;
use crate::kind::QueueKind;
use crate::mailbox::Mailbox;
use crate::quotas::{ConsumerQuota, QueueRates, Subject};
use crate::ring::Ring;
use arc_swap::{ArcSwap, ArcSwapOption};
use engine::{Durability, Limits};
use model::limits::UNSETTLED_PER_CHANNEL_MAX;
use model::{ChannelId, ConnectionId, ConsumerId, HolderId, Mono, QueueId, Wall};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};

/// A queue.
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) vhost: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// The connection it belongs to, if it is exclusive.
    pub(crate) owner: Option<ConnectionId>,
    /// The arguments; what of them can change is in the behaviour.
    pub(crate) arguments: Arc<QueueArguments>,
    behaviour: ArcSwap<Behaviour>,
    /// Of the behaviour, for those who look with every batch: it has a dead-letter exchange, and what is too much pushes
    /// its head out.
    dead_letters: AtomicBool,
    drops_head: AtomicBool,
    /// Consumers there are, readable without the lock.
    pub(crate) consumer_count: AtomicUsize,
    /// Entries may have a time to live, so its head must be watched.
    pub(crate) may_expire: AtomicBool,
    /// What its quotas leave, if it has any.
    pub(crate) rates: ArcSwapOption<QueueRates>,
    /// What it has seen, if it deduplicates.
    pub(crate) dedup: Option<Box<Mutex<Dedup>>>,
    pub(crate) state: Mutex<QueueState>,
}

/// What changes, under the queue's lock.
#[derive(Default)]
pub(crate) struct QueueState {
    /// In the order they came.
    pub(crate) consumers: Vec<Arc<Consumer>>,
    /// Consumers that may have credit.
    pub(crate) ring: Ring,
    pub(crate) dispatch: Dispatch,
    /// The single active consumer.
    pub(crate) active: Option<Arc<Consumer>>,
    /// Connections whose `get` waits for the head to become readable.
    pub(crate) getters: Vec<Arc<Mailbox>>,
    /// Just before a consumer with credit began to wait for entries; none once an entry had to wait for credit.
    /// Whatever has come since was waited for and does not expire on its way, however long its sync takes.
    pub(crate) waited_since: Option<Wall>,
    /// It is gone; nobody may join.
    pub(crate) deleted: bool,
    /// Last declared, got from or consumed.
    pub(crate) used_at: Mono,
}

/// What a queue is made from.
pub(crate) struct QueueParts<'a> {
    pub(crate) id: QueueId,
    pub(crate) vhost: Arc<str>,
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
            auto_delete: parts.auto_delete,
            owner: parts.owner,
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
            vhost: "/".into(),
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

    /// Whoever waits to get looks again.
    pub(crate) fn wake_getters(&self) {
        for getter in std::mem::take(&mut self.state.lock().getters) {
            getter.wake();
        }
    }
}

impl QueueState {
    /// Lets a new consumer in.
    pub(crate) fn join(&mut self, queue: &Queue, consumer: Arc<Consumer>) {
        self.consumers.push(consumer.clone());
        queue.consumer_count.store(self.consumers.len(), SeqCst);
        if !queue.arguments.single_active {
            self.rejoin(consumer);
        } else if self.active.is_none() {
            self.activate(consumer);
        }
    }

    /// Lets a consumer go; if it was the single active one, the next takes over.
    pub(crate) fn leave(&mut self, queue: &Queue, consumer: &Arc<Consumer>) {
        consumer.gone.store(true, SeqCst);
        self.consumers.retain(|other| !Arc::ptr_eq(other, consumer));
        self.ring.remove(consumer);
        queue.consumer_count.store(self.consumers.len(), SeqCst);
        if self.active.take_if(|active| Arc::ptr_eq(active, consumer)).is_some()
            && let Some(next) = self.successor()
        {
            self.activate(next);
        }
    }

    /// Puts a consumer that may have credit again behind the others of its priority.
    pub(crate) fn rejoin(&mut self, consumer: Arc<Consumer>) {
        let level = match self.dispatch {
            Dispatch::RoundRobin => 0,
            Dispatch::Priority | Dispatch::FairByKey | Dispatch::FairByProducer => consumer.priority,
        };
        self.ring.push(consumer, level);
    }

    fn activate(&mut self, consumer: Arc<Consumer>) {
        self.active = Some(consumer.clone());
        self.rejoin(consumer);
    }

    /// The consumer with the highest priority, the first of them to have come.
    fn successor(&self) -> Option<Arc<Consumer>> {
        let mut best = self.consumers.first()?;
        for consumer in &self.consumers {
            if consumer.priority > best.priority {
                best = consumer;
            }
        }
        Some(best.clone())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} {} in {})", self.id, self.name, self.vhost)
    }
}

/// A channel, as far as credit goes.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) holder: HolderId,
    /// Limit for all consumers together; 0 is none.
    pub(crate) prefetch: AtomicU32,
    pub(crate) unsettled: AtomicU32,
}

impl Channel {
    /// `n` of its deliveries are settled.
    pub(crate) fn settled(&self, n: u32) {
        give_back(&self.unsettled, n);
    }
}

/// A consumer of a queue.
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) tag: String,
    pub(crate) channel: Arc<Channel>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) user: Arc<str>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    /// Those of a higher one are served first.
    pub(crate) priority: i64,
    /// Limit of its own; 0 is none.
    pub(crate) prefetch: u32,
    pub(crate) quota: ConsumerQuota,
    pub(crate) unsettled: AtomicU32,
    /// It is in the starved list of its mailbox.
    pub(crate) starved: AtomicBool,
    pub(crate) gone: AtomicBool,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({} of {:?})", self.id, self.queue)
    }
}

/// Takes up to `wanted` of what is left under a limit.
fn take(counter: &AtomicU32, limit: u32, wanted: u32) -> u32 {
    let mut taken = 0;
    let _ = counter.fetch_update(SeqCst, SeqCst, |used| {
        taken = limit.saturating_sub(used).min(wanted);
        (taken > 0).then(|| used + taken)
    });
    taken
}

fn give_back(counter: &AtomicU32, n: u32) {
    let _ = counter.fetch_update(SeqCst, SeqCst, |used| Some(used.saturating_sub(n)));
}

fn limit(prefetch: u32) -> u32 {
    let max = u32::try_from(UNSETTLED_PER_CHANNEL_MAX).unwrap_or(u32::MAX);
    if prefetch == 0 { max } else { prefetch.min(max) }
}

impl Consumer {
    /// Who it is, as far as quotas go.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { connection: Some(self.mailbox.id), user: &self.user, vhost: &self.queue.vhost }
    }

    /// Takes credit for up to `wanted` deliveries; returns how many.
    pub(crate) fn reserve(&self, wanted: u32, now: Mono) -> u32 {
        let Some(rates) = self.quota.rates() else {
            return self.reserve_room(wanted);
        };
        let allowed = rates.take(wanted, now);
        if allowed == 0 {
            rates.count_hold(now);
            return 0;
        }
        let reserved = self.reserve_room(allowed);
        rates.give_back(allowed - reserved);
        reserved
    }

    fn reserve_room(&self, wanted: u32) -> u32 {
        let room = self.mailbox.reserve(wanted);
        if room == 0 || self.no_ack {
            return room;
        }
        let own = take(&self.unsettled, limit(self.prefetch), room);
        let shared = take(&self.channel.unsettled, limit(self.channel.prefetch.load(SeqCst)), own);
        if shared < own {
            give_back(&self.unsettled, own - shared);
        }
        if shared < room {
            self.mailbox.unreserve(room - shared);
        }
        shared
    }

    /// Gives back credit that was reserved and not used.
    pub(crate) fn unreserve(&self, n: u32) {
        if n > 0 {
            self.mailbox.unreserve(n);
            self.settled(n);
            if let Some(rates) = self.quota.rates() {
                rates.give_back(n);
            }
        }
    }

    /// `n` of its deliveries are settled.
    pub(crate) fn settled(&self, n: u32) {
        if !self.no_ack {
            give_back(&self.unsettled, n);
            self.channel.settled(n);
        }
    }

    /// Everything it had is back in the queue.
    pub(crate) fn forget_unsettled(&self) {
        if !self.no_ack {
            self.channel.settled(self.unsettled.swap(0, SeqCst));
        }
    }

    /// Whether it is worth offering it more. If its quotas alone say no: when it is to be looked at again, since nobody
    /// gives back what they lack.
    pub(crate) fn credit(&self, now: Mono) -> Result<(), Option<Mono>> {
        if !self.has_room() {
            return Err(None);
        }
        match self.quota.rates().and_then(|rates| rates.ready_at(now)) {
            None => Ok(()),
            later => Err(later),
        }
    }

    /// Whether it is worth offering it more.
    pub(crate) fn has_credit(&self, now: Mono) -> bool {
        self.credit(now).is_ok()
    }

    /// The same but for its quotas. A mailbox must be half empty for that, so batches stay large.
    fn has_room(&self) -> bool {
        self.mailbox.has_room()
            && (self.no_ack
                || (self.unsettled.load(SeqCst) < limit(self.prefetch)
                    && self.channel.unsettled.load(SeqCst) < limit(self.channel.prefetch.load(SeqCst))))
    }
}
