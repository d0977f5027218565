//! Where transient messages go when memory is short: files that are never synced and dropped at every start.
//!
//! Invariants: a place in the spill is used once. A file goes when nothing in it is needed; its name ends as those of
//! spares do, so the next start removes it. While files hold more than twice what is needed, and two files more, what is
//! needed in the emptiest is spilled again, so that a consumer who leaves a message here and there keeps no file.
//!
//! A write is framed like a record of the log, for it to be read again without the queue's help: header (its place for the
//! LSN), queue, count, seq and time of each, the messages.

use crate::core::{Core, QueueCell};
use crate::disk::{DiskError, DiskFile};
use crate::payload::{MessageView, Record};
use crate::prepare::SPARE_SUFFIX;
use crate::queue::SPILLED;
use crate::record::{HEADER_BYTES, Kind, Reader, decode_header, encode_header, record_bytes};
use crate::writer::slices_of;
use model::{Message, QueueId, Wall};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Messages, and about how many bytes of them, spilled at once.
const ROUND_MESSAGES: usize = 1024;
const ROUND_BYTES: usize = 1024 * 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Spill {
    /// By the first place in each.
    files: BTreeMap<u64, SpillFile>,
    next: u64,
}

struct SpillFile {
    name: String,
    handle: Arc<dyn DiskFile>,
    /// Messages in it that are needed, and their bytes.
    live: u64,
    living: u64,
    /// Bytes written to it.
    size: u64,
    /// A write failed, or cannot be read: what lies behind cannot be found by reading.
    torn: bool,
}

impl Spill {
    /// Files, their bytes, and those of messages that are needed.
    pub(crate) fn used(&self) -> (u64, u64, u64) {
        let files = self.files.values();
        (self.files.len() as u64, files.clone().map(|f| f.size).sum(), files.map(|f| f.living).sum())
    }

    /// The file that holds a place, and where in it.
    pub(crate) fn place(&self, at: u64) -> Option<(Arc<dyn DiskFile>, u64)> {
        let (base, file) = self.files.range(..=at).next_back()?;
        Some((file.handle.clone(), at - base))
    }

    /// A message of this size is no longer needed; returns whether the keeper should look at its file.
    pub(crate) fn free(&mut self, lsn: u64, size: usize) -> bool {
        let at = lsn & !SPILLED;
        let Some((_, file)) = self.files.range_mut(..=at).next_back() else {
            return false;
        };
        let was_sparse = file.is_sparse();
        file.live = file.live.saturating_sub(1);
        file.living = file.living.saturating_sub(size as u64);
        file.live == 0 || file.is_sparse() != was_sparse
    }

    /// The emptiest file, if files hold much more than what is needed.
    fn sparse(&self, file_bytes: u64) -> Option<Thinning> {
        let (_, size, living) = self.used();
        if size < 2 * (living + file_bytes) {
            return None;
        }
        let current = self.files.keys().next_back().copied();
        let others = self.files.iter().filter(|(base, file)| Some(**base) != current && file.live > 0 && !file.torn);
        let (&base, _) = others.min_by_key(|(_, file)| file.living)?;
        Some(Thinning { base, at: base })
    }
}

impl SpillFile {
    fn is_sparse(&self) -> bool {
        self.living * 2 < self.size
    }
}

/// A file whose messages are spilled again, and the place of the next write in it.
pub(crate) struct Thinning {
    base: u64,
    at: u64,
}

/// A message on its way out.
pub(crate) struct Leaving {
    pub(crate) seq: u64,
    pub(crate) slot: u32,
    pub(crate) wall: u64,
    pub(crate) message: Message,
}

