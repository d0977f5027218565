//! Handing entries out and taking them back.
//!
//! Invariants: a durable entry of a queue that syncs is handed out only once the log is durable beyond it. The head is
//! never passed over: while it cannot be handed out, nothing behind it is.

use crate::attempts;
use crate::canary::Canary;
use crate::core::{Core, NEAR, QueueCell};
use crate::dead::{TRIM_BATCH, bury_again};
use crate::lane::Next;
use crate::log::LogState;
use crate::payload::{Record, add_to_ranges, read_ranges};
use crate::queue::{DAMAGED, Entry, NO_SLOT, Queue};
use crate::record::{Kind, Reader};
use engine::{Credit, Death, Delivery, Outcome, Remainder};
use model::{HolderId, Mono, Now, QueueId, Seq};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

/// Unwritten bytes after which settles no longer wait for company.
pub(crate) const LAZY_BYTES_MAX: usize = 1024 * 1024;

/// Queues of which one record says what they have handed out.
const MARKS_A_RECORD: usize = 1024;

/// Marks after which those of one queue are made one.
const MARKS_MIN: usize = 4 * MARKS_A_RECORD;

/// What was handed out since the log was last told.
#[derive(Default)]
pub(crate) struct HandedOut {
    /// Queues, some more than once, and the highest seq each has handed out.
    marks: Vec<(QueueId, u64)>,
    /// Queues there were when the marks of each were last made one.
    queues: usize,
    /// Queues with counts of attempts that the log must know.
    retried: Vec<QueueId>,
}

impl HandedOut {
    fn mark(&mut self, queue: QueueId, seq: u64) {
        if self.marks.len() >= MARKS_MIN.max(2 * self.queues) {
            keep_highest(&mut self.marks);
            self.queues = self.marks.len();
        }
        self.marks.push((queue, seq));
    }
}

/// Leaves one mark of each queue, in order of queue.
fn keep_highest(marks: &mut Vec<(QueueId, u64)>) {
    marks.sort_by_key(|&(queue, seq)| (queue, std::cmp::Reverse(seq)));
    marks.dedup_by_key(|&mut (queue, _)| queue);
}

/// What the head of a queue is waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Head {
    None,
    Ready(Entry),
    Dead(Death),
    Pending,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Entry {}

impl Core {
    /// Looks at the head; if it is not there yet, sees to it that `readable` is said when it is.
    pub(crate) fn head(&self, queue: &mut Queue, now: Now) -> Head {
        let entry = loop {
            let entry = match queue.next() {
                Next::Nothing => return Head::None,
                Next::Entry(entry) => entry,
                Next::Away => {
                    self.read_ahead(queue, now);
                    return Head::Pending;
                }
            };
            if entry.slot != DAMAGED && !(entry.large && self.bodies.is_damaged(queue.id, entry.seq)) {
                break entry;
            }
            // It keeps its place in the log and stands in nobody's way; only the end of its queue settles it.
            queue.pop();
            queue.contents.unsettled.insert(entry, HolderId::QUARANTINE);
        };
        if queue.wants_messages(now.wall, self.durable_lsn()) {
            self.read_ahead(queue, now);
        }
        if queue.head_waits(now.wall) {
            return Head::None;
        }
        let early = self.options.plants(Canary::DispatchBeforeDurable);
        // What is not in memory can be read only where it has been written.
        let must_lie_there = queue.spec.syncs() || entry.slot == NO_SLOT;
        if must_lie_there
            && !early
            && entry.is_durable()
            && entry.lsn >= self.durable_lsn()
            && self.wait_durable(queue, entry.lsn)
        {
            if !queue.spec.syncs() {
                // Nobody else may have asked for that sync.
                let mut log = self.log.lock();
                log.wanted = log.wanted.max(log.next);
                self.signals.write.work();
            }
            return Head::Pending;
        }
        let dead = match entry.expires_at(queue.limits().ttl_ms) {
            Some(at) if at <= now.wall && !self.options.plants(Canary::IgnoreExpiry) => Some(Death::Expired),
            _ if queue.limits().are_exhausted_by(u32::from(entry.attempts)) => Some(Death::DeliveryLimit),
            _ => None,
        };
        if entry.slot == NO_SLOT && (dead.is_none() || queue.limits().dead_letters) {
            self.read_ahead(queue, now);
            return Head::Pending;
        }
        dead.map_or(Head::Ready(entry), Head::Dead)
    }

