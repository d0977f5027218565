//! Reading the records of a file of the log from front to back, in large pieces, while the engine runs.
//!
//! Invariants: every record is checked; the file is known to be whole, so one that is not right, read twice, is damage.

use crate::disk::DiskFile;
use crate::record::{FILE_HEADER_BYTES, HEADER_BYTES, Header, decode_header, record_bytes};
use std::sync::Arc;

/// Bytes of one read, unless a record is larger.
const READ_BYTES: usize = 1024 * 1024;

/// See the module.
pub(crate) struct Records {
    file: Arc<dyn DiskFile>,
    base: u64,
    end: u64,
    /// LSN of the next record.
    at: u64,
    /// What was read, and the LSN it begins at.
    bytes: Vec<u8>,
    from: u64,
}

/// The next record cannot be read, or is not what was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unreadable;

/// A record: its header, LSN and payload.
type Whole<'a> = (Header, u64, &'a [u8]);

impl Records {
    /// The records of a file from its first one, at `base`, to `end`.
    pub(crate) fn new(file: Arc<dyn DiskFile>, base: u64, end: u64) -> Self {
        Self { file, base, end, at: base, bytes: Vec::new(), from: base }
    }

    /// LSN of the next record.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next record; `None` behind the last.
    pub(crate) fn next(&mut self) -> Result<Option<Whole<'_>>, Unreadable> {
        if self.at >= self.end {
            self.bytes = Vec::new();
            return Ok(None);
        }
        let lsn = self.at;
        let header = match self.whole(lsn) {
            Some(header) => header,
            // Not read so far, or not read well.
            None => self.read(lsn).ok_or(Unreadable)?,
        };
        self.at = lsn + record_bytes(header.len) as u64;
        let at = (lsn - self.from) as usize + HEADER_BYTES;
        Ok(Some((header, lsn, &self.bytes[at..at + header.len])))
    }

    /// The header of the record at `lsn`, if all of it was read and is right.
    fn whole(&self, lsn: u64) -> Option<Header> {
        let bytes = self.bytes.get((lsn - self.from) as usize..)?;
        let header = decode_header(bytes, lsn)?;
        let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + header.len)?;
        (crc32c::crc32c(payload) == header.payload_crc).then_some(header)
    }

    /// Reads on from `lsn`; twice if need be.
    fn read(&mut self, lsn: u64) -> Option<Header> {
        let left = usize::try_from(self.end - lsn).unwrap_or(usize::MAX);
        let mut wanted = READ_BYTES.min(left);
        for _ in 0..2 {
            self.from = lsn;
            self.bytes.clear();
            self.bytes.resize(wanted, 0);
            let offset = lsn - self.base + FILE_HEADER_BYTES;
            let n = self.file.pread(&mut self.bytes, offset).unwrap_or(0);
            self.bytes.truncate(n);
            let size = decode_header(&self.bytes, lsn).map_or(0, |header| record_bytes(header.len));
            if size > wanted && size <= left {
                wanted = size;
                self.bytes.resize(wanted, 0);
                let n = self.file.pread(&mut self.bytes, offset).unwrap_or(0);
                self.bytes.truncate(n);
            }
            if let Some(header) = self.whole(lsn) {
                return Some(header);
            }
        }
        None
    }
}
