//! The operating system's files, through rustix.
//!
//! Not here: threads. The callers are on threads of their own, so every call may block.

use super::{Disk, DiskError, DiskFile};
use rustix::fd::OwnedFd;
use rustix::fs::{self, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::{self, Errno};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Slices of one system call (Linux: UIO_MAXIOV).
const SLICES_MAX: usize = 1024;

/// Where damaged things are kept.
const QUARANTINE: &str = "quarantine";

/// A directory of the operating system.
pub struct RealDisk {
    dir: OwnedFd,
    started: Instant,
}

impl RealDisk {
    /// Opens a directory, making it (and its parents) if it is not there.
    ///
    /// # Errors
    /// Any.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        std::fs::create_dir_all(path).map_err(|e| match e.raw_os_error() {
            Some(code) => error(Errno::from_raw_os_error(code)),
            None => DiskError::Io(e.to_string()),
        })?;
        let dir = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
        Ok(Self { dir, started: Instant::now() })
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<Arc<dyn DiskFile>, DiskError> {
        let fd = fs::openat(&self.dir, name, flags | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
            .map_err(error)?;
        Ok(Arc::new(RealFile { fd }))
    }
}

impl Disk for RealDisk {
    fn lock(&self) -> Result<(), DiskError> {
        match fs::flock(&self.dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(DiskError::Locked),
            other => other.map_err(error),
        }
    }

    fn unlock(&self) {
        // What cannot be given back now is when the process ends.
        let _ = fs::flock(&self.dir, FlockOperation::Unlock);
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.dir).map_err(error)? {
            let entry = entry.map_err(error)?;
            if let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.open_file(name, OFlags::CREATE | OFlags::TRUNC)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.open_file(name, OFlags::empty())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        fs::unlinkat(&self.dir, name, fs::AtFlags::empty()).map_err(error)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        fs::renameat(&self.dir, from, &self.dir, to).map_err(error)
    }

    fn put_aside(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        match fs::mkdirat(&self.dir, QUARANTINE, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {}
            other => other.map_err(error)?,
        }
        fs::fsync(&self.dir).map_err(error)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = fs::openat(&self.dir, QUARANTINE, flags, Mode::empty()).map_err(error)?;
        let aside = Self { dir, started: self.started };
        for n in 0..u32::MAX {
            let name = if n == 0 { name.to_owned() } else { format!("{name}.{n}") };
            let file = match aside.open_file(&name, OFlags::CREATE | OFlags::EXCL) {
                Err(DiskError::Io(_))
                    if fs::accessat(&aside.dir, &name, fs::Access::EXISTS, fs::AtFlags::empty()).is_ok() =>
                {
                    continue;
                }
                other => other?,
            };
            file.pwritev(&[IoSlice::new(bytes)], 0)?;
            file.sync()?;
            break;
        }
        aside.sync_dir()
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        fs::fsync(&self.dir).map_err(error)
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let stat = fs::fstatvfs(&self.dir).map_err(error)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

struct RealFile {
    fd: OwnedFd,
}

impl DiskFile for RealFile {
    fn size(&self) -> Result<u64, DiskError> {
        let stat = fs::fstat(&self.fd).map_err(error)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn pread(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buffer.len() {
            match io::pread(&self.fd, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(error(e)),
            }
        }
        Ok(done)
    }

    fn pwritev(&self, slices: &[IoSlice<'_>], mut offset: u64) -> Result<(), DiskError> {
        for group in slices.chunks(SLICES_MAX) {
            let total: usize = group.iter().map(|s| s.len()).sum();
            let written = match io::pwritev(&self.fd, group, offset) {
                Ok(n) => n,
                Err(Errno::INTR) => 0,
                Err(e) => return Err(error(e)),
            };
            if written < total {
                self.write_rest(group, written, offset)?;
            }
            offset += total as u64;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        fs::fdatasync(&self.fd).map_err(error)
    }

    fn preallocate(&self, size: u64) -> Result<(), DiskError> {
        match fs::fallocate(&self.fd, FallocateFlags::empty(), 0, size) {
            // Not every file system can reserve; then the size alone is set and a full disk shows at the write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fs::ftruncate(&self.fd, size).map_err(error),
            other => other.map_err(error),
        }
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        fs::ftruncate(&self.fd, size).map_err(error)
    }
}

impl RealFile {
    /// The rare short write: the rest, slice by slice.
    fn write_rest(&self, group: &[IoSlice<'_>], written: usize, offset: u64) -> Result<(), DiskError> {
        let mut start = 0;
        for slice in group {
            let mut skip = written.saturating_sub(start).min(slice.len());
            while skip < slice.len() {
                match io::pwrite(&self.fd, &slice[skip..], offset + (start + skip) as u64) {
                    Ok(0) => return Err(DiskError::Io("a write wrote nothing".to_owned())),
                    Ok(n) => skip += n,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(error(e)),
                }
            }
            start += slice.len();
        }
        Ok(())
    }
}

fn error(errno: Errno) -> DiskError {
    match errno {
        // The last is the process's own limit of a file's size, which can be raised while it runs, as a quota can.
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => DiskError::Full,
        Errno::ROFS | Errno::ACCESS | Errno::PERM => DiskError::ReadOnly(errno.to_string()),
        other => DiskError::Io(other.to_string()),
    }
}
