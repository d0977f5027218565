//! The least disk that tells what is durable: a sync makes durable what was written before it began, and others go on
//! meanwhile.

use crate::disk::{Disk, DiskError, DiskFile};
use crate::log::file_number;
use crate::record::{FILE_HEADER_BYTES, FileHeader};
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// Bytes written, without holes; and how many of them a sync has made durable.
    written: u64,
    synced: u64,
    /// A sync failed: what was not durable is gone, and later syncs know nothing of it.
    lost: bool,
}

struct File {
    content: Mutex<Content>,
    fails: Arc<AtomicBool>,
}

/// See the module.
#[derive(Default)]
pub(super) struct ModelDisk {
    files: Mutex<BTreeMap<String, Arc<File>>>,
    fails: Arc<AtomicBool>,
}

impl ModelDisk {
    /// The next sync of records fails, and what it should have made durable is gone.
    pub(super) fn fail_next_sync(&self) {
        self.fails.store(true, Relaxed);
    }

    /// How far the log is durable: in every file all there is, up to the first in which something is missing.
    pub(super) fn synced_lsn(&self) -> u64 {
        let files = self.files.lock();
        let mut synced_lsn = 0;
        for (_, file) in files.iter().filter(|(name, _)| file_number(name).is_some()) {
            let content = file.content.lock();
            let Some(base) = FileHeader::decode(&content.bytes).ok().map(|header| header.base) else { continue };
            let is_begun = content.written > FILE_HEADER_BYTES;
            if is_begun {
                synced_lsn = base + content.synced.saturating_sub(FILE_HEADER_BYTES);
            }
            if !is_begun || content.synced < content.written {
                break;
            }
        }
        synced_lsn
    }
}

impl Disk for ModelDisk {
    fn lock(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn unlock(&self) {}

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let file = Arc::new(File { content: Mutex::default(), fails: self.fails.clone() });
        self.files.lock().insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        match self.files.lock().get(name) {
            Some(file) => Ok(file.clone()),
            None => Err(DiskError::Io(format!("no file {name}"))),
        }
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.files.lock().remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut files = self.files.lock();
        if let Some(file) = files.remove(from) {
            files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn put_aside(&self, _: &str, _: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        Ok(u64::MAX)
    }

    fn micros(&self) -> u64 {
        0
    }
}

impl DiskFile for File {
    fn size(&self) -> Result<u64, DiskError> {
        Ok(self.content.lock().bytes.len() as u64)
    }

    fn pread(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let content = self.content.lock();
        let rest = content.bytes.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<(), DiskError> {
        let mut content = self.content.lock();
        assert!(offset <= content.written, "a hole is left at {}", content.written);
        let mut at = offset as usize;
        for slice in slices {
            let end = at + slice.len();
            if content.bytes.len() < end {
                content.bytes.resize(end, 0);
            }
            content.bytes[at..end].copy_from_slice(slice);
            at = end;
        }
        content.written = content.written.max(at as u64);
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        let covers = self.content.lock().written;
        // Others write here.
        let mut content = self.content.lock();
        if covers > FILE_HEADER_BYTES && self.fails.swap(false, Relaxed) {
            content.lost = true;
            return Err(DiskError::Io("the sync failed".to_owned()));
        }
        if !content.lost {
            content.synced = content.synced.max(covers);
        }
        Ok(())
    }

    fn preallocate(&self, size: u64) -> Result<(), DiskError> {
        let mut content = self.content.lock();
        if content.bytes.len() < size as usize {
            content.bytes.resize(size as usize, 0);
        }
        Ok(())
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.content.lock().bytes.resize(size as usize, 0);
        Ok(())
    }
}
