//! The way out: deliveries of a link, their credit, and how they are settled.
//!
//! Invariants: an entry of a consumer without acknowledgement is settled when the driver takes it, so what it has not
//! seen goes back to the queue when the consumer ends. No message is kept here: what is rejected dies in the engine.

use super::Link;
use crate::consumer::{Channel, Consumer};
use crate::mailbox::Parcel;
use crate::queue::Queue;
use engine::{Death, Outcome};
use foldhash::fast::RandomState;
use model::{ChannelId, ConsumerId, Message, Now, QueueId, Seq, near};
use protocol::{Event, Receipt, Settle, Settlement};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Acknowledgements whose memory is kept for the next.
const ACKS_KEPT: usize = 16 * 1024;

/// Parcels ahead of the next one whose consumers are asked for.
const AHEAD: usize = 4;

/// What a link consumes.
#[derive(Default)]
pub(super) struct Receiver {
    pub(super) channels: HashMap<ChannelId, ChannelSide, RandomState>,
    pub(super) consumers: HashMap<ConsumerId, Arc<Consumer>, RandomState>,
    /// Taken from the mailbox and not yet told.
    pub(super) inbox: VecDeque<Parcel>,
    /// Deliveries told that still count as lying in the mailbox.
    told: usize,
    /// Bytes told and not yet written.
    pub(super) unwritten: usize,
    /// Acknowledged and not yet told to the engine.
    acks: Vec<(QueueId, Seq)>,
}

/// A channel of a link.
pub(super) struct ChannelSide {
    pub(super) shared: Arc<Channel>,
    /// Limit for consumers to come.
    pub(super) prefetch: u32,
    /// Unsettled deliveries whose consumers have ended; they count in the channel only.
    pub(super) orphaned: u32,
    /// Queues it may hold entries of.
    pub(super) queues: Vec<Arc<Queue>>,
}

impl ChannelSide {
    /// Notes that it may hold entries of a queue.
    pub(super) fn uses(&mut self, queue: &Arc<Queue>) {
        if self.queues.iter().any(|known| known.id == queue.id) {
            return;
        }
        // Before it grows: a client that takes a new queue for each request leaves the old ones behind.
        if self.queues.len() == self.queues.capacity() {
            self.queues.retain(|known| !known.state.lock().deleted);
        }
        self.queues.push(queue.clone());
    }
}

impl Receiver {
    /// Forgets a consumer that has ended. False if it was not known.
    pub(super) fn forget(&mut self, consumer: &Consumer) -> bool {
        let known = self.consumers.remove(&consumer.id).is_some();
        if known
            && !consumer.no_ack
            && let Some(side) = self.channels.get_mut(&consumer.channel.id)
        {
            side.orphaned += consumer.unsettled.load(SeqCst);
        }
        known
    }

    /// Gives credit back for settled deliveries of one consumer.
    pub(super) fn release(&mut self, channel: ChannelId, receipts: &[Receipt]) {
        let Some(id) = receipts.first().and_then(|receipt| receipt.consumer) else { return };
        let n = u32::try_from(receipts.len()).unwrap_or(u32::MAX);
        if let Some(consumer) = self.consumers.get(&id) {
            consumer.settled(n);
        } else if let Some(side) = self.channels.get_mut(&channel) {
            let n = n.min(side.orphaned);
            side.orphaned -= n;
            side.shared.settled(n);
        }
    }
}

impl Link {
    /// The next delivery or lost consumer.
    pub(super) fn next_delivery(&mut self, now: Now) -> Option<Event> {
        if self.receiver.inbox.is_empty() {
            self.mailbox.take(&mut self.receiver.inbox);
        }
        loop {
            if let Some(later) = self.receiver.inbox.get(AHEAD) {
                near::ask_for(&**later.consumer(), size_of::<Consumer>());
            }
            let Some(parcel) = self.receiver.inbox.pop_front() else {
                self.make_room();
                self.flush_acknowledged(now);
                self.broker.counters.add(&mut self.counted);
                return None;
            };
            match parcel {
                Parcel::Lost(consumer) => {
                    if self.receiver.forget(&consumer) {
                        return Some(Event::ConsumerLost { channel: consumer.channel.id, consumer: consumer.id });
                    }
                }
                Parcel::Delivery { consumer, seq, message, redelivered, attempts } => {
                    return Some(self.deliver(&consumer, seq, message, redelivered, attempts));
                }
            }
        }
    }

