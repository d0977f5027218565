//! Moving what still lives in a file to the end of the log, so that the file can be given up.
//!
//! A job reads the files chosen for it (see `choice`), gathers what lives in them up to a bound, and copies it grouped by
//! queue in the order of seq, so what is drained together lies next to each other afterwards.
//!
//! Invariants: a copy is pushed under the lock of what it belongs to, and only if that still lies where it was read, so
//! a settle or a newer value comes behind it. The entry lies at its old place until the copy is proven. Copies keep
//! queue, seq and time. A round reads and copies little, and no more is copied until that is durable: a group commit of
//! publishers carries at most a round of copies. How much is read in all is bounded too (see `allowance`).

use crate::allowance::Allowance;
use crate::canary::Canary;
use crate::choice::Why;
use crate::core::{Core, QueueCell};
use crate::disk::DiskFile;
use crate::gather::Gathered;
use crate::keeper::{Keeper, Left};
use crate::log::file_name;
use crate::payload::{Record, put_meta, put_queue, read_batch, read_meta, read_queue};
use crate::queue::Queue;
use crate::record::{FILE_HEADER_BYTES, HEADER_BYTES, Header, Kind, decode_header, record_bytes};
use crate::usage::{Arrivals, QUEUE_BYTES};
use model::QueueId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes read, or copied, in a round.
pub(crate) const ROUND_BYTES: usize = 256 * 1024;

/// Files that are being emptied.
pub(crate) struct Move {
    why: Why,
    /// Base of each.
    files: Vec<u64>,
    /// Those that are not read yet; the first is being read.
    sources: VecDeque<Source>,
    gathered: Gathered,
    /// What was gathered is being copied.
    copying: bool,
    /// What was copied and is not proven yet, and how much of it there is.
    moved: VecDeque<Moved>,
    unsynced: usize,
}

/// A file to be emptied.
pub(crate) struct Source {
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// LSN of the next record to look at.
    pub(crate) at: u64,
}

/// What was copied, from where, to where.
struct Moved {
    what: What,
    from: u64,
    to: u64,
    size: usize,
    /// The copy is there once the log is proven up to here.
    after: u64,
}

enum What {
    Entry(QueueId, u64),
    Queue(QueueId),
    Meta(Vec<u8>),
}

impl Move {
    pub(crate) fn new(why: Why, sources: VecDeque<Source>) -> Self {
        let files = sources.iter().map(|source| source.base).collect();
        let (gathered, moved) = (Gathered::default(), VecDeque::new());
        Self { why, files, sources, gathered, copying: false, moved, unsynced: 0 }
    }

    fn is_done(&self) -> bool {
        self.sources.is_empty() && self.gathered.is_empty() && self.moved.is_empty()
    }
}

impl Core {
    /// Goes on emptying files, or chooses some.
    pub(crate) fn move_step(&self, keeper: &mut Keeper) -> Left {
        let Some(mut job) = keeper.moving.take().or_else(|| self.choose()) else {
            return Left::Nothing;
        };
        let left = self.move_some(&mut job, &mut keeper.allowance);
        if !job.is_done() {
            keeper.moving = Some(job);
        }
        left
    }

    /// A round of a job: copies, or else reads, or else waits.
    fn move_some(&self, job: &mut Move, allowance: &mut Allowance) -> Left {
        self.switch_proven(job);
        let must_wait = job.unsynced >= ROUND_BYTES || (job.sources.is_empty() && job.gathered.is_empty());
        if must_wait && !job.moved.is_empty() {
            return if self.is_proven(job) { Left::Now } else { Left::Later };
        }
        if job.copying {
            self.copy_some(job);
            return Left::Now;
        }
        if let Some(source) = job.sources.front() {
            if !self.log.lock().files.contains_key(&source.base) {
                // Everything in it was settled meanwhile and it was given up.
                job.sources.pop_front();
            } else if allowance.allows(job.why.frees()) {
                if !self.read_some(job) && !self.read_some(job) {
                    // Read twice, and not what was written: what lives from there on stays where it is.
                    self.keep_damaged(job);
                }
                allowance.spend(ROUND_BYTES as u64, job.why.frees());
            } else {
                return Left::Later;
            }
        }
        if job.sources.is_empty() || job.gathered.bytes() >= self.options.gathered_bytes_max() {
            let (before, after) = job.gathered.sort();
            if job.why.is_worth(before, after) {
                job.copying = true;
            } else {
                self.leave_as_they_are(&job.files);
                job.sources.clear();
                job.gathered = Gathered::default();
            }
        }
        Left::Now
    }

