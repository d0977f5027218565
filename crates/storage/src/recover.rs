//! Opening a directory: reading the log back into queues and metadata.
//!
//! Invariants: nothing is skipped silently and nothing is deleted that could hold a record. A bad record is a torn
//! tail only in the last file that has records, and only if no record behind it says that the log had been synced
//! beyond it; then the file is sealed there. Anything else is [`OpenError::Damaged`], and the directory is left as it
//! is. Every open starts a new file, so no LSN, seq or queue id of an earlier life is used again.

use crate::Options;
use crate::body::body_id;
use crate::canary::Canary;
use crate::chain::{Place, breaks, fold, put_link, put_oldest};
use crate::core::Parts;
use crate::digest::{DIGEST_HEADER_BYTES, DigestHeader, digest_number, read_digest};
use crate::disk::{Disk, DiskError, DiskFile};
use crate::log::{Form, LogFile, LogState, file_name, file_number};
use crate::payload::Record;
use crate::prepare::SPARE_SUFFIX;
use crate::record::{
    ALIGN, FILE_HEADER_BYTES, FileHeader, FileHeaderError, HEADER_BYTES, Header, Kind, decode_header, encode_header,
    record_bytes, u32_at,
};
use crate::replay::{Recovered, Replay, SEQ_BITS};
use crate::spill::{PAGES_PREFIX, Spill};
use crate::writer::Writer;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

/// Why a data directory could not be opened. Nothing in it was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// Another process has it.
    Locked,
    /// It may not be written.
    ReadOnly(String),
    /// No space is left to start.
    Full,
    /// It was written by a newer program.
    Newer {
        /// The file that says so.
        file: String,
        /// The format version there.
        found: u32,
        /// The newest this program reads.
        known: u32,
    },
    /// It was encrypted, which this program cannot read.
    Encrypted {
        /// The file that says so.
        file: String,
        /// The id of the key.
        key: u64,
    },
    /// A record that had been synced is not what was written.
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The disk failed.
    Io(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str(
                "the data directory is locked: another process is using it; stop that one, or choose another directory",
            ),
            Self::ReadOnly(why) => {
                write!(f, "the data directory cannot be written ({why}); check its owner, its mode and the mount")
            }
            Self::Full => f.write_str("the disk of the data directory is full; free some space and start again"),
            Self::Newer { file, found, known } => write!(
                f,
                "{file} has format {found}, and this program reads up to {known}; start the newer program that wrote it"
            ),
            Self::Encrypted { file, key } => {
                write!(f, "{file} is encrypted with key {key}, which this program cannot read")
            }
            Self::Damaged { file, offset, what } => write!(
                f,
                "{file} is damaged at byte {offset}: {what}. Nothing was changed. Restore the directory from a copy, or \
                 see with `sluicegate repair DIR` what is affected and move it to quarantine with `--apply`"
            ),
            Self::Io(why) => write!(f, "the data directory cannot be read: {why}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full => Self::Full,
            DiskError::Locked => Self::Locked,
            DiskError::ReadOnly(why) => Self::ReadOnly(why),
            DiskError::Io(why) => Self::Io(why),
        }
    }
}

/// A file that was read.
struct Found {
    name: String,
    form: Form,
    header: FileHeader,
    /// `None` if its digest stands alone.
    handle: Option<Arc<dyn DiskFile>>,
    size: u64,
    /// LSN behind the last good record, and whether a seal is the last.
    end: u64,
    sealed: bool,
    /// The log was durable up to here when the last of its records was made.
    synced: u64,
    /// A whole record lies behind a bad one.
    more: bool,
    /// What it says of itself and the file in front of it.
    place: Place,
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

    /// Whether records were ever written to it, as far as can be told.
    fn is_used(&self) -> bool {
        self.end > self.header.base || self.more
    }
}

/// Reads everything back and starts a new file.
pub(crate) fn recover(disk: &Arc<dyn Disk>, options: &Options) -> Result<Parts, OpenError> {
    disk.lock()?;
    let mut numbers: BTreeMap<u64, Names> = BTreeMap::new();
    let (mut spares, mut bodies) = (Vec::new(), Vec::new());
    for name in disk.list()? {
        if let Some(number) = file_number(&name) {
            numbers.entry(number).or_default().log = Some(name);
        } else if let Some(number) = digest_number(&name) {
            numbers.entry(number).or_default().digest = Some(name);
        } else if body_id(&name).is_some() {
            bodies.push(name);
        } else if name.ends_with(SPARE_SUFFIX) {
            spares.push(name);
        }
    }
    let mut replay = Replay::new(&**disk, Spill::beside(PAGES_PREFIX, &spares), options.resident_bytes_max);
    match read_files(&**disk, numbers, &mut spares, &mut replay, options) {
        Ok(found) => {
            let mut parts = start(disk, options, found, &spares, replay)?;
            parts.bodies.1 = bodies;
            Ok(parts)
        }
        Err(error) => {
            replay.abandon();
            Err(error)
        }
    }
}

