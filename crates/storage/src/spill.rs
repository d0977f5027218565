//! Where transient messages go when memory is short: files that are never synced and dropped at every start.
//!
//! Invariants: a place in the spill is used once. A file goes when nothing in it is needed; its name ends as those of
//! spares do, so the next start removes it.

use crate::core::{Core, QueueCell};
use crate::disk::{DiskError, DiskFile};
use crate::payload::Record;
use crate::prepare::SPARE_SUFFIX;
use crate::queue::SPILLED;
use crate::record::HEADER_BYTES;
use crate::writer::slices_of;
use model::{Message, Wall};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes after which another file is begun.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
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
    live: u64,
}

impl Spill {
    /// The file that holds a place, and where in it.
    pub(crate) fn place(&self, at: u64) -> Option<(Arc<dyn DiskFile>, u64)> {
        let (base, file) = self.files.range(..=at).next_back()?;
        Some((file.handle.clone(), at - base))
    }

    /// A message is no longer needed.
    pub(crate) fn free(&mut self, lsn: u64) {
        let at = lsn & !SPILLED;
        if let Some((_, file)) = self.files.range_mut(..=at).next_back() {
            file.live = file.live.saturating_sub(1);
        }
    }
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
            let Ok(places) = self.write_spill(&leaving) else {
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
                    self.spill.lock().free(lsn);
                }
            }
        }
    }

    /// Writes messages to the spill; returns their places.
    fn write_spill(&self, leaving: &[Leaving]) -> Result<Vec<u64>, DiskError> {
        let mut record = Record::default();
        record.start();
        let offsets: Vec<usize> =
            leaving.iter().map(|one| record.message(&one.message, None, Wall(one.wall))).collect();
        let (handle, base, start) = {
            let mut spill = self.spill.lock();
            let current = spill.files.keys().next_back().copied();
            let base = match current {
                Some(base) if spill.next - base < FILE_BYTES => base,
                _ => {
                    let base = spill.next;
                    let name = format!("spill-{base:016}{SPARE_SUFFIX}");
                    let handle = self.disk.create(&name)?;
                    let live = 0;
                    spill.files.insert(base, SpillFile { name, handle, live });
                    base
                }
            };
            let start = spill.next;
            spill.next += record.len() as u64;
            let file = spill.files.get_mut(&base).expect("just found or made");
            file.live += leaving.len() as u64;
            (file.handle.clone(), base, start)
        };
        let mut slices = Vec::new();
        slices_of(&record, &mut slices);
        if let Err(error) = handle.pwritev(&slices, start - base) {
            let mut spill = self.spill.lock();
            if let Some(file) = spill.files.get_mut(&base) {
                file.live -= leaving.len() as u64;
            }
            return Err(error);
        }
        debug_assert!(offsets.iter().all(|o| *o >= HEADER_BYTES));
        Ok(offsets.iter().map(|o| start + *o as u64).collect())
    }

    /// Removes files of the spill that nobody needs.
    pub(crate) fn clean_spill(&self) {
        let mut spill = self.spill.lock();
        let current = spill.files.keys().next_back().copied();
        let next = spill.next;
        spill.files.retain(|base, file| {
            let full = Some(*base) != current || next - base >= FILE_BYTES;
            let gone = file.live == 0 && full;
            // If it cannot be removed now, the next start does it.
            !(gone && self.disk.remove(&file.name).is_ok())
        });
    }
}
