//! Large bodies in a directory that is looked at or repaired: which are damaged or missing, and which no message is known
//! to have.
//!
//! Invariants: nothing is removed. A body that no intact record mentions may belong to a message that is in quarantine now,
//! so its file gets a name that no start takes for a leftover. A damaged body stays where it is: the engine keeps its
//! messages aside and says so. What is told here is what the next start will find, and reading from it.

use crate::body::{BODY_HEADER_BYTES, BodyHeader, PIECE_CRC_BYTES, body_id, body_name};
use crate::disk::{Disk, DiskError};
use model::QueueId;
use std::collections::{BTreeMap, BTreeSet};

/// A body that is not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedBody {
    /// Its file.
    pub file: String,
    /// Where in the file it is damaged first; `None` if the file is missing.
    pub offset: Option<u64>,
    /// How many messages of each queue have it.
    pub messages: BTreeMap<QueueId, u64>,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Bodies {
    pub(crate) damaged: Vec<DamagedBody>,
    /// Files of bodies that no intact record mentions.
    pub(crate) unknown: Vec<String>,
}

/// What intact records tell of bodies, taken in the order of the log.
#[derive(Default)]
pub(crate) struct Mentioned {
    /// Lengths by id.
    lens: BTreeMap<u64, u64>,
    /// Which entries have one and are not settled.
    living: BTreeMap<(QueueId, u64), u64>,
    deleted: BTreeSet<QueueId>,
}

impl Mentioned {
    /// This entry has this body.
    pub(crate) fn refer(&mut self, queue: QueueId, seq: u64, id: u64, len: u64) {
        self.lens.insert(id, len);
        if !self.deleted.contains(&queue) {
            self.living.insert((queue, seq), id);
        }
    }

    /// These entries are settled.
    pub(crate) fn settle(&mut self, queue: QueueId, first: u64, last: u64) {
        let gone: Vec<_> = self.living.range((queue, first)..=(queue, last)).map(|(place, _)| *place).collect();
        for place in gone {
            self.living.remove(&place);
        }
    }

    /// This queue is deleted.
    pub(crate) fn delete(&mut self, queue: QueueId) {
        self.settle(queue, 0, u64::MAX);
        self.deleted.insert(queue);
    }

    /// The bodies that messages have, and how many of each queue.
    fn needed(&self) -> BTreeMap<u64, BTreeMap<QueueId, u64>> {
        let mut needed: BTreeMap<u64, BTreeMap<QueueId, u64>> = BTreeMap::new();
        for ((queue, _), id) in &self.living {
            *needed.entry(*id).or_default().entry(*queue).or_default() += 1;
        }
        needed
    }
}

/// Looks at all bodies; `names` are those of all files.
pub(crate) fn examine(disk: &dyn Disk, names: &[String], mentioned: &Mentioned) -> Result<Bodies, DiskError> {
    let mut found = Bodies::default();
    let there: BTreeMap<u64, &String> = names.iter().filter_map(|name| Some((body_id(name)?, name))).collect();
    for (id, messages) in mentioned.needed() {
        let len = mentioned.lens.get(&id).copied().unwrap_or_default();
        let offset = if there.contains_key(&id) { first_damage(disk, id, len)? } else { Some(None) };
        if let Some(offset) = offset {
            found.damaged.push(DamagedBody { file: body_name(id), offset, messages });
        }
    }
    let unknown = there.into_iter().filter(|(id, _)| !mentioned.lens.contains_key(id));
    found.unknown = unknown.map(|(_, name)| name.clone()).collect();
    Ok(found)
}

/// Where the file of a body of this length is damaged first, if it is. What is not right is read once more: it may have come
/// so only once.
fn first_damage(disk: &dyn Disk, id: u64, body_len: u64) -> Result<Option<Option<u64>>, DiskError> {
    let file = disk.open(&body_name(id))?;
    let read_header = || -> Result<Option<BodyHeader>, DiskError> {
        let mut head = [0; BODY_HEADER_BYTES as usize];
        let read = file.pread(&mut head, 0)?;
        let is_its = |header: &BodyHeader| (header.id, header.len) == (id, body_len) && header.file_bytes().is_some();
        Ok(BodyHeader::decode(&head[..read]).filter(is_its))
    };
    let Some(header) = read_header()?.map_or_else(read_header, |header| Ok(Some(header)))? else {
        return Ok(Some(Some(0)));
    };
    let size = file.size()?;
    let mut at = 0;
    while at < header.len {
        let (len, _) = header.piece_at(at);
        let place = header.place(at);
        let is_right = || -> Result<bool, DiskError> {
            let mut bytes = vec![0; len + PIECE_CRC_BYTES as usize];
            let read = file.pread(&mut bytes, place)?;
            Ok(header.check(at, &bytes[..read]).is_some())
        };
        // A header that is right may still be that of a file that was cut.
        let is_there = size >= place + len as u64 + PIECE_CRC_BYTES;
        if !is_there || !(is_right()? || is_right()?) {
            return Ok(Some(Some(place)));
        }
        at += len as u64;
    }
    Ok(None)
}

/// Gives bodies of which nothing is known a name that they keep.
pub(crate) fn keep(disk: &dyn Disk, unknown: &[String]) -> Result<(), DiskError> {
    for name in unknown {
        disk.rename(name, &kept_name(name))?;
    }
    if unknown.is_empty() { Ok(()) } else { disk.sync_dir() }
}

/// What the file of a body is called from then on.
#[must_use]
pub fn kept_name(name: &str) -> String {
    format!("{name}.kept")
}
