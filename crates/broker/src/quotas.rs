//! Rate quotas: which buckets a publisher, a consumer or a queue draws from.
//!
//! Every quota that matches counts. A name has one bucket a quota, shared by all who fall under it, made when the first
//! of them comes and kept until nobody holds it and it is full: going away and coming again fills nothing. A change of
//! the configuration makes new ones, which start full.

use crate::broker::Broker;
use crate::bucket::Bucket;
use crate::consumer::Consumer;
use crate::counters::Counter;
use crate::queue::Queue;
use crate::users::Access;
use foldhash::fast::RandomState;
use model::quotas::{QuotaDef, QuotaScope};
use model::{ConnectionId, Mono, Now};
use parking_lot::Mutex;
use regex::Regex;
use std::collections::HashMap;
use std::sync::Arc;

/// Buckets after which those that nobody holds are looked for.
const PRUNE_MIN: usize = 1_024;

/// Which way messages go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Way {
    Publish,
    Consume,
}

/// Who a connection is, to find its quotas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// None for who publishes without one.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) user: &'a Arc<str>,
    pub(crate) vhost: &'a Arc<str>,
}

/// Buckets that somebody draws from, from all of them or none. Never empty.
#[derive(Debug)]
pub(crate) struct Rates(Box<[Arc<Bucket>]>);

impl Rates {
    fn new(buckets: Vec<Arc<Bucket>>) -> Option<Self> {
        (!buckets.is_empty()).then(|| Self(buckets.into()))
    }

    /// Takes up to `wanted` of what is in every bucket.
    pub(crate) fn take(&self, wanted: u32, now: Mono) -> u32 {
        let mut taken = wanted;
        for (at, bucket) in self.0.iter().enumerate() {
            let before = taken;
            taken = bucket.take(before, now);
            self.0[..at].iter().for_each(|earlier| earlier.give_back(before - taken));
        }
        taken
    }

    /// Takes one; else says when it is worth looking again, and counts that somebody waits.
    pub(crate) fn pay(&self, now: Mono) -> Result<(), Mono> {
        if self.take(1, now) == 1 {
            return Ok(());
        }
        self.count_hold(now);
        Err(self.ready_at(now).unwrap_or(now))
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&self, n: u32) {
        self.0.iter().for_each(|bucket| bucket.give_back(n));
    }

    /// When it is worth looking again, if a bucket is empty now.
    pub(crate) fn ready_at(&self, now: Mono) -> Option<Mono> {
        self.0.iter().filter_map(|bucket| bucket.ready_at(now)).max()
    }

    /// Counts that somebody waits for those that are empty.
    pub(crate) fn count_hold(&self, now: Mono) {
        self.0.iter().filter(|bucket| bucket.ready_at(now).is_some()).for_each(|bucket| bucket.count_hold());
    }
}

/// What the quotas of a queue leave, each way.
#[derive(Debug)]
pub(crate) struct QueueRates {
    pub(crate) publish: Option<Rates>,
    consume: Vec<Arc<Bucket>>,
}

#[derive(Debug)]
struct Rule {
    def: QuotaDef,
    pattern: Regex,
    /// How often a publisher or a consumer had to wait for it.
    held: [Arc<Counter>; 2],
}

/// A bucket by quota, way and what shares it.
type Key = (usize, Way, Box<str>);

/// Every quota, and the buckets in use.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    rules: Vec<Rule>,
    buckets: Mutex<HashMap<Key, Arc<Bucket>, RandomState>>,
}

/// A quota and how often it was felt, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaView {
    /// As configured.
    pub def: QuotaDef,
    /// How often a publish had to wait for it.
    pub publishes_held: u64,
    /// How often a consumer was passed over for it, or a get had to wait.
    pub deliveries_held: u64,
}

impl Quotas {
    /// # Errors
    /// A pattern that is no regular expression.
    fn new(defs: &[QuotaDef]) -> Result<Self, String> {
        let rule = |def: &QuotaDef| {
            let pattern =
                Regex::new(&def.matches).map_err(|_| format!("'{}' is not a regular expression", def.matches))?;
            Ok(Rule { def: def.clone(), pattern, held: Default::default() })
        };
        Ok(Self { rules: defs.iter().map(rule).collect::<Result<_, String>>()?, buckets: Mutex::default() })
    }

