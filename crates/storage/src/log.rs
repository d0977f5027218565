//! The log in memory: where the next record goes, what waits to be written, and what still lives in each file.
//!
//! Invariants: records get their place (LSN) in the order they are pushed, under one lock, and a record lies in one
//! file. A file that is not the last ends with a seal, and begins with a link to the one in front of it. How much lives in each file is known here: references, queues
//! and metadata.
//!
//! Not here: IO. See `writer` and `keeper`.

use crate::chain::{CHAIN_START, fold, put_link, put_oldest};
use crate::disk::DiskFile;
use crate::payload::Record;
use crate::record::{FILE_HEADER_BYTES, HEADER_BYTES, Kind, PLACE_MAX, encode_header, record_bytes, u32_at};
use crate::usage::{Arrivals, Written, charge};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a file of the log is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// As it was written.
    Log,
    /// So, and there is a digest of it.
    Digested,
    /// Its digest alone: nothing lives in it, but there is an older file.
    Alone,
}

/// A file of the log.
pub(crate) struct LogFile {
    pub(crate) number: u64,
    /// Number of the file in front of it; 0 if that is not known.
    pub(crate) before: u64,
    /// What its records fold to (see `chain`); 0 if that is not known.
    pub(crate) chain: u64,
    /// LSN of its first record.
    pub(crate) base: u64,
    /// LSN behind its last record.
    pub(crate) end: u64,
    /// Bytes reserved for it on the disk; the next file's base is `base + capacity`.
    pub(crate) capacity: u64,
    /// References, queues and metadata still in it.
    pub(crate) live: u64,
    /// Of these, queues and metadata.
    pub(crate) definitions: u64,
    /// All that was put into it to live.
    pub(crate) arrivals: Arrivals,
    /// What still does, counted as `arrivals.charged` is.
    living: u64,
    /// There is no point in copying it to put what is drained together next to each other.
    pub(crate) grouped: bool,
    /// It may go once the log is durable up to here: whatever ended something of it lies in front of this.
    pub(crate) dead_at: u64,
    /// Something in it may lie in an older file, too: it holds copies, or values, or is of an earlier life.
    pub(crate) repeats: bool,
    /// The highest number of an *oldest* record in it; 0: there is none.
    pub(crate) oldest: u64,
    pub(crate) form: Form,
    /// Not all of it can be read, so what lives in it stays there.
    pub(crate) damaged: bool,
    /// `None` until the writer has opened it, and when it is no longer there.
    pub(crate) handle: Option<Arc<dyn DiskFile>>,
}

impl LogFile {
    pub(crate) fn new(number: u64, before: u64, base: u64, capacity: u64) -> Self {
        Self {
            number,
            before,
            chain: CHAIN_START,
            base,
            end: base,
            capacity,
            live: 0,
            definitions: 0,
            arrivals: Arrivals::default(),
            living: 0,
            grouped: false,
            dead_at: 0,
            repeats: false,
            oldest: 0,
            form: Form::Log,
            damaged: false,
            handle: None,
        }
    }

    /// Bytes of it that something still needs.
    pub(crate) fn live_bytes(&self) -> u64 {
        let content = u128::from(self.arrivals.content);
        let share = content * u128::from(self.living) / u128::from(self.arrivals.charged.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Counts things of it that live, and their bytes by reference.
    pub(crate) fn lives(&mut self, count: u64, charged: u64) {
        self.live += count;
        self.living += charged;
    }

    /// A record with this header was put into it, which ends at `end`.
    pub(crate) fn take(&mut self, header: &[u8; HEADER_BYTES], end: u64) {
        self.chain = fold(self.chain, u32_at(header, 8));
        self.end = end;
    }

    /// Where in the file an LSN lies.
    pub(crate) fn offset(&self, lsn: u64) -> u64 {
        lsn - self.base + FILE_HEADER_BYTES
    }
}

/// What the writer has to do next.
pub(crate) enum Chunk {
    /// Write a record.
    Record { lsn: u64, end: u64, record: Record },
    /// End the file with this record and go on in a new one.
    Open { seal: [u8; HEADER_BYTES], number: u64, base: u64, capacity: u64 },
}

/// The place of a record that was dropped: never durable, in no file.
const NOWHERE: (u64, u64) = (PLACE_MAX, u64::MAX);

/// The name of a file of the log.
pub(crate) fn file_name(number: u64) -> String {
    format!("wal-{number:012}.log")
}

/// The number in such a name.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok().filter(|number| *number <= PLACE_MAX)
}

/// See the module.
pub(crate) struct LogState {
    pub(crate) next: u64,
    pub(crate) pending: Vec<Chunk>,
    pub(crate) pending_bytes: usize,
    /// Someone waits for the log to be durable up to here.
    pub(crate) wanted: u64,
    /// By base; the last is the one being written.
    pub(crate) files: BTreeMap<u64, LogFile>,
    pub(crate) failed: Option<String>,
    pub(crate) closed: bool,
    pub(crate) written: Written,
    /// See [`LogState::proven`]; and the next record that proves more: the LSN behind it, and what it proves.
    proven: u64,
    proof: Option<(u64, u64)>,
    file_bytes: u64,
}

impl LogState {
    pub(crate) fn new(files: BTreeMap<u64, LogFile>, file_bytes: u64) -> Self {
        let next = files.values().next_back().map_or(0, |f| f.end);
        Self {
            next,
            pending: Vec::new(),
            pending_bytes: 0,
            wanted: 0,
            files,
            failed: None,
            closed: false,
            written: Written::default(),
            proven: next,
            proof: None,
            file_bytes,
        }
    }