    /// What was told no longer takes up room in the mailbox: said once for many, since whoever dispatches counts there too.
    pub(super) fn make_room(&mut self) {
        let told = std::mem::take(&mut self.receiver.told);
        if told > 0 {
            self.mailbox.polled(told);
        }
    }

    fn deliver(&mut self, consumer: &Consumer, seq: Seq, message: Message, redelivered: bool, attempts: u32) -> Event {
        // Not the queue: whether it is in the cache is another matter.
        let (queue, channel) = (consumer.queue_id, consumer.channel.id);
        self.receiver.told += 1;
        self.receiver.unwritten += message.bytes().len();
        self.counted.delivered += 1;
        self.counted.redelivered += u64::from(redelivered);
        if consumer.no_ack {
            self.counted.acknowledged += 1;
            self.receiver.acks.push((queue, seq));
        }
        if !consumer.no_ack && self.transactions.has(channel) && consumer.queue.has_dead_letter() {
            self.transactions.keep(channel, queue, seq, &message);
        }
        let message = if attempts > 0 && consumer.queue.counts_attempts() {
            self.broker.with_delivery_count(message, attempts)
        } else {
            message
        };
        Event::Deliver {
            channel,
            consumer: consumer.id,
            receipt: Receipt { queue, seq, consumer: Some(consumer.id) },
            message,
            redelivered,
        }
    }

    /// Collects acknowledgements.
    pub(super) fn acknowledge(&mut self, settle: &Settle) {
        for of_consumer in settle.receipts.chunk_by(|a, b| a.consumer == b.consumer) {
            self.receiver.release(settle.channel, of_consumer);
        }
        self.receiver.acks.extend(settle.receipts.iter().map(|receipt| (receipt.queue, receipt.seq)));
        self.counted.acknowledged += settle.receipts.len() as u64;
    }

    /// Gives collected acknowledgements to the engine, and the credit they free to the queues.
    pub(super) fn flush_acknowledged(&mut self, now: Now) {
        if self.receiver.acks.is_empty() {
            return;
        }
        self.broker.engine.acknowledge(&mut self.receiver.acks, now);
        self.receiver.acks.shrink_to(ACKS_KEPT);
        self.broker.feed(&self.mailbox, now);
    }

    /// Requeues or rejects.
    pub(super) fn give_back(&mut self, settle: &Settle, now: Now) {
        self.flush_acknowledged(now);
        self.transactions.settled(settle);
        let mut receipts = settle.receipts.as_slice();
        while let Some(first) = receipts.first() {
            let same = receipts.iter().take_while(|r| r.queue == first.queue);
            let (group, rest) = receipts.split_at(same.count());
            receipts = rest;
            for of_consumer in group.chunk_by(|a, b| a.consumer == b.consumer) {
                self.receiver.release(settle.channel, of_consumer);
            }
            let seqs: Vec<Seq> = group.iter().map(|receipt| receipt.seq).collect();
            let outcome = match settle.settlement {
                Settlement::Ack => Outcome::Ack,
                Settlement::Requeue => Outcome::Requeue,
                Settlement::Reject => Outcome::Dead(Death::Rejected),
            };
            let queue = self.broker.queue(first.queue);
            if outcome == Outcome::Requeue {
                self.counted.requeued += seqs.len() as u64;
                if let Some(queue) = &queue {
                    // What comes back has had its chance.
                    queue.state.lock().set_waited_since(None);
                }
            }
            self.broker.engine.settle(first.queue, &seqs, outcome, now);
            let Some(queue) = queue else { continue };
            if queue.has_dead_letter() {
                self.broker.bury(&queue, now);
                self.broker.handle_timeout(now);
            }
            self.broker.dispatch(&queue, now);
            self.broker.watch(&queue, now);
        }
        self.broker.feed(&self.mailbox, now);
    }

