//! Large bodies in a directory that is repaired: which are damaged, and which no message is known to have.
//!
//! Invariants: nothing is removed. A body that no intact record mentions may belong to a message that is in quarantine now,
//! so its file gets a name that no start takes for a leftover. A damaged body stays where it is: the engine keeps its
//! messages aside and says so.

use crate::body::{BODY_HEADER_BYTES, BodyHeader, PIECE_CRC_BYTES, body_id};
use crate::disk::{Disk, DiskError};
use std::collections::BTreeSet;

/// A body that is not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedBody {
    /// Its file.
    pub file: String,
    /// Where in the file it is damaged first.
    pub offset: u64,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Bodies {
    pub(crate) damaged: Vec<DamagedBody>,
    /// Files of bodies that no intact record mentions.
    pub(crate) unknown: Vec<String>,
}

/// Looks at all bodies; `mentioned` are those of which intact records tell.
pub(crate) fn examine(disk: &dyn Disk, names: &[String], mentioned: &BTreeSet<u64>) -> Result<Bodies, DiskError> {
    let mut found = Bodies::default();
    for (name, id) in names.iter().filter_map(|name| Some((name, body_id(name)?))) {
        if !mentioned.contains(&id) {
            found.unknown.push(name.clone());
        } else if let Some(offset) = first_damage(disk, name, id)? {
            found.damaged.push(DamagedBody { file: name.clone(), offset });
        }
    }
    Ok(found)
}

fn first_damage(disk: &dyn Disk, name: &str, id: u64) -> Result<Option<u64>, DiskError> {
    let file = disk.open(name)?;
    let mut head = [0; BODY_HEADER_BYTES as usize];
    let read = file.pread(&mut head, 0)?;
    let Some(header) = BodyHeader::decode(&head[..read]).filter(|header| header.id == id) else {
        return Ok(Some(0));
    };
    let mut at = 0;
    while at < header.len {
        let (len, _) = header.piece_at(at);
        let place = header.place(at);
        // A header that is right may still be that of a file that was cut.
        if file.size()? < place + len as u64 + PIECE_CRC_BYTES {
            return Ok(Some(place));
        }
        let mut bytes = vec![0; len + PIECE_CRC_BYTES as usize];
        let read = file.pread(&mut bytes, place)?;
        if header.check(at, &bytes[..read]).is_none() {
            return Ok(Some(place));
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