    fn are(&self, defs: &[QuotaDef]) -> bool {
        self.rules.iter().map(|rule| &rule.def).eq(defs)
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether what is published to a queue may be limited.
    pub(crate) fn limit_queues(&self) -> bool {
        self.rules.iter().any(|rule| rule.def.scope == QuotaScope::Queue && rule.def.publish.is_some())
    }

    /// What a publisher draws from, whatever it publishes to.
    pub(crate) fn of_publisher(&self, subject: Subject<'_>, now: Mono) -> Option<Rates> {
        Rates::new(self.of_connection(Way::Publish, subject, now))
    }

    /// Lets a consumer draw from its buckets. The caller holds the queue's lock, so that of two changes the last counts.
    pub(crate) fn limit(&self, consumer: &Consumer, now: Mono) {
        consumer.set_rates(self.of_consumer(consumer.subject(), &consumer.queue, now));
    }

    /// What a consumer draws from.
    pub(crate) fn of_consumer(&self, subject: Subject<'_>, queue: &Queue, now: Mono) -> Option<Rates> {
        if self.is_empty() {
            return None;
        }
        let mut buckets = self.of_connection(Way::Consume, subject, now);
        buckets.extend(queue.rates.load().iter().flat_map(|rates| rates.consume.iter().cloned()));
        Rates::new(buckets)
    }

    /// What everybody draws from who publishes to a queue or consumes from it.
    pub(crate) fn of_queue(&self, queue: &Queue, now: Mono) -> Option<QueueRates> {
        let find = |way| {
            self.find(way, now, |scope| {
                // By its id: a queue that is deleted and declared again is another one.
                (scope == QuotaScope::Queue).then(|| (&*queue.name, queue.id.to_string()))
            })
        };
        let (publish, consume) = (Rates::new(find(Way::Publish)), find(Way::Consume));
        (publish.is_some() || !consume.is_empty()).then_some(QueueRates { publish, consume })
    }

    fn of_connection(&self, way: Way, subject: Subject<'_>, now: Mono) -> Vec<Arc<Bucket>> {
        self.find(way, now, |scope| match scope {
            QuotaScope::Connection => subject.connection.map(|id| (&**subject.user, id.to_string())),
            QuotaScope::User => Some((subject.user, subject.user.to_string())),
            QuotaScope::Vhost => Some((subject.vhost, subject.vhost.to_string())),
            QuotaScope::Queue => None,
        })
    }

    /// The buckets of every quota for whose scope `name` has a name that matches; beside it is what shares the bucket.
    fn find<'a>(
        &self,
        way: Way,
        now: Mono,
        name: impl Fn(QuotaScope) -> Option<(&'a str, String)>,
    ) -> Vec<Arc<Bucket>> {
        let mut found = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let rate = match way {
                Way::Publish => rule.def.publish,
                Way::Consume => rule.def.consume,
            };
            let Some((rate, (name, shared))) = rate.zip(name(rule.def.scope)) else { continue };
            if !rule.pattern.is_match(name) {
                continue;
            }
            let mut buckets = self.buckets.lock();
            let key = (index, way, shared.into_boxed_str());
            if let Some(known) = buckets.get(&key) {
                found.push(known.clone());
                continue;
            }
            if buckets.len() >= PRUNE_MIN && buckets.len() == buckets.capacity() {
                buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full(now));
            }
            let held = rule.held[usize::from(way == Way::Consume)].clone();
            let bucket = Arc::new(Bucket::new(rate, rule.def.burst.unwrap_or(rate), held, now));
            buckets.insert(key, bucket.clone());
            found.push(bucket);
        }
        found
    }

    fn view(&self) -> Vec<QuotaView> {
        let view = |rule: &Rule| QuotaView {
            def: rule.def.clone(),
            publishes_held: rule.held[0].get(),
            deliveries_held: rule.held[1].get(),
        };
        self.rules.iter().map(view).collect()
    }
}

