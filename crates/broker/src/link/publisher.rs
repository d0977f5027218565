//! The way in: publishes of a link, their batch, their confirms.
//!
//! Invariants: confirms leave in the order of the publishes; a publish whose route is cached takes no lock and
//! allocates nothing. A batch the engine cannot take in for now is kept, and the link stalls.

use super::Link;
use super::quota::PublishQuota;
use crate::delay::Store;
use crate::publish::{Touched, Way, note_ttl, touch};
use crate::queue::Queue;
use crate::refuse;
use crate::route::{Found, RouteCache};
use crate::waiters::Waiter;
use bytes::Bytes;
use engine::{Batch, EngineError, EntryKey, Ticket};
use model::{ChannelId, Message, Now, PublishSeq};
use protocol::{Confirmed, Publish, Refusal, RefusalKind, Returned};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Messages after which a batch goes to the engine whatever the driver does.
const BATCH_MESSAGES_MAX: usize = 1_024;
/// Confirms told at once.
const CONFIRM_MAX: u64 = 4_096;

/// What a link has published.
#[derive(Default)]
pub(super) struct Publisher {
    batch: Batch,
    /// Confirms of the batch.
    ranges: Vec<Confirmed>,
    touched: Vec<Touched>,
    /// Where messages of the batch are to wait.
    stores: Vec<Arc<Store>>,
    /// Number of the batch, from 1 up, to note each route once.
    batch_number: u64,
    pub(super) routes: RouteCache,
    routes_epoch: u64,
    /// Confirms that wait for their tickets, in order.
    in_flight: VecDeque<(Ticket, Confirmed)>,
    /// Messages in `ranges` and `in_flight`.
    pub(super) in_flight_count: usize,
    pub(super) returned: VecDeque<Returned>,
    pub(super) has_published: bool,
    pub(super) quota: PublishQuota,
    stalled: bool,
    /// Messages of the batch that a full queue may refuse, by their index, with the confirm that then says no.
    refusable: Vec<(u32, Option<(ChannelId, PublishSeq)>)>,
    /// Whether the message added last may be refused.
    may_refuse: bool,
}

impl Publisher {
    /// Whether a batch waits for the engine to take it.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Drops what a channel that is closed would be told: the next channel of its number counts from one again.
    pub(super) fn forget_channel(&mut self, channel: ChannelId) {
        let mut forgotten = 0;
        let mut stays = |confirmed: &Confirmed| {
            if confirmed.channel == channel {
                forgotten += confirmed.last.0 - confirmed.first.0 + 1;
            }
            confirmed.channel != channel
        };
        self.in_flight.retain(|(_, confirmed)| stays(confirmed));
        self.ranges.retain(&mut stays);
        self.in_flight_count -= usize::try_from(forgotten).unwrap_or(0);
        self.returned.retain(|returned| returned.channel != channel);
    }

    /// The message added last may be refused.
    fn note_refusable(&mut self, confirm: Option<(ChannelId, PublishSeq)>) {
        let index = u32::try_from(self.batch.len() - 1).expect("a batch is bounded by a read buffer");
        self.refusable.push((index, confirm));
    }

    /// Puts the confirms of a batch in flight; those of messages that a queue refused say no. A queue that refuses although
    /// that was not known when they were routed has changed meanwhile: then it is not known whose those are, and all say no.
    fn confirm_batch(&mut self, ticket: Ticket, accepted: bool) {
        let rejected = self.batch.take_rejected();
        self.refusable.retain(|(index, _)| rejected.binary_search(index).is_ok());
        let accepted = accepted && self.refusable.len() == rejected.len();
        for range in self.ranges.drain(..) {
            let mut first = range.first;
            let of_range = |(_, confirm): &(u32, Option<(ChannelId, PublishSeq)>)| {
                confirm.filter(|(channel, _)| *channel == range.channel).map(|(_, seq)| seq)
            };
            for seq in self.refusable.iter().filter_map(of_range) {
                if (first..=range.last).contains(&seq) {
                    if first < seq {
                        let before = Confirmed { first, last: PublishSeq(seq.0 - 1), accepted, ..range };
                        self.in_flight.push_back((ticket, before));
                    }
                    let refused = Confirmed { first: seq, last: seq, accepted: false, ..range };
                    self.in_flight.push_back((ticket, refused));
                    first = PublishSeq(seq.0 + 1);
                }
            }
            if first <= range.last {
                self.in_flight.push_back((ticket, Confirmed { first, accepted, ..range }));
            }
        }
        self.refusable.clear();
    }

    fn expect_confirm(&mut self, channel: ChannelId, seq: PublishSeq) {
        self.in_flight_count += 1;
        match self.ranges.last_mut() {
            Some(last) if last.channel == channel && last.last.0 + 1 == seq.0 => last.last = seq,
            _ => self.ranges.push(Confirmed { channel, first: seq, last: seq, accepted: true }),
        }
    }
}

