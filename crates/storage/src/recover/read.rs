//! Reading the files of the log, or their digests, back.
//!
//! Invariants: what is not right is read once more before it is called damaged or torn, so a bit that comes wrong once on its way
//! from the disk costs nothing. A bad record is a torn tail only in the last file that has records, and only if no record
//! behind it says that the log had been synced beyond it.

use super::{OpenError, damaged};
use crate::Options;
use crate::canary::Canary;
use crate::chain::{Place, breaks, fold};
use crate::digest::{DIGEST_HEADER_BYTES, DigestHeader, read_digest};
use crate::disk::{Disk, DiskFile, read_alike};
use crate::log::Form;
use crate::record::{
    ALIGN, FILE_HEADER_BYTES, FileHeader, FileHeaderError, HEADER_BYTES, Header, Kind, decode_header, record_bytes,
};
use crate::replay::Replay;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file that was read.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) form: Form,
    pub(super) header: FileHeader,
    /// `None` if its digest stands alone.
    pub(super) handle: Option<Arc<dyn DiskFile>>,
    pub(super) size: u64,
    /// LSN behind the last good record, and whether a seal is the last.
    pub(super) end: u64,
    pub(super) sealed: bool,
    /// The log was durable up to here when the last of its records was made.
    pub(super) synced: u64,
    /// A whole record lies behind a bad one.
    pub(super) more: bool,
    /// What it says of itself and the file in front of it.
    pub(super) place: Place,
}

impl Found {
    /// One of which nothing has been read.
    fn new(name: String, form: Form, header: FileHeader, handle: Option<Arc<dyn DiskFile>>, size: u64) -> Self {
        let (end, synced) = (header.base, header.base);
        let place = Place::new(header.number, header.before);
        Self { name, form, header, handle, size, end, sealed: false, synced, more: false, place }
    }

    /// One of which a digest was read in its place.
    fn digested(mut self, of: DigestHeader) -> Self {
        (self.end, self.synced, self.sealed) = (of.end, of.end, true);
        self.place = Place { before: of.before, chain: of.chain, used: true, ..self.place };
        self
    }

    /// The place in the log of a byte of the file.
    fn lsn_at(&self, at: usize) -> u64 {
        self.header.base + (at as u64 - FILE_HEADER_BYTES)
    }

    /// Whether records were ever written to it, as far as can be told.
    pub(super) fn is_used(&self) -> bool {
        self.end > self.header.base || self.more
    }
}

/// What there is of a file of the log.
#[derive(Default)]
pub(super) struct Names {
    pub(super) log: Option<String>,
    pub(super) digest: Option<String>,
}

/// Replays all files in order; digests that are of no use go to the spares.
pub(super) fn read_files(
    disk: &dyn Disk,
    numbers: BTreeMap<u64, Names>,
    spares: &mut Vec<String>,
    replay: &mut Replay<'_>,
    options: &Options,
) -> Result<Vec<Found>, OpenError> {
    let mut found: Vec<Found> = Vec::new();
    let mut buffer = Vec::new();
    let mut oldest = 0;
    for (number, names) in numbers {
        let file = match (names.log, names.digest) {
            (None, None) => continue,
            (Some(log), None) => read_file(disk, number, log, &mut buffer, &mut oldest, replay, options)?,
            (None, Some(digest)) => match read_alone(disk, number, &digest, &mut oldest, replay)? {
                Some(file) => file,
                None => {
                    spares.push(digest);
                    continue;
                }
            },
            (Some(log), Some(digest)) => match read_digested(disk, number, &log, &digest, &mut oldest, replay)? {
                Some(file) => file,
                None => {
                    spares.push(digest);
                    read_file(disk, number, log, &mut buffer, &mut oldest, replay, options)?
                }
            },
        };
        check_order(&found, &file)?;
        found.push(file);
        if let Some(error) = replay.take_error() {
            return Err(error.into());
        }
    }
    let places: Vec<Place> = found.iter().map(|file| file.place).collect();
    match breaks(&places, oldest).first() {
        None => Ok(found),
        Some(broken) => Err(damaged(&broken.file(), 0, broken.what())),
    }
}

