//! The digest of a file of the log: what recovery needs of it, without the messages.
//!
//! Invariants: a digest is made of a file that is sealed and durable, so it never becomes wrong; it is synced before
//! it gets its name. Beside its file it is a help that may be missing or damaged. *Alone*, it stands for a file in
//! which nothing lived any more but whose settles and deletions some older file still needs; then it is as dear as a
//! file of the log. If none does, it is *bare* (see `bare`). `docs/storage-format.md` names every byte.
//!
//! Not here: IO. See `checkpoint` and `recover`.

use crate::deliver::read_delivered;
use crate::log::LogFile;
use crate::payload::{merge_ranges, put_ranges, read_batch, read_ranges, shorten_batch};
use crate::record::{
    FORMAT_VERSION, FileHeaderError, Kind, PLACE_MAX, Reader, are_places, put_before, put_varint, read_before, u32_at,
    u64_at,
};
use model::QueueId;
use std::collections::BTreeMap;

/// Bytes in front of the content.
pub(crate) const DIGEST_HEADER_BYTES: usize = 96;

const MAGIC: [u8; 8] = *b"SLUICDIG";
const ALONE: u32 = 1;
const SUFFIX: &str = ".digest";

/// The name of the digest of a file of the log.
pub(crate) fn digest_name(number: u64) -> String {
    format!("wal-{number:012}{SUFFIX}")
}

/// The number in such a name.
pub(crate) fn digest_number(name: &str) -> Option<u64> {
    name.strip_prefix("wal-")?.strip_suffix(SUFFIX)?.parse().ok().filter(|number| *number <= PLACE_MAX)
}

/// The first bytes of a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DigestHeader {
    pub(crate) number: u64,
    /// LSN of the first record, and behind the last.
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) generation: u64,
    /// Number of the file in front of it, and what its own records fold to (see `chain`); 0 if that is not known.
    pub(crate) before: u64,
    pub(crate) chain: u64,
    /// The file it was made of is gone.
    pub(crate) alone: bool,
}

impl DigestHeader {
    /// That of the digest of a file which is sealed.
    pub(crate) fn of(file: &LogFile, generation: u64, alone: bool) -> Self {
        let LogFile { number, base, end, before, chain, .. } = *file;
        Self { number, base, end, generation, before, chain, alone }
    }

    fn encode(self, content: &[u8]) -> [u8; DIGEST_HEADER_BYTES] {
        let mut out = [0; DIGEST_HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(if self.alone { ALONE } else { 0 }).to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.base.to_le_bytes());
        out[32..40].copy_from_slice(&self.generation.to_le_bytes());
        // 40..48 is the id of the encryption key: 0 is none.
        out[48..56].copy_from_slice(&self.end.to_le_bytes());
        out[56..64].copy_from_slice(&(content.len() as u64).to_le_bytes());
        out[64..68].copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        out[68..72].copy_from_slice(&put_before(self.number, self.before));
        out[72..80].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&out[..92]);
        out[92..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header of a whole digest, and its content.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), FileHeaderError> {
        let (head, rest) = bytes.split_at_checked(DIGEST_HEADER_BYTES).ok_or(FileHeaderError::Damaged)?;
        if head[..8] != MAGIC {
            return Err(FileHeaderError::Damaged);
        }
        let version = u32_at(head, 8);
        if version > FORMAT_VERSION {
            return Err(FileHeaderError::Newer(version));
        }
        if u32_at(head, 92) != crc32c::crc32c(&head[..92]) {
            return Err(FileHeaderError::Damaged);
        }
        if u64_at(head, 40) != 0 {
            return Err(FileHeaderError::Encrypted(u64_at(head, 40)));
        }
        let len = usize::try_from(u64_at(head, 56)).map_err(|_| FileHeaderError::Damaged)?;
        let content = rest.get(..len).ok_or(FileHeaderError::Damaged)?;
        let (number, base, end) = (u64_at(head, 16), u64_at(head, 24), u64_at(head, 48));
        let generation = u64_at(head, 32);
        if u32_at(head, 64) != crc32c::crc32c(content) || !are_places(number, base, end, generation) {
            return Err(FileHeaderError::Damaged);
        }
        let header = Self {
            number,
            base,
            end,
            generation,
            before: read_before(number, u32_at(head, 68)),
            chain: u64_at(head, 72),
            alone: u32_at(head, 12) & ALONE != 0,
        };
        Ok((header, content))
    }
}

