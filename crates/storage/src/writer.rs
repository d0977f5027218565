//! Writing and syncing the log.
//!
//! Invariants: records are written in the order of their LSN. A file is synced, its seal included, before the first
//! record of the next is written, so after a crash only the last file with records can have a torn tail. The log
//! counts as durable up to what was written before a sync began. A failed write (the disk being full aside) or sync
//! poisons the log: after it nobody knows what is on the disk.
//!
//! Two threads run [`Core::sync_step`]: while one syncs, the other writes what arrives and then waits its turn.

use crate::canary::Canary;
use crate::core::{Core, Who};
use crate::disk::{DiskError, DiskFile};
use crate::log::Chunk;
use crate::payload::Record;
use crate::record::FILE_HEADER_BYTES;
use engine::Durability;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Bytes given to the disk in one write.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What must be synced within an interval is, with the next work that comes after half of it.
const INTERVAL_US: u64 = Durability::INTERVAL_MS * 1000 / 2;

/// The log is told which entries were handed out this often.
const DELIVERED_US: u64 = 200_000;

/// The file being written and what could not be written yet.
pub(crate) struct Writer {
    pub(crate) file: Arc<dyn DiskFile>,
    /// LSN of its first record.
    pub(crate) base: u64,
    /// LSN behind the last record written.
    pub(crate) written: u64,
    pub(crate) queue: VecDeque<Chunk>,
}

impl Core {
    /// Writes everything that waits, without syncing it (but for a file that is left behind).
    fn write_pending(&self) -> Result<(), DiskError> {
        let mut writer = self.writer.lock();
        loop {
            {
                let mut log = self.log.lock();
                if log.failed.is_some() {
                    return Ok(());
                }
                if writer.queue.is_empty() {
                    writer.queue.extend(log.pending.drain(..));
                }
            }
            match writer.queue.front() {
                None => return Ok(()),
                Some(Chunk::Record { .. }) => self.write_run(&mut writer)?,
                Some(&Chunk::Open { seal, number, base, capacity }) => {
                    // The seal says that there is a file behind this one, so that is made first.
                    self.ready_next(number, base)?;
                    let (from, end) = (writer.written, writer.written + seal.len() as u64);
                    writer.file.pwritev(&[IoSlice::new(&seal)], from - writer.base + FILE_HEADER_BYTES)?;
                    self.counters.written_bytes.fetch_add(end - from, Relaxed);
                    self.sync_file(&*writer.file, end)?;
                    let file = self.open_next(number, base, capacity)?;
                    if let Some(entry) = self.log.lock().files.get_mut(&base) {
                        entry.handle = Some(file.clone());
                    }
                    writer.file = file;
                    writer.base = base;
                    writer.written = base;
                    writer.queue.pop_front();
                    self.signals.keep.work();
                }
            }
        }
    }

    /// Writes the records at the front of the queue with one call.
    fn write_run(&self, writer: &mut Writer) -> Result<(), DiskError> {
        let mut count = 0;
        let mut bytes = 0;
        let mut start = 0;
        let mut written = 0;
        let mut slices = Vec::new();
        for chunk in &writer.queue {
            let Chunk::Record { lsn, end, record } = chunk else {
                break;
            };
            if count == 0 {
                start = *lsn;
            } else if bytes > WRITE_BYTES_MAX {
                break;
            }
            count += 1;
            bytes += (end - lsn) as usize;
            written = *end;
            slices_of(record, &mut slices);
        }
        let offset = start - writer.base + FILE_HEADER_BYTES;
        let result = writer.file.pwritev(&slices, offset);
        drop(slices);
        match result {
            Err(DiskError::Full) if self.options.plants(Canary::DropWhenFull) => {}
            other => other?,
        }
        writer.written = written;
        self.counters.written_bytes.fetch_add(bytes as u64, Relaxed);
        self.log.lock().pending_bytes -= bytes;
        self.reuse(writer.queue.drain(..count).filter_map(|chunk| match chunk {
            Chunk::Record { record, .. } => Some(record),
            Chunk::Open { .. } => None,
        }));
        Ok(())
    }

