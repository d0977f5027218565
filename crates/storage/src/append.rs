//! Taking a batch in: encode without a lock, then number, log and enqueue under the locks of its queues.
//!
//! Invariants: all queues of a batch are locked together, in order of id, while its seqs are assigned, its record
//! gets its place in the log and its entries are enqueued; so for every queue, order of seq is order in the log, and
//! whoever holds a queue's lock sees a batch wholly or not at all. A batch that changes metadata holds its lock, too.

use crate::canary::Canary;
use crate::core::{Core, QueueCell};
use crate::dead::{TRIM_BATCH, bury};
use crate::due::SOON_MS;
use crate::log::LogState;
use crate::metas::Metas;
use crate::payload::{Record, add_to_ranges, put_meta_changes};
use crate::queue::{Entry, NO_SLOT, Queue, SLOT_BYTES};
use crate::record::Kind;
use crate::sync::MutexGuard;
use crate::usage::Arrivals;
use engine::{Batch, Death, Durability, EngineError, MetaChange, Overflow, Schedule, Ticket};
use model::{HolderId, Message, Now, QueueId};
use std::sync::atomic::Ordering::Relaxed;

type Guards<'a> = Vec<MutexGuard<'a, Queue>>;

/// The place of a queue that does not exist.
const NOWHERE: usize = usize::MAX;

/// What a queue says to a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Take,
    Refuse,
    /// Refused and dead.
    Bury,
}

/// Where the messages of a batch go.
struct Plan {
    /// How far behind the start of the record each message lies, 0 if it is not in it.
    offsets: Vec<usize>,
    /// For each target of each message its place among the queues of the batch.
    places: Vec<usize>,
    /// What each target says; empty if all take everything.
    verdicts: Vec<Verdict>,
}

/// An entry that a batch acknowledges.
pub(crate) struct Acked {
    pub(crate) queue: QueueId,
    pub(crate) durability: Durability,
    pub(crate) entry: Entry,
}

/// What a batch puts on the disk.
#[derive(Default)]
struct Kept {
    arrivals: Arrivals,
    /// Something of it is of a queue with this durability.
    by: [bool; 4],
}

impl Kept {
    fn note(&mut self, durability: Durability) {
        self.by[durability as usize] = true;
    }

    fn has(&self, durability: Durability) -> bool {
        self.by[durability as usize]
    }
}

impl Core {
    /// See [`engine::Engine::append`].
    pub(crate) fn append(&self, batch: &mut Batch, now: Now) -> Result<Ticket, EngineError> {
        if batch.entries().next().is_none() {
            // What only settles makes room; refusing it for lack of room would be absurd.
            self.check_open()?;
        } else {
            self.check()?;
        }
        if batch.is_empty() {
            return Ok(Ticket::NONE);
        }
        let changes = batch.take_metas();
        let mut metas = (!changes.is_empty()).then(|| self.metas.lock());
        let (ids, cells, places) = self.cells_of(batch);
        let mut record = self.record();
        let offsets = encode_messages(&mut record, batch, &cells, &places, now);
        let mut guards: Guards<'_> = cells.iter().map(|cell| cell.lock()).collect();
        guards.iter().for_each(|queue| queue.contents.ask_for());
        let first_seqs: Vec<u64> = guards.iter().map(|queue| queue.next_seq).collect();
        let published = batch.len();
        let verdicts = self.judge(batch, &places, &guards);
        let plan = Plan { offsets, places, verdicts };
        let mut kept = encode_refs(&mut record, batch, &plan, &mut guards);
        let acked = self.take_acked(batch, &ids, &mut guards, now);
        if self.options.plants(Canary::AcksBeforeBatch) {
            self.log_acks_alone(&acked);
            encode_acks(&mut record, &[]);
        } else {
            encode_acks(&mut record, &acked);
        }
        put_meta_changes(&mut record, &changes);
        for ack in acked.iter().filter(|a| a.entry.is_durable()) {
            kept.note(ack.durability);
        }
        let (mut lsn, mut ticket) = (0, Ticket::NONE);
        if kept.by.contains(&true) || metas.is_some() {
            let waits = kept.has(Durability::Sync) || !kept.by.contains(&true);
            let mut log = self.log.lock();
            let (start, end) = log.push(Kind::Batch, record, self.durable_lsn());
            log.add_live(start, &kept.arrivals);
            if kept.arrivals.count > 0 {
                log.brought(end - start, &kept.arrivals);
            }
            for ack in acked.iter().filter(|a| a.entry.is_durable()) {
                log.drop_live(ack.entry.lsn, ack.entry.size as usize);
            }
            if let Some(metas) = &mut metas {
                change_metas(&mut log, metas, changes, start);
            }
            if waits {
                log.wanted = log.wanted.max(end);
                ticket = Ticket(end);
            }
            lsn = start;
        }
        drop(metas);
        self.release_bodies(acked.iter().map(|ack| (ack.queue, &ack.entry)));
        for (queue, first) in guards.iter_mut().zip(first_seqs) {
            queue.next_seq = first;
        }
        let rejected = self.enqueue(batch, &plan, lsn, &mut guards, now);
        for queue in &mut guards {
            let trimmed = self.trim(queue, published.max(TRIM_BATCH), now);
            let small = queue.contents.ready <= 1 && trimmed == 0 && queue.contents.graves.is_empty();
            self.charge_unless(small, queue);
        }
        drop(guards);
        for index in rejected {
            batch.reject(index);
        }
        if lsn != 0 {
            self.signals.write.work();
        }
        if kept.has(Durability::Interval) && ticket == Ticket::NONE {
            self.sync_within_interval();
        }
        Ok(ticket)
    }