/// A digest being made.
pub(crate) struct Digest {
    header: DigestHeader,
    content: Vec<u8>,
    last: u64,
    /// What an alone one gathers: settled seqs and the highest seq handed out, by queue.
    settled: BTreeMap<QueueId, Vec<(u64, u64)>>,
    delivered: BTreeMap<QueueId, u64>,
}

impl Digest {
    pub(crate) fn new(header: DigestHeader) -> Self {
        let (settled, delivered) = (BTreeMap::new(), BTreeMap::new());
        Self { header, content: Vec::new(), last: header.base, settled, delivered }
    }

    /// The number of the file it is of.
    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    /// Adds the next record; `None` if its content is not what its kind says.
    pub(crate) fn add(&mut self, kind: Kind, lsn: u64, payload: &[u8]) -> Option<()> {
        let alone = self.header.alone;
        match kind {
            Kind::Seal | Kind::GoesOn => {}
            Kind::Batch if alone => {
                let settled = &mut self.settled;
                let each = |id, first, last| settled.entry(id).or_default().push((first, last));
                let mut deleted = Vec::new();
                let metas = |key: &[u8], value: Option<&[u8]>| {
                    if value.is_none() {
                        deleted.push(key.to_vec());
                    }
                };
                read_batch(payload, &mut Vec::new(), |_, _, _, _, _| {}, each, metas)?;
                for key in deleted {
                    self.put(Kind::DeleteMeta, lsn, &key);
                }
            }
            Kind::Settle if alone => {
                let mut reader = Reader::new(payload);
                let ranges = self.settled.entry(QueueId(reader.varint()?)).or_default();
                read_ranges(&mut reader, |first, last| ranges.push((first, last)))?;
            }
            Kind::Delivered if alone => {
                read_delivered(payload, |queue, seq| {
                    let highest = self.delivered.entry(queue).or_default();
                    *highest = seq.max(*highest);
                })?;
            }
            // What made these pointless is in the log behind them.
            Kind::CreateQueue | Kind::PutMeta if alone => {}
            Kind::Batch => {
                let mut short = Vec::with_capacity(payload.len() / 8);
                shorten_batch(payload, &mut short)?;
                self.put(Kind::Refs, lsn, &short);
            }
            _ => self.put(kind, lsn, payload),
        }
        Some(())
    }

    fn put(&mut self, kind: Kind, lsn: u64, payload: &[u8]) {
        self.content.push(kind as u8);
        put_varint(&mut self.content, lsn - self.last);
        put_varint(&mut self.content, payload.len() as u64);
        self.content.extend_from_slice(payload);
        self.last = lsn;
    }

    /// The bytes of the file.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        let mut payload = Vec::new();
        for (id, mut ranges) in std::mem::take(&mut self.settled) {
            merge_ranges(&mut ranges);
            payload.clear();
            put_varint(&mut payload, id.0);
            put_ranges(&mut payload, &ranges);
            self.put(Kind::Settle, self.last, &payload);
        }
        payload.clear();
        for (id, seq) in std::mem::take(&mut self.delivered) {
            put_varint(&mut payload, id.0);
            put_varint(&mut payload, seq);
        }
        if !payload.is_empty() {
            self.put(Kind::Delivered, self.last, &payload);
        }
        (self.header.encode(&self.content).to_vec(), self.content)
    }
}

/// Calls `each` for the records in a digest; `None` if it is not one, or `each` says false.
pub(crate) fn read_digest(base: u64, content: &[u8], mut each: impl FnMut(Kind, u64, &[u8]) -> bool) -> Option<()> {
    let mut reader = Reader::new(content);
    let mut lsn = base;
    while !reader.is_at_end() {
        let kind = Kind::from_code(reader.byte()?)?;
        lsn = lsn.checked_add(reader.varint()?)?;
        let len = reader.count()?;
        if !each(kind, lsn, reader.take(len)?) {
            return None;
        }
    }
    Some(())
}
