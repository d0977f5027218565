//! Moving what still lives in a file to the end of the log, so that the file can be given up.
//!
//! Invariants: a copy is pushed under the lock of what it belongs to, so a settle or a newer value comes behind it.
//! The entry lies at its old place until the copy is durable. Copies keep queue, seq and time. A round moves little,
//! so it never holds up publishers for long.

use crate::canary::Canary;
use crate::core::{Core, QueueCell};
use crate::disk::DiskFile;
use crate::keeper::{Keeper, Left};
use crate::log::file_name;
use crate::payload::{Placed, put_meta, put_queue, read_batch, read_meta, read_queue};
use crate::record::{FILE_HEADER_BYTES, HEADER_BYTES, Header, Kind, decode_header, record_bytes};
use model::{QueueId, Wall};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes read in a round.
const ROUND_BYTES: usize = 1024 * 1024;
/// Files that may be emptier than what lives needs, before anything is moved.
const SLACK_FILES: u64 = 3;

/// A file that is being emptied.
pub(crate) struct Move {
    base: u64,
    end: u64,
    file: Arc<dyn DiskFile>,
    /// LSN of the next record to look at.
    at: u64,
    moved: Vec<Moved>,
    /// The copies are durable from here on.
    after: u64,
}

/// What was copied, from where, to where.
struct Moved {
    what: What,
    from: u64,
    to: u64,
}

enum What {
    Entry(QueueId, u64),
    Queue(QueueId),
    Meta(Vec<u8>),
}

impl Core {
    /// Goes on emptying a file, or chooses one.
    pub(crate) fn move_step(&self, keeper: &mut Keeper) -> Left {
        if keeper.moving.is_none() {
            keeper.moving = self.choose();
        }
        let Some(job) = &mut keeper.moving else {
            return Left::Nothing;
        };
        if !self.log.lock().files.contains_key(&job.base) {
            // Everything in it was settled meanwhile and it was given up.
            job.at = job.end;
        }
        if job.at < job.end {
            if !self.copy_some(job) && !self.copy_some(job) {
                // Read twice, and not what was written: what lives from there on stays where it is.
                self.keep_damaged(job);
            }
            self.signals.write.lazy();
            return Left::Now;
        }
        if self.durable_lsn() < job.after {
            self.signals.write.lazy();
            return Left::Later;
        }
        let moved = std::mem::take(&mut job.moved);
        keeper.moving = None;
        for one in moved {
            self.switch(&one);
        }
        Left::Now
    }

    /// The emptiest file, if files hold much more than what lives.
    fn choose(&self) -> Option<Move> {
        let log = self.log.lock();
        let current = log.files.keys().next_back().copied();
        let size: u64 = log.files.values().map(|f| f.capacity).sum();
        let live: u64 = log.files.values().map(|f| f.live_bytes()).sum();
        let many = SLACK_FILES + 2 * live / self.options.file_bytes + 4;
        if size < 2 * live + SLACK_FILES * self.options.file_bytes && (log.files.len() as u64) < many {
            return None;
        }
        let full = |f: &&crate::log::LogFile| f.live_bytes() * 1024 / f.capacity.max(1);
        let files = log.files.values();
        let file = files
            .filter(|f| Some(f.base) != current && f.live > 0 && !f.damaged && f.end <= self.durable_lsn())
            .min_by_key(full)?;
        Some(Move {
            base: file.base,
            end: file.end,
            file: file.handle.clone()?,
            at: file.base,
            moved: Vec::new(),
            after: 0,
        })
    }

    /// Gives up emptying a file that is damaged.
    fn keep_damaged(&self, job: &mut Move) {
        let number = self.log.lock().files.get_mut(&job.base).map(|file| {
            file.damaged = true;
            file.number
        });
        if let Some(number) = number {
            self.counters.damaged.fetch_add(1, Relaxed);
            let at = job.at - job.base + FILE_HEADER_BYTES;
            self.events.damaged(&format!("the record at byte {at} of {}", file_name(number)));
        }
        job.end = job.at;
    }

