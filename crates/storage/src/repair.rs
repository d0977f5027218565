//! Looking for what is damaged in a directory that recovery refuses, and having it moved to `quarantine/`.
//!
//! Invariants: looking changes nothing. A damaged range becomes a *gap* record, so what lies behind it keeps its place. A
//! digest that stands alone (see `digest`) goes as a whole; one beside its file is derived, and goes when the file is
//! mended. A queue whose creation is gone is made again as a plain one, so that its messages stay. What counts as damaged
//! here is what recovery refuses.
//!
//! Not here: how it is moved (see `mend`), large bodies (see `repair_bodies`), and telling how a single bit flipped: a
//! record is whole or it is damaged.

use crate::attempts::read_attempts;
use crate::chain::{Break, Place, breaks, fold};
use crate::deliver::{read_delivered, read_live};
use crate::digest::{DigestHeader, digest_number, read_digest};
use crate::disk::{Disk, DiskFile, read_alike};
use crate::log::file_number;
use crate::mend::carry_out;
use crate::payload::{Placed, read_batch, read_meta, read_queue, read_ranges, read_short_batch};
use crate::record::{
    ALIGN, FILE_HEADER_BYTES, FileHeader, FileHeaderError, HEADER_BYTES, Header, Kind, Reader, decode_header,
    record_bytes,
};
use crate::recover::OpenError;
use crate::repair_bodies::{self, DamagedBody, Mentioned};
use model::QueueId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a damaged range holds of a queue, as far as it can be told.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Affected {
    /// Messages that are in quarantine now, some of which may have been settled.
    pub messages: u64,
    /// Settles that are: what they settled may be delivered again.
    pub settles: u64,
    /// Whether the queue's creation is: it is made again as a plain queue if anything in it is left.
    pub created: bool,
}

/// A range that is not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// What it was, if its head can still be read.
    pub kind: Option<&'static str>,
    /// By queue; empty if nothing can be told.
    pub queues: BTreeMap<QueueId, Affected>,
}

/// What was found, and mended if that was asked for.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    /// In the order they lie in the log.
    pub damages: Vec<Damage>,
    /// Files whose names are in quarantine now, or would be.
    pub quarantined: Vec<String>,
    /// Records that are as they were written.
    pub intact_records: u64,
    /// Large bodies that messages have and that are damaged or missing: the engine keeps these messages aside.
    pub damaged_bodies: Vec<DamagedBody>,
    /// Files of large bodies that belong to nothing that is left, if there is other damage: they get a
    /// [name that they keep](crate::kept_name), since what tells of them may be in quarantine.
    pub kept_bodies: Vec<String>,
    /// The metadata, to tell names of queues by.
    pub metas: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A file and what is to be done with it.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) header: FileHeader,
    pub(crate) handle: Arc<dyn DiskFile>,
    pub(crate) bytes: Vec<u8>,
    /// The header on the disk is wrong.
    pub(crate) bad_header: bool,
    /// Nothing of it can be read.
    pub(crate) lost: bool,
    /// From and to, in the file.
    pub(crate) ranges: Vec<(usize, usize)>,
    /// Where its last record ends, and whether that is a seal.
    pub(crate) end: usize,
    pub(crate) sealed: bool,
    pub(crate) place: Place,
}

/// What the intact records say, as far as repairing needs to know.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) created: BTreeSet<QueueId>,
    pub(crate) referred: BTreeSet<QueueId>,
    pub(crate) deleted: BTreeSet<QueueId>,
    pub(crate) metas: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) bodies: Mentioned,
    pub(crate) records: u64,
    /// Files before this one were given up.
    pub(crate) oldest: u64,
}

