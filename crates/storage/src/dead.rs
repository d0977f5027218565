//! Entries that are dead: kept until they are dead-lettered, or gone at once.
//!
//! Invariants: a dead entry lies in `unsettled`, held by [`HolderId::BROKER`], and its seq in the graveyard until it is
//! taken. Its message is read from the disk when it is taken, so neither a reject nor a long queue keeps bodies in memory.
//! Only [`GRAVES_MAX`](model::limits::GRAVES_MAX) wait there; beyond that a queue stays longer than it may be until some
//! are taken, so nothing here is proportional to how much too long it is.

use crate::canary::Canary;
use crate::core::{Cell, Core};
use crate::deliver::Head;
use crate::queue::{DAMAGED, Entry, NO_SLOT, Queue};
use crate::sync::MutexGuard;
use engine::{Dead, Death, Limits, Reaped};
use model::limits::GRAVES_MAX;
use model::{HolderId, Now, QueueId, Seq};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

/// Entries dropped or buried under one hold of a queue's lock.
pub(crate) const TRIM_BATCH: usize = 1024;

/// Seqs of dead entries that wait to be taken, and why each is dead.
pub(crate) type Graveyard = VecDeque<(u64, Death)>;

impl Core {
    /// Ends entries that lie nowhere any more: kept to be dead-lettered, or gone. The caller holds the queue's lock.
    pub(crate) fn die(&self, queue: &mut Queue, entries: &mut [Entry], death: Death, now: Now) {
        if queue.limits().dead_letters {
            if self.options.plants(Canary::SettleDead) {
                self.log_settled(queue, &mut entries.to_vec());
            }
            for entry in entries {
                bury(queue, *entry, death);
            }
            return;
        }
        for entry in entries.iter() {
            self.drop_message(queue, entry);
            self.count_ack(queue, entry, now);
        }
        self.log_settled(queue, entries);
    }

    /// Drops or buries heads of a queue that is longer than it may be, `max` at most; returns how many. The reader goes on
    /// with the rest, and with what is in a page that must be read first.
    pub(crate) fn trim(&self, queue: &mut Queue, max: usize, now: Now) -> usize {
        if queue.waited || !queue.is_too_long() {
            return 0;
        }
        let graves = queue.contents.graves.len();
        let room = if queue.limits().dead_letters { GRAVES_MAX.saturating_sub(graves) } else { usize::MAX };
        let max = if self.options.plants(Canary::PushOneOut) { 1 } else { max };
        let mut gone = Vec::new();
        while gone.len() < room.min(max) && queue.is_too_long() {
            let Some(entry) = queue.pop() else { break };
            gone.push(entry);
        }
        let n = gone.len();
        if n < room && queue.is_too_long() {
            self.read_ahead(queue, now);
        }
        self.die(queue, &mut gone, Death::MaxLen, now);
        n
    }

    pub(crate) fn take_dead(&self, id: QueueId, max: usize, now: Now, dead: &mut Vec<Dead>) -> Reaped {
        let mut reaped = Reaped::default();
        let Some(cell) = self.queue(id) else { return reaped };
        let mut queue = cell.lock();
        let mut gone = Vec::new();
        while reaped.ended < max {
            if !queue.contents.graves.is_empty() {
                if !self.take_buried(&mut queue, now, dead) {
                    reaped.pending = !queue.contents.graves.is_empty();
                    break;
                }
                reaped.ended += 1;
                continue;
            }
            let buries = queue.limits().dead_letters;
            let trimmed = self.trim(&mut queue, TRIM_BATCH.min(max - reaped.ended), now);
            if trimmed > 0 {
                reaped.ended += if buries { 0 } else { trimmed };
                continue;
            }
            let head = self.head(&mut queue, now);
            reaped.pending = matches!(head, Head::Pending);
            let Head::Dead(death) = head else { break };
            let Some(entry) = queue.pop() else { break };
            if buries {
                bury(&mut queue, entry, death);
            } else {
                reaped.ended += 1;
                gone.push(entry);
            }
        }
        self.die(&mut queue, &mut gone, Death::Expired, now);
        self.read_on(&mut queue, now);
        self.charge(&mut queue);
        drop(queue);
        self.tell_pressure();
        reaped
    }