/// What there is of a file of the log.
#[derive(Default)]
struct Names {
    log: Option<String>,
    digest: Option<String>,
}

/// Replays all files in order; digests that are of no use go to the spares.
fn read_files(
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
    let bytes = read_whole(&*disk.open(name)?)?;
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
    let bytes = &bytes[..read];
    let header = FileHeader::decode(bytes).map_err(|error| header_error(&name, error))?;
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
    bytes: &[u8],
    oldest: &mut u64,
    replay: &mut Replay<'_>,
    options: &Options,
) -> Result<(), OpenError> {
    let mut at = FILE_HEADER_BYTES as usize;
    let base = file.header.base;
    let lsn_at = |at: usize| base + (at as u64 - FILE_HEADER_BYTES);
    while let Some((header, payload)) = record_at(bytes, at, lsn_at(at), options) {
        let noted = header.kind != Kind::Refs && file.place.note(oldest, header.kind, payload);
        if !noted || !replay.record(header.kind, lsn_at(at), payload) {
            let what = "a record's checksum is right but its content is not";
            return Err(damaged(&file.name, at as u64, what));
        }
        at += record_bytes(header.len);
        file.end = lsn_at(at);
        file.synced = file.synced.max(header.synced);
        file.place.chain = fold(file.place.chain, header.crc);
        file.place.used = true;
        if header.kind.is_seal() {
            file.sealed = true;
            file.place.goes_on = header.kind == Kind::GoesOn;
            return Ok(());
        }
    }
    let bad = lsn_at(at);
    let mut later = at + ALIGN;
    while later < bytes.len() {
        if let Some((header, _)) = record_at(bytes, later, lsn_at(later), options) {
            file.more = true;
            if header.synced > bad && !options.plants(Canary::SkipDamage) {
                let what = "a record is damaged that had been synced";
                return Err(damaged(&file.name, at as u64, what));
            }
        }
        later += ALIGN;
    }
    Ok(())
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

fn damaged(file: &str, offset: u64, what: &'static str) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), offset, what }
}

/// Seals the torn file, drops files that hold nothing, and starts a new one.
fn start(
    disk: &Arc<dyn Disk>,
    options: &Options,
    found: Vec<Found>,
    spares: &[String],
    replay: Replay<'_>,
) -> Result<Parts, OpenError> {
    let number = found.iter().map(|f| f.header.number).max().unwrap_or(0) + 1;
    let generation = found.iter().map(|f| f.header.generation).max().unwrap_or(0) + 1;
    let base = found
        .iter()
        .map(|f| f.header.base + f.size.max(f.end - f.header.base))
        .max()
        .unwrap_or(0)
        .next_multiple_of(4096)
        + 4096;
    for name in spares {
        disk.remove(name)?;
    }
    if let Some(last) = found.iter().rfind(|f| f.end > f.header.base) {
        write_again(last)?;
    }
    let bytes = options.first_file_bytes;
    let before = found.iter().rfind(|f| f.is_used()).map_or(0, |f| f.header.number);
    let header = FileHeader { number, base, generation, before, bytes };
    let handle = first_file(&**disk, header)?;
    // Only now: the seals say that there is a file behind them.
    let mut files = BTreeMap::new();
    let mut unused = Vec::new();
    for mut file in found {
        // One of which only the first record is torn is sealed like any other: else, when a later start has proven that
        // it was, it could not be told from one that never held anything.
        if !file.is_used() {
            unused.push(file.name);
            continue;
        }
        let end = if options.plants(Canary::KeepTornTail) { file.end } else { seal(&mut file)? };
        let capacity = match file.form {
            Form::Alone => file.size,
            Form::Log | Form::Digested => file.size.max(end - file.header.base + FILE_HEADER_BYTES),
        };
        let mut entry = LogFile::new(file.header.number, file.place.before, file.header.base, capacity);
        entry.chain = file.place.chain;
        entry.end = end;
        entry.handle = file.handle;
        entry.form = file.form;
        files.insert(file.header.base, entry);
    }
    // Only now: the highest generation and LSN may be in one of these, and must not be forgotten before they are in
    // the new file; and for good, for a file without a seal may not precede one with records. The last first: each says
    // that there is one in front of it.
    for name in unused.iter().rev() {
        disk.remove(name)?;
    }
    if !unused.is_empty() {
        disk.sync_dir()?;
    }
    let mut current = LogFile::new(number, before, base, bytes);
    let chain = files.values().next_back().map_or(0, |file| file.chain);
    let oldest = files.values().next().map_or(number, |file| file.number);
    begin(&*handle, &mut current, chain, oldest)?;
    let written = current.end;
    current.handle = Some(handle.clone());
    files.insert(base, current);
    let mut log = LogState::new(files, options.file_bytes);
    // What an earlier life may have given and lost is never given again.
    let floor = if options.plants(Canary::ReuseSeq) { 1 } else { generation << SEQ_BITS };
    let Recovered { queues, metas, pages, bodies } = replay.finish(&mut log, floor)?;
    let writer = Writer { file: handle, base, written, queue: VecDeque::new() };
    Ok(Parts { generation, queues, metas, log, writer, pages, bodies: (bodies, Vec::new()) })
}

/// Begins the new file with records that say what is in front of it, and that everything there is durable. Without them a
/// bit that flips in the newest records of the files before would pass for a torn tail.
fn begin(file: &dyn DiskFile, entry: &mut LogFile, chain: u64, oldest: u64) -> Result<(), OpenError> {
    let (mut bytes, base) = (Vec::new(), entry.base);
    for kind in [Kind::Link, Kind::Oldest] {
        let mut record = Record::default();
        record.start();
        match kind {
            Kind::Link => put_link(&mut record.buf, chain),
            _ => put_oldest(&mut record.buf, oldest),
        }
        let (len, crc) = record.finish();
        let header = encode_header(kind, len, crc, entry.end, base);
        entry.take(&header, entry.end + record_bytes(len) as u64);
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&record.buf[HEADER_BYTES..]);
        bytes.resize((entry.end - base) as usize, 0);
    }
    file.pwritev(&[IoSlice::new(&bytes)], FILE_HEADER_BYTES)?;
    file.sync()?;
    Ok(())
}