    /// Syncs a file of which everything up to `written` has been written.
    fn sync_file(&self, file: &dyn DiskFile, written: u64) -> Result<(), DiskError> {
        if written <= self.durable_lsn() {
            return Ok(());
        }
        if self.options.plants(Canary::ConfirmBeforeSync) {
            self.advance(written);
        }
        let _turn = (!self.options.plants(Canary::SyncOutOfTurn)).then(|| self.sync_turn.lock());
        if let Some(why) = self.log.lock().failed.clone() {
            return Err(DiskError::Io(why));
        }
        let started = self.disk.micros();
        let mut result = file.sync();
        if result.is_err() && self.options.plants(Canary::RetryFailedSync) {
            result = file.sync();
        }
        if let Err(error) = result {
            // A sync that finds the disk full is as final as any other failure: the pages may be gone.
            let why = format!("a sync failed: {error}");
            self.fail(&why);
            return Err(DiskError::Io(why));
        }
        let took = self.disk.micros().saturating_sub(started);
        self.counters.syncs.add(took);
        if self.options.plants(Canary::CoverTooMuch) {
            let now = self.writer.try_lock().map_or(written, |writer| writer.written);
            self.advance(now);
        }
        self.advance(written);
        Ok(())
    }

    /// Sees to it that everything logged so far is synced within the interval, if nothing syncs it before.
    pub(crate) fn sync_within_interval(&self) {
        // Before the signal, so that the sync it leads to finds it; 0 means nothing.
        let now = self.disk.micros().max(1);
        let _ = self.interval_since_us.compare_exchange(0, now, Relaxed, Relaxed);
        self.signals.write.lazy();
    }

    /// Writes what waits and syncs nothing.
    #[cfg(feature = "sim")]
    pub(crate) fn write_step(&self) {
        let Some(writer) = self.writer.try_lock() else {
            return;
        };
        let rotates =
            writer.queue.iter().chain(&self.log.lock().pending).any(|chunk| matches!(chunk, Chunk::Open { .. }));
        if rotates && (self.sync_turn.try_lock().is_none() || self.prepared.try_lock().is_none()) {
            return;
        }
        drop(writer);
        let result = self.write_pending();
        self.note_disk(Who::Writer, &result);
    }

    /// Writes what waits and syncs if somebody waits for it, or if `flush` says so. Returns whether work is left
    /// because the disk is full.
    pub(crate) fn sync_step(&self, flush: bool) -> bool {
        let result = self.write_and_sync(flush);
        if result.is_err() || self.full[Who::Writer as usize].load(Acquire) {
            self.note_disk(Who::Writer, &result);
        } else if self.is_pressed() {
            // What was written may have been what was too much.
            self.tell_pressure();
        }
        matches!(result, Err(DiskError::Full))
    }

    fn write_and_sync(&self, flush: bool) -> Result<(), DiskError> {
        let now = self.disk.micros();
        self.look_at_space_now_and_then(now);
        if flush || now.saturating_sub(self.delivered_told_us.load(Relaxed)) > DELIVERED_US {
            self.delivered_told_us.store(now, Relaxed);
            self.log_delivered();
        }
        self.write_pending()?;
        let since = self.interval_since_us.load(Relaxed);
        let due = since != 0 && now.saturating_sub(since) >= INTERVAL_US;
        if !flush && !due && self.log.lock().wanted <= self.durable_lsn() {
            return Ok(());
        }
        let _role = self.sync_role.lock();
        // What comes from here on begins an interval of its own, though this sync may cover it.
        self.interval_since_us.store(0, Relaxed);
        self.write_pending()?;
        let (file, written) = {
            let writer = self.writer.lock();
            (writer.file.clone(), writer.written)
        };
        if self.log.lock().failed.is_some() {
            return Ok(());
        }
        self.sync_file(&*file, written)
    }
}

/// The pieces of a record in the order they lie on the disk.
pub(crate) fn slices_of<'a>(record: &'a Record, out: &mut Vec<IoSlice<'a>>) {
    let mut from = 0;
    for (at, bytes) in &record.shared {
        out.push(IoSlice::new(&record.buf[from..*at]));
        out.push(IoSlice::new(bytes));
        from = *at;
    }
    out.push(IoSlice::new(&record.buf[from..]));
}
