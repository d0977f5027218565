//! Giving a batch to the engine, without what its queues have seen before.
//!
//! Invariants: what a queue has seen is locked from the check until the engine has the batch, so of two copies that come
//! at once one is new. The locks of several queues are taken in the order of their ids, after the registry's and a queue's
//! own, before the engine's.

use crate::broker::Broker;
use crate::dedup::{Dedup, Identity};
use crate::publish::Touched;
use engine::{Batch, EngineError, Ticket};
use model::{Message, Now, QueueId};
use parking_lot::MutexGuard;

/// What a queue of the batch has seen.
struct Seen<'a> {
    queue: QueueId,
    /// What it has seen of persistent messages is kept as they are.
    keeps: bool,
    dedup: MutexGuard<'a, Dedup>,
}

impl Broker {
    /// Appends a batch; duplicates among its first `count` messages are left out. The ticket covers what they repeat,
    /// too. `touched` are the queues of the batch.
    pub(crate) fn take_in(
        &self,
        batch: &mut Batch,
        count: usize,
        touched: &[Touched],
        now: Now,
    ) -> Result<Ticket, EngineError> {
        if !touched.iter().any(|t| t.queue.deduplicates()) {
            return self.engine.append(batch, now);
        }
        let mut queues: Vec<_> = touched.iter().map(|t| &*t.queue).collect();
        queues.sort_unstable_by_key(|queue| queue.id);
        queues.dedup_by_key(|queue| queue.id);
        let locked = queues.iter().filter_map(|queue| {
            let dedup = queue.dedup.as_ref()?.lock();
            Some(Seen { queue: queue.id, keeps: queue.keeps(), dedup })
        });
        let mut seen: Vec<Seen<'_>> = locked.collect();
        self.drop_duplicates(batch, count, &mut seen, now);
        for one in &mut seen {
            one.dedup.stage(now.wall, batch);
        }
        match self.engine.append(batch, now) {
            Ok(ticket) => {
                let tickets = seen.iter_mut().map(|one| {
                    one.dedup.appended(ticket);
                    one.dedup.ticket
                });
                Ok(tickets.fold(ticket, Ticket::max))
            }
            Err(error) => {
                batch.take_metas();
                seen.iter_mut().for_each(|one| one.dedup.refused());
                Err(error)
            }
        }
    }

    fn drop_duplicates(&self, batch: &mut Batch, count: usize, seen: &mut [Seen<'_>], now: Now) {
        seen.iter_mut().for_each(|one| one.dedup.expire(now.wall));
        let mut dropped = 0;
        batch.retain_targets(count, |message, queue| {
            let Ok(at) = seen.binary_search_by_key(&queue, |one| one.queue) else {
                return true;
            };
            let is_new = self.is_new(message, &mut seen[at], now);
            dropped += u64::from(!is_new);
            is_new
        });
        self.counters.deduplicated.add(dropped);
    }

    fn is_new(&self, message: &Message, seen: &mut Seen<'_>, now: Now) -> bool {
        let properties = self.formats.properties(message).ok();
        let identity = properties.and_then(|properties| Identity::of(&properties, &seen.dedup.spec.header));
        let kept = seen.keeps && message.envelope.persistent;
        identity.is_none_or(|identity| seen.dedup.is_new(identity, kept, now.wall))
    }
}