/// Looks for damage in a directory that nobody has open and, if `apply`, moves it to quarantine.
///
/// # Errors
/// [`OpenError`]; of a newer or an encrypted directory nothing is touched.
pub fn repair(disk: &dyn Disk, apply: bool) -> Result<Report, OpenError> {
    disk.lock()?;
    let names = disk.list()?;
    let logs = names.iter().filter_map(|name| Some((file_number(name)?, false, name.clone())));
    let digests = names.iter().filter_map(|name| Some((digest_number(name)?, true, name.clone())));
    let mut found: Vec<(u64, bool, String)> = logs.chain(digests).collect();
    found.sort();
    let mut seen = Seen::default();
    let mut plans: Vec<Plan> = Vec::new();
    let mut lost_digests = Vec::new();
    let mut places = Vec::new();
    // Where the files so far end in the log.
    let mut behind = 0;
    for (number, is_digest, name) in found {
        if !is_digest {
            let plan = examine(disk, number, name, plans.last(), behind, &mut seen)?;
            behind = plan.end_lsn().max(behind);
            // What a damaged one held cannot be compared.
            let whole = !plan.lost && plan.ranges.is_empty();
            places.push(Place { chain: if whole { plan.place.chain } else { 0 }, ..plan.place });
            plans.push(plan);
        } else if plans.last().is_none_or(|plan| plan.header.number != number) {
            lost_digests.extend(examine_digest(disk, number, name, &mut places, &mut behind, &mut seen)?);
        }
    }
    close_files(&mut plans);
    // What says which files were given up may lie in what is damaged.
    let is_whole = lost_digests.is_empty() && plans.iter().all(|plan| !plan.lost && plan.ranges.is_empty());
    let first = places.first().filter(|_| !is_whole).map_or(0, |place| place.number);
    let mut report = report(&plans, &lost_digests, &breaks(&places, seen.oldest.max(first)), &seen);
    let bodies = repair_bodies::examine(disk, &names, &seen.bodies)?;
    report.damaged_bodies = bodies.damaged;
    if !report.damages.is_empty() {
        report.kept_bodies = bodies.unknown;
    }
    if apply && !report.damages.is_empty() {
        repair_bodies::keep(disk, &report.kept_bodies)?;
        carry_out(disk, &mut plans, &lost_digests, &seen)?;
    }
    Ok(report)
}

/// A digest that stands alone and is damaged, with its content; what its file settled may be delivered again.
pub(crate) type LostDigest = (String, Vec<u8>);

/// Looks at a digest without a file.
fn examine_digest(
    disk: &dyn Disk,
    number: u64,
    name: String,
    places: &mut Vec<Place>,
    behind: &mut u64,
    seen: &mut Seen,
) -> Result<Option<LostDigest>, OpenError> {
    let handle = disk.open(&name)?;
    let size = usize::try_from(handle.size()?).map_err(|_| OpenError::Io("file too large".to_owned()))?;
    let bytes = read_alike(&*handle, &name, 0, size)?;
    // One that is damaged is not missing.
    let there = Place { chain: 0, used: true, ..Place::new(number, 0) };
    let whole = match DigestHeader::decode(&bytes) {
        Ok((header, content)) if header.number == number => {
            // One that is not meant to stand alone was to go with its file: the next start removes it.
            let mut place = Place { chain: header.chain, used: true, ..Place::new(number, header.before) };
            let mut each = |kind, _, payload: &[u8]| seen.take(kind, payload, &mut place);
            let whole = !header.alone || read_digest(header.base, content, &mut each).is_some();
            places.extend(header.alone.then_some(place));
            *behind = header.end.max(*behind);
            whole
        }
        Err(FileHeaderError::Newer(found)) => {
            return Err(OpenError::Newer { file: name, found, known: crate::record::FORMAT_VERSION });
        }
        Err(FileHeaderError::Encrypted(key)) => return Err(OpenError::Encrypted { file: name, key }),
        _ => false,
    };
    if !whole && places.last().is_none_or(|place| place.number != number) {
        places.push(there);
    }
    Ok((!whole).then_some((name, bytes)))
}

fn examine(
    disk: &dyn Disk,
    number: u64,
    name: String,
    before: Option<&Plan>,
    behind: u64,
    seen: &mut Seen,
) -> Result<Plan, OpenError> {
    let handle = disk.open(&name)?;
    let size = usize::try_from(handle.size()?).map_err(|_| OpenError::Io("file too large".to_owned()))?;
    let bytes = read_alike(&*handle, &name, 0, size)?;
    let (header, bad_header) = match FileHeader::decode(&bytes) {
        Ok(header) if header.number == number => (Some(header), false),
        Err(FileHeaderError::Newer(found)) => {
            return Err(OpenError::Newer { file: name, found, known: crate::record::FORMAT_VERSION });
        }
        Err(FileHeaderError::Encrypted(key)) => return Err(OpenError::Encrypted { file: name, key }),
        // Another file under this name.
        Ok(_) => (None, false),
        _ => (guess_header(number, &bytes, before, behind), true),
    };
    let lost = header.is_none();
    let header = header.unwrap_or(FileHeader { number, base: 0, generation: 0, before: 0, bytes: 0 });
    let place = Place::new(number, header.before);
    let mut plan =
        Plan { name, header, handle, bytes, bad_header, lost, ranges: Vec::new(), end: 0, sealed: false, place };
    if !lost {
        scan(&mut plan, seen);
    }
    Ok(plan)
}