/// Writes again what was read of the last file and may never have been synced. A sync of it may have failed, which is
/// why the process ended; then it was read from memory, is not on the disk, and the next sync would not say so.
fn write_again(file: &Found) -> Result<(), OpenError> {
    let Some(handle) = file.handle.as_ref().filter(|_| file.form == Form::Log) else {
        return Ok(());
    };
    let from = file.synced.min(file.end);
    let offset = from - file.header.base + FILE_HEADER_BYTES;
    let mut tail = vec![0; (file.end - from) as usize];
    let n = handle.pread(&mut tail, offset)?;
    if n > 0 {
        handle.pwritev(&[IoSlice::new(&tail[..n])], offset)?;
        // The seal that follows says that all before it was synced.
        handle.sync()?;
    }
    Ok(())
}

/// Makes sure that a file ends with a seal and nothing behind it; returns the LSN behind that.
fn seal(file: &mut Found) -> Result<u64, OpenError> {
    let Some(handle) = file.handle.as_ref().filter(|_| file.form == Form::Log) else {
        return Ok(file.end);
    };
    // What was read may never have been synced by the process that wrote it, and is relied on from now on.
    if file.sealed {
        handle.sync()?;
        return Ok(file.end);
    }
    let offset = file.end - file.header.base + FILE_HEADER_BYTES;
    let header = encode_header(Kind::GoesOn, 0, 0, file.end, file.end);
    handle.pwritev(&[IoSlice::new(&header)], offset)?;
    // A file that is cut and has no seal is damaged.
    handle.sync()?;
    handle.truncate(offset + HEADER_BYTES as u64)?;
    handle.sync()?;
    file.place.chain = fold(file.place.chain, u32_at(&header, 8));
    Ok(file.end + HEADER_BYTES as u64)
}

/// The small file that every open starts with.
fn first_file(disk: &dyn Disk, header: FileHeader) -> Result<Arc<dyn DiskFile>, OpenError> {
    let name = format!("first{SPARE_SUFFIX}");
    let file = disk.create(&name)?;
    file.preallocate(header.bytes)?;
    file.pwritev(&[IoSlice::new(&header.encode())], 0)?;
    file.sync()?;
    disk.rename(&name, &file_name(header.number))?;
    disk.sync_dir()?;
    Ok(file)
}
