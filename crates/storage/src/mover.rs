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
use crate::disk::DiskError;
use crate::gather::Gathered;
use crate::keeper::{Keeper, Left};
use crate::lane::Found;
use crate::log::file_name;
use crate::payload::{Record, put_meta, put_queue, read_batch, read_meta, read_queue};
use crate::queue::Queue;
use crate::record::{FILE_HEADER_BYTES, Header, Kind};
use crate::scan::{Records, Unreadable};
use crate::sync::MutexGuard;
use crate::usage::{Arrivals, QUEUE_BYTES};
use model::QueueId;
use std::collections::VecDeque;
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
    pub(crate) records: Records,
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

    /// Whether something lies in two places and is counted as living in both.
    pub(crate) fn is_between(&self) -> bool {
        !self.moved.is_empty()
    }

    fn is_done(&self) -> bool {
        self.sources.is_empty() && self.gathered.is_empty() && self.moved.is_empty()
    }
}

impl Core {
    /// Goes on emptying files, or chooses some.
    pub(crate) fn move_step(&self, keeper: &mut Keeper) -> Result<Left, DiskError> {
        let Some(mut job) = keeper.moving.take().or_else(|| self.choose()) else {
            return Ok(Left::Nothing);
        };
        let left = self.move_some(&mut job, &mut keeper.allowance);
        if !job.is_done() {
            keeper.moving = Some(job);
        }
        left
    }