    /// What the queues of a batch say to each target in turn; empty if all take everything.
    fn judge(&self, batch: &Batch, places: &[usize], guards: &Guards<'_>) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if !guards.iter().any(|queue| queue.limits().refuse_publishes()) {
            return verdicts;
        }
        let spare = u64::from(self.options.plants(Canary::TakeOneMore));
        let weightless = self.options.plants(Canary::IgnoreBytes);
        let mut lengths: Vec<(u64, u64)> = guards.iter().map(|queue| queue.length()).collect();
        let mut places = places.iter();
        for (message, targets) in batch.entries() {
            let size = if weightless { 0 } else { message.body_len() as u64 };
            for &place in places.by_ref().take(targets.len()) {
                let Some(at) = live_guard(guards, place) else {
                    verdicts.push(Verdict::Take);
                    continue;
                };
                let (messages, bytes) = &mut lengths[at];
                let after = (*messages + 1, *bytes + size);
                let limits = guards[at].limits();
                let verdict = match limits.overflow {
                    _ if !limits.are_exceeded_by(after.0 - spare, after.1) => Verdict::Take,
                    Overflow::DropHead => Verdict::Take,
                    Overflow::RejectPublishDeadLetter if limits.dead_letters => Verdict::Bury,
                    Overflow::RejectPublish | Overflow::RejectPublishDeadLetter => Verdict::Refuse,
                };
                if verdict == Verdict::Take {
                    (*messages, *bytes) = after;
                }
                verdicts.push(verdict);
            }
        }
        verdicts
    }

    /// What [`Canary::AcksBeforeBatch`] does.
    fn log_acks_alone(&self, acked: &[Acked]) {
        for ack in acked.iter().filter(|a| a.entry.is_durable()) {
            let mut record = self.record();
            record.varint(ack.queue.0);
            record.ranges(&[(ack.entry.seq, ack.entry.seq)]);
            self.log.lock().push(Kind::Settle, record, self.durable_lsn());
        }
    }

    /// The queues of a batch that exist, in order of id, and where among them each target of each message is.
    fn cells_of(&self, batch: &Batch) -> (Vec<QueueId>, Vec<QueueCell>, Vec<usize>) {
        let mut ids: Vec<QueueId> = Vec::new();
        let targets = || batch.entries().flat_map(|(_, targets)| targets.iter().copied());
        for id in targets().chain(batch.acks().iter().map(|&(id, _)| id)) {
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
        // Not `sort_unstable`: who publishes to many queues often does so in some order, and then this is a look at each.
        ids.sort();
        ids.dedup();
        let mut cells: Vec<QueueCell> = Vec::with_capacity(ids.len());
        {
            let queues = self.queues.read();
            let found: Vec<Option<&QueueCell>> = Self::find_near(&queues, ids.iter().copied()).collect();
            let mut exists = found.iter().map(Option::is_some);
            ids.retain(|_| exists.next() == Some(true));
            cells.extend(found.into_iter().flatten().cloned());
        }
        // Searched for once, and not among the queues, which are seldom in the cache.
        let mut last = (QueueId(0), NOWHERE);
        let place = |id: QueueId| {
            if id != last.0 {
                last = (id, ids.binary_search(&id).unwrap_or(NOWHERE));
            }
            last.1
        };
        let places = targets().map(place).collect();
        (ids, cells, places)
    }

    /// Takes the acknowledged entries out of their queues.
    fn take_acked(&self, batch: &Batch, ids: &[QueueId], guards: &mut Guards<'_>, now: Now) -> Vec<Acked> {
        let mut acked = Vec::new();
        for &(id, seq) in batch.acks() {
            let Ok(at) = ids.binary_search(&id) else {
                continue;
            };
            let queue = &mut guards[at];
            if let Some((entry, by)) = queue.contents.unsettled.remove(seq.0) {
                queue.totals.acked += u64::from(by != HolderId::BROKER);
                self.drop_message(queue, &entry);
                self.count_ack(queue, &entry, now);
                acked.push(Acked { queue: id, durability: queue.spec.durability, entry });
            }
        }
        acked.sort_unstable_by_key(|a| (a.queue, a.entry.seq));
        acked
    }

    /// Puts the messages of a batch into their queues and empties it; returns which were refused somewhere.
    fn enqueue(&self, batch: &mut Batch, plan: &Plan, lsn: u64, guards: &mut Guards<'_>, now: Now) -> Vec<usize> {
        let mut index = 0;
        let mut verdicts = plan.verdicts.iter();
        let mut places = plan.places.iter();
        let mut rejected = Vec::new();
        batch.drain(|message, targets, schedule| {
            let offset = plan.offsets[index];
            let mut message = Some(message);
            for (n, &place) in (1..=targets.len()).zip(&mut places) {
                let verdict = verdicts.next().copied().unwrap_or(Verdict::Take);
                if verdict != Verdict::Take {
                    rejected.push(index);
                }
                let Some(at) = live_guard(guards, place).filter(|_| verdict != Verdict::Refuse) else {
                    continue;
                };
                let message = if n == targets.len() { message.take() } else { message.clone() };
                let Some(message) = message else { continue };
                let queue = &mut guards[at];
                let lsn = if offset > 0 && queue.spec.keeps() { lsn + offset as u64 } else { 0 };
                let entry = self.keep(queue, message, schedule, lsn, targets.len(), now);
                match verdict {
                    Verdict::Bury => {
                        let entry = queue.pass(entry, schedule);
                        bury(queue, entry, Death::MaxLen);
                    }
                    _ if self.options.plants(Canary::DropTail) && queue.limits().push_out(queue.length().0 + 1, 0) => {
                        bury(queue, entry, Death::MaxLen);
                    }
                    _ => queue.push(entry, schedule),
                }
            }
            index += 1;
        });
        if self.resident.load(Relaxed) > self.options.resident_bytes_max {
            self.signals.keep.work();
        }
        rejected
    }

    /// Keeps a message in memory if there is room; returns its entry, which is in no lane yet.
    fn keep(
        &self,
        queue: &mut Queue,
        message: Message,
        schedule: Option<Schedule>,
        lsn: u64,
        shares: usize,
        now: Now,
    ) -> Entry {
        let size = message.bytes().len();
        let mut lane = queue.lane_for(&message);
        if self.options.plants(Canary::SplitGroups) && queue.is_fair() {
            lane += (queue.next_seq % 2) as u8;
        }
        let body = u32::try_from(message.body_len()).unwrap_or(u32::MAX);
        let ttl_ms = queue.ttl_of(message.envelope.ttl_ms);
        let large = message.large_body().is_some();
        if let Some(body) = message.large_body() {
            self.bodies.refer(queue.id, queue.next_seq, body.id());
        }
        let charge = size / shares + SLOT_BYTES;
        // A durable message that finds the memory full, or waits for its time, is read back from the log when its turn
        // comes.
        let waits = schedule.is_some_and(|s| s.at.millis_since(now.wall) > SOON_MS);
        let slot = if lsn != 0 && (waits || self.resident.load(Relaxed) > self.options.resident_bytes_max) {
            NO_SLOT
        } else {
            self.resident.fetch_add(charge, Relaxed);
            queue.keep(queue.next_seq, message, u32::try_from(charge).unwrap_or(u32::MAX))
        };
        let seq = queue.next_seq;
        queue.next_seq += 1;
        queue.totals.enqueued += 1;
        Entry {
            seq,
            large,
            lsn,
            wall: now.wall.0,
            mono: now.mono.0,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            body,
            ttl_ms,
            slot,
            attempts: 0,
            lane,
            redelivered: false,
        }
    }
}

