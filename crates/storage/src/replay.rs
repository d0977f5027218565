//! Applying the records of the log, in order, to queues and metadata that are being recovered.
//!
//! Invariants: records are applied in the order of their LSN. A reference is pushed before its settle, and a moved
//! copy of it is pushed before its settle too, so applying in order leaves exactly what is unsettled; of two copies
//! of a reference the later one counts.

use crate::attempts::{attempts_at_start, read_attempts};
use crate::core::{Cell, Metas, QueueCell};
use crate::log::LogState;
use crate::payload::{Placed, read_batch, read_meta, read_queue, read_ranges};
use crate::queue::{Entry, NO_SLOT, Queue};
use crate::record::{Kind, Reader};
use crate::usage::{Arrivals, QUEUE_BYTES, charge};
use engine::{Order, QueueSpec, Schedule};
use foldhash::fast::FixedState;
use model::QueueId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is known of an entry.
#[derive(Clone, Copy)]
struct Ref {
    lsn: u64,
    wall: u64,
    ttl_ms: Option<u64>,
    size: u32,
    body: u32,
    priority: u8,
}

/// What is known of a queue.
#[derive(Default)]
struct Found {
    spec: Option<(QueueSpec, u64)>,
    refs: BTreeMap<u64, Ref>,
    /// Of the references that have one.
    schedules: BTreeMap<u64, Schedule>,
    /// How often entries were handed out, where the log says so.
    attempts: BTreeMap<u64, u16>,
    seq_end: u64,
    delivered: u64,
}

/// What a file holds that must be known later.
struct FileNotes {
    base: u64,
    arrivals: Arrivals,
    settled: HashSet<QueueId, FixedState>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Replay {
    queues: HashMap<QueueId, Found, FixedState>,
    deleted: HashMap<QueueId, u64, FixedState>,
    metas: Metas,
    deleted_metas: BTreeMap<Vec<u8>, u64>,
    files: Vec<FileNotes>,
    file: u64,
    placed: Vec<Placed>,
}

type Recovered = (HashMap<QueueId, QueueCell, FixedState>, Metas);

impl Replay {
    /// The records that follow are those of this file.
    pub(crate) fn start_file(&mut self, number: u64, base: u64) {
        self.file = number;
        self.files.push(FileNotes { base, arrivals: Arrivals::default(), settled: HashSet::default() });
    }

    /// Applies a record; false if its content is not what its kind says.
    pub(crate) fn record(&mut self, kind: Kind, lsn: u64, payload: &[u8]) -> bool {
        match kind {
            Kind::Batch => self.batch(lsn, payload),
            Kind::Settle => self.settle(payload),
            Kind::Live => self.live(payload),
            Kind::Delivered => self.delivered(payload),
            Kind::Attempts => self.attempts(payload),
            Kind::CreateQueue => read_queue(payload).map(|(id, spec)| {
                self.queues.entry(id).or_default().spec = Some((spec, lsn));
                self.count(&Arrivals::one(QUEUE_BYTES));
            }),
            Kind::DeleteQueue => Reader::new(payload).varint().map(|id| {
                self.queues.remove(&QueueId(id));
                self.deleted.insert(QueueId(id), self.file);
            }),
            Kind::PutMeta => read_meta(payload).map(|(key, value)| self.put_meta(lsn, key, value)),
            Kind::DeleteMeta => {
                self.delete_meta(payload);
                Some(())
            }
            Kind::Seal | Kind::Gap => Some(()),
        }
        .is_some()
    }

    fn put_meta(&mut self, lsn: u64, key: &[u8], value: &[u8]) {
        self.deleted_metas.remove(key);
        self.metas.insert(key.to_vec(), (value.to_vec(), lsn));
        self.count(&Arrivals::one(key.len() + value.len()));
    }

    fn delete_meta(&mut self, key: &[u8]) {
        self.metas.remove(key);
        self.deleted_metas.insert(key.to_vec(), self.file);
    }

    fn count(&mut self, arrivals: &Arrivals) {
        if let Some(file) = self.files.last_mut() {
            file.arrivals += *arrivals;
        }
    }

    fn batch(&mut self, record: u64, payload: &[u8]) -> Option<()> {
        let mut placed = std::mem::take(&mut self.placed);
        let (queues, deleted) = (&mut self.queues, &self.deleted);
        let mut arrivals = Arrivals::default();
        let mut counted = None;
        let mut acks = Vec::new();
        let mut metas = Vec::new();
        read_batch(
            payload,
            &mut placed,
            |wall, index, message, id, seq| {
                if counted.replace(index) != Some(index) {
                    arrivals.message(message.size, id);
                }
                arrivals.reference(message.size);
                if deleted.contains_key(&id) {
                    return;
                }
                let queue = queues.entry(id).or_default();
                queue.seq_end = queue.seq_end.max(seq.saturating_add(1));
                let entry = Ref {
                    lsn: record + message.offset as u64,
                    wall: wall.0,
                    ttl_ms: message.ttl_ms,
                    size: u32::try_from(message.size).unwrap_or(u32::MAX),
                    body: u32::try_from(message.body).unwrap_or(u32::MAX),
                    priority: message.priority,
                };
                queue.refs.insert(seq, entry);
                if let Some(schedule) = message.schedule {
                    queue.schedules.insert(seq, schedule);
                }
            },
            |id, first, last| acks.push((id, first, last)),
            |key, value| metas.push((key.to_vec(), value.map(<[u8]>::to_vec))),
        )?;
        self.placed = placed;
        self.count(&arrivals);
        for (key, value) in metas {
            match value {
                Some(value) => self.put_meta(record, &key, &value),
                None => self.delete_meta(&key),
            }
        }
        for (id, first, last) in acks {
            self.drop_range(id, first, last);
        }
        Some(())
    }

