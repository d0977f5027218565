//! Where transient messages and pages of the index go when memory is short, each into files of their own that are never
//! synced and dropped at every start.
//!
//! Invariants: a place in the spill is used once. A file goes when nothing in it is needed; its name ends as those of
//! spares do, so the next start removes it. While files hold more than twice what is needed, and two files more, what is
//! needed in the emptiest is spilled again, so that a consumer who leaves a message here and there keeps no file.
//!
//! A page goes when it is read back, so files of pages are never sparse for long. What is read back is checked.
//!
//! A write of messages is framed like a record of the log, for it to be read again without the queue's help: header (its place for the
//! LSN), queue, count, seq and time of each, the messages.

use crate::core::{Core, QueueCell};
use crate::disk::{Disk, DiskError, DiskFile};
use crate::lane::Found;
use crate::page::{self, Spot};
use crate::payload::{MessageView, Record};
use crate::prepare::SPARE_SUFFIX;
use crate::queue::SPILLED;
use crate::record::{HEADER_BYTES, Kind, Reader, decode_header, encode_header, record_bytes};
use crate::sync::Mutex;
use crate::writer::slices_of;
use model::{Message, QueueId, Wall};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes after which another file of pages is begun.
const PAGES_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Begins the names of files of pages.
pub(crate) const PAGES_PREFIX: &str = "pages-";

/// See the module.
pub(crate) struct Spill {
    prefix: &'static str,
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
    /// An empty one, whose names begin so.
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self { prefix, files: BTreeMap::new(), next: 0 }
    }

    /// One that uses none of these names.
    pub(crate) fn beside(prefix: &'static str, names: &[String]) -> Self {
        let number = |name: &String| name.strip_prefix(prefix)?.strip_suffix(SPARE_SUFFIX)?.parse::<u64>().ok();
        let last = names.iter().filter_map(number).max();
        Self { next: last.map_or(0, |last| last.saturating_add(PAGES_FILE_BYTES)), ..Self::new(prefix) }
    }

    /// Takes a place of `bytes` for `things` of which `living` are needed; returns the file, its base and the place.
    fn reserve(
        &mut self,
        disk: &dyn Disk,
        file_bytes: u64,
        (bytes, things, living): (u64, u64, u64),
    ) -> Result<(Arc<dyn DiskFile>, u64, u64), DiskError> {
        let current = self.files.keys().next_back().copied();
        let base = match current {
            Some(base) if self.next - base < file_bytes => base,
            _ => {
                let base = self.next;
                let name = format!("{}{base:016}{SPARE_SUFFIX}", self.prefix);
                let handle = disk.create(&name)?;
                self.files.insert(base, SpillFile { name, handle, live: 0, living: 0, size: 0, torn: false });
                base
            }
        };
        let start = self.next;
        self.next += bytes;
        let file = self.files.get_mut(&base).expect("just found or made");
        file.live += things;
        file.living += living;
        file.size += bytes;
        Ok((file.handle.clone(), base, start))
    }

    /// A write to a place that was taken failed.
    fn failed(&mut self, base: u64, things: u64, living: u64) {
        if let Some(file) = self.files.get_mut(&base) {
            file.live -= things;
            file.living -= living;
            file.torn = true;
        }
    }

    /// Removes all files; if one cannot be removed now, the next start does it.
    pub(crate) fn remove_all(&mut self, disk: &dyn Disk) {
        for file in std::mem::take(&mut self.files).into_values() {
            let _ = disk.remove(&file.name);
        }
    }

    /// Removes files that nobody needs; if one cannot be removed now, the next start does it.
    fn clean(&mut self, disk: &dyn Disk) {
        self.files.retain(|_, file| file.live > 0 || disk.remove(&file.name).is_err());
    }

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

