//! Consumers of queues, and the credit that limits what each is handed: its mailbox's room, its prefetch, its channel's, its
//! quotas (basic.qos of AMQP 0-9-1, §1.8.3.4, as RabbitMQ reads it).
//!
//! Invariants: credit is taken before an entry is handed out, and given back when it is settled or was not used.

use crate::mailbox::Mailbox;
use crate::queue::Queue;
use crate::quotas::{Rates, Subject};
use arc_swap::ArcSwapOption;
use model::limits::UNSETTLED_PER_CHANNEL_MAX;
use model::{ChannelId, ConsumerId, HolderId, Mono, QueueId};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

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

/// A consumer of a queue. What every delivery looks at comes first: with the counts of its `Arc` it fills one line of
/// memory, and all of it two.
#[repr(C)]
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    /// Its queue's.
    pub(crate) queue_id: QueueId,
    pub(crate) unsettled: AtomicU32,
    /// Limit of its own; 0 is none.
    pub(crate) prefetch: u32,
    pub(crate) no_ack: bool,
    /// It is in the starved list of its mailbox.
    pub(crate) starved: AtomicBool,
    pub(crate) gone: AtomicBool,
    pub(crate) exclusive: bool,
    /// There are rates: all that most consumers look at.
    pub(crate) limited: AtomicBool,
    pub(crate) channel: Arc<Channel>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) queue: Arc<Queue>,
    /// Those of a higher one are served first.
    pub(crate) priority: i64,
    pub(crate) tag: Box<str>,
    pub(crate) user: Arc<str>,
    /// What its quotas leave it, of its connection and of its queue together.
    pub(crate) rates: ArcSwapOption<Rates>,
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
        Subject { connection: Some(self.mailbox.id), user: &self.user, vhost: &self.queue.vhost.0 }
    }

    /// What it draws from, if it has quotas.
    fn rates(&self) -> Option<Arc<Rates>> {
        if self.limited.load(SeqCst) { self.rates.load_full() } else { None }
    }

    pub(crate) fn set_rates(&self, rates: Option<Rates>) {
        let limited = rates.is_some();
        self.rates.store(rates.map(Arc::new));
        self.limited.store(limited, SeqCst);
    }

    /// Takes credit for up to `wanted` deliveries; returns how many.
    pub(crate) fn reserve(&self, wanted: u32, now: Mono) -> u32 {
        let Some(rates) = self.rates() else {
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
            if let Some(rates) = self.rates() {
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
        match self.rates().and_then(|rates| rates.ready_at(now)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn what_a_delivery_looks_at_is_one_line_and_all_of_a_consumer_two() {
        let counts = 2 * size_of::<usize>();
        assert_eq!(counts + offset_of!(Consumer, queue), 64);
        assert!(counts + size_of::<Consumer>() <= 128, "{}", size_of::<Consumer>());
    }
}
