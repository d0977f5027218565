//! The frame around everything in the log: file headers, record headers, variable-length integers.
//!
//! Invariants: a record's header checksum covers its own place (the LSN), and no LSN is used twice, so bytes left
//! from an earlier use of a file or from before a crash never pass for a record. The header also says how far the log
//! was synced when the record was made, so a bad record that was synced is told from a torn tail.
//! `docs/storage-format.md` names every byte.

/// Bytes of a file header.
pub(crate) const FILE_HEADER_BYTES: u64 = 64;
/// Bytes of a record header.
pub(crate) const HEADER_BYTES: usize = 16;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// The format this program writes and the newest it reads.
pub(crate) const FORMAT_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"SLUICWAL";
const UNSYNCED_MAX: u64 = (1 << 24) - 1;

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Batch = 1,
    Settle = 2,
    CreateQueue = 3,
    DeleteQueue = 4,
    PutMeta = 5,
    DeleteMeta = 6,
    Live = 7,
    Delivered = 8,
    Seal = 9,
    Attempts = 10,
    /// The first record of a file: what the file in front of it held.
    Link = 12,
    /// Which files were given up.
    Oldest = 13,
    /// A seal that says that there is a file behind this one.
    GoesOn = 14,
    /// What was here is damaged and in quarantine.
    Gap = 15,
    /// A batch without its messages; in digests only.
    Refs = 11,
}

impl Kind {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch of messages",
            Self::Settle => "settle",
            Self::CreateQueue => "creation of a queue",
            Self::DeleteQueue => "deletion of a queue",
            Self::PutMeta => "metadata",
            Self::DeleteMeta => "deletion of metadata",
            Self::Live => "state of a queue",
            Self::Delivered => "delivery marks",
            Self::Seal => "end of a file",
            Self::Attempts => "counts of attempts",
            Self::Link => "link to the file before",
            Self::Oldest => "number of the oldest file",
            Self::GoesOn => "end of a file that others follow",
            Self::Gap => "gap",
            Self::Refs => "batch without messages",
        }
    }

    /// Whether it ends a file.
    pub(crate) fn is_seal(self) -> bool {
        matches!(self, Self::Seal | Self::GoesOn)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Batch,
            2 => Self::Settle,
            3 => Self::CreateQueue,
            4 => Self::DeleteQueue,
            5 => Self::PutMeta,
            6 => Self::DeleteMeta,
            7 => Self::Live,
            8 => Self::Delivered,
            9 => Self::Seal,
            10 => Self::Attempts,
            11 => Self::Refs,
            12 => Self::Link,
            13 => Self::Oldest,
            14 => Self::GoesOn,
            15 => Self::Gap,
            _ => return None,
        })
    }
}

/// A record header that has been checked against its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) len: usize,
    pub(crate) payload_crc: u32,
    /// Its own checksum.
    pub(crate) crc: u32,
    /// The log was synced up to here when the record was made; exact unless more than 128 MiB back.
    pub(crate) synced: u64,
}

/// Bytes a record with a payload of `len` bytes takes.
pub(crate) fn record_bytes(len: usize) -> usize {
    (HEADER_BYTES + len).next_multiple_of(ALIGN)
}