/// Writes pages to the spill; returns where each lies.
pub(crate) fn write_pages(
    spill: &Mutex<Spill>,
    disk: &dyn Disk,
    pages: &[(u64, Box<[u8]>)],
) -> Result<Vec<Spot>, DiskError> {
    let slices: Vec<IoSlice<'_>> = pages.iter().map(|(_, bytes)| IoSlice::new(bytes)).collect();
    let bytes = pages.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let things = pages.len() as u64;
    let (handle, base, mut at) = spill.lock().reserve(disk, PAGES_FILE_BYTES, (bytes, things, bytes))?;
    if let Err(error) = handle.pwritev(&slices, at - base) {
        spill.lock().failed(base, things, bytes);
        return Err(error);
    }
    let mut spots = Vec::with_capacity(pages.len());
    for (_, bytes) in pages {
        spots.push(Spot { at, len: bytes.len() as u32, crc: crc32c::crc32c(bytes) });
        at += bytes.len() as u64;
    }
    Ok(spots)
}

/// Reads a page back; twice if need be.
pub(crate) fn read_page(spill: &Mutex<Spill>, spot: Spot) -> Result<Vec<u8>, DiskError> {
    let gone = || DiskError::Io("a page of the index is no longer in the spill".to_owned());
    let (file, offset) = spill.lock().place(spot.at).ok_or_else(gone)?;
    let mut bytes = vec![0; spot.len as usize];
    for _ in 0..2 {
        if file.pread(&mut bytes, offset) == Ok(bytes.len()) && crc32c::crc32c(&bytes) == spot.crc {
            return Ok(bytes);
        }
    }
    Err(page::damaged())
}

/// The same, to be kept as the content of the page with this first seq.
pub(crate) fn read_content(spill: &Mutex<Spill>, first: u64, spot: Spot) -> Result<Vec<u8>, DiskError> {
    let bytes = read_page(spill, spot)?;
    page::unpack(&bytes, first, 0, |_| {}).ok_or_else(page::damaged)?;
    Ok(bytes)
}

impl Core {
    /// Spills transient messages of a queue; false if that was not possible.
    pub(crate) fn spill_messages(&self, cell: &QueueCell, leaving: &[Leaving]) -> bool {
        // A disk that is full or broken leaves them in memory, where they are safe; the writer will notice.
        let Ok(places) = self.write_spill(cell.lock().id, leaving, &self.counters.spilled_bytes) else {
            return false;
        };
        let mut queue = cell.lock();
        for (one, place) in leaving.iter().zip(places) {
            let lsn = place | SPILLED;
            let here = |e: &&mut crate::queue::Entry| e.lsn == 0 && e.slot == one.slot;
            if let Some(entry) = queue.find_loose(one.seq).filter(here) {
                entry.lsn = lsn;
                entry.slot = crate::queue::NO_SLOT;
                queue.spilled(one.seq);
                let freed = queue.forget(one.slot);
                self.resident.fetch_sub(freed, Relaxed);
            } else {
                self.spill.lock().free(lsn, one.message.bytes().len());
            }
        }
        !leaving.is_empty()
    }

    /// Spills pages of a queue, about `bytes` of each lane; false if there are none or it was not possible.
    pub(crate) fn spill_pages(&self, cell: &QueueCell, bytes: usize) -> bool {
        let taken: Vec<_> = cell.lock().lanes_mut().iter_mut().map(|lane| lane.spillable(bytes)).collect();
        let mut done = false;
        for (at, pages) in taken.iter().enumerate().filter(|(_, pages)| !pages.is_empty()) {
            let spots = write_pages(&self.pages, &*self.disk, pages);
            done |= spots.is_ok();
            let mut queue = cell.lock();
            let lane = queue.lanes_mut().get_mut(at);
            match (lane, spots) {
                (Some(lane), Ok(spots)) => {
                    for ((first, content), spot) in pages.iter().zip(spots) {
                        if !lane.spilled(*first, content, spot) {
                            self.pages.lock().free(spot.at, spot.len as usize);
                        }
                    }
                }
                (Some(lane), Err(_)) => pages.iter().for_each(|(first, _)| lane.keep_packed(*first)),
                (None, Ok(spots)) => {
                    for spot in spots {
                        self.pages.lock().free(spot.at, spot.len as usize);
                    }
                }
                (None, Err(_)) => {}
            }
            self.charge(&mut queue);
        }
        done
    }