    /// Takes the first buried entry, if it is durable and its message in memory.
    fn take_buried(&self, queue: &mut Queue, now: Now, dead: &mut Vec<Dead>) -> bool {
        let Some(&(seq, death)) = queue.contents.graves.get().and_then(VecDeque::front) else {
            return false;
        };
        let Some(&(entry, _)) = queue.contents.unsettled.get(seq) else {
            // The queue was deleted.
            queue.contents.graves.take();
            return false;
        };
        // As with a head: what need not be synced before it is handed out may die before, too.
        let must_lie_there = queue.spec.syncs() || entry.slot == NO_SLOT;
        if must_lie_there
            && entry.is_durable()
            && entry.lsn >= self.durable_lsn()
            && self.wait_durable(queue, entry.lsn)
        {
            return false;
        }
        if entry.slot == DAMAGED {
            // It keeps its place in the log, as a head that is damaged does.
            queue.contents.graves.change(VecDeque::pop_front);
            queue.contents.unsettled.insert(entry, HolderId::QUARANTINE);
            return self.take_buried(queue, now, dead);
        }
        let Some(message) = queue.message(entry.slot).cloned() else {
            self.read_ahead(queue, now);
            return false;
        };
        if entry.lsn != 0 && self.resident.load(Relaxed) > self.options.resident_bytes_max {
            self.resident.fetch_sub(queue.forget(entry.slot), Relaxed);
            if let Some(entry) = queue.contents.unsettled.get_mut(seq) {
                entry.slot = NO_SLOT;
            }
        }
        queue.contents.graves.change(VecDeque::pop_front);
        if self.options.plants(Canary::TakeTwice) {
            queue.contents.graves.make().push_back((seq, death));
        }
        dead.push(Dead { seq: Seq(seq), message, death });
        true
    }

    pub(crate) fn set_limits(&self, id: QueueId, limits: Limits, now: Now) {
        self.change(id, now, |queue| queue.set_limits(limits));
    }

    pub(crate) fn set_waited(&self, id: QueueId, waited: bool, now: Now) {
        self.change(id, now, |queue| queue.waited = waited);
    }

    /// Changes what a queue may hold, and drops what is beyond it, a batch under each hold of its lock.
    fn change(&self, id: QueueId, now: Now, change: impl FnOnce(&mut Queue)) {
        let Some(cell) = self.queue(id) else { return };
        let mut queue = cell.lock();
        change(&mut queue);
        self.trim_all(&cell, queue, now);
    }

    /// Drops or buries all that is beyond what a queue may hold, a batch under each hold of its lock.
    pub(crate) fn trim_all<'a>(&self, cell: &'a Cell, mut queue: MutexGuard<'a, Queue>, now: Now) {
        while self.trim(&mut queue, TRIM_BATCH, now) == TRIM_BATCH {
            drop(queue);
            queue = cell.lock();
        }
        self.charge(&mut queue);
        drop(queue);
        self.tell_pressure();
    }
}

/// Keeps a dead entry until it is taken.
pub(crate) fn bury(queue: &mut Queue, entry: Entry, death: Death) {
    queue.contents.graves.make().push_back((entry.seq, death));
    queue.contents.unsettled.insert(entry, HolderId::BROKER);
}

/// Keeps dead entries that were taken and not settled, in their order, before all others.
pub(crate) fn bury_again(queue: &mut Queue, entries: &[Entry], death: Death) {
    for entry in entries.iter().rev() {
        queue.contents.graves.make().push_front((entry.seq, death));
        queue.contents.unsettled.insert(*entry, HolderId::BROKER);
    }
}