    /// Copies what lives in the next records; false if the next is not what was written.
    fn copy_some(&self, job: &mut Move) -> bool {
        let mut buffer = vec![0; ROUND_BYTES];
        let from = job.at;
        loop {
            let offset = from - job.base + FILE_HEADER_BYTES;
            let Ok(n) = job.file.pread(&mut buffer, offset) else {
                return false;
            };
            let bytes = &buffer[..n];
            let mut at = 0;
            while job.at < job.end {
                let lsn = from + at as u64;
                let Some(header) = bytes.get(at..).and_then(|b| decode_header(b, lsn)) else {
                    break;
                };
                let Some(payload) = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + header.len) else {
                    break;
                };
                if crc32c::crc32c(payload) != header.payload_crc {
                    return at > 0;
                }
                self.copy_record(job, header, lsn, payload);
                at += record_bytes(header.len);
                job.at = from + at as u64;
            }
            if at > 0 {
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

    fn copy_record(&self, job: &mut Move, header: Header, lsn: u64, payload: &[u8]) {
        match header.kind {
            Kind::Batch => {
                self.copy_batch(job, lsn, payload);
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
                self.push_copy(job, Kind::CreateQueue, record, What::Queue(id), lsn);
            }
            Kind::PutMeta => {
                let Some((key, value)) = read_meta(payload) else {
                    return;
                };
                let metas = self.metas.lock();
                if metas.get(key).is_none_or(|(_, at)| *at != lsn) {
                    return;
                }
                let mut record = self.record();
                put_meta(&mut record, key, value);
                self.push_copy(job, Kind::PutMeta, record, What::Meta(key.to_vec()), lsn);
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

    fn push_copy(&self, job: &mut Move, kind: Kind, record: crate::payload::Record, what: What, from: u64) {
        let mut log = self.log.lock();
        let (to, end) = log.push(kind, record, self.durable_lsn());
        log.add_live(to, 1);
        job.after = end;
        job.moved.push(Moved { what, from, to });
    }

    /// Copies the messages of a batch that some queue still refers to.
    fn copy_batch(&self, job: &mut Move, lsn: u64, payload: &[u8]) -> Option<()> {
        let mut placed: Vec<Placed> = Vec::new();
        let mut refs: Vec<(usize, QueueId, u64)> = Vec::new();
        let wall = read_batch(payload, &mut placed, |_, index, _, id, seq| refs.push((index, id, seq)), |_, _, _| {})?;
        let mut ids: Vec<QueueId> = refs.iter().map(|&(_, id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        let cells: Vec<QueueCell> = ids.iter().filter_map(|&id| self.queue(id)).collect();
        let mut guards: Vec<_> = cells.iter().map(|cell| cell.lock()).collect();
        refs.retain(|&(index, id, seq)| {
            let at = guards.binary_search_by_key(&id, |queue| queue.id);
            at.is_ok_and(|at| {
                let entry = guards[at].find_mut(seq);
                if entry.is_none() && self.options.plants(Canary::MoveSettled) {
                    return true;
                }
                entry.is_some_and(|e| e.lsn == lsn + placed[index].offset as u64)
            })
        });
        if refs.is_empty() {
            return Some(());
        }
        let (record, offsets) = self.copy_of(wall, &placed, &refs, payload);
        let mut log = self.log.lock();
        let (to, end) = log.push(Kind::Batch, record, self.durable_lsn());
        job.after = end;
        log.add_live(to, refs.len() as u64);
        // What was said of a copied entry may lie in a file that is now given up before the copy's.
        for queue in &mut guards {
            let mut copied: Vec<u64> = refs.iter().filter(|r| r.1 == queue.id).map(|r| r.2).collect();
            copied.sort_unstable();
            if copied.first().is_some_and(|first| *first <= queue.delivered) {
                job.after = job.after.max(self.say_delivered(&mut log, queue));
            }
            job.after = job.after.max(self.say_attempts(&mut log, queue, copied.into_iter()));
        }
        for (index, id, seq) in refs {
            job.moved.push(Moved {
                what: What::Entry(id, seq),
                from: lsn + placed[index].offset as u64,
                to: to + offsets[index] as u64,
            });
        }
        Some(())
    }

    /// A batch of only the messages in `refs`, and where each lies in it.
    fn copy_of(
        &self,
        wall: Wall,
        placed: &[Placed],
        refs: &[(usize, QueueId, u64)],
        payload: &[u8],
    ) -> (crate::payload::Record, Vec<usize>) {
        let groups: Vec<_> = refs.chunk_by(|a, b| a.0 == b.0).collect();
        let mut record = self.record();
        let mut offsets = vec![0; placed.len()];
        record.varint(wall.0);
        record.varint(groups.len() as u64);
        for group in &groups {
            let message = &placed[group[0].0];
            offsets[group[0].0] = record.len();
            let start = message.offset - HEADER_BYTES;
            record.buf.extend_from_slice(&payload[start..start + message.encoded]);
        }
        for group in &groups {
            record.varint(group.len() as u64);
            for &(_, id, seq) in *group {
                record.varint(id.0);
                record.varint(seq);
            }
        }
        record.varint(0);
        (record, offsets)
    }

    /// The copy is durable: it is the original from now on.
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
                        self.log.lock().drop_live(moved.from);
                    }
                }
            }
            What::Queue(id) => {
                if let Some(cell) = self.queue(*id) {
                    let mut queue = cell.lock();
                    if !queue.deleted {
                        queue.create_lsn = moved.to;
                        switched = true;
                        self.log.lock().drop_live(moved.from);
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
                    self.log.lock().drop_live(moved.from);
                }
            }
        }
        if !switched {
            self.log.lock().drop_live(moved.to);
        }
    }
}