    /// See [`engine::Engine::bring_near`].
    pub(crate) fn bring_near(&self, ids: &[QueueId]) {
        let queues = self.queues.read();
        let found: SmallVec<[&QueueCell; NEAR]> = Self::find_near(&queues, ids.iter().copied()).flatten().collect();
        Self::contents_near(found.iter().copied());
    }

    pub(crate) fn deliver(
        &self,
        id: QueueId,
        credit: Credit,
        now: Now,
        assign: &mut dyn FnMut(Delivery) -> HolderId,
    ) -> Remainder {
        let mut remainder = Remainder::default();
        let Some(cell) = self.queue(id) else {
            return remainder;
        };
        let mut queue = cell.lock();
        let before = queue.delivered;
        let mut bytes = 0;
        while queue.contents.ready > 0 {
            match self.head(&mut queue, now) {
                Head::None => break,
                Head::Pending => {
                    remainder.pending = true;
                    break;
                }
                Head::Dead(_) => {
                    remainder.head_dead = true;
                    break;
                }
                Head::Ready(entry) => {
                    let more = usize::from(self.options.plants(Canary::IgnoreCredit));
                    if remainder.delivered >= credit.messages.saturating_add(more) || bytes >= credit.bytes {
                        remainder.ready = true;
                        break;
                    }
                    bytes += entry.size as usize;
                    remainder.delivered += 1;
                    if let Some((delivery, entry)) = self.take(&mut queue) {
                        queue.totals.delivered += 1;
                        let holder = assign(delivery);
                        self.hold(&mut queue, entry, holder);
                    }
                }
            }
        }
        if queue.delivered > before {
            // So the log can be told without another look at the queue.
            self.handed_out.lock().mark(id, queue.delivered);
            self.signals.write.lazy();
        }
        self.read_on(&mut queue, now);
        let small = queue.contents.ready <= 1 && queue.contents.unsettled.len() <= 1;
        self.charge_unless(small, &mut queue);
        remainder
    }

    /// Takes the head, whose message is in memory, out of the lanes.
    fn take(&self, queue: &mut Queue) -> Option<(Delivery, Entry)> {
        let mut entry = queue.pop()?;
        if self.options.plants(Canary::SkipTurns) {
            queue.contents.turn = 0;
        }
        let message = queue.message(entry.slot)?.clone();
        if entry.lsn != 0 && self.resident.load(Relaxed) > self.options.handed_out_bytes_max() {
            self.resident.fetch_sub(queue.forget(entry.slot), Relaxed);
            entry.slot = NO_SLOT;
        }
        let delivery = Delivery {
            queue: queue.id,
            seq: Seq(entry.seq),
            message,
            redelivered: entry.redelivered || entry.seq <= queue.redelivered_to,
            attempts: u32::from(entry.attempts),
            enqueued_at: queue.enqueued_at(&entry),
        };
        Some((delivery, entry))
    }

    /// Notes who holds an entry that is handed out.
    fn hold(&self, queue: &mut Queue, mut entry: Entry, holder: HolderId) {
        entry.attempts = entry.attempts.saturating_add(1);
        if entry.is_durable() && entry.seq > queue.delivered {
            queue.delivered = entry.seq;
        }
        if attempts::note(queue, &entry) {
            self.handed_out.lock().retried.push(queue.id);
            self.signals.write.lazy();
        }
        queue.contents.unsettled.insert(entry, holder);
    }

    /// Tells the log which entries were handed out and how often, at most every so often.
    pub(crate) fn log_delivered(&self) {
        let HandedOut { mut marks, retried, .. } = std::mem::take(&mut *self.handed_out.lock());
        for cell in retried.into_iter().filter_map(|id| self.queue(id)) {
            self.log_attempts(&mut cell.lock());
        }
        keep_highest(&mut marks);
        for some in marks.chunks(MARKS_A_RECORD) {
            let mut record = self.record();
            if !self.options.plants(Canary::ForgetHandedOut) {
                some.iter().for_each(|&(id, seq)| put_delivered(&mut record, id, seq));
            }
            self.log.lock().push(Kind::Delivered, record, self.durable_lsn());
        }
    }

    /// Says the highest seq that was handed out; returns when that is durable.
    pub(crate) fn say_delivered(&self, log: &mut LogState, queue: &mut Queue) -> u64 {
        let mut record = self.record();
        put_delivered(&mut record, queue.id, queue.delivered);
        let (_, end) = log.push(Kind::Delivered, record, self.durable_lsn());
        end
    }