/// The header of a record at `lsn`.
pub(crate) fn encode_header(kind: Kind, len: usize, payload_crc: u32, lsn: u64, synced: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    let len = u32::try_from(len).expect("records are bounded far below 4 GiB");
    let behind = (lsn.saturating_sub(synced) / ALIGN as u64).min(UNSYNCED_MAX);
    out[0..4].copy_from_slice(&len.to_le_bytes());
    out[4..8].copy_from_slice(&payload_crc.to_le_bytes());
    out[12] = kind as u8;
    out[13..16].copy_from_slice(&behind.to_le_bytes()[..3]);
    let crc = header_crc(&out, lsn);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The header at `lsn`, or `None` if these bytes are not one.
pub(crate) fn decode_header(bytes: &[u8], lsn: u64) -> Option<Header> {
    let head: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
    let kind = Kind::from_code(head[12])?;
    if u32_at(head, 8) != header_crc(head, lsn) {
        return None;
    }
    let behind = u64::from(u32_at(head, 12) >> 8);
    Some(Header {
        kind,
        len: u32_at(head, 0) as usize,
        payload_crc: u32_at(head, 4),
        crc: u32_at(head, 8),
        synced: if behind == UNSYNCED_MAX { 0 } else { lsn.saturating_sub(behind * ALIGN as u64) },
    })
}

fn header_crc(head: &[u8; HEADER_BYTES], lsn: u64) -> u32 {
    let mut covered = [0; 20];
    covered[..8].copy_from_slice(&lsn.to_le_bytes());
    covered[8..16].copy_from_slice(&head[..8]);
    covered[16..].copy_from_slice(&head[12..]);
    crc32c::crc32c(&covered)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The first bytes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileHeader {
    pub(crate) number: u64,
    /// LSN of the first record.
    pub(crate) base: u64,
    /// Counts the times the directory was opened.
    pub(crate) generation: u64,
    /// Number of the file in front of it; 0 if there is none, or it is not known.
    pub(crate) before: u64,
    /// Bytes the file had at least when it got its name; 0 if that is not known.
    pub(crate) bytes: u64,
}

/// Why the first bytes of a file are not a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileHeaderError {
    Newer(u32),
    Encrypted(u64),
    Damaged,
}

/// No log grows so long, and no file of one has so high a number: a header that says so is damaged, or made to hurt.
pub(crate) const PLACE_MAX: u64 = u64::MAX >> 2;
/// The id of a queue is made of the number of the start and a count.
const GENERATION_MAX: u64 = u32::MAX as u64 >> 1;

/// Whether a header can say these of its file: its number, where it begins and ends in the log, and its generation.
pub(crate) fn are_places(number: u64, base: u64, end: u64, generation: u64) -> bool {
    number <= PLACE_MAX && base <= end && end <= PLACE_MAX && generation <= GENERATION_MAX
}

impl FileHeader {
    pub(crate) fn encode(self) -> [u8; FILE_HEADER_BYTES as usize] {
        let mut out = [0; FILE_HEADER_BYTES as usize];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.base.to_le_bytes());
        out[32..40].copy_from_slice(&self.generation.to_le_bytes());
        out[12..16].copy_from_slice(&put_before(self.number, self.before));
        // 40..48 is the id of the encryption key: 0 is none.
        out[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FileHeaderError> {
        if bytes.len() < FILE_HEADER_BYTES as usize || bytes[..8] != MAGIC {
            return Err(FileHeaderError::Damaged);
        }
        let version = u32_at(bytes, 8);
        if version > FORMAT_VERSION {
            return Err(FileHeaderError::Newer(version));
        }
        let (number, base) = (u64_at(bytes, 16), u64_at(bytes, 24));
        let is_place = are_places(number, base, base, u64_at(bytes, 32));
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) || !is_place {
            return Err(FileHeaderError::Damaged);
        }
        match u64_at(bytes, 40) {
            0 => Ok(Self {
                number,
                base,
                generation: u64_at(bytes, 32),
                before: read_before(number, u32_at(bytes, 12)),
                bytes: u64_at(bytes, 48),
            }),
            key => Err(FileHeaderError::Encrypted(key)),
        }
    }
}

/// How much lower the number of the file in front is; 0 if there is none, or it is not known.
pub(crate) fn put_before(number: u64, before: u64) -> [u8; 4] {
    let distance = if before == 0 { 0 } else { number - before };
    u32::try_from(distance).unwrap_or(0).to_le_bytes()
}

/// The number of the file in front.
pub(crate) fn read_before(number: u64, distance: u32) -> u64 {
    if distance == 0 { 0 } else { number.saturating_sub(u64::from(distance)) }
}

/// Appends an unsigned integer, seven bits a byte, low ones first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Maps small negative and positive numbers to small unsigned ones.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads a payload from front to back; every method is `None` past its end.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.pos == self.bytes.len()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.pos)?;
        self.pos += 1;
        Some(byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32_at(bytes, 0))
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A length or count; each unit of it takes at least a byte of what is left, so it is bounded by that.
    pub(crate) fn count(&mut self) -> Option<usize> {
        let n = usize::try_from(self.varint()?).ok()?;
        (n <= self.bytes.len() - self.pos).then_some(n)
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.pos..self.pos.checked_add(n)?)?;
        self.pos += n;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Some(value));
            assert!(reader.is_at_end());
            assert_eq!(Reader::new(&out[..out.len() - 1]).varint(), None, "cut short");
        }
        assert_eq!(Reader::new(&[0xff; 11]).varint(), None, "too long");
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn a_record_is_good_in_one_place_only() {
        let head = encode_header(Kind::Batch, 100, 7, 4096, 4000);
        let found = decode_header(&head, 4096).expect("its own place");
        assert_eq!((found.kind, found.len, found.payload_crc, found.synced), (Kind::Batch, 100, 7, 4000));
        assert!(decode_header(&head, 8192).is_none());
        for at in 0..HEADER_BYTES {
            let mut bad = head;
            bad[at] ^= 1;
            assert!(decode_header(&bad, 4096).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_header_says_nothing_that_cannot_be() {
        let header = |number, base, generation| {
            let header = FileHeader { number, base, generation, before: 0, bytes: 0 };
            FileHeader::decode(&header.encode()).map(|read| assert_eq!(read, header))
        };
        assert_eq!(header(PLACE_MAX, PLACE_MAX, GENERATION_MAX), Ok(()));
        assert_eq!(header(PLACE_MAX + 1, 0, 1), Err(FileHeaderError::Damaged));
        assert_eq!(header(1, PLACE_MAX + 1, 1), Err(FileHeaderError::Damaged));
        assert_eq!(header(1, 0, GENERATION_MAX + 1), Err(FileHeaderError::Damaged));
    }

    #[test]
    fn what_is_far_behind_counts_as_unknown() {
        let head = encode_header(Kind::Seal, 0, 0, 1 << 40, 0);
        assert_eq!(decode_header(&head, 1 << 40).map(|h| h.synced), Some(0));
    }
}