fn read_whole(file: &dyn DiskFile) -> Result<Vec<u8>, OpenError> {
    let len = usize::try_from(file.size()?).map_err(|_| OpenError::Io("file too large".to_owned()))?;
    let mut bytes = vec![0; len];
    let n = file.pread(&mut bytes, 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// Replays a digest whose file was given up; `None` if it is one that was to be removed with its file.
fn read_alone(
    disk: &dyn Disk,
    number: u64,
    name: &str,
    oldest: &mut u64,
    replay: &mut Replay<'_>,
) -> Result<Option<Found>, OpenError> {
    let file = disk.open(name)?;
    let mut bytes = read_whole(&*file)?;
    if DigestHeader::decode(&bytes).is_err() {
        bytes = read_alike(&*file, name, 0, bytes.len())?;
    }
    let (header, content) = DigestHeader::decode(&bytes).map_err(|error| header_error(name, error))?;
    if header.number != number {
        return Err(damaged(name, 16, "the digest has another number"));
    }
    if !header.alone {
        return Ok(None);
    }
    let DigestHeader { base, generation, before, .. } = header;
    let of = FileHeader { number, base, generation, before, bytes: 0 };
    let mut found = Found::new(name.to_owned(), Form::Alone, of, None, bytes.len() as u64).digested(header);
    replay_digest(&mut found, name, content, oldest, replay)?;
    Ok(Some(found))
}

/// Replays the content of a digest.
fn replay_digest(
    file: &mut Found,
    digest: &str,
    content: &[u8],
    oldest: &mut u64,
    replay: &mut Replay<'_>,
) -> Result<(), OpenError> {
    let base = file.header.base;
    replay.start_file(base);
    let read = read_digest(base, content, |kind, lsn, payload| {
        file.place.note(oldest, kind, payload) && replay.record(kind, lsn, payload)
    });
    let what = "a digest's checksum is right but its content is not";
    read.ok_or_else(|| damaged(digest, DIGEST_HEADER_BYTES as u64, what))
}

/// Replays the digest of a file in its place; `None` if it cannot be trusted, or the file is not as it says.
fn read_digested(
    disk: &dyn Disk,
    number: u64,
    log: &str,
    digest: &str,
    oldest: &mut u64,
    replay: &mut Replay<'_>,
) -> Result<Option<Found>, OpenError> {
    let bytes = read_whole(&*disk.open(digest)?)?;
    let handle = disk.open(log)?;
    let mut head = [0; FILE_HEADER_BYTES as usize];
    let n = handle.pread(&mut head, 0)?;
    let (Ok((of, content)), Ok(header)) = (DigestHeader::decode(&bytes), FileHeader::decode(&head[..n])) else {
        return Ok(None);
    };
    let mut seal = [0; HEADER_BYTES];
    let sealed_at = of.end.saturating_sub(HEADER_BYTES as u64).max(of.base);
    let n = handle.pread(&mut seal, sealed_at - of.base + FILE_HEADER_BYTES)?;
    let seal = decode_header(&seal[..n], sealed_at).filter(|record| record.kind.is_seal());
    let same = (of.number, of.base) == (header.number, header.base) && of.number == number;
    let whole = same && !of.alone && read_digest(of.base, content, |_, _, _| true).is_some();
    let Some(seal) = seal.filter(|_| whole) else {
        return Ok(None);
    };
    let size = handle.size()?;
    let mut found = Found::new(log.to_owned(), Form::Digested, header, Some(handle), size).digested(of);
    found.place.goes_on = seal.kind == Kind::GoesOn;
    replay_digest(&mut found, digest, content, oldest, replay)?;
    Ok(Some(found))
}

/// A file with records may only follow one that was sealed, and lies behind it in the log.
fn check_order(before: &[Found], file: &Found) -> Result<(), OpenError> {
    if let Some(last) = before.last()
        && file.header.base < last.end
    {
        return Err(damaged(&file.name, 24, "its place in the log is not behind that of the file before it"));
    }
    let has_records = |f: &Found| f.end > f.header.base;
    match before.iter().find(|f| !f.sealed && has_records(file)) {
        None => Ok(()),
        Some(torn) => Err(OpenError::Damaged {
            file: torn.name.clone(),
            offset: torn.end - torn.header.base + FILE_HEADER_BYTES,
            what: "a record is damaged or missing, and a later file goes on",
        }),
    }
}

/// Replays one file.
fn read_file(
    disk: &dyn Disk,
    number: u64,
    name: String,
    buffer: &mut Vec<u8>,
    oldest: &mut u64,
    replay: &mut Replay<'_>,
    options: &Options,
) -> Result<Found, OpenError> {
    let handle = disk.open(&name)?;
    let size = handle.size()?;
    let len = usize::try_from(size).map_err(|_| OpenError::Io("file too large".to_owned()))?;
    // Zeroing a fresh vector is free; zeroing an old one is not.
    if buffer.len() < len {
        *buffer = vec![0; len];
    }
    let bytes = &mut buffer[..len];
    let read = handle.pread(bytes, 0)?;
    let bytes = &mut bytes[..read];
    let mut header = FileHeader::decode(bytes);
    if header.is_err() {
        let head = read_alike(&*handle, &name, 0, read.min(FILE_HEADER_BYTES as usize))?;
        bytes[..head.len()].copy_from_slice(&head);
        header = FileHeader::decode(bytes);
    }
    let header = header.map_err(|error| header_error(&name, error))?;
    if header.number != number {
        return Err(damaged(&name, 16, "the file header has another number: this is another file under this name"));
    }
    replay.start_file(header.base);
    let mut file = Found::new(name, Form::Log, header, Some(handle), size);
    scan(&mut file, bytes, oldest, replay, options)?;
    // Only one that was sealed is shorter than it was made.
    if !file.sealed && size < header.bytes {
        return Err(damaged(&file.name, size, "the file ends here, and was made longer"));
    }
    Ok(file)
}

/// Replays records until one is bad, and decides what that means.
fn scan(
    file: &mut Found,
    bytes: &mut [u8],
    oldest: &mut u64,
    replay: &mut Replay<'_>,
    options: &Options,
) -> Result<(), OpenError> {
    let mut at = FILE_HEADER_BYTES as usize;
    let mut proven = 0;
    loop {
        at = replay_records(file, bytes, at, oldest, replay, options)?;
        if file.sealed {
            return Ok(());
        }
        proven = look_behind(file, bytes, at, options).max(proven);
        // A file may end within its last record.
        let rest = bytes.get_mut(at..).unwrap_or_default();
        if options.plants(Canary::ReadOnce) || !read_again(file, rest, at as u64)? {
            break;
        }
    }
    if proven > file.end && !options.plants(Canary::SkipDamage) {
        return Err(damaged(&file.name, at as u64, "a record is damaged that had been synced"));
    }
    Ok(())
}

/// Replays the records from a place on, up to a seal or a bad one; returns where that is.
fn replay_records(
    file: &mut Found,
    bytes: &[u8],
    mut at: usize,
    oldest: &mut u64,
    replay: &mut Replay<'_>,
    options: &Options,
) -> Result<usize, OpenError> {
    while let Some((header, payload)) = record_at(bytes, at, file.lsn_at(at), options) {
        let noted = header.kind != Kind::Refs && file.place.note(oldest, header.kind, payload);
        if !noted || !replay.record(header.kind, file.lsn_at(at), payload) {
            let what = "a record's checksum is right but its content is not";
            return Err(damaged(&file.name, at as u64, what));
        }
        at += record_bytes(header.len);
        file.end = file.lsn_at(at);
        file.synced = file.synced.max(header.synced);
        file.place.chain = fold(file.place.chain, header.crc);
        file.place.used = true;
        if header.kind.is_seal() {
            file.sealed = true;
            file.place.goes_on = header.kind == Kind::GoesOn;
            break;
        }
    }
    Ok(at)
}

/// Looks for whole records behind a bad one; returns how far they say that the log was durable.
fn look_behind(file: &mut Found, bytes: &[u8], bad: usize, options: &Options) -> u64 {
    let mut proven = 0;
    for at in (bad + ALIGN..bytes.len()).step_by(ALIGN) {
        if let Some((header, _)) = record_at(bytes, at, file.lsn_at(at), options) {
            file.more = true;
            proven = proven.max(header.synced);
        }
    }
    proven
}

/// Reads what was read from a place once more; returns whether it is something else now.
fn read_again(file: &Found, bytes: &mut [u8], offset: u64) -> Result<bool, OpenError> {
    let Some(handle) = &file.handle else { return Ok(false) };
    let mut fresh = vec![0; bytes.len()];
    if handle.pread(&mut fresh, offset)? == bytes.len() && *bytes == *fresh {
        return Ok(false);
    }
    let alike = read_alike(&**handle, &file.name, offset, bytes.len())?;
    bytes.fill(0);
    bytes[..alike.len()].copy_from_slice(&alike);
    Ok(true)
}

/// The record at a place, if it is whole.
fn record_at<'a>(bytes: &'a [u8], at: usize, lsn: u64, options: &Options) -> Option<(Header, &'a [u8])> {
    let header = decode_header(bytes.get(at..)?, lsn)?;
    let start = at + HEADER_BYTES;
    let payload = bytes.get(start..start.checked_add(header.len)?)?;
    let intact = options.plants(Canary::IgnoreChecksum) || crc32c::crc32c(payload) == header.payload_crc;
    intact.then_some((header, payload))
}

fn header_error(file: &str, error: FileHeaderError) -> OpenError {
    match error {
        FileHeaderError::Newer(found) => {
            OpenError::Newer { file: file.to_owned(), found, known: crate::record::FORMAT_VERSION }
        }
        FileHeaderError::Encrypted(key) => OpenError::Encrypted { file: file.to_owned(), key },
        FileHeaderError::Damaged => damaged(file, 0, "the file header is not readable"),
    }
}
