//! A simulated disk and what goes with it: for tests and `tools/sim` only.
//!
//! `disk` is the disk, `content` what a crash makes of a file, `gate` a sync that takes long, `dice` where all chance
//! comes from. A run with one seed repeats exactly.

mod content;
mod dice;
mod disk;
mod gate;

pub use dice::Dice;
pub use disk::{Fault, SimDisk};

use crate::body::{BODY_HEADER_BYTES, HEADER_CRC_AT};
use crate::record::{FILE_HEADER_BYTES, FileHeader, Kind, encode_header, record_bytes};

/// A file of the log, number 1, that holds these payloads as records of these kinds with checksums that are right:
/// what gets past them must still not be believed.
#[must_use]
pub fn log_file_of(records: &[(u8, &[u8])]) -> Vec<u8> {
    let header = FileHeader { number: 1, base: 4096, generation: 1, before: 0, bytes: 0 };
    let mut file = header.encode().to_vec();
    let mut lsn = header.base;
    for &(code, payload) in records {
        let Some(kind) = Kind::from_code(code) else {
            continue;
        };
        let crc = crc32c::crc32c(payload);
        file.extend_from_slice(&encode_header(kind, payload.len(), crc, lsn, lsn));
        file.extend_from_slice(payload);
        lsn += record_bytes(payload.len()) as u64;
        file.resize((lsn - header.base + FILE_HEADER_BYTES) as usize, 0);
    }
    file
}

/// Makes the checksum in the header of a body's file right, whatever the header says; one that is cut has none.
pub fn check_body_header(file: &mut [u8]) {
    if let Some(header) = file.first_chunk_mut::<{ BODY_HEADER_BYTES as usize }>() {
        let (said, crc) = header.split_at_mut(HEADER_CRC_AT);
        crc.copy_from_slice(&crc32c::crc32c(said).to_le_bytes());
    }
}