/// Encodes the messages that a durable queue must keep; returns how far behind the start of the record each message
/// lies, 0 if it is not in it.
fn encode_messages(record: &mut Record, batch: &Batch, cells: &[QueueCell], places: &[usize], now: Now) -> Vec<usize> {
    let is_durable = |&at: &usize| cells.get(at).is_some_and(|cell| cell.keeps);
    let mut rest = places;
    let is_kept = |(message, targets): (&Message, &[QueueId])| {
        let (own, others) = rest.split_at(targets.len());
        rest = others;
        usize::from(message.envelope.persistent && own.iter().any(is_durable))
    };
    let mut offsets: Vec<usize> = batch.entries().map(is_kept).collect();
    record.varint(now.wall.0);
    record.varint(offsets.iter().sum::<usize>() as u64);
    let mut schedules = batch.schedules().iter().peekable();
    for (index, (offset, (message, _))) in offsets.iter_mut().zip(batch.entries()).enumerate() {
        let schedule = schedules.next_if(|(at, _)| *at == index).map(|(_, schedule)| *schedule);
        if *offset > 0 {
            *offset = record.message(message, schedule, now.wall);
        }
    }
    offsets
}

/// A place among the locked queues, unless the queue has been deleted.
fn live_guard(guards: &Guards<'_>, place: usize) -> Option<usize> {
    guards.get(place).is_some_and(|queue| !queue.deleted).then_some(place)
}