/// What was done with a message.
enum Done {
    /// It is in the batch.
    Batched,
    /// It leads nowhere.
    Unrouted(Message),
    /// It takes back what waits under a key.
    Cancel(Message, Arc<Store>, EntryKey),
}

impl Link {
    /// Whether a publish may be handed in now: what is known of routes and quotas holds, and its quotas let it pass.
    pub(super) fn may_publish(&mut self, publish: &Publish, now: Now) -> bool {
        let epoch = self.broker.epoch.load(SeqCst);
        if self.publisher.routes_epoch != epoch {
            self.publisher.routes.clear(&mut self.publisher.touched);
            self.publisher.routes_epoch = epoch;
            self.renew_quota(now);
        }
        !self.publisher.quota.applies() || self.pay(publish, now)
    }

    /// A message that will be published soon.
    pub fn expect(&self, message: &Message) {
        self.publisher.routes.expect(message);
    }

    /// Routes a message and adds it to the batch. Gives it back if it must be handed in again after the next wake.
    pub(super) fn publish(&mut self, publish: Publish, now: Now) -> Result<Option<Publish>, Refusal> {
        let Publish { channel, mut message, extra_keys, mandatory, confirm, user_id } = publish;
        message.envelope.producer = self.mailbox.id.0 as u32;
        if !self.publisher.has_published {
            self.publisher.has_published = true;
            self.mailbox.publishes.store(true, SeqCst);
        }
        if let Some(claimed) = user_id {
            self.check_user_id(&claimed)?;
        }
        if self.transactions.has(channel) {
            self.counted.published += 1;
            return self.publish_in_tx(channel, message, &extra_keys, mandatory, now).map(|()| None);
        }
        self.publisher.may_refuse = false;
        let unrouted = if extra_keys.is_empty() { self.publish_cached(message) } else { Some(message) };
        let done = match unrouted {
            Some(message) => self.publish_routed(message, &extra_keys, now)?,
            None => Done::Batched,
        };
        if let Done::Cancel(message, store, key) = done {
            self.flush(now);
            if self.publisher.stalled {
                // What it takes back may be in the batch that the engine has yet to take in.
                self.publisher.quota.refund();
                return Ok(Some(Publish { channel, message, extra_keys, mandatory, confirm, user_id: None }));
            }
            self.counted.published += 1;
            let returned = mandatory.then_some(message);
            return self.take_back(channel, &store, key, returned, confirm, now).map(|()| None);
        }
        self.counted.published += 1;
        if let Done::Unrouted(message) = done {
            self.counted.unroutable += 1;
            if mandatory {
                self.counted.returned += 1;
                self.publisher.returned.push_back(Returned { channel, message });
            }
        }
        if let Some(seq) = confirm {
            self.publisher.expect_confirm(channel, seq);
        }
        if self.publisher.may_refuse {
            self.publisher.note_refusable(confirm.map(|seq| (channel, seq)));
        }
        if self.publisher.batch.len() >= BATCH_MESSAGES_MAX && !self.publisher.stalled {
            self.flush(now);
        }
        Ok(None)
    }

    /// Finds the route of a message and adds it to the batch.
    fn publish_routed(&mut self, mut message: Message, extra_keys: &[Bytes], now: Now) -> Result<Done, Refusal> {
        let access = self.access()?;
        let mut found = Found::default();
        let way = self.broker.route_publish(&access, &message, extra_keys, now, &mut found)?;
        if let Way::Cancel(store, key) = way {
            return Ok(Done::Cancel(message, store, key));
        }
        if found.is_empty() {
            return Ok(Done::Unrouted(message));
        }
        if matches!(way, Way::Cacheable) {
            self.publisher.routes.put(&message, found.queues, &mut self.publisher.touched);
            return Ok(self.publish_cached(message).map_or(Done::Batched, Done::Unrouted));
        }
        let publisher = &mut self.publisher;
        self.broker.schedule_message(&message, extra_keys, &found, &mut publisher.batch);
        let targets: Vec<_> = found.queues.iter().map(|q| q.id).collect();
        message.envelope.persistent |= found.queues.iter().any(|queue| queue.keeps_everything());
        publisher.may_refuse = found.queues.iter().any(|queue| queue.refuses_publishes());
        touch(&mut publisher.touched, &found.queues, &message);
        publisher.stores.append(&mut found.stores);
        publisher.batch.push(message, &targets);
        Ok(Done::Batched)
    }

    /// Takes back what waits under a key; gives the message that asked for it back, if it shall be, when that is
    /// nothing. The batch is empty, so the confirm keeps its place.
    fn take_back(
        &mut self,
        channel: ChannelId,
        store: &Store,
        key: EntryKey,
        returned: Option<Message>,
        confirm: Option<PublishSeq>,
        now: Now,
    ) -> Result<(), Refusal> {
        let (taken, ticket) = self.broker.cancel(store, key, now).map_err(|error| refuse::engine(&error))?;
        if let Some(message) = returned.filter(|_| taken == 0) {
            self.counted.returned += 1;
            self.publisher.returned.push_back(Returned { channel, message });
        }
        if let Some(seq) = confirm {
            let confirmed = Confirmed { channel, first: seq, last: seq, accepted: true };
            self.publisher.in_flight.push_back((ticket, confirmed));
            self.publisher.in_flight_count += 1;
            if ticket > self.broker.engine.durable() {
                self.broker.wait_for(ticket, Waiter::Mailbox(self.mailbox.clone()), now);
            }
        }
        Ok(())
    }