    fn settle(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader::new(payload);
        let id = QueueId(reader.varint()?);
        read_ranges(&mut reader, |first, last| self.drop_range(id, first, last))
    }

    fn drop_range(&mut self, id: QueueId, first: u64, last: u64) {
        self.note_told(id);
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        queue.seq_end = queue.seq_end.max(last.saturating_add(1));
        let remove = |queue: &mut Found, seq: u64| {
            queue.refs.remove(&seq);
            if !queue.schedules.is_empty() {
                queue.schedules.remove(&seq);
            }
            if !queue.attempts.is_empty() {
                queue.attempts.remove(&seq);
            }
        };
        if first == last {
            remove(queue, first);
            return;
        }
        let gone: Vec<u64> = queue.refs.range(first..=last).map(|(&s, _)| s).collect();
        for seq in gone {
            remove(queue, seq);
        }
    }

    /// A queue's state: below a seq, only these ranges live.
    fn live(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader::new(payload);
        let id = QueueId(reader.varint()?);
        let end = reader.varint()?;
        let delivered = reader.varint()?;
        let mut gaps = Vec::new();
        let mut from = 0;
        read_ranges(&mut reader, |first, last| {
            if let Some(before) = first.checked_sub(1)
                && before >= from
            {
                gaps.push((from, before));
            }
            from = last.saturating_add(1);
        })?;
        if let Some(before) = end.checked_sub(1)
            && before >= from
        {
            gaps.push((from, before));
        }
        for (first, last) in gaps {
            self.drop_range(id, first, last);
        }
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.delivered = queue.delivered.max(delivered);
        }
        Some(())
    }

    fn delivered(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader::new(payload);
        let id = QueueId(reader.varint()?);
        let seq = reader.varint()?;
        self.note_told(id);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.delivered = queue.delivered.max(seq);
            queue.seq_end = queue.seq_end.max(seq.saturating_add(1));
        }
        Some(())
    }

    fn attempts(&mut self, payload: &[u8]) -> Option<()> {
        let mut of = None;
        let queues = &mut self.queues;
        read_attempts(payload, |id, seq, attempts| {
            of = Some(id);
            if let Some(queue) = queues.get_mut(&id) {
                queue.attempts.insert(seq, attempts);
            }
        })?;
        if let Some(id) = of {
            self.note_told(id);
        }
        Some(())
    }

    /// The file says of a queue what must be said again before the file is given up.
    fn note_told(&mut self, id: QueueId) {
        if let Some(file) = self.files.last_mut() {
            file.settled.insert(id);
        }
    }

    /// Turns what was found into queues, whose new seqs are `seqs_from` or higher, and tells the log what lives where.
    pub(crate) fn finish(self, log: &mut LogState, seqs_from: u64) -> Recovered {
        for notes in self.files {
            if let Some(file) = log.files.get_mut(&notes.base) {
                file.arrivals = notes.arrivals;
                file.settled = notes.settled;
            }
        }
        log.deleted_queues = self.deleted;
        log.deleted_metas = self.deleted_metas;
        for (key, (value, lsn)) in &self.metas {
            recount(log, *lsn, key.len() + value.len());
        }
        let mut queues = HashMap::default();
        for (id, found) in self.queues {
            // References without a queue: its creation was lost with the deletion that made them pointless.
            let Some((spec, create_lsn)) = found.spec else {
                continue;
            };
            // A repair of damage may have made the queue again, and knows no more of it than its entries tell.
            let order = if found.schedules.is_empty() { spec.order } else { Order::Due };
            let spec = QueueSpec { order, ..spec };
            recount(log, create_lsn, QUEUE_BYTES);
            let next_seq = found.seq_end.max(seqs_from);
            let mut queue = Queue::new(id, spec, next_seq, create_lsn);
            queue.delivered = found.delivered;
            queue.delivered_logged = found.delivered;
            for (seq, entry) in found.refs {
                recount(log, entry.lsn, entry.size as usize);
                let attempts = found.attempts.get(&seq).copied();
                push(&mut queue, seq, &entry, found.schedules.get(&seq).copied(), attempts);
            }
            queues.insert(id, Cell::new(queue));
        }
        (queues, self.metas)
    }
}

/// Seqs of one life of the process; the bits above count the lives.
pub(crate) const SEQ_BITS: u32 = 44;

/// Something of this size was found to live at `lsn`.
fn recount(log: &mut LogState, lsn: u64, size: usize) {
    if let Some(file) = log.file_of(lsn) {
        file.lives(1, charge(size));
    }
}

fn push(queue: &mut Queue, seq: u64, entry: &Ref, schedule: Option<Schedule>, attempts: Option<u16>) {
    if let Some(attempts) = attempts {
        queue.retries.recovered(seq, attempts);
    }
    let entry = Entry {
        seq,
        lsn: entry.lsn,
        wall: entry.wall,
        mono: 0,
        size: entry.size,
        body: entry.body,
        ttl_ms: queue.ttl_of(entry.ttl_ms),
        slot: NO_SLOT,
        attempts: attempts_at_start(queue, seq, attempts),
        lane: queue.lane_of(entry.priority),
        redelivered: seq <= queue.delivered,
    };
    queue.push(entry, schedule);
}