    pub(crate) fn settle(&self, id: QueueId, seqs: &[Seq], outcome: Outcome, now: Now) -> usize {
        let Some(cell) = self.queue(id) else { return 0 };
        let mut queue = cell.lock();
        let mut taken: Vec<Entry> = Vec::with_capacity(seqs.len());
        let mut by_clients = 0;
        for seq in seqs {
            if let Some((entry, by)) = queue.contents.unsettled.remove(seq.0) {
                by_clients += u64::from(by != HolderId::BROKER);
                taken.push(entry);
            }
        }
        match outcome {
            Outcome::Ack => {
                queue.totals.acked += by_clients;
                for entry in &taken {
                    self.drop_message(&mut queue, entry);
                    self.count_ack(&queue, entry, now);
                }
                self.log_settled(&mut queue, &mut taken);
            }
            Outcome::Requeue if self.options.plants(Canary::RequeueToBack) => {
                for entry in &taken {
                    let seq = queue.next_seq;
                    queue.next_seq += 1;
                    queue.push(Entry { seq, ..*entry }, None);
                }
            }
            Outcome::Requeue => self.put_back(&mut queue, &mut taken, now),
            Outcome::Dead(death) if by_clients == 0 && queue.limits().dead_letters => {
                bury_again(&mut queue, &taken, death);
            }
            Outcome::Dead(death) => {
                queue.totals.acked += by_clients;
                self.die(&mut queue, &mut taken, death, now);
            }
        }
        self.charge(&mut queue);
        drop(queue);
        self.tell_pressure();
        taken.len()
    }

    pub(crate) fn release(&self, id: QueueId, holder: HolderId, now: Now) -> usize {
        let Some(cell) = self.queue(id) else { return 0 };
        let mut queue = cell.lock();
        let mut taken = Vec::new();
        queue.contents.unsettled.take_where(|by| by == holder, |entry| taken.push(entry));
        if self.options.plants(Canary::ReleaseAndKeep) {
            taken.iter().for_each(|entry| queue.contents.unsettled.insert(*entry, holder));
        }
        self.put_back(&mut queue, &mut taken, now);
        self.charge(&mut queue);
        taken.len()
    }

    /// Returns entries to their places, but for those that were handed out too often.
    fn put_back(&self, queue: &mut Queue, entries: &mut [Entry], now: Now) {
        // Those with the highest seq first: then each goes to the front.
        entries.sort_unstable_by_key(|e| std::cmp::Reverse(e.seq));
        let mut dead = Vec::new();
        let spare = u16::from(self.options.plants(Canary::GiveBackOnceMore));
        for entry in entries.iter_mut() {
            entry.redelivered = true;
            if self.options.plants(Canary::GroupBacklog) && queue.is_fair() {
                entry.lane = entry.lane.max(1);
            }
            if queue.limits().are_exhausted_by(u32::from(entry.attempts.saturating_sub(spare))) {
                dead.push(*entry);
            } else {
                queue.put_back(*entry);
            }
        }
        if !dead.is_empty() {
            dead.reverse();
            self.die(queue, &mut dead, Death::DeliveryLimit, now);
        }
        // A large one that came back may push many small ones out.
        self.trim(queue, entries.len().max(TRIM_BATCH), now);
    }

    pub(crate) fn purge(&self, id: QueueId) -> u64 {
        let Some(cell) = self.queue(id) else { return 0 };
        let mut queue = cell.lock();
        let (entries, pages, count) = queue.drain_ready();
        for entry in &entries {
            self.drop_message(&mut queue, entry);
        }
        if queue.spec.keeps() && count > 0 {
            // Says what is left rather than what goes, which may be millions.
            let mut ranges = Vec::new();
            let held = queue.held_seqs();
            queue.contents.retries.change(|retries| retries.keep(&held));
            held.into_iter().for_each(|seq| add_to_ranges(&mut ranges, seq));
            let mut record = self.record();
            record.varint(id.0);
            record.varint(queue.next_seq);
            record.varint(queue.delivered);
            record.ranges(&ranges);
            let mut log = self.log.lock();
            log.push(Kind::Live, record, self.durable_lsn());
            for entry in entries.iter().filter(|e| e.is_durable()) {
                log.drop_live(entry.lsn, entry.size as usize);
            }
        }
        self.release_bodies_of(id, |seq| queue.contents.unsettled.contains(seq));
        self.charge(&mut queue);
        drop(queue);
        self.count_out(pages);
        self.signals.keep.work();
        self.signals.write.lazy();
        self.tell_pressure();
        count
    }

