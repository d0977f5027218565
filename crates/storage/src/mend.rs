//! Carrying out a repair: what is damaged moves to `quarantine/`, and what makes up for it takes its place.
//!
//! Invariants: bytes are durable in quarantine before they are overwritten or removed, and what makes up for them is durable
//! in a file of its own before that: until the last step is done, the directory is refused as before, and repairing it
//! again is safe.
//!
//! Not here: finding out what is damaged. See `repair`.

use crate::chain::put_link;
use crate::digest::digest_name;
use crate::disk::{Disk, DiskError};
use crate::log::file_name;
use crate::payload::{Record, put_meta, put_queue};
use crate::prepare::SPARE_SUFFIX;
use crate::record::{ALIGN, FILE_HEADER_BYTES, FileHeader, HEADER_BYTES, Kind, encode_header};
use crate::repair::{LostDigest, Plan, Seen};
use engine::{MetaSpace, QueueSpec};
use std::io::IoSlice;

/// Moves what is damaged to quarantine.
pub(crate) fn carry_out(
    disk: &dyn Disk,
    plans: &mut [Plan],
    lost_digests: &[LostDigest],
    seen: &Seen,
) -> Result<(), DiskError> {
    seal_all(plans);
    let names = disk.list()?;
    make_up(disk, plans, seen)?;
    // A digest beside a file that is mended still tells of what goes into quarantine.
    for plan in plans.iter().filter(|p| p.lost || p.bad_header || !p.ranges.is_empty()) {
        let digest = digest_name(plan.header.number);
        if names.contains(&digest) {
            disk.remove(&digest)?;
        }
    }
    for plan in plans.iter().filter(|p| !p.lost) {
        mend(disk, plan)?;
    }
    for plan in plans.iter().filter(|p| p.lost) {
        disk.put_aside(&plan.name, &plan.bytes)?;
        disk.remove(&plan.name)?;
    }
    for (name, bytes) in lost_digests {
        disk.put_aside(name, bytes)?;
        disk.remove(name)?;
    }
    disk.sync_dir()
}

/// A file behind all others that tells the broker that things are missing, and makes queues whose creation is gone.
fn make_up(disk: &dyn Disk, plans: &[Plan], seen: &Seen) -> Result<(), DiskError> {
    let last = |pick: fn(&Plan) -> u64| plans.iter().map(pick).max().unwrap_or(0);
    let header = FileHeader {
        number: last(|p| p.header.number) + 1,
        base: last(|p| p.header.base + p.bytes.len() as u64).next_multiple_of(4096) + 4096,
        generation: last(|p| p.header.generation) + 1,
        before: 0,
        bytes: 0,
    };
    let mut bytes = header.encode().to_vec();
    let mut link = Record::default();
    link.start();
    put_link(&mut link.buf, 0);
    push(&mut bytes, header.base, Kind::Link, link);
    let mut marker = Record::default();
    marker.start();
    put_meta(&mut marker, &MetaSpace::Repair.key(b""), b"");
    push(&mut bytes, header.base, Kind::PutMeta, marker);
    for id in seen.without_creation() {
        let mut record = Record::default();
        record.start();
        put_queue(&mut record, id, QueueSpec { durable: true, ..QueueSpec::default() });
        push(&mut bytes, header.base, Kind::CreateQueue, record);
    }
    let name = format!("repair{SPARE_SUFFIX}");
    let file = disk.create(&name)?;
    file.pwritev(&[IoSlice::new(&bytes)], 0)?;
    file.sync()?;
    disk.rename(&name, &file_name(header.number))?;
    disk.sync_dir()
}

/// Adds a record to the bytes of a file.
fn push(bytes: &mut Vec<u8>, base: u64, kind: Kind, mut record: Record) {
    let lsn = base + bytes.len() as u64 - FILE_HEADER_BYTES;
    let (len, crc) = record.finish();
    bytes.extend_from_slice(&encode_header(kind, len, crc, lsn, lsn));
    bytes.extend_from_slice(&record.buf[HEADER_BYTES..]);
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
}

/// Puts the damaged ranges of a file aside and a gap in their place.
fn mend(disk: &dyn Disk, plan: &Plan) -> Result<(), DiskError> {
    if plan.bad_header {
        let head = &plan.bytes[..plan.bytes.len().min(FILE_HEADER_BYTES as usize)];
        disk.put_aside(&format!("{}.header", plan.name), head)?;
    }
    for &(from, to) in &plan.ranges {
        let bytes = plan.bytes.get(from..to.min(plan.bytes.len())).unwrap_or_default();
        // What lies behind the end of a file that was not full holds nothing.
        if bytes.iter().any(|byte| *byte != 0) {
            disk.put_aside(&format!("{}.{from}-{to}", plan.name), bytes)?;
        }
    }
    for &(from, to) in &plan.ranges {
        let lsn = plan.header.base + from as u64 - FILE_HEADER_BYTES;
        // Behind the last record a seal ends the file; in front of one a gap takes the place.
        let last = from >= plan.end;
        let (kind, len) = if last { (Kind::Seal, 0) } else { (Kind::Gap, to - from - HEADER_BYTES) };
        let payload = vec![0; len];
        let head = encode_header(kind, len, crc32c::crc32c(&payload), lsn, lsn);
        plan.handle.pwritev(&[IoSlice::new(&head), IoSlice::new(&payload)], from as u64)?;
        if last {
            // A file that is cut and has no seal is damaged.
            plan.handle.sync()?;
            plan.handle.truncate((from + HEADER_BYTES) as u64)?;
        }
    }
    if plan.bad_header {
        plan.handle.pwritev(&[IoSlice::new(&plan.header.encode())], 0)?;
    }
    if plan.bad_header || !plan.ranges.is_empty() {
        plan.handle.sync()?;
    }
    Ok(())
}

/// What makes up for the damage comes in a file behind all others, so all others end with a seal.
fn seal_all(plans: &mut [Plan]) {
    for plan in plans.iter_mut().filter(|p| !p.lost && !p.sealed) {
        if plan.ranges.last().is_none_or(|(from, _)| *from < plan.end) {
            plan.ranges.push((plan.end, plan.bytes.len().max(plan.end + HEADER_BYTES)));
        }
    }
}
