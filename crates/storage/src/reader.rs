//! Reading messages back that are no longer in memory.
//!
//! Invariants: runs on its own thread, never on the writer's. Nothing is locked while the disk is read, so what was
//! read counts only if the entry still lies at the same place afterwards: a file is given up only when no entry lies
//! in it. A message is checked against its own checksum; what cannot be read or does not match is read once more by
//! itself, and then put into quarantine: never handed out, never dropped, counted and told.

use crate::bodies::Bodies;
use crate::canary::Canary;
use crate::core::{Core, QueueCell};
use crate::disk::{DiskError, DiskFile};
use crate::lane::Next;
use crate::payload::{MESSAGE_HEAD_MAX, MessageView};
use crate::queue::{DAMAGED, Entry, NO_SLOT, Queue, SLOT_BYTES, SPILLED};
use crate::record::Reader;
use model::{Message, Now, Wall};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes and entries of a queue that are read ahead.
const AHEAD_BYTES: usize = 1024 * 1024;
const AHEAD_BYTES_MIN: usize = 64 * 1024;
const AHEAD_ENTRIES: usize = 2048;
/// Pages that are read at once.
const AHEAD_PAGES: usize = 8;
/// Bytes of one read, unless a message is larger.
const READ_BYTES: u64 = 1024 * 1024;
/// Bytes nobody wants that are read rather than skipped.
const GAP_BYTES: u64 = 64 * 1024;

/// Messages that lie close to each other.
struct Run {
    file: Arc<dyn DiskFile>,
    offset: u64,
    start: u64,
    end: u64,
    entries: Vec<Entry>,
}

impl Core {
    /// Has the head of a queue read. The caller holds the queue's lock.
    pub(crate) fn read_ahead(&self, queue: &mut Queue, now: Now) {
        if !queue.reading {
            queue.reading = true;
            self.reads.lock().push_back((queue.id, now));
            self.signals.read.work();
        }
    }

    /// Reads the head of one queue that waits for it; false if none does.
    pub(crate) fn read_step(&self) -> bool {
        let Some((id, asked)) = self.reads.lock().pop_front() else {
            return false;
        };
        let Some(cell) = self.queue(id) else {
            return true;
        };
        if let Err(error) = self.read_pages(&cell) {
            self.fail(&error.to_string());
            return true;
        }
        // What is beyond the queue's limits dies without being read, as far as it could not before.
        self.trim_all(&cell, cell.lock(), asked);
        let wanted = wanted(&mut cell.lock(), self.durable_lsn(), self.ahead_bytes());
        for run in self.runs(wanted) {
            let messages = self.read_run(&run, self.options.plants(Canary::TrustReads));
            self.keep_read(&mut cell.lock(), messages);
        }
        let mut queue = cell.lock();
        queue.reading = false;
        // Asks for the next page if there is more.
        self.trim_all(&cell, queue, asked);
        self.counters.cold_reads.fetch_add(1, Relaxed);
        self.events.readable(id);
        true
    }

    /// Has the reader go on once half of what it read was handed out. The caller holds the queue's lock.
    pub(crate) fn read_on(&self, queue: &mut Queue, now: Now) {
        if let Some((lane, seq)) = queue.contents.read_from.as_deref().copied()
            && let Next::Entry(next) = queue.next()
            && (next.lane < lane || (next.lane == lane && next.seq >= seq))
        {
            queue.contents.read_from = None;
            self.read_ahead(queue, now);
        }
    }

    /// Unpacks the pages at the head of a queue, and reads those that were spilled.
    fn read_pages(&self, cell: &QueueCell) -> Result<(), DiskError> {
        loop {
            let missing = {
                let mut queue = cell.lock();
                let missing = queue.next_lane().map(|lane| {
                    lane.thaw_to(AHEAD_ENTRIES);
                    if lane.front.len() < AHEAD_ENTRIES { lane.missing(AHEAD_PAGES) } else { Vec::new() }
                });
                self.charge(&mut queue);
                missing.unwrap_or_default()
            };
            if missing.is_empty() {
                return Ok(());
            }
            for (first, spot) in missing {
                self.load_page(cell, first, spot)?;
            }
        }
    }