    /// The file being written.
    pub(crate) fn current(&mut self) -> &mut LogFile {
        let (_, file) = self.files.iter_mut().next_back().expect("never empty");
        file
    }

    /// The file that holds an LSN.
    pub(crate) fn file_of(&mut self, lsn: u64) -> Option<&mut LogFile> {
        let (_, file) = self.files.range_mut(..=lsn).next_back()?;
        (lsn < file.end).then_some(file)
    }

    /// Gives a finished record its place and queues it for the writer; returns its LSN and the LSN behind it.
    /// `synced` is how far the log is durable. A poisoned or closed log drops the record:
    /// its place is then one that never becomes durable.
    pub(crate) fn push(&mut self, kind: Kind, mut record: Record, synced: u64) -> (u64, u64) {
        if self.failed.is_some() || self.closed {
            return NOWHERE;
        }
        let (len, crc) = record.finish();
        let bytes = record_bytes(len) as u64;
        let seal = record_bytes(0) as u64;
        let current = self.current();
        let limit = current.base + current.capacity - FILE_HEADER_BYTES;
        if self.next + bytes + seal > limit {
            self.rotate(bytes + seal + FILE_HEADER_BYTES, synced);
        }
        let lsn = self.next;
        self.enqueue(kind, record, (len, crc), synced);
        self.proof.get_or_insert((self.next, synced));
        (lsn, self.next)
    }

    /// How far the log itself proves that it was durable, being durable up to `durable`: what a bad record before this
    /// would be is damage, behind it a torn tail. What lies elsewhere is given up only when its copy is proven.
    pub(crate) fn proven(&mut self, durable: u64) -> u64 {
        if let Some((_, synced)) = self.proof.take_if(|(end, _)| *end <= durable) {
            self.proven = self.proven.max(synced);
        }
        self.proven
    }

    /// Pushes a record that says nothing but how far the log is durable; returns the LSN behind it.
    pub(crate) fn prove(&mut self, mut record: Record, durable: u64) -> u64 {
        record.nothing();
        self.proof = None;
        self.push(Kind::Settle, record, durable).1
    }

    /// Pushes a record that says that files before this one are not needed; returns the LSN behind it.
    pub(crate) fn tell_oldest(&mut self, mut record: Record, number: u64, durable: u64) -> u64 {
        put_oldest(&mut record.buf, number);
        let (_, end) = self.push(Kind::Oldest, record, durable);
        let file = self.current();
        file.oldest = file.oldest.max(number);
        end
    }

    /// Gives a record that fits into the current file its place; `len` and `crc` are those of its payload.
    fn enqueue(&mut self, kind: Kind, mut record: Record, (len, crc): (usize, u32), synced: u64) {
        let lsn = self.next;
        let header = encode_header(kind, len, crc, lsn, synced);
        record.buf[..HEADER_BYTES].copy_from_slice(&header);
        let bytes = record_bytes(len) as u64;
        let padding = bytes as usize - HEADER_BYTES - len;
        record.buf.resize(record.buf.len() + padding, 0);
        self.next += bytes;
        let end = self.next;
        self.written.bookkeeping += bytes;
        self.current().take(&header, end);
        self.pending_bytes += bytes as usize;
        self.pending.push(Chunk::Record { lsn, end, record });
    }