impl Core {
    /// Spills transient messages of a queue but for about `keep` bytes at its head.
    pub(crate) fn spill_tail(&self, cell: &QueueCell, keep: usize) {
        loop {
            let leaving = cell.lock().leaving(keep, ROUND_MESSAGES, ROUND_BYTES);
            if leaving.is_empty() {
                return;
            }
            // A disk that is full or broken leaves them in memory, where they are safe; the writer will notice.
            let Ok(places) = self.write_spill(cell.id, &leaving, &self.counters.spilled_bytes) else {
                return;
            };
            let mut queue = cell.lock();
            for (one, place) in leaving.iter().zip(places) {
                let lsn = place | SPILLED;
                let here = |e: &&mut crate::queue::Entry| e.lsn == 0 && e.slot == one.slot;
                if let Some(entry) = queue.find_mut(one.seq).filter(here) {
                    entry.lsn = lsn;
                    entry.slot = crate::queue::NO_SLOT;
                    queue.spilled(one.seq);
                    let freed = queue.forget(one.slot);
                    self.resident.fetch_sub(freed, Relaxed);
                } else {
                    self.spill.lock().free(lsn, one.message.bytes().len());
                }
            }
        }
    }

    /// Spills again what is needed in the next write of a sparse file; returns how many bytes were read, 0 if no file is
    /// sparse.
    pub(crate) fn thin_spill(&self, thinning: &mut Option<Thinning>) -> Result<u64, DiskError> {
        let (base, at, file) = {
            let spill = self.spill.lock();
            thinning.take_if(|t| spill.files.get(&t.base).is_none_or(|file| t.at - t.base >= file.size));
            let chosen = thinning.take().or_else(|| spill.sparse(self.options.file_bytes));
            let Some((chosen, file)) = chosen.and_then(|t| spill.files.get(&t.base).map(|file| (t, file))) else {
                return Ok(0);
            };
            let found = (chosen.base, chosen.at, file.handle.clone());
            *thinning = Some(chosen);
            found
        };
        let Some(bytes) = read_write(&*file, base, at).or_else(|| read_write(&*file, base, at)) else {
            self.keep_torn(base, at);
            *thinning = None;
            return Ok(0);
        };
        self.spill_again(at, &bytes)?;
        let read = bytes.len() as u64;
        *thinning = Some(Thinning { base, at: at + read });
        Ok(read)
    }

    /// Gives up emptying a file that is damaged; what is needed in it stays there, and is looked at when its turn comes.
    fn keep_torn(&self, base: u64, at: u64) {
        let name = self.spill.lock().files.get_mut(&base).map(|file| {
            file.torn = true;
            file.name.clone()
        });
        if let Some(name) = name {
            self.counters.damaged.fetch_add(1, Relaxed);
            self.events.damaged(&format!("what was written at byte {} of {name}", at - base));
        }
    }

    /// Of a write at `at`, writes those messages again that still lie there.
    fn spill_again(&self, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let Some((queue, messages)) = read_spilled(bytes) else {
            return Ok(());
        };
        let Some(cell) = self.queue(queue) else {
            return Ok(());
        };
        let mut needed = Vec::new();
        let mut from = Vec::new();
        for (seq, wall, offset, view) in messages {
            let lsn = (at + offset as u64) | SPILLED;
            if let Some(message) = view.to_message()
                && cell.lock().find_mut(seq).is_some_and(|entry| entry.lsn == lsn)
            {
                needed.push(Leaving { seq, slot: crate::queue::NO_SLOT, wall, message });
                from.push(lsn);
            }
        }
        if needed.is_empty() {
            return Ok(());
        }
        let places = self.write_spill(queue, &needed, &self.counters.respilled_bytes)?;
        let mut queue = cell.lock();
        for ((one, from), place) in needed.iter().zip(from).zip(places) {
            let to = place | SPILLED;
            let moved = queue.find_mut(one.seq).filter(|entry| entry.lsn == from).map(|entry| entry.lsn = to);
            self.spill.lock().free(if moved.is_some() { from } else { to }, one.message.bytes().len());
        }
        Ok(())
    }

