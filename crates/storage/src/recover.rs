//! Opening a directory: reading the log back into queues and metadata.
//!
//! Invariants: nothing is skipped silently and nothing is deleted that could hold a record. A torn tail is sealed in
//! front of the first bad record. Anything else that is not right is [`OpenError::Damaged`], and the directory is left as it
//! is. Every open starts a new file, so no LSN, seq or queue id of an earlier life is used again.

mod read;

use crate::Options;
use crate::body::body_id;
use crate::canary::Canary;
use crate::chain::{fold, put_link, put_oldest};
use crate::core::Parts;
use crate::digest::digest_number;
use crate::disk::{Disk, DiskError, DiskFile, read_alike};
use crate::log::{Form, LogFile, LogState, file_name, file_number};
use crate::payload::Record;
use crate::prepare::SPARE_SUFFIX;
use crate::record::{FILE_HEADER_BYTES, FileHeader, HEADER_BYTES, Kind, encode_header, record_bytes, u32_at};
use crate::replay::{Recovered, Replay, SEQ_BITS};
use crate::spill::{PAGES_PREFIX, Spill};
use crate::writer::Writer;
use read::{Found, Names, read_files};
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
        // What ended before the start is not told apart.
        (entry.dead_at, entry.repeats) = (base, true);
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
    current.oldest = oldest;
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
    if from < file.end {
        let offset = from - file.header.base + FILE_HEADER_BYTES;
        let tail = read_alike(&**handle, &file.name, offset, (file.end - from) as usize)?;
        handle.pwritev(&[IoSlice::new(&tail)], offset)?;
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

fn damaged(file: &str, offset: u64, what: &'static str) -> OpenError {
    OpenError::Damaged { file: file.to_owned(), offset, what }
}