    /// Seals the current file and goes on in the next, which has room for `needed` bytes.
    fn rotate(&mut self, needed: u64, synced: u64) {
        let seal = encode_header(Kind::GoesOn, 0, 0, self.next, synced);
        let end = self.next + HEADER_BYTES as u64;
        self.written.bookkeeping += HEADER_BYTES as u64;
        let file_bytes = self.file_bytes;
        let old = self.current();
        old.take(&seal, end);
        let (before, chain) = (old.number, old.chain);
        let (number, base) = (before + 1, old.base + old.capacity);
        let mut link = Record::default();
        link.start();
        put_link(&mut link.buf, chain);
        let (len, crc) = link.finish();
        let capacity = file_bytes.max((needed + record_bytes(len) as u64).next_multiple_of(4096));
        let file = LogFile::new(number, before, base, capacity);
        self.files.insert(base, file);
        self.next = base;
        self.pending.push(Chunk::Open { seal, number, base, capacity });
        self.enqueue(Kind::Link, link, (len, crc), synced);
    }

    /// Like [`LogState::push`], for a copy of what lies elsewhere in the log.
    pub(crate) fn push_copy(&mut self, kind: Kind, record: Record, synced: u64) -> (u64, u64) {
        let before = self.written.bookkeeping;
        let (lsn, end) = self.push(kind, record, synced);
        self.written.moved += self.written.bookkeeping - before;
        self.written.bookkeeping = before;
        self.current().repeats = true;
        (lsn, end)
    }

    /// The record that takes `bytes` and was pushed last brought messages.
    pub(crate) fn brought(&mut self, bytes: u64, arrivals: &Arrivals) {
        if self.failed.is_some() || self.closed {
            return;
        }
        self.written.bookkeeping -= bytes;
        self.written.first += bytes;
        self.written.message_bytes += arrivals.message_bytes;
    }

    /// Counts what lives in the record at `lsn`.
    pub(crate) fn add_live(&mut self, lsn: u64, arrivals: &Arrivals) {
        if let Some(file) = self.file_of(lsn) {
            file.arrivals += *arrivals;
            file.lives(arrivals.count, arrivals.charged);
        }
    }

    /// Counts a queue or a value of this size that lives in the record at `lsn`.
    pub(crate) fn add_definition(&mut self, lsn: u64, size: usize) {
        self.add_live(lsn, &Arrivals::one(size));
        if let Some(file) = self.file_of(lsn) {
            file.definitions += 1;
            file.repeats = true;
        }
    }

    /// Counts one that no longer does.
    pub(crate) fn drop_definition(&mut self, lsn: u64, size: usize) {
        if let Some(file) = self.file_of(lsn) {
            file.definitions = file.definitions.saturating_sub(1);
        }
        self.drop_live(lsn, size);
    }

    /// Counts a message of this size at `lsn` that no longer lives, after the record that says so was pushed; returns whether
    /// nothing else lives in that file.
    pub(crate) fn drop_live(&mut self, lsn: u64, size: usize) -> bool {
        let now = self.next;
        let Some(file) = self.file_of(lsn) else {
            return false;
        };
        file.live = file.live.saturating_sub(1);
        file.living = file.living.saturating_sub(charge(size));
        file.dead_at = now;
        file.live == 0
    }

    /// The same for several, each with its size; those that lie in one file should follow each other. Returns whether
    /// nothing else lives in a file of theirs.
    pub(crate) fn drop_all_live(&mut self, all: impl Iterator<Item = (u64, usize)>) -> bool {
        let now = self.next;
        let mut emptied = false;
        let mut all = all.peekable();
        while let Some((lsn, size)) = all.next() {
            let Some(file) = self.file_of(lsn) else { continue };
            let (mut gone, mut charged) = (1, charge(size));
            while let Some((_, size)) = all.next_if(|(lsn, _)| (file.base..file.end).contains(lsn)) {
                gone += 1;
                charged += charge(size);
            }
            file.live = file.live.saturating_sub(gone);
            file.living = file.living.saturating_sub(charged);
            file.dead_at = now;
            emptied |= file.live == 0;
        }
        emptied
    }
}