    /// Writes messages of a queue to the spill and counts the bytes; returns their places.
    fn write_spill(&self, queue: QueueId, leaving: &[Leaving], bytes: &AtomicU64) -> Result<Vec<u64>, DiskError> {
        let mut record = Record::default();
        record.start();
        record.varint(queue.0);
        record.varint(leaving.len() as u64);
        for one in leaving {
            record.varint(one.seq);
            record.varint(one.wall);
        }
        let offsets: Vec<usize> =
            leaving.iter().map(|one| record.message(&one.message, None, Wall(one.wall))).collect();
        let (len, crc) = record.finish();
        let padding = record_bytes(len) - record.len();
        record.buf.resize(record.buf.len() + padding, 0);
        let living: u64 = leaving.iter().map(|one| one.message.bytes().len() as u64).sum();
        let (handle, base, start) = {
            let mut spill = self.spill.lock();
            let current = spill.files.keys().next_back().copied();
            let base = match current {
                Some(base) if spill.next - base < self.options.file_bytes => base,
                _ => {
                    let base = spill.next;
                    let name = format!("spill-{base:016}{SPARE_SUFFIX}");
                    let handle = self.disk.create(&name)?;
                    spill.files.insert(base, SpillFile { name, handle, live: 0, living: 0, size: 0, torn: false });
                    base
                }
            };
            let start = spill.next;
            record.buf[..HEADER_BYTES].copy_from_slice(&encode_header(Kind::Batch, len, crc, start, start));
            spill.next += record.len() as u64;
            let file = spill.files.get_mut(&base).expect("just found or made");
            file.live += leaving.len() as u64;
            file.living += living;
            file.size += record.len() as u64;
            (file.handle.clone(), base, start)
        };
        let mut slices = Vec::new();
        slices_of(&record, &mut slices);
        if let Err(error) = handle.pwritev(&slices, start - base) {
            let mut spill = self.spill.lock();
            if let Some(file) = spill.files.get_mut(&base) {
                file.live -= leaving.len() as u64;
                file.living -= living;
                file.torn = true;
            }
            return Err(error);
        }
        bytes.fetch_add(record.len() as u64, Relaxed);
        debug_assert!(offsets.iter().all(|o| *o >= HEADER_BYTES));
        Ok(offsets.iter().map(|o| start + *o as u64).collect())
    }

    /// Removes files of the spill that nobody needs.
    pub(crate) fn clean_spill(&self) {
        let mut spill = self.spill.lock();
        // If one cannot be removed now, the next start does it.
        spill.files.retain(|_, file| file.live > 0 || self.disk.remove(&file.name).is_err());
    }
}

/// One write to the spill, header and padding included; `None` if it is not what was written.
fn read_write(file: &dyn DiskFile, base: u64, at: u64) -> Option<Vec<u8>> {
    let mut head = [0; HEADER_BYTES];
    let read = file.pread(&mut head, at - base).ok()?;
    let header = decode_header(&head[..read], at)?;
    let mut bytes = vec![0; record_bytes(header.len)];
    let read = file.pread(&mut bytes, at - base).ok()?;
    let payload = bytes[..read].get(HEADER_BYTES..HEADER_BYTES + header.len)?;
    (crc32c::crc32c(payload) == header.payload_crc).then_some(bytes)
}

/// Seq, time, place in the write, and content.
type Spilled<'a> = (u64, u64, usize, MessageView<'a>);

/// The queue of a write, and its messages.
fn read_spilled(bytes: &[u8]) -> Option<(QueueId, Vec<Spilled<'_>>)> {
    let mut reader = Reader::new(bytes);
    reader.take(HEADER_BYTES)?;
    let queue = QueueId(reader.varint()?);
    let count = reader.count()?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push((reader.varint()?, reader.varint()?));
    }
    let mut messages = Vec::with_capacity(count);
    for (seq, wall) in ids {
        let offset = reader.pos();
        messages.push((seq, wall, offset, MessageView::read(&mut reader, Wall(wall), bytes)?));
    }
    Some((queue, messages))
}
