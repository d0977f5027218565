//! Which files are emptied next, and why.
//!
//! **Sparse**: files hold more than twice what lives; the emptiest go, several at once if little lives in them. Or digests
//! that stand alone are many; then the oldest goes, for they wait for it.
//!
//! **Scattered**: a large backlog lies in files in which the queue changes after a few bytes, so draining one queue would
//! read all of them in bits. They are copied grouped by queue if it is worth it: measured on what was gathered, the runs
//! of one queue must become at least [`GAIN_MIN`] times as long. What was found not worth it is left as it is, and a copy
//! that was grouped cannot gain again, so a file is copied at most once for this reason.

use crate::checkpoint::YOUNG_FILES;
use crate::core::Core;
use crate::log::{Form, LogFile, LogState};
use crate::mover::{Move, Source};
use crate::scan::Records;
use std::collections::VecDeque;

/// Files that may be emptier than what lives needs, before anything is moved, and before many small things are.
const SLACK_FILES: u64 = 3;
const SLACK_FILES_MANY: u64 = 8;
/// A young file is emptied only if so few things live in it that copying them costs nothing to speak of.
const FEW: u64 = 64;
/// Digests that may stand alone while hardly anything lives in the oldest file, and otherwise.
const DIGESTS_MIN: usize = 8;
const DIGESTS_MAX: usize = 64;
/// So few things, if they are small, are hardly any.
const HARDLY_ANY: u64 = 1024;
/// Things of so few bytes on average are small.
const SMALL_BYTES: u64 = 256;
/// Files of a scattered backlog from which on it is worth copying, and at most copied by one job.
const SCATTERED_FILES_MIN: u64 = 8;
/// Runs of one queue of this many bytes are read well enough.
const RUN_BYTES: u64 = 32 * 1024;
/// How many times longer runs must become.
const GAIN_MIN: usize = 4;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    Sparse,
    Scattered,
}

impl Why {
    /// Whether space is freed by it.
    pub(crate) fn frees(self) -> bool {
        self == Self::Sparse
    }

    /// Whether what lay in `before` runs is to be copied into `after`.
    pub(crate) fn is_worth(self, before: usize, after: usize) -> bool {
        self == Self::Sparse || before >= GAIN_MIN * after
    }
}

impl Core {
    /// Files to be emptied, if there are any.
    pub(crate) fn choose(&self) -> Option<Move> {
        let log = self.log.lock();
        let durable = self.durable_lsn();
        let sparse = self.sparse(&log, durable);
        let (why, files) = match sparse.is_empty() {
            false => (Why::Sparse, sparse),
            true => (Why::Scattered, self.scattered(&log, durable)),
        };
        let source = |file: &&LogFile| {
            let handle = file.handle.clone()?;
            Some(Source { base: file.base, records: Records::new(handle, file.base, file.end) })
        };
        let sources: VecDeque<Source> = files.iter().filter_map(source).collect();
        (!sources.is_empty()).then(|| Move::new(why, sources))
    }

    /// The emptiest files, if files hold much more than what lives.
    fn sparse<'a>(&self, log: &'a LogState, durable: u64) -> Vec<&'a LogFile> {
        let file_bytes = self.options.file_bytes;
        let mut size: u64 = log.files.values().map(|f| f.capacity).sum();
        let live: u64 = log.files.values().map(LogFile::live_bytes).sum();
        let alone = log.files.values().filter(|f| f.form == Form::Alone).count();
        let mut count = (log.files.len() - alone) as u64;
        let young = log.files.keys().rev().nth(YOUNG_FILES).copied().unwrap_or(0);
        let mut files: Vec<&LogFile> = sealed(log, durable).filter(|f| f.live > 0).collect();
        files.retain(|f| f.base <= young || f.live < FEW);
        // Digests that stand alone wait for the older files to go: soon if hardly anything lives in the oldest. Many small
        // things, such as queues, cost more to copy than a few more digests cost to keep.
        let hardly = |f: &&LogFile| f.live < HARDLY_ANY && f.live_bytes() < file_bytes / 8;
        let digests_max = if files.first().is_none_or(hardly) { DIGESTS_MIN } else { DIGESTS_MAX + 4 * count as usize };
        if alone > digests_max {
            files.truncate(1);
            return files;
        }
        let is_over =
            |size, count, slack| size >= 2 * live + slack * file_bytes || count >= slack + 2 * live / file_bytes + 4;
        if !is_over(size, count, SLACK_FILES_MANY) {
            // Copying many small things costs more than the room they take.
            files.retain(|f| f.live < HARDLY_ANY || f.live_bytes() >= f.live * SMALL_BYTES);
        }
        files.sort_by_key(|f| f.live_bytes() * 1024 / f.capacity.max(1));
        let mut gathered = 0;
        let wanted = files.iter().take_while(|file| {
            let goes = is_over(size, count, SLACK_FILES);
            let fits = gathered == 0 || gathered + file.live_bytes() <= self.options.gathered_bytes_max() as u64;
            size -= file.capacity;
            count -= 1;
            gathered += file.live_bytes();
            goes && fits
        });
        wanted.copied().collect()
    }

    /// The oldest cold files in which the queue changes often, if there are many.
    fn scattered<'a>(&self, log: &'a LogState, durable: u64) -> Vec<&'a LogFile> {
        // What came after it no longer fits into memory.
        let cold = log.next.saturating_sub(self.options.resident_bytes_max as u64);
        let is_scattered = |f: &&LogFile| {
            let content = f.arrivals.content;
            !f.grouped && f.end <= cold && f.live_bytes() * 2 >= content && content < f.arrivals.runs * RUN_BYTES
        };
        let files: Vec<&LogFile> = sealed(log, durable).filter(is_scattered).collect();
        let live: u64 = files.iter().map(|f| f.live_bytes()).sum();
        if live < SCATTERED_FILES_MIN * self.options.file_bytes {
            return Vec::new();
        }
        files.into_iter().take(SCATTERED_FILES_MIN as usize).collect()
    }

    /// There is no gain in grouping what these files hold.
    pub(crate) fn leave_as_they_are(&self, files: &[u64]) {
        let mut log = self.log.lock();
        for base in files {
            if let Some(file) = log.files.get_mut(base) {
                file.grouped = true;
            }
        }
    }
}

/// The files that are complete and can be read, but for the newest.
fn sealed(log: &LogState, durable: u64) -> impl Iterator<Item = &LogFile> {
    let current = log.files.keys().next_back().copied();
    log.files.values().filter(move |f| Some(f.base) != current && f.end <= durable && !f.damaged)
}
