//! The one door to the disk: named files in one directory.
//!
//! Invariants: nothing else in this crate touches a file or a clock. A write is durable once [`DiskFile::sync`] of
//! that file has returned after it; a name (created, renamed, removed) once [`Disk::sync_dir`] has.

mod real;

pub use real::RealDisk;

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

/// Why the disk did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// No space, or no quota, is left. Worth retrying once there is.
    Full,
    /// Another process has the directory.
    Locked,
    /// The directory or its file system may not be written.
    ReadOnly(String),
    /// Anything else. Not worth retrying.
    Io(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space left on the disk"),
            Self::Locked => f.write_str("another process is using it"),
            Self::ReadOnly(why) | Self::Io(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for DiskError {}

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// Takes the directory for this process until it is given back or the disk is dropped.
    ///
    /// # Errors
    /// [`DiskError::Locked`] if another has it.
    fn lock(&self) -> Result<(), DiskError>;
    /// Gives the directory to whoever takes it next. Nothing in it is changed afterwards.
    fn unlock(&self);
    /// The names in the directory.
    ///
    /// # Errors
    /// Any.
    fn list(&self) -> Result<Vec<String>, DiskError>;
    /// Makes an empty file, replacing one of that name.
    ///
    /// # Errors
    /// Any.
    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError>;
    /// Opens a file that exists for reading and writing.
    ///
    /// # Errors
    /// Any.
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError>;
    /// Removes a name.
    ///
    /// # Errors
    /// Any.
    fn remove(&self, name: &str) -> Result<(), DiskError>;
    /// Gives a file another name, replacing one of that name.
    ///
    /// # Errors
    /// Any.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Keeps a copy durably in the subdirectory `quarantine`, beside those that are there.
    ///
    /// # Errors
    /// Any.
    fn put_aside(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;
    /// Makes all names durable.
    ///
    /// # Errors
    /// Any.
    fn sync_dir(&self) -> Result<(), DiskError>;
    /// Bytes that may still be written to the file system, as far as that can be told.
    ///
    /// # Errors
    /// Any.
    fn free_bytes(&self) -> Result<u64, DiskError>;
    /// Microseconds that never go back, to measure how long a sync took.
    fn micros(&self) -> u64;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Bytes in it.
    ///
    /// # Errors
    /// Any.
    fn size(&self) -> Result<u64, DiskError>;
    /// Reads at `offset` until `buffer` is full or the file ends; returns how much was read.
    ///
    /// # Errors
    /// Any.
    fn pread(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError>;
    /// Writes all slices, one after the other, at `offset`. After an error any part may have been written.
    ///
    /// # Errors
    /// Any.
    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<(), DiskError>;
    /// Makes everything written so far durable, the size included.
    ///
    /// # Errors
    /// Any; then what was written is lost for good.
    fn sync(&self) -> Result<(), DiskError>;
    /// Reserves space for `size` bytes and makes the file that large if it is smaller.
    ///
    /// # Errors
    /// Any.
    fn preallocate(&self, size: u64) -> Result<(), DiskError>;
    /// Cuts or extends the file to `size` bytes.
    ///
    /// # Errors
    /// Any.
    fn truncate(&self, size: u64) -> Result<(), DiskError>;
}

/// So often something is read before it is given up that it is twice the same.
const READS_MAX: usize = 4;

/// Reads so many bytes of a file, or what there is of them, until they are twice the same: for who would change something for
/// good because of a bit that came wrong once.
pub(crate) fn read_alike(file: &dyn DiskFile, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
    let (mut one, mut other) = (vec![0; len], vec![0; len]);
    let mut read = file.pread(&mut one, offset)?;
    for _ in 0..READS_MAX {
        let n = file.pread(&mut other, offset)?;
        if n == read && one[..n] == other[..n] {
            one.truncate(n);
            return Ok(one);
        }
        std::mem::swap(&mut one, &mut other);
        read = n;
    }
    Err(DiskError::Io(format!("{name} is something else each time it is read")))
}