/// The header of a file whose own is damaged, if a record in it proves it. What the file held before it was used again
/// proves a base too, but that lies in front of where the files before it end.
fn guess_header(number: u64, bytes: &[u8], before: Option<&Plan>, behind: u64) -> Option<FileHeader> {
    let field = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let next = before.map(|plan| plan.header.base + plan.bytes.len() as u64);
    let first = bytes.get(FILE_HEADER_BYTES as usize..)?;
    // Its own, or with any one bit of it wrong, or where the file before ends.
    let own = field(24).into_iter().flat_map(|own| [own].into_iter().chain((0..64).map(move |bit| own ^ (1 << bit))));
    let base = own.chain(next).find(|&base| base >= behind && decode_header(first, base).is_some())?;
    let generation = before.map_or(1, |plan| plan.header.generation);
    Some(FileHeader { number, base, generation, before: 0, bytes: 0 })
}

/// Finds what is whole in a file, and what lies in between.
fn scan(plan: &mut Plan, seen: &mut Seen) {
    let mut at = FILE_HEADER_BYTES as usize;
    let base = plan.header.base;
    plan.end = at;
    let mut bad_from = None;
    while at < plan.bytes.len() && !plan.sealed {
        match record_at(&plan.bytes, at, base) {
            Some((header, payload))
                if header.kind != Kind::Refs && seen.take(header.kind, payload, &mut plan.place) =>
            {
                plan.place.used = true;
                plan.place.chain = fold(plan.place.chain, header.crc);
                plan.place.goes_on = header.kind == Kind::GoesOn;
                if let Some(from) = bad_from.take() {
                    plan.ranges.push((from, at));
                }
                at += record_bytes(header.len);
                plan.end = at;
                plan.sealed = header.kind.is_seal();
            }
            _ => {
                bad_from = bad_from.or(Some(at));
                at += ALIGN;
            }
        }
    }
}

/// Where `at` in a file of this base is a whole record.
fn record_at(bytes: &[u8], at: usize, base: u64) -> Option<(Header, &[u8])> {
    let header = decode_header(bytes.get(at..)?, base + at as u64 - FILE_HEADER_BYTES)?;
    let start = at + HEADER_BYTES;
    let payload = bytes.get(start..start.checked_add(header.len)?)?;
    (crc32c::crc32c(payload) == header.payload_crc).then_some((header, payload))
}

impl Seen {
    /// Notes a record; false if its content is not what its kind says.
    fn take(&mut self, kind: Kind, payload: &[u8], place: &mut Place) -> bool {
        let read = match kind {
            Kind::Batch | Kind::Refs => self.batch(kind, payload),
            Kind::Settle => {
                let mut reader = Reader::new(payload);
                let bodies = &mut self.bodies;
                let id = reader.varint().map(QueueId);
                id.and_then(|id| read_ranges(&mut reader, |first, last| bodies.settle(id, first, last)))
            }
            Kind::Live => {
                let mut gone = Vec::new();
                let read = read_live(payload, |first, last| gone.push((first, last)));
                read.map(|(id, _)| gone.iter().for_each(|&(first, last)| self.bodies.settle(id, first, last)))
            }
            Kind::Delivered => read_delivered(payload, |_, _| {}),
            Kind::Attempts => read_attempts(payload, |_, _, _| {}),
            Kind::CreateQueue => read_queue(payload).map(|(id, _)| _ = self.created.insert(id)),
            Kind::DeleteQueue => Reader::new(payload).varint().map(QueueId).map(|id| {
                self.deleted.insert(id);
                self.bodies.delete(id);
            }),
            Kind::PutMeta => read_meta(payload).map(|(key, value)| _ = self.metas.insert(key.to_vec(), value.to_vec())),
            Kind::DeleteMeta => {
                self.metas.remove(payload);
                Some(())
            }
            _ => place.note(&mut self.oldest, kind, payload).then_some(()),
        };
        self.records += u64::from(read.is_some());
        read.is_some()
    }

    fn batch(&mut self, kind: Kind, payload: &[u8]) -> Option<()> {
        let (mut referred, mut settled) = (Vec::new(), Vec::new());
        let each = |_, _, placed: &Placed, id, seq| referred.push((id, seq, placed.large));
        let acks = |id, first, last| settled.push((id, first, last));
        if kind == Kind::Refs {
            read_short_batch(payload, &mut Vec::new(), each, acks, |_, _| {})?;
        } else {
            read_batch(payload, &mut Vec::new(), each, acks, |_, _| {})?;
        }
        // Only now: one that is not right goes into quarantine, and tells of nothing.
        for (id, seq, large) in referred {
            self.referred.insert(id);
            if let Some(large) = large {
                self.bodies.refer(id, seq, large.id, large.len);
            }
        }
        settled.into_iter().for_each(|(id, first, last)| self.bodies.settle(id, first, last));
        Some(())
    }

    /// Queues that something refers to and nothing created.
    pub(crate) fn without_creation(&self) -> impl Iterator<Item = QueueId> {
        let known = |id: &&QueueId| !self.created.contains(id) && !self.deleted.contains(id);
        self.referred.iter().filter(known).copied()
    }
}