/// Takes one from each of these queues that has a quota, or from none; then when it is worth looking again.
pub(crate) fn pay_queues(queues: &[Arc<Queue>], now: Mono) -> Result<(), Mono> {
    for (at, queue) in queues.iter().enumerate() {
        let Some(rates) = queue.rates.load_full() else { continue };
        let Some(publish) = &rates.publish else { continue };
        if let Err(later) = publish.pay(now) {
            for paid in queues[..at].iter().filter_map(|queue| queue.rates.load_full()) {
                paid.publish.iter().for_each(|publish| publish.give_back(1));
            }
            return Err(later);
        }
    }
    Ok(())
}

impl Broker {
    /// Puts quotas in force, for those who are connected too. Their buckets start full. Those that are in force already
    /// go on as they are.
    ///
    /// # Errors
    /// A pattern that is no regular expression; then nothing has changed.
    pub fn set_quotas(&self, defs: &[QuotaDef], now: Now) -> Result<(), String> {
        let _alone = self.applying.lock();
        if self.quotas.load().are(defs) {
            return Ok(());
        }
        let quotas = Arc::new(Quotas::new(defs)?);
        self.quotas.store(quotas.clone());
        let queues: Vec<_> = self.registry.read().queues.values().cloned().collect();
        for queue in queues {
            queue.rates.store(quotas.of_queue(&queue, now.mono).map(Arc::new));
            for consumer in queue.state.lock().consumers() {
                quotas.limit(consumer, now.mono);
            }
        }
        // Publishers see by the epoch that they have others, and who waits looks again.
        self.topology_changed();
        for mailbox in self.mailboxes.lock().values() {
            mailbox.wake();
        }
        Ok(())
    }

    /// Pays for a publish without a connection, which cannot wait. False if the quotas do not let it.
    pub(crate) fn pay_for(&self, access: &Access, queues: &[Arc<Queue>], now: Mono) -> bool {
        let quotas = self.quotas.load();
        if quotas.is_empty() {
            return true;
        }
        let own = quotas.of_publisher(Subject { connection: None, user: &access.user, vhost: &access.vhost }, now);
        if own.as_ref().is_some_and(|own| own.pay(now).is_err()) {
            return false;
        }
        let paid = pay_queues(queues, now).is_ok();
        if let Some(own) = own.filter(|_| !paid) {
            own.give_back(1);
        }
        paid
    }

    /// The quotas in force, in the order of the configuration.
    #[must_use]
    pub fn quotas(&self) -> Vec<QuotaView> {
        self.quotas.load().view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_connection(rate: u32) -> Quotas {
        let matches = String::new();
        let scope = QuotaScope::Connection;
        Quotas::new(&[QuotaDef { scope, matches, publish: Some(rate), consume: None, burst: Some(1) }]).expect("valid")
    }

    fn of(quotas: &Quotas, connection: u64, now: Mono) -> Rates {
        let (user, vhost) = ("guest".into(), "/".into());
        let subject = Subject { connection: Some(ConnectionId(connection)), user: &user, vhost: &vhost };
        quotas.of_publisher(subject, now).expect("every connection has one")
    }

    #[test]
    fn names_that_nobody_holds_and_that_have_paid_are_forgotten() {
        let quotas = per_connection(1_000);
        let mine = of(&quotas, 0, Mono(0));
        for connection in 1..50_000 {
            let now = Mono(connection * 10);
            assert!(of(&quotas, connection, now).pay(now).is_ok());
        }
        assert!(quotas.buckets.lock().len() < 4 * PRUNE_MIN);
        let now = Mono(1_000_000);
        assert!(mine.pay(now).is_ok());
        assert!(of(&quotas, 0, now).pay(now).is_err(), "and who is there keeps its own");
    }

    #[test]
    fn a_debt_is_not_forgotten() {
        let quotas = per_connection(1);
        for connection in 0..3 * PRUNE_MIN as u64 {
            assert!(of(&quotas, connection, Mono(0)).pay(Mono(0)).is_ok());
        }
        for connection in 0..3 * PRUNE_MIN as u64 {
            assert_eq!(of(&quotas, connection, Mono(5)).pay(Mono(5)), Err(Mono(1_000_000)));
        }
    }
}
