//! Making the next file of the log before it is needed, from one that nobody needs any more if there is.
//!
//! Invariants: a file gets a name of the log only when its header is durable, and loses that name durably before its
//! header changes; so a file of the log with a damaged header is damage, never a crash. The next file's header and
//! name are durable before a record is written to it.

use crate::canary::Canary;
use crate::core::Core;
use crate::disk::{DiskError, DiskFile};
use crate::log::{Form, file_name};
use crate::record::FileHeader;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Ends the names of files that hold nothing yet, or nothing any more.
pub(crate) const SPARE_SUFFIX: &str = ".spare";

/// Files that hold nothing any more and are kept. Emptied files are given up in bunches, and one that is written for the
/// second time needs no metadata, so its syncs are faster.
const SPARES_MAX: usize = 2;

/// Files that are ready or can be made ready.
#[derive(Default)]
pub(crate) struct Prepared {
    next: Option<Next>,
    /// Number of the last file that was handed to the writer: it and those before must not be made again.
    opened: u64,
    /// Names of files of the usual size that held nothing any more.
    spares: Vec<String>,
}

struct Next {
    number: u64,
    base: u64,
    file: Arc<dyn DiskFile>,
}

impl Core {
    /// The prepared file with this number and base, made now if need be.
    pub(crate) fn open_next(&self, number: u64, base: u64, capacity: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut prepared = self.prepared.lock();
        self.make_next(&mut prepared, number, base)?;
        let next = prepared.next.take().expect("just made");
        prepared.opened = number;
        if capacity > self.options.file_bytes {
            if let Err(error) = next.file.preallocate(capacity) {
                prepared.next = Some(next);
                return Err(error);
            }
            next.file.sync()?;
        }
        Ok(next.file)
    }

    /// Sees to it that the file with this number and base is there.
    pub(crate) fn ready_next(&self, number: u64, base: u64) -> Result<(), DiskError> {
        self.make_next(&mut self.prepared.lock(), number, base)
    }

    /// Makes the file that will follow the current one.
    pub(crate) fn prepare_next(&self) -> Result<(), DiskError> {
        let (number, base) = {
            let mut log = self.log.lock();
            // The writer has yet to open these, and may be waiting for the disk; each says that there is one in front of it.
            let unopened = log.files.values().find(|file| file.handle.is_none() && file.form != Form::Alone);
            let unopened = unopened.map(|file| (file.number, file.base));
            let current = log.current();
            unopened.unwrap_or((current.number + 1, current.base + current.capacity))
        };
        let mut prepared = self.prepared.lock();
        if number <= prepared.opened {
            // The writer has gone on meanwhile.
            return Ok(());
        }
        self.make_next(&mut prepared, number, base)
    }

    fn make_next(&self, prepared: &mut Prepared, number: u64, base: u64) -> Result<(), DiskError> {
        if let Some(next) = &prepared.next
            && (next.number, next.base) == (number, base)
        {
            return Ok(());
        }
        let (name, file) = match prepared.spares.last() {
            Some(name) => (name.clone(), self.disk.open(name)?),
            None => {
                let name = format!("next-{number:012}{SPARE_SUFFIX}");
                (name.clone(), self.disk.create(&name)?)
            }
        };
        let reused = !prepared.spares.is_empty();
        let made = self.make_file(&*file, &name, number, base);
        if prepared.spares.pop().is_none() && made.is_err() {
            // Gives back what was reserved of a disk that is full.
            self.disk.remove(&name)?;
        }
        made?;
        let counts = &self.counters.files;
        let count = if reused { &counts.reused } else { &counts.created };
        count.fetch_add(1, Relaxed);
        prepared.next = Some(Next { number, base, file });
        Ok(())
    }

    fn make_file(&self, file: &dyn DiskFile, name: &str, number: u64, base: u64) -> Result<(), DiskError> {
        let bytes = self.options.file_bytes;
        file.preallocate(bytes)?;
        let header = FileHeader { number, base, generation: self.generation, before: number - 1, bytes };
        file.pwritev(&[IoSlice::new(&header.encode())], 0)?;
        file.sync()?;
        self.disk.rename(name, &file_name(number))?;
        if !self.options.plants(Canary::DropDirSync) {
            self.disk.sync_dir()?;
        }
        Ok(())
    }

    /// Gives up a file of the log that nobody needs any more.
    pub(crate) fn retire(&self, number: u64, capacity: u64) -> Result<(), DiskError> {
        let name = file_name(number);
        let mut prepared = self.prepared.lock();
        if capacity != self.options.file_bytes || prepared.spares.len() >= SPARES_MAX {
            self.disk.remove(&name)?;
            self.counters.files.removed.fetch_add(1, Relaxed);
            // Until then a crash may bring it back, and what settled its entries may be gone.
            return self.disk.sync_dir();
        }
        let spare = format!("used-{number:012}{SPARE_SUFFIX}");
        self.disk.rename(&name, &spare)?;
        self.disk.sync_dir()?;
        prepared.spares.push(spare);
        Ok(())
    }
}