    /// Bytes of a queue to read ahead: less while memory is short.
    fn ahead_bytes(&self) -> usize {
        let left = (self.options.resident_bytes_max / 4 * 3).saturating_sub(self.resident.load(Relaxed));
        (left / 8).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES)
    }

    /// Reads a run. What cannot be read so, or is not what was written, is read once more by itself.
    fn read_run(&self, run: &Run, trust: bool) -> Vec<(Entry, Option<Message>)> {
        let bytes = read(run, run.start, run.end);
        let message = |bytes: &[u8], entry: &Entry| message(bytes, entry, trust, &self.bodies);
        let messages = run.entries.iter().map(|entry| {
            let end = entry.lsn + u64::from(entry.size) + MESSAGE_HEAD_MAX as u64;
            let from = (entry.lsn - run.start) as usize;
            let found = bytes.get(from..).and_then(|bytes| message(bytes, entry));
            (*entry, found.or_else(|| message(&read(run, entry.lsn, end), entry)))
        });
        messages.collect()
    }

    /// Keeps what was read for the entries that still want it.
    fn keep_read(&self, queue: &mut Queue, messages: Vec<(Entry, Option<Message>)>) {
        for (entry, message) in messages {
            if !is_wanted(queue, &entry) {
                continue;
            }
            let Some(message) = message else {
                self.quarantine(queue, &entry);
                continue;
            };
            let charge = message.bytes().len() + SLOT_BYTES;
            self.resident.fetch_add(charge, Relaxed);
            let slot = queue.keep(entry.seq, message, u32::try_from(charge).unwrap_or(u32::MAX));
            if let Some(found) = queue.find_again(&entry) {
                found.slot = slot;
            }
        }
        self.charge(queue);
    }

    /// Marks an entry whose message is damaged; it is passed over when its turn comes.
    fn quarantine(&self, queue: &mut Queue, entry: &Entry) {
        if let Some(found) = queue.find_again(entry) {
            found.slot = DAMAGED;
            self.counters.damaged.fetch_add(1, Relaxed);
            self.events.damaged(&format!("the message with seq {} of queue {}", entry.seq, queue.id));
        }
    }

    /// Groups entries into runs that are read at once.
    fn runs(&self, mut wanted: Vec<Entry>) -> Vec<Run> {
        wanted.sort_unstable_by_key(|e| e.lsn);
        let mut runs: Vec<Run> = Vec::new();
        for entry in wanted {
            let end = entry.lsn + u64::from(entry.size) + MESSAGE_HEAD_MAX as u64;
            if let Some(run) = runs.last_mut()
                && entry.lsn <= run.end + GAP_BYTES
                && end <= run.start + READ_BYTES
                && self.place(entry.lsn).is_some_and(|(file, offset)| {
                    Arc::ptr_eq(&file, &run.file) && offset == run.offset + (entry.lsn - run.start)
                })
            {
                run.end = run.end.max(end);
                run.entries.push(entry);
                continue;
            }
            let Some((file, offset)) = self.place(entry.lsn) else {
                continue;
            };
            runs.push(Run { file, offset, start: entry.lsn, end, entries: vec![entry] });
        }
        runs
    }

    /// The file that holds a place, and where in it.
    fn place(&self, lsn: u64) -> Option<(Arc<dyn DiskFile>, u64)> {
        if lsn & SPILLED != 0 {
            return self.spill.lock().place(lsn & !SPILLED);
        }
        let mut log = self.log.lock();
        let file = log.file_of(lsn)?;
        Some((file.handle.clone()?, file.offset(lsn)))
    }
}

/// The entries at the head of a queue whose messages must be read.
fn wanted(queue: &mut Queue, durable: u64, bytes_max: usize) -> Vec<Entry> {
    let (mut bytes, mut count) = (0, 0);
    let mut wanted = Vec::new();
    let mut half = None;
    let grouped = queue.is_grouped();
    let graves = queue.contents.graves.get().into_iter().flatten();
    let dead = graves.filter_map(|(seq, _)| queue.contents.unsettled.get(*seq).map(|(entry, _)| entry));
    for entry in dead.chain(queue.ahead()).take(AHEAD_ENTRIES) {
        if entry.slot == NO_SLOT && (entry.lsn & SPILLED != 0 || entry.lsn < durable) {
            wanted.push(*entry);
        }
        bytes += entry.size as usize;
        count += 1;
        if half.is_none() && !grouped && (count > AHEAD_ENTRIES / 2 || bytes > bytes_max / 2) {
            half = Some((entry.lane, entry.seq));
        }
        if bytes > bytes_max {
            break;
        }
    }
    queue.contents.read_from = half.filter(|_| !wanted.is_empty()).map(Box::new);
    wanted
}

/// Whether an entry still lies where it did and has no message.
fn is_wanted(queue: &mut Queue, entry: &Entry) -> bool {
    queue.find_again(entry).is_some_and(|now| now.lsn == entry.lsn && now.slot == NO_SLOT)
}

/// What lies between two places of a run; nothing if it cannot be read.
fn read(run: &Run, from: u64, to: u64) -> Vec<u8> {
    let mut buffer = vec![0; (to - from) as usize];
    let n = run.file.pread(&mut buffer, run.offset + (from - run.start)).unwrap_or(0);
    buffer.truncate(n);
    buffer
}

/// The message of an entry, if it is what was written.
fn message(bytes: &[u8], entry: &Entry, trust: bool, bodies: &Arc<Bodies>) -> Option<Message> {
    let view = MessageView::read(&mut Reader::new(bytes), Wall(entry.wall), bytes)?;
    (trust || view.is_intact()).then(|| view.to_message(bodies))?
}
