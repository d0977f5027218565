//! The file of a large body (`docs/storage-format.md`): a header, then pieces, each with a checksum behind it.
//!
//! Invariants: a checksum covers the body's id and the piece's number, so neither a piece nor a file passes for another.
//! The file's size follows from its header: one that is shorter is damaged.

use crate::record::FORMAT_VERSION;

/// Bytes of the header.
pub(crate) const BODY_HEADER_BYTES: u64 = 64;
/// Where in it its checksum is, which covers all before.
pub(crate) const HEADER_CRC_AT: usize = 60;
/// Bytes of the checksum behind a piece.
pub(crate) const PIECE_CRC_BYTES: u64 = 4;

const MAGIC: &[u8; 8] = b"SLUICBOD";
const PREFIX: &str = "body-";
const SUFFIX: &str = ".data";

/// The name of a body's file.
pub(crate) fn body_name(id: u64) -> String {
    format!("{PREFIX}{id:016x}{SUFFIX}")
}

/// The id in the name of a body's file.
pub(crate) fn body_id(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let id = u64::from_str_radix(digits, 16).ok()?;
    (body_name(id) == name).then_some(id)
}

/// What its header says of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BodyHeader {
    pub(crate) id: u64,
    /// Bytes of the body.
    pub(crate) len: u64,
    /// Bytes of each piece but the last.
    pub(crate) piece: u64,
}

impl BodyHeader {
    pub(crate) fn encode(&self) -> [u8; BODY_HEADER_BYTES as usize] {
        let mut bytes = [0; BODY_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.len.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.piece.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header of a file; `None` if it is not one that this program writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BODY_HEADER_BYTES as usize] = bytes.first_chunk()?;
        let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let version = u32::from_le_bytes(bytes[8..12].try_into().ok()?);
        let crc = u32::from_le_bytes(bytes[HEADER_CRC_AT..].try_into().ok()?);
        let plain = word(40)? == 0; // no encryption
        let known = &bytes[..8] == MAGIC
            && version <= FORMAT_VERSION
            && plain
            && crc32c::crc32c(&bytes[..HEADER_CRC_AT]) == crc;
        let header = Self { id: word(16)?, len: word(24)?, piece: word(32)? };
        (known && header.len > 0 && header.piece > 0).then_some(header)
    }

    /// Bytes of the whole file; `None` if no file could be so large.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let crcs = self.len.div_ceil(self.piece).checked_mul(PIECE_CRC_BYTES)?;
        self.len.checked_add(crcs)?.checked_add(BODY_HEADER_BYTES)
    }

    /// Where the byte at `at` of the body lies in the file.
    pub(crate) fn place(&self, at: u64) -> u64 {
        BODY_HEADER_BYTES + at + at / self.piece * PIECE_CRC_BYTES
    }

    /// Bytes of the piece that the byte at `at` is in, and where in it that byte is.
    pub(crate) fn piece_at(&self, at: u64) -> (usize, usize) {
        let within = at % self.piece;
        (self.piece.min(self.len - (at - within)) as usize, within as usize)
    }

    /// What the checksum of the piece with the byte at `at` begins with.
    pub(crate) fn seed(&self, at: u64) -> u32 {
        let crc = crc32c::crc32c(&self.id.to_le_bytes());
        crc32c::crc32c_append(crc, &(at / self.piece).to_le_bytes())
    }

    /// The content of the piece that begins at `at`, if these bytes are it and its checksum.
    pub(crate) fn check<'a>(&self, at: u64, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (content, crc) = bytes.split_last_chunk::<{ PIECE_CRC_BYTES as usize }>()?;
        let right = content.len() == self.piece_at(at).0;
        (right && crc32c::crc32c_append(self.seed(at), content) == u32::from_le_bytes(*crc)).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_headers_come_back() {
        let header = BodyHeader { id: 0x3_0000_0007, len: 1_000_001, piece: 1000 };
        assert_eq!(body_id(&body_name(header.id)), Some(header.id));
        assert_eq!(body_id("body-7.data"), None);
        assert_eq!(body_id("body-000000000000000G.data"), None);
        let bytes = header.encode();
        assert_eq!(BodyHeader::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BodyHeader::decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(BodyHeader::decode(&bytes[..63]), None);
    }

    #[test]
    fn every_byte_has_its_place() {
        let header = BodyHeader { id: 1, len: 2_500, piece: 1000 };
        assert_eq!(header.file_bytes(), Some(64 + 2_500 + 3 * 4));
        assert_eq!((header.place(0), header.place(999), header.place(1000)), (64, 1063, 1068));
        assert_eq!((header.piece_at(0), header.piece_at(999)), ((1000, 0), (1000, 999)));
        assert_eq!((header.piece_at(2000), header.piece_at(2499)), ((500, 0), (500, 499)));
    }

    #[test]
    fn a_piece_passes_for_no_other() {
        let header = BodyHeader { id: 1, len: 20, piece: 10 };
        let content = *b"0123456789";
        let mut piece = content.to_vec();
        piece.extend_from_slice(&crc32c::crc32c_append(header.seed(0), &content).to_le_bytes());
        assert_eq!(header.check(0, &piece), Some(&content[..]));
        assert_eq!(header.check(10, &piece), None, "another piece");
        assert_eq!(BodyHeader { id: 2, ..header }.check(0, &piece), None, "another body");
        assert_eq!(header.check(0, &piece[..13]), None, "short");
        piece[3] ^= 1;
        assert_eq!(header.check(0, &piece), None, "flipped");
    }
}