    /// Puts everything a channel holds of a queue back, seen by the driver or not.
    fn release_queue(&mut self, channel: &Channel, queue: &Arc<Queue>, now: Now) {
        {
            // With the queue's lock nothing is handed out between the two.
            let mut state = queue.state.lock();
            state.set_waited_since(None);
            let mine = |parcel: &Parcel| {
                matches!(parcel, Parcel::Delivery { consumer, .. }
                    if consumer.channel.id == channel.id && consumer.queue.id == queue.id)
            };
            let inbox = &mut self.receiver.inbox;
            self.mailbox.retract(inbox, mine, drop);
            let released = self.broker.engine.release(queue.id, channel.holder, now);
            self.counted.requeued += released as u64;
            for consumer in self.receiver.consumers.values() {
                if consumer.queue.id == queue.id && consumer.channel.id == channel.id {
                    consumer.forget_unsettled();
                }
            }
        }
        self.broker.dispatch(queue, now);
        self.broker.bury_given_back(queue, now);
        self.broker.watch(queue, now);
    }

    /// Requeues everything unsettled of a channel.
    pub(super) fn recover(&mut self, channel: ChannelId, now: Now) {
        let Some(side) = self.receiver.channels.get_mut(&channel) else {
            return;
        };
        let (shared, queues) = (side.shared.clone(), side.queues.clone());
        shared.settled(std::mem::take(&mut side.orphaned));
        for queue in &queues {
            self.release_queue(&shared, queue, now);
        }
        self.broker.feed(&self.mailbox, now);
    }

    /// Takes a consumer off its queue; what the driver has not seen goes back. Returns the queue.
    pub(super) fn end_consumer(&mut self, consumer: &Arc<Consumer>, now: Now) {
        let queue = &consumer.queue;
        let last = {
            let mut state = queue.state.lock();
            state.leave(queue, consumer);
            state.used_at = now.mono;
            state.set_waited_since(None);
            let mut unseen = Vec::new();
            self.mailbox.retract(
                &mut self.receiver.inbox,
                |parcel| Arc::ptr_eq(parcel.consumer(), consumer),
                |parcel| {
                    if let Parcel::Delivery { seq, .. } = parcel {
                        unseen.push(seq);
                    }
                },
            );
            consumer.settled(u32::try_from(unseen.len()).unwrap_or(u32::MAX));
            let engine = &self.broker.engine;
            engine.settle(queue.id, &unseen, Outcome::Requeue, now);
            if state.consumers().is_empty() && queue.drops_head() {
                engine.set_waited(queue.id, false, now);
            }
            state.consumers().is_empty() && !state.deleted
        };
        if last && queue.auto_delete {
            // The engine can only have failed for good, and then the process stops.
            let _ = self.broker.delete_queue_if(queue, |state| state.consumers().is_empty());
            return;
        }
        self.broker.dispatch(queue, now);
        self.broker.bury_given_back(queue, now);
        self.broker.watch(queue, now);
    }

    /// Ends a channel: consumers go, what it holds goes back.
    pub(super) fn close_channel(&mut self, channel: ChannelId, now: Now) {
        self.flush_acknowledged(now);
        self.publisher.forget_channel(channel);
        let mine: Vec<_> = self.receiver.consumers.values().filter(|c| c.channel.id == channel).cloned().collect();
        for consumer in &mine {
            self.end_consumer(consumer, now);
            self.receiver.forget(consumer);
        }
        self.transactions.end(channel);
        self.bodies.forget_channel(channel);
        let Some(side) = self.receiver.channels.remove(&channel) else {
            return;
        };
        self.counted.channels_closed += 1;
        for queue in &side.queues {
            self.release_queue(&side.shared, queue, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::HolderId;

    #[test]
    fn a_channel_does_not_remember_every_queue_it_ever_used() {
        let shared = Channel { id: ChannelId(1), holder: HolderId(1), prefetch: 0.into(), unsettled: 0.into() };
        let mut side = ChannelSide { shared: Arc::new(shared), prefetch: 0, orphaned: 0, queues: Vec::new() };
        for id in 0..1_000 {
            let queue = Arc::new(Queue::for_tests(id));
            side.uses(&queue);
            side.uses(&queue);
            assert!(side.queues.iter().any(|known| known.id == queue.id));
            queue.state.lock().deleted = true;
        }
        assert!(side.queues.len() < 10, "{}", side.queues.len());
    }
}