    /// Reads a page of a queue back into memory, if it still lies there.
    pub(crate) fn load_page(&self, cell: &QueueCell, first: u64, spot: Spot) -> Result<(), DiskError> {
        let read = read_content(&self.pages, first, spot);
        let mut queue = cell.lock();
        let still = queue.lanes_mut().iter().any(|lane| lane.has_spilled(first, spot));
        if !still {
            // Whoever took it away freed its place.
            return Ok(());
        }
        if queue.install(first, spot, &read?) {
            self.pages.lock().free(spot.at, spot.len as usize);
        }
        self.charge(&mut queue);
        Ok(())
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
            if let Some(message) = view.to_message(&self.bodies)
                && self.lies_spilled_at(&cell, seq, lsn)?
            {
                needed.push(Leaving { seq, slot: crate::queue::NO_SLOT, wall, message });
                from.push(lsn);
            }
        }
        if needed.is_empty() {
            return Ok(());
        }
        let places = self.write_spill(queue, &needed, &self.counters.respilled_bytes)?;
        for ((one, from), place) in needed.iter().zip(from).zip(places) {
            let to = place | SPILLED;
            // What cannot be found any more is needed where it lay.
            let moved = self.point(&cell, one.seq, from, to);
            self.spill.lock().free(if moved == Ok(true) { from } else { to }, one.message.bytes().len());
        }
        let mut queue = cell.lock();
        queue.close_pages();
        self.charge(&mut queue);
        Ok(())
    }

    /// Whether the message of an entry lies there, wherever the entry is.
    fn lies_spilled_at(&self, cell: &QueueCell, seq: u64, lsn: u64) -> Result<bool, DiskError> {
        loop {
            let (first, spot) = match cell.lock().find(seq) {
                Found::Entry(entry) => return Ok(entry.lsn == lsn),
                Found::Nowhere => return Ok(false),
                Found::Away(first, spot) => (first, spot),
            };
            self.load_page(cell, first, spot)?;
        }
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
        let things = leaving.len() as u64;
        let (handle, base, start) =
            self.spill.lock().reserve(&*self.disk, self.options.file_bytes, (record.len() as u64, things, living))?;
        record.buf[..HEADER_BYTES].copy_from_slice(&encode_header(Kind::Batch, len, crc, start, start));
        let mut slices = Vec::new();
        slices_of(&record, &mut slices);
        if let Err(error) = handle.pwritev(&slices, start - base) {
            self.spill.lock().failed(base, things, living);
            return Err(error);
        }
        bytes.fetch_add(record.len() as u64, Relaxed);
        debug_assert!(offsets.iter().all(|o| *o >= HEADER_BYTES));
        Ok(offsets.iter().map(|o| start + *o as u64).collect())
    }

    /// Removes files of the spill that nobody needs.
    pub(crate) fn clean_spill(&self) {
        self.spill.lock().clean(&*self.disk);
        self.pages.lock().clean(&*self.disk);
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

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::sim::SimDisk;

    #[test]
    fn what_is_no_page_is_an_error_although_its_checksum_is_right() {
        let disk = SimDisk::new();
        let spill = Mutex::new(Spill::new("pages-"));
        let written: [Box<[u8]>; 2] = [Box::new([0xff; 30]), Box::new([0, 0])];
        let pages = written.map(|bytes| (7, bytes));
        let spots = write_pages(&spill, &disk, &pages).expect("there is room");
        assert_eq!(read_page(&spill, spots[0]).as_deref(), Ok(&[0xff; 30][..]), "it is what was written");
        assert_eq!(read_content(&spill, 7, spots[0]), Err(page::damaged()));
        assert_eq!(read_content(&spill, 7, spots[1]).as_deref(), Ok(&[0, 0][..]), "a page without entries");
    }
}