/// A file that others with records follow, or that a later start followed, ends with a seal: what lies behind its
/// last record and is not zero is damage too. One without a seal is not shorter than it was made.
fn close_files(plans: &mut [Plan]) {
    let generations: Vec<(u64, bool)> = plans.iter().map(|p| (p.header.generation, p.has_records())).collect();
    for (at, plan) in plans.iter_mut().enumerate() {
        let later = &generations[at + 1..];
        let made = usize::try_from(plan.header.bytes).unwrap_or(usize::MAX);
        if !plan.lost && !plan.sealed && plan.bytes.len() < made {
            plan.ranges.push((plan.end, made.max(plan.end + HEADER_BYTES)));
            continue;
        }
        let followed = later.iter().any(|(generation, records)| *records || *generation > plan.header.generation);
        if plan.lost || plan.sealed || !followed || !(plan.has_records() || later.iter().any(|(_, records)| *records)) {
            continue;
        }
        let used = plan.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        plan.ranges.push((plan.end, used.max(plan.end + HEADER_BYTES).next_multiple_of(ALIGN)));
    }
}

impl Plan {
    /// Where its last record ends in the log; 0 of one that is lost.
    fn end_lsn(&self) -> u64 {
        let used = (self.end as u64).saturating_sub(FILE_HEADER_BYTES);
        self.header.base + used
    }

    fn has_records(&self) -> bool {
        self.end > FILE_HEADER_BYTES as usize
    }

    fn damage(&self, from: usize, to: usize) -> Damage {
        let lsn = self.header.base + from as u64 - FILE_HEADER_BYTES;
        let bytes = self.bytes.get(from..to.min(self.bytes.len())).unwrap_or_default();
        let header = decode_header(bytes, lsn);
        let mut queues = BTreeMap::new();
        if let Some(header) = header {
            let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + header.len).unwrap_or_default();
            affected(header.kind, payload, &mut queues);
        }
        Damage {
            file: self.name.clone(),
            offset: from as u64,
            bytes: (to - from) as u64,
            kind: header.map(|header| header.kind.name()),
            queues,
        }
    }
}

/// What can be told of a record whose content is damaged: as much as can be read of it.
fn affected(kind: Kind, payload: &[u8], queues: &mut BTreeMap<QueueId, Affected>) {
    let settled = |queues: &mut BTreeMap<QueueId, Affected>, id, first: u64, last: u64| {
        let affected = queues.entry(id).or_default();
        affected.settles = affected.settles.saturating_add((last - first).saturating_add(1));
    };
    match kind {
        Kind::Batch => {
            let mut acks = Vec::new();
            read_batch(
                payload,
                &mut Vec::new(),
                |_, _, _, id, _| queues.entry(id).or_default().messages += 1,
                |id, first, last| acks.push((id, first, last)),
                |_, _| {},
            );
            acks.into_iter().for_each(|(id, first, last)| settled(queues, id, first, last));
        }
        Kind::Settle => {
            let mut reader = Reader::new(payload);
            if let Some(id) = reader.varint() {
                read_ranges(&mut reader, |first, last| settled(queues, QueueId(id), first, last));
            }
        }
        Kind::CreateQueue => {
            if let Some((id, _)) = read_queue(payload) {
                queues.entry(id).or_default().created = true;
            }
        }
        _ => {}
    }
}

fn report(plans: &[Plan], lost_digests: &[LostDigest], breaks: &[Break], seen: &Seen) -> Report {
    let mut report = Report { intact_records: seen.records, ..Report::default() };
    for broken in breaks {
        let kind = match broken {
            Break::Missing(_) => "file that is missing",
            Break::Behind(_) => "file behind which one is missing",
            // It stays: whether it or the next one is the stranger cannot be told.
            Break::Stranger(_) => "file that is not of this log, or the next is not",
        };
        let (offset, bytes) = (0, 0);
        report.damages.push(Damage { file: broken.file(), offset, bytes, kind: Some(kind), queues: BTreeMap::new() });
    }
    for (name, bytes) in lost_digests {
        report.quarantined.push(name.clone());
        report.damages.push(Damage {
            file: name.clone(),
            offset: 0,
            bytes: bytes.len() as u64,
            kind: Some("digest"),
            queues: BTreeMap::new(),
        });
    }
    for plan in plans {
        if plan.lost {
            report.quarantined.push(plan.name.clone());
        }
        if plan.lost || plan.bad_header {
            report.damages.push(Damage {
                file: plan.name.clone(),
                offset: 0,
                bytes: if plan.lost { plan.bytes.len() as u64 } else { FILE_HEADER_BYTES },
                kind: Some("file header"),
                queues: BTreeMap::new(),
            });
        }
        report.damages.extend(plan.ranges.iter().map(|&(from, to)| plan.damage(from, to)));
    }
    report.metas = seen.metas.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    report
}