    /// A round of a job: copies, or else reads, or else waits.
    fn move_some(&self, job: &mut Move, allowance: &mut Allowance) -> Result<Left, DiskError> {
        self.switch_proven(job)?;
        let must_wait = job.unsynced >= ROUND_BYTES || (job.sources.is_empty() && job.gathered.is_empty());
        if must_wait && !job.moved.is_empty() {
            return Ok(if self.is_proven(job) { Left::Now } else { Left::Later });
        }
        if job.copying {
            self.copy_some(job)?;
            return Ok(Left::Now);
        }
        if let Some(source) = job.sources.front() {
            if self.log.lock().files.get(&source.base).is_none_or(|file| file.live == 0) {
                // Everything in it was settled meanwhile and it is given up.
                job.sources.pop_front();
            } else if allowance.allows(job.why.frees()) {
                allowance.spend(ROUND_BYTES as u64, job.why.frees());
                self.read_some(job)?;
            } else {
                return Ok(Left::Later);
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
        Ok(Left::Now)
    }

    /// Notes that a file is damaged; what lives from there on stays where it is.
    pub(crate) fn keep_damaged(&self, base: u64, lsn: u64) {
        let number = self.log.lock().files.get_mut(&base).map(|file| {
            file.damaged = true;
            file.number
        });
        if let Some(number) = number {
            self.counters.damaged.fetch_add(1, Relaxed);
            let at = lsn - base + FILE_HEADER_BYTES;
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

    /// Gathers what lives in the next records.
    fn read_some(&self, job: &mut Move) -> Result<(), DiskError> {
        let Some(mut source) = job.sources.pop_front() else {
            return Ok(());
        };
        let until = source.records.at() + ROUND_BYTES as u64;
        while source.records.at() < until {
            let looked = match source.records.next() {
                Ok(Some((header, lsn, payload))) => self.look_at(job, header, lsn, payload),
                Ok(None) => return Ok(()),
                Err(Unreadable) => {
                    self.keep_damaged(source.base, source.records.at());
                    return Ok(());
                }
            };
            if looked.is_err() {
                // What lives in that record stays where it is.
                job.sources.push_front(source);
                return looked;
            }
        }
        job.sources.push_front(source);
        Ok(())
    }

    /// Gathers the messages of a record that live; copies a queue or a value at once, for they are few and small.
    fn look_at(&self, job: &mut Move, header: Header, lsn: u64, payload: &[u8]) -> Result<(), DiskError> {
        match header.kind {
            Kind::Batch => return self.gather(job, lsn, payload),
            Kind::CreateQueue => {
                let Some((id, spec)) = read_queue(payload) else {
                    return Ok(());
                };
                let Some(cell) = self.queue(id) else { return Ok(()) };
                let queue = cell.lock();
                if queue.deleted || queue.create_lsn != lsn {
                    return Ok(());
                }
                let mut record = self.record();
                put_queue(&mut record, id, spec);
                self.push_one(job, Kind::CreateQueue, record, What::Queue(id), lsn, QUEUE_BYTES);
            }
            Kind::PutMeta => {
                let Some((key, value)) = read_meta(payload) else {
                    return Ok(());
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
            | Kind::GoesOn
            | Kind::Link
            | Kind::Oldest
            | Kind::Gap
            | Kind::Refs => {}
        }
        Ok(())
    }

    /// Copies a value if it is its key's still.
    fn copy_meta(&self, job: &mut Move, lsn: u64, key: &[u8], value: &[u8]) {
        let metas = self.metas.lock();
        if metas.get(key).is_none_or(|meta| meta.lsn() != lsn || meta.value() != value) {
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
        log.add_definition(to, size);
        job.unsynced += size;
        job.moved.push_back(Moved { what, from, to, size, after });
    }

    /// Gathers the messages of a batch that some queue still refers to.
    fn gather(&self, job: &mut Move, lsn: u64, payload: &[u8]) -> Result<(), DiskError> {
        let mut placed = Vec::new();
        let mut refs: Vec<(usize, QueueId, u64)> = Vec::new();
        let mut puts: Vec<(&[u8], &[u8])> = Vec::new();
        let wall = read_batch(
            payload,
            &mut placed,
            |_, index, _, id, seq| refs.push((index, id, seq)),
            |_, _, _| {},
            |key, value| puts.extend(value.map(|value| (key, value))),
        );
        // What is no batch was found so at the start already, and kept for nothing but to be read again.
        let Some(wall) = wall else { return Ok(()) };
        for (key, value) in puts {
            self.copy_meta(job, lsn, key, value);
        }
        let cells = self.cells(refs.iter().map(|&(_, id, _)| id));
        let mut guards = self.lock_unpacked(&cells, || refs.iter().map(|&(_, id, seq)| (id, seq)))?;
        refs.retain(|&(index, id, seq)| {
            let at = guards.binary_search_by_key(&id, |queue| queue.id);
            let from = lsn + placed[index].offset as u64;
            at.is_ok_and(|at| self.lies_at(&mut guards[at], seq, from))
        });
        guards.iter_mut().for_each(|queue| self.close_pages(queue));
        drop(guards);
        for group in refs.chunk_by(|a, b| a.0 == b.0) {
            let references = group.iter().map(|&(_, id, seq)| (id, seq));
            job.gathered.add(wall, lsn, payload, &placed[group[0].0], references);
        }
        Ok(())
    }

    /// Locks queues, in order of id, so that none of these entries is in a page that is not in memory.
    fn lock_unpacked<'a, I: Iterator<Item = (QueueId, u64)>>(
        &self,
        cells: &'a [QueueCell],
        entries: impl Fn() -> I,
    ) -> Result<Vec<MutexGuard<'a, Queue>>, DiskError> {
        loop {
            let mut guards: Vec<_> = cells.iter().map(|cell| cell.lock()).collect();
            let away = entries().find_map(|(id, seq)| {
                let at = guards.binary_search_by_key(&id, |queue| queue.id).ok()?;
                match guards[at].find(seq) {
                    Found::Away(first, spot) => Some((at, first, spot)),
                    Found::Entry(_) | Found::Nowhere => None,
                }
            });
            let Some((at, first, spot)) = away else {
                return Ok(guards);
            };
            drop(guards);
            self.load_page(&cells[at], first, spot)?;
        }
    }

    /// Packs what was opened to look for entries.
    fn close_pages(&self, queue: &mut Queue) {
        queue.close_pages();
        self.charge(queue);
    }

    /// Whether an entry is there and its message lies where it was read.
    fn lies_at(&self, queue: &mut Queue, seq: u64, lsn: u64) -> bool {
        match queue.find(seq) {
            Found::Entry(entry) => entry.lsn == lsn,
            Found::Nowhere | Found::Away(..) => self.options.plants(Canary::MoveSettled),
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
    fn copy_some(&self, job: &mut Move) -> Result<(), DiskError> {
        let before = job.unsynced;
        let mut copied = Ok(());
        while copied.is_ok() && job.unsynced < before + ROUND_BYTES && !job.gathered.is_empty() {
            copied = self.copy_batch(job);
        }
        if job.gathered.is_empty() {
            job.gathered = Gathered::default();
            job.copying = false;
        }
        copied
    }

    /// Copies the next messages of one queue and one time that still lie where they were read.
    fn copy_batch(&self, job: &mut Move) -> Result<(), DiskError> {
        let batch = job.gathered.next_batch();
        let references = || batch.iter().flat_map(|found| job.gathered.references(found)).copied();
        let cells = self.cells(references().map(|(id, _)| id));
        let mut guards = self.lock_unpacked(&cells, references)?;
        let mut alive = Vec::with_capacity(batch.len());
        for &found in &batch {
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
            guards.iter_mut().for_each(|queue| self.close_pages(queue));
            return Ok(());
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
            if !self.options.plants(Canary::MoveUncounted) {
                after = after.max(self.say_attempts(&mut log, queue, copied.into_iter()));
            }
        }
        drop(log);
        guards.iter_mut().for_each(|queue| self.close_pages(queue));
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
        Ok(())
    }

    /// Of what is proven to be durable the copy is the original from now on.
    fn switch_proven(&self, job: &mut Move) -> Result<(), DiskError> {
        let proven = self.log.lock().proven(self.durable_lsn());
        let mut touched: Vec<QueueId> = Vec::new();
        let mut switched = Ok(());
        while let Some(moved) = job.moved.front().filter(|moved| moved.after <= proven) {
            switched = self.switch(moved);
            if switched.is_err() {
                break;
            }
            if let What::Entry(id, _) = moved.what {
                touched.push(id);
            }
            job.moved.pop_front();
        }
        self.cells(touched.into_iter()).iter().for_each(|cell| self.close_pages(&mut cell.lock()));
        if job.moved.is_empty() {
            job.unsynced = 0;
        }
        switched
    }

    /// The copy is proven: it is the original from now on.
    fn switch(&self, moved: &Moved) -> Result<(), DiskError> {
        let mut switched = false;
        match &moved.what {
            What::Entry(id, seq) => {
                if let Some(cell) = self.queue(*id) {
                    switched = self.point(&cell, *seq, moved.from, moved.to)?;
                    if switched {
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
                        self.log.lock().drop_definition(moved.from, moved.size);
                    }
                }
            }
            What::Meta(key) => {
                let mut metas = self.metas.lock();
                if metas.relocate(key, moved.from, moved.to) {
                    switched = true;
                    self.log.lock().drop_definition(moved.from, moved.size);
                }
            }
        }
        if switched {
            return Ok(());
        }
        let mut log = self.log.lock();
        match moved.what {
            What::Entry(..) => _ = log.drop_live(moved.to, moved.size),
            What::Queue(_) | What::Meta(_) => log.drop_definition(moved.to, moved.size),
        }
        Ok(())
    }

    /// Points an entry whose message lay at `from` to where it lies now; false if it is no longer so.
    pub(crate) fn point(&self, cell: &QueueCell, seq: u64, from: u64, to: u64) -> Result<bool, DiskError> {
        loop {
            let mut queue = cell.lock();
            match queue.find(seq) {
                Found::Entry(entry) if entry.lsn == from => {
                    entry.lsn = to;
                    return Ok(true);
                }
                Found::Away(first, spot) => {
                    drop(queue);
                    self.load_page(cell, first, spot)?;
                }
                Found::Entry(_) | Found::Nowhere => return Ok(false),
            }
        }
    }
}