    /// Gives up emptying a file that is damaged.
    fn keep_damaged(&self, job: &mut Move) {
        let Some(source) = job.sources.pop_front() else {
            return;
        };
        let number = self.log.lock().files.get_mut(&source.base).map(|file| {
            file.damaged = true;
            file.number
        });
        if let Some(number) = number {
            self.counters.damaged.fetch_add(1, Relaxed);
            let at = source.at - source.base + FILE_HEADER_BYTES;
            self.events.damaged(&format!("the record at byte {at} of {}", file_name(number)));
        }
    }

    /// Whether all copies are proven; if not, sees to it that they will be and that the keeper is told.
    fn is_proven(&self, job: &Move) -> bool {
        let Some(last) = job.moved.back() else {
            return true;
        };
        self.wait_proven(last.after)
    }

    /// Gathers what lives in the next records; false if the next is not what was written.
    fn read_some(&self, job: &mut Move) -> bool {
        let Some(source) = job.sources.front_mut() else {
            return true;
        };
        let from = source.at;
        let (base, end) = (source.base, source.end);
        let file = source.file.clone();
        let mut buffer = vec![0; ROUND_BYTES.min((end - from) as usize)];
        loop {
            let Ok(n) = file.pread(&mut buffer, from - base + FILE_HEADER_BYTES) else {
                return false;
            };
            let bytes = &buffer[..n];
            let mut at = 0;
            while from + (at as u64) < end {
                let lsn = from + at as u64;
                let Some(header) = bytes.get(at..).and_then(|b| decode_header(b, lsn)) else {
                    break;
                };
                let Some(payload) = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + header.len) else {
                    break;
                };
                if crc32c::crc32c(payload) != header.payload_crc {
                    break;
                }
                self.look_at(job, header, lsn, payload);
                at += record_bytes(header.len);
            }
            if at > 0 || from == end {
                let next = from + at as u64;
                match job.sources.front_mut() {
                    Some(source) if next < end => source.at = next,
                    _ => drop(job.sources.pop_front()),
                }
                return true;
            }
            // A record larger than the buffer, or none at all.
            match decode_header(bytes, from) {
                Some(header) if record_bytes(header.len) > buffer.len() => {
                    buffer = vec![0; record_bytes(header.len)];
                }
                _ => return false,
            }
        }
    }

    /// Gathers the messages of a record that live; copies a queue or a value at once, for they are few and small.
    fn look_at(&self, job: &mut Move, header: Header, lsn: u64, payload: &[u8]) {
        match header.kind {
            Kind::Batch => {
                // What is no batch was found so at the start already, and kept for nothing but to be read again.
                let _ = self.gather(job, lsn, payload);
            }
            Kind::CreateQueue => {
                let Some((id, spec)) = read_queue(payload) else {
                    return;
                };
                let Some(cell) = self.queue(id) else { return };
                let queue = cell.lock();
                if queue.deleted || queue.create_lsn != lsn {
                    return;
                }
                let mut record = self.record();
                put_queue(&mut record, id, spec);
                self.push_one(job, Kind::CreateQueue, record, What::Queue(id), lsn, QUEUE_BYTES);
            }
            Kind::PutMeta => {
                let Some((key, value)) = read_meta(payload) else {
                    return;
                };
                self.copy_meta(job, lsn, key, value);
            }
            Kind::DeleteQueue
            | Kind::Settle
            | Kind::DeleteMeta
            | Kind::Live
            | Kind::Delivered
            | Kind::Attempts
            | Kind::Seal
            | Kind::Gap => {}
        }
    }

    /// Copies a value if it is its key's still.
    fn copy_meta(&self, job: &mut Move, lsn: u64, key: &[u8], value: &[u8]) {
        let metas = self.metas.lock();
        if metas.get(key).is_none_or(|(kept, at)| *at != lsn || kept != value) {
            return;
        }
        let mut record = self.record();
        put_meta(&mut record, key, value);
        let size = key.len() + value.len();
        self.push_one(job, Kind::PutMeta, record, What::Meta(key.to_vec()), lsn, size);
    }

    fn push_one(&self, job: &mut Move, kind: Kind, record: Record, what: What, from: u64, size: usize) {
        let mut log = self.log.lock();
        let (to, after) = log.push_copy(kind, record, self.durable_lsn());
        log.add_live(to, &Arrivals::one(size));
        job.unsynced += size;
        job.moved.push_back(Moved { what, from, to, size, after });
    }

    /// Gathers the messages of a batch that some queue still refers to.
    fn gather(&self, job: &mut Move, lsn: u64, payload: &[u8]) -> Option<()> {
        let mut placed = Vec::new();
        let mut refs: Vec<(usize, QueueId, u64)> = Vec::new();
        let mut puts: Vec<(&[u8], &[u8])> = Vec::new();
        let wall = read_batch(
            payload,
            &mut placed,
            |_, index, _, id, seq| refs.push((index, id, seq)),
            |_, _, _| {},
            |key, value| puts.extend(value.map(|value| (key, value))),
        )?;
        for (key, value) in puts {
            self.copy_meta(job, lsn, key, value);
        }
        let cells = self.cells(refs.iter().map(|&(_, id, _)| id));
        let mut guards: Vec<_> = cells.iter().map(|cell| cell.lock()).collect();
        refs.retain(|&(index, id, seq)| {
            let at = guards.binary_search_by_key(&id, |queue| queue.id);
            let from = lsn + placed[index].offset as u64;
            at.is_ok_and(|at| self.lies_at(&mut guards[at], seq, from))
        });
        drop(guards);
        for group in refs.chunk_by(|a, b| a.0 == b.0) {
            let references = group.iter().map(|&(_, id, seq)| (id, seq));
            job.gathered.add(wall, lsn, payload, &placed[group[0].0], references);
        }
        Some(())
    }

    /// Whether an entry is there and its message lies where it was read.
    fn lies_at(&self, queue: &mut Queue, seq: u64, lsn: u64) -> bool {
        match queue.find_mut(seq) {
            Some(entry) => entry.lsn == lsn,
            None => self.options.plants(Canary::MoveSettled),
        }
    }

    /// The queues with these ids that exist, in order of id.
    fn cells(&self, ids: impl Iterator<Item = QueueId>) -> Vec<QueueCell> {
        let mut ids: Vec<QueueId> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        ids.iter().filter_map(|&id| self.queue(id)).collect()
    }

    /// Copies a round of what was gathered.
    fn copy_some(&self, job: &mut Move) {
        let before = job.unsynced;
        while job.unsynced < before + ROUND_BYTES && !job.gathered.is_empty() {
            self.copy_batch(job);
        }
        if job.gathered.is_empty() {
            job.gathered = Gathered::default();
            job.copying = false;
        }
    }

    /// Copies the next messages of one queue and one time that still lie where they were read.
    fn copy_batch(&self, job: &mut Move) {
        let batch = job.gathered.next_batch();
        let references = batch.iter().flat_map(|found| job.gathered.references(found));
        let cells = self.cells(references.map(|&(id, _)| id));
        let mut guards: Vec<_> = cells.iter().map(|cell| cell.lock()).collect();
        let mut alive = Vec::with_capacity(batch.len());
        for found in batch {
            let mut references = job.gathered.references(&found).to_vec();
            references.retain(|&(id, seq)| {
                let at = guards.binary_search_by_key(&id, |queue| queue.id);
                at.is_ok_and(|at| self.lies_at(&mut guards[at], seq, found.lsn))
            });
            if !references.is_empty() {
                alive.push((found, references));
            }
        }
        let Some((first, _)) = alive.first() else {
            return;
        };
        let mut record = self.record();
        let mut arrivals = Arrivals::default();
        record.varint(first.wall);
        record.varint(alive.len() as u64);
        let mut offsets = Vec::with_capacity(alive.len());
        for (found, references) in &alive {
            offsets.push(record.len() as u64);
            job.gathered.put(found, &mut record);
            arrivals.message(found.size, references[0].0);
        }
        for (found, references) in &alive {
            record.varint(references.len() as u64);
            for &(id, seq) in references {
                record.varint(id.0);
                record.varint(seq);
                arrivals.reference(found.size);
            }
        }
        record.varint(0);
        job.unsynced += record.len();
        let mut log = self.log.lock();
        let (to, mut after) = log.push_copy(Kind::Batch, record, self.durable_lsn());
        log.add_live(to, &arrivals);
        // What was said of a copied entry may lie in a file that is now given up before the copy's.
        for queue in &mut guards {
            let of_queue = alive.iter().flat_map(|(_, references)| references).filter(|(id, _)| *id == queue.id);
            let mut copied: Vec<u64> = of_queue.map(|&(_, seq)| seq).collect();
            copied.sort_unstable();
            if copied.first().is_some_and(|first| *first <= queue.delivered) {
                after = after.max(self.say_delivered(&mut log, queue));
            }
            after = after.max(self.say_attempts(&mut log, queue, copied.into_iter()));
        }
        drop(log);
        for ((found, references), offset) in alive.into_iter().zip(offsets) {
            let of_message = |(id, seq)| Moved {
                what: What::Entry(id, seq),
                from: found.lsn,
                to: to + offset,
                size: found.size,
                after,
            };
            job.moved.extend(references.into_iter().map(of_message));
        }
    }

    /// Of what is proven to be durable the copy is the original from now on.
    fn switch_proven(&self, job: &mut Move) {
        let proven = self.log.lock().proven(self.durable_lsn());
        while let Some(moved) = job.moved.pop_front_if(|moved| moved.after <= proven) {
            self.switch(&moved);
        }
        if job.moved.is_empty() {
            job.unsynced = 0;
        }
    }

    fn switch(&self, moved: &Moved) {
        let mut switched = false;
        match &moved.what {
            What::Entry(id, seq) => {
                if let Some(cell) = self.queue(*id) {
                    let mut queue = cell.lock();
                    if let Some(entry) = queue.find_mut(*seq)
                        && entry.lsn == moved.from
                    {
                        entry.lsn = moved.to;
                        switched = true;
                        self.log.lock().drop_live(moved.from, moved.size);
                    }
                }
            }
            What::Queue(id) => {
                if let Some(cell) = self.queue(*id) {
                    let mut queue = cell.lock();
                    if !queue.deleted {
                        queue.create_lsn = moved.to;
                        switched = true;
                        self.log.lock().drop_live(moved.from, moved.size);
                    }
                }
            }
            What::Meta(key) => {
                let mut metas = self.metas.lock();
                if let Some((_, lsn)) = metas.get_mut(key)
                    && *lsn == moved.from
                {
                    *lsn = moved.to;
                    switched = true;
                    self.log.lock().drop_live(moved.from, moved.size);
                }
            }
        }
        if !switched {
            self.log.lock().drop_live(moved.to, moved.size);
        }
    }
}
