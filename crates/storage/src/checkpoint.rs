//! Checkpoints: digests of files of the log, made in the background, one a round.
//!
//! Invariants: only a file that is sealed and durable gets one. A file in which nothing lives is given up for its
//! digest only once that is durable, its name included.

use crate::canary::Canary;
use crate::core::Core;
use crate::digest::{Digest, DigestHeader, digest_name};
use crate::disk::DiskError;
use crate::keeper::Keeper;
use crate::log::{Form, LogFile};
use crate::prepare::SPARE_SUFFIX;
use crate::record::Kind;
use crate::scan::{Records, Unreadable};
use std::io::IoSlice;

/// A digest is made at most this often.
const EVERY_US: u64 = 30_000;
/// Files that are younger than so many others often die before their digest, or a copy of what lives in them, would be of
/// use.
pub(crate) const YOUNG_FILES: usize = 3;

impl Core {
    /// Makes the digest of the oldest file that has none and is not young; returns whether there may be more to do.
    pub(crate) fn digest_step(&self, keeper: &mut Keeper) -> Result<bool, DiskError> {
        let durable = self.durable_lsn();
        let found = {
            let log = self.log.lock();
            let mut old = log.files.values().rev().skip(1 + YOUNG_FILES);
            let has_none = |f: &&LogFile| {
                f.form == Form::Log && f.live > 0 && !f.damaged && f.end <= durable && f.handle.is_some()
            };
            old.rfind(has_none).map(|file| file.base)
        };
        let Some(base) = found else { return Ok(false) };
        let now = self.disk.micros();
        if now < keeper.digested_us + EVERY_US {
            return Ok(true);
        }
        keeper.digested_us = now;
        if self.write_digest(base, false)?.is_some()
            && let Some(file) = self.log.lock().files.get_mut(&base)
        {
            file.form = Form::Digested;
        }
        Ok(true)
    }

    /// Makes the digest of a file and gives it its name; returns its size. `None` if the file is gone or damaged.
    pub(crate) fn write_digest(&self, base: u64, alone: bool) -> Result<Option<u64>, DiskError> {
        let Some(digest) = self.read_for_digest(base, alone) else {
            return Ok(None);
        };
        self.put_digest(digest).map(Some)
    }

    /// What is to be in the digest of a file, which is read for that. `None` if it is gone or damaged.
    fn read_for_digest(&self, base: u64, alone: bool) -> Option<Digest> {
        let (header, handle) = {
            let log = self.log.lock();
            let file = log.files.get(&base)?;
            (DigestHeader::of(file, self.generation, alone), file.handle.clone()?)
        };
        let mut records = Records::new(handle, base, header.end);
        let mut digest = Digest::new(header);
        loop {
            let added = match records.next() {
                Ok(None) => break,
                Ok(Some((record, ..))) if self.forgets(record.kind, alone) => Some(()),
                Ok(Some((record, lsn, payload))) => digest.add(record.kind, lsn, payload),
                Err(Unreadable) => None,
            };
            if added.is_none() {
                self.keep_damaged(base, records.at());
                return None;
            }
        }
        Some(digest)
    }

    /// Writes a digest and gives it its name; returns its size.
    pub(crate) fn put_digest(&self, digest: Digest) -> Result<u64, DiskError> {
        let number = digest.number();
        let (head, content) = digest.finish();
        let name = format!("digest-{number:012}{SPARE_SUFFIX}");
        let file = self.disk.create(&name)?;
        let written = file.pwritev(&[IoSlice::new(&head), IoSlice::new(&content)], 0);
        if let Err(error) = written {
            // Gives back what was taken of a disk that is full.
            self.disk.remove(&name)?;
            return Err(error);
        }
        file.sync()?;
        self.disk.rename(&name, &digest_name(number))?;
        self.disk.sync_dir()?;
        Ok((head.len() + content.len()) as u64)
    }

    /// What the canaries do.
    fn forgets(&self, kind: Kind, alone: bool) -> bool {
        match kind {
            Kind::Batch | Kind::Settle => alone && self.options.plants(Canary::ForgetSettles),
            Kind::DeleteQueue | Kind::DeleteMeta => alone && self.options.plants(Canary::ForgetDeletions),
            _ => false,
        }
    }
}