/// Applies changes of the metadata that lie in the record at `lsn`.
fn change_metas(log: &mut LogState, metas: &mut Metas, changes: Vec<MetaChange>, lsn: u64) {
    for MetaChange { key, value } in changes {
        let key_bytes = key.len();
        let before = match value {
            Some(value) => {
                log.add_definition(lsn, key_bytes + value.len());
                metas.insert(&key, &value, lsn)
            }
            None => metas.remove(&key),
        };
        if let Some(before) = before {
            log.drop_definition(before.lsn(), before.size());
        }
    }
}

/// Numbers the entries and encodes the references of those that are kept.
fn encode_refs(record: &mut Record, batch: &Batch, plan: &Plan, guards: &mut Guards<'_>) -> Kept {
    let mut kept = Kept::default();
    let mut ordinal = 0;
    for (&offset, (message, targets)) in plan.offsets.iter().zip(batch.entries()) {
        let own = ordinal..ordinal + targets.len();
        let said = plan.verdicts.get(own.clone()).unwrap_or_default();
        ordinal = own.end;
        let places = &plan.places[own];
        let taken = |n: usize| said.get(n) != Some(&Verdict::Refuse);
        let size = message.bytes().len();
        if offset > 0 {
            let keeps = |&(n, place): &(usize, &usize)| {
                taken(n) && live_guard(guards, *place).is_some_and(|at| guards[at].spec.keeps())
            };
            record.varint(places.iter().enumerate().filter(keeps).count() as u64);
            if let Some(&first) = targets.first() {
                kept.arrivals.message(size, first);
            }
        }
        for (n, (&id, &place)) in targets.iter().zip(places).enumerate() {
            let Some(at) = live_guard(guards, place).filter(|_| taken(n)) else {
                continue;
            };
            let seq = guards[at].next_seq;
            guards[at].next_seq += 1;
            if offset > 0 && guards[at].spec.keeps() {
                record.varint(id.0);
                record.varint(seq);
                kept.arrivals.reference(size);
                kept.note(guards[at].spec.durability);
            }
        }
    }
    kept
}

/// Encodes the acknowledged entries that are durable, which are in order of queue and seq.
pub(crate) fn encode_acks(record: &mut Record, acked: &[Acked]) {
    let same = |a: &&Acked| a.entry.is_durable();
    let durable: Vec<&Acked> = acked.iter().filter(same).collect();
    let groups: Vec<&[&Acked]> = durable.chunk_by(|a, b| a.queue == b.queue).collect();
    record.varint(groups.len() as u64);
    let mut ranges = Vec::new();
    for group in groups {
        ranges.clear();
        for ack in group {
            add_to_ranges(&mut ranges, ack.entry.seq);
        }
        record.varint(group[0].queue.0);
        record.ranges(&ranges);
    }
}