    /// Adds a message whose route is known to the batch; gives back any other.
    fn publish_cached(&mut self, mut message: Message) -> Option<Message> {
        let publisher = &mut self.publisher;
        let Some(route) = publisher.routes.touch(&message, publisher.batch_number + 1) else {
            return Some(message);
        };
        message.envelope.persistent |= route.keeps;
        publisher.may_refuse = route.refuses;
        note_ttl(route.queues(), &message);
        publisher.batch.push(message, route.targets());
        None
    }

    /// The queues a message goes to, in a transaction.
    pub(super) fn queues_of(
        &mut self,
        message: &Message,
        extra_keys: &[Bytes],
        now: Now,
    ) -> Result<Vec<Arc<Queue>>, Refusal> {
        if extra_keys.is_empty()
            && let Some(route) = self.publisher.routes.get(message)
        {
            return Ok(route.queues().to_vec());
        }
        let access = self.access()?;
        let mut found = Found::default();
        let way = self.broker.route_publish(&access, message, extra_keys, now, &mut found)?;
        if matches!(way, Way::Cancel(..)) || !found.stores.is_empty() {
            let text = "delayed messages in a transaction are not supported yet";
            return Err(Refusal::new(RefusalKind::NotImplemented, text));
        }
        if matches!(way, Way::Cacheable) && !found.queues.is_empty() {
            self.publisher.routes.put(message, found.queues.clone(), &mut self.publisher.touched);
        }
        Ok(found.queues)
    }

    fn check_user_id(&mut self, claimed: &[u8]) -> Result<(), Refusal> {
        let access = self.access()?;
        if access.impersonator || claimed == access.user.as_bytes() {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalKind::PreconditionFailed,
            format!(
                "user_id property set to '{}' but authenticated user was '{}'",
                String::from_utf8_lossy(claimed),
                access.user
            ),
        ))
    }

    /// Gives the batch to the engine.
    pub(super) fn flush_published(&mut self, now: Now) {
        let publisher = &mut self.publisher;
        if publisher.batch.is_empty() && publisher.ranges.is_empty() {
            return;
        }
        publisher.routes.take_touched(&mut publisher.touched);
        let count = publisher.batch.len();
        let appended = if publisher.batch.is_empty() && publisher.touched.is_empty() {
            Ok(Ticket::NONE)
        } else {
            self.broker.take_in(&mut publisher.batch, count, &publisher.touched, now)
        };
        let (ticket, accepted) = match appended {
            Ok(ticket) => (ticket, true),
            Err(EngineError::Pressed(_)) => {
                publisher.stalled = true;
                return;
            }
            Err(EngineError::Failed(_) | EngineError::NoQueue(_)) => {
                publisher.batch.clear();
                publisher.touched.clear();
                publisher.stores.clear();
                (Ticket::NONE, false)
            }
        };
        publisher.stalled = false;
        publisher.batch_number += 1;
        let confirms = !publisher.ranges.is_empty();
        publisher.confirm_batch(ticket, accepted);
        let mut touched = std::mem::take(&mut publisher.touched);
        if confirms && ticket > self.broker.engine.durable() {
            self.broker.wait_for(ticket, Waiter::Mailbox(self.mailbox.clone()), now);
        }
        self.broker.appended(ticket, &mut touched, now);
        self.publisher.touched = touched;
        self.publisher.stores.dedup_by_key(|store| store.id);
        for store in self.publisher.stores.drain(..) {
            self.broker.watch_store(&store, now);
        }
    }

    /// The next publishes that are safe.
    pub(super) fn next_confirmed(&mut self) -> Option<Confirmed> {
        let publisher = &mut self.publisher;
        let (ticket, _) = publisher.in_flight.front()?;
        let durable = self.broker.engine.durable();
        if *ticket > durable {
            return None;
        }
        let (_, mut told) = publisher.in_flight.pop_front()?;
        while let Some((ticket, next)) = publisher.in_flight.front() {
            let follows = *ticket <= durable
                && next.channel == told.channel
                && next.accepted == told.accepted
                && next.first.0 == told.last.0 + 1
                && told.last.0 - told.first.0 < CONFIRM_MAX;
            if !follows {
                break;
            }
            told.last = next.last;
            publisher.in_flight.pop_front();
        }
        let count = told.last.0 - told.first.0 + 1;
        publisher.in_flight_count -= usize::try_from(count).unwrap_or(0);
        self.counted.confirmed += count;
        Some(told)
    }
}