    /// Logs that entries are gone for good. The caller holds the queue's lock.
    pub(crate) fn log_settled(&self, queue: &mut Queue, entries: &mut [Entry]) {
        entries.sort_unstable_by_key(|e| e.seq);
        let mut ranges = Vec::new();
        for entry in entries.iter().filter(|e| e.is_durable()) {
            add_to_ranges(&mut ranges, entry.seq);
        }
        if ranges.is_empty() || self.options.plants(Canary::LoseSettle) {
            self.release_bodies(entries.iter().map(|entry| (queue.id, entry)));
            return;
        }
        if self.options.plants(Canary::SettleWrongSeq) {
            ranges.iter_mut().for_each(|(first, last)| (*first, *last) = (*first + 1, *last + 1));
        }
        let mut record = self.record();
        record.varint(queue.id.0);
        record.ranges(&ranges);
        let mut log = self.log.lock();
        log.push(Kind::Settle, record, self.durable_lsn());
        let mut emptied = false;
        for entry in entries.iter().filter(|e| e.is_durable()) {
            emptied |= log.drop_live(entry.lsn, entry.size as usize);
        }
        let many = log.pending_bytes > LAZY_BYTES_MAX;
        drop(log);
        self.release_bodies(entries.iter().map(|entry| (queue.id, entry)));
        self.signal_settled(emptied, many);
    }

    /// What was settled is in the log: the keeper looks at a file that was emptied, and the writer writes when there is
    /// company or much.
    pub(crate) fn signal_settled(&self, emptied: bool, many: bool) {
        if emptied {
            self.signals.keep.work();
        }
        if many {
            self.signals.write.work();
        } else {
            self.signals.write.lazy();
        }
    }

    /// Frees the memory of an entry's message, and its place in the spill.
    pub(crate) fn drop_message(&self, queue: &mut Queue, entry: &Entry) {
        let freed = self.take_message(queue, entry);
        self.resident.fetch_sub(freed, Relaxed);
    }

    /// The same, but the caller counts the bytes out of what is resident.
    pub(crate) fn take_message(&self, queue: &mut Queue, entry: &Entry) -> usize {
        queue.contents.retries.change(|retries| retries.forget(entry.seq));
        let freed = if entry.slot == NO_SLOT { 0 } else { queue.forget(entry.slot) };
        let spilled = entry.lsn & crate::queue::SPILLED != 0;
        if spilled && self.spill.lock().free(entry.lsn, entry.size as usize) {
            self.signals.keep.work();
        }
        freed
    }

    pub(crate) fn count_ack(&self, queue: &Queue, entry: &Entry, now: Now) {
        if let Some(us) = ack_us(queue, entry, now) {
            self.counters.acks.add(us);
        }
    }
}

/// The highest seq that a queue has handed out.
fn put_delivered(record: &mut Record, queue: QueueId, seq: u64) {
    record.varint(queue.0);
    record.varint(seq);
}

/// Reads such marks: calls `each` with a queue and its highest seq.
pub(crate) fn read_delivered(payload: &[u8], mut each: impl FnMut(QueueId, u64)) -> Option<()> {
    let mut reader = Reader::new(payload);
    while !reader.is_at_end() {
        each(QueueId(reader.varint()?), reader.varint()?);
    }
    Some(())
}

/// Reads what lives of a queue below a seq: calls `gone` for each range that does not, and returns the queue and the highest
/// seq that was handed out.
pub(crate) fn read_live(payload: &[u8], mut gone: impl FnMut(u64, u64)) -> Option<(QueueId, u64)> {
    let mut reader = Reader::new(payload);
    let (id, end, delivered) = (QueueId(reader.varint()?), reader.varint()?, reader.varint()?);
    let mut from = 0;
    let mut up_to = |from: u64, next: u64| {
        if let Some(before) = next.checked_sub(1)
            && before >= from
        {
            gone(from, before);
        }
    };
    read_ranges(&mut reader, |first, last| {
        up_to(from, first);
        from = last.saturating_add(1);
    })?;
    up_to(from, end);
    Some((id, delivered))
}

/// Microseconds from the enqueueing of an entry to its acknowledgement, as far as this process knows; none where
/// entries wait for a time.
pub(crate) fn ack_us(queue: &Queue, entry: &Entry, now: Now) -> Option<u64> {
    let enqueued = if entry.mono == 0 { now.mono } else { Mono(entry.mono) };
    let us = u64::try_from(now.mono.since(enqueued).as_micros()).unwrap_or(0);
    (!queue.is_by_due()).then_some(us)
}
