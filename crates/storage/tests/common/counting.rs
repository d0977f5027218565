//! A disk that counts what is read.

use sluicegate_storage::sim::SimDisk;
use sluicegate_storage::{Disk, DiskError, DiskFile};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Reads of a disk, and their bytes.
#[derive(Default)]
pub struct Reads {
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Reads {
    /// Calls and bytes since the last time.
    pub fn take(&self) -> (u64, u64) {
        (self.calls.swap(0, Relaxed), self.bytes.swap(0, Relaxed))
    }
}

/// A simulated disk that counts what is read.
#[derive(Clone)]
pub struct Counting(SimDisk, Arc<Reads>);

struct CountingFile(Arc<dyn DiskFile>, Arc<Reads>);

impl Counting {
    pub fn new(disk: SimDisk, reads: Arc<Reads>) -> Self {
        Self(disk, reads)
    }

    fn file(&self, file: Result<Arc<dyn DiskFile>, DiskError>) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(Arc::new(CountingFile(file?, self.1.clone())))
    }
}

impl Disk for Counting {
    fn lock(&self) -> Result<(), DiskError> {
        self.0.lock()
    }
    fn unlock(&self) {
        self.0.unlock();
    }
    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.0.list()
    }
    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.file(self.0.create(name))
    }
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.file(self.0.open(name))
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.0.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }
    fn sync_dir(&self) -> Result<(), DiskError> {
        self.0.sync_dir()
    }
    fn micros(&self) -> u64 {
        self.0.micros()
    }
    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.0.free_bytes()
    }
    fn put_aside(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.put_aside(name, bytes)
    }
}

impl DiskFile for CountingFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.0.size()
    }
    fn pread(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let n = self.0.pread(buffer, offset)?;
        self.1.calls.fetch_add(1, Relaxed);
        self.1.bytes.fetch_add(n as u64, Relaxed);
        Ok(n)
    }
    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<(), DiskError> {
        self.0.pwritev(slices, offset)
    }
    fn sync(&self) -> Result<(), DiskError> {
        self.0.sync()
    }
    fn preallocate(&self, size: u64) -> Result<(), DiskError> {
        self.0.preallocate(size)
    }
    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.0.truncate(size)
    }
}
