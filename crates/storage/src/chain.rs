//! Whether the files of a log belong together: none is missing, none is of another log.
//!
//! Invariants: every file says in its header which one was in front of it, and its first record (*link*) says what that one
//! held, as a fold of the checksums of all its records. A file that ends with *goes on* has one behind it. The
//! highest *oldest* record says which files were given up; it is durable and proven before they go. Files of earlier programs say
//! nothing of this, and nothing is asked of them.
//!
//! Not here: reading. See `recover` and `repair`.

use crate::log::file_name;
use crate::record::{Kind, Reader, put_varint};

/// What is folded from no record at all.
pub(crate) const CHAIN_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The fold of a file whose next record has this checksum in its header (which covers the one of its payload).
pub(crate) fn fold(chain: u64, header_crc: u32) -> u64 {
    // FNV-1a over words: not against forgers, but no two files have the same by chance.
    (chain ^ u64::from(header_crc)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

/// What a record says of the files; `None` if its content is not what its kind says.
pub(crate) fn read_note(kind: Kind, payload: &[u8]) -> Option<Note> {
    let mut reader = Reader::new(payload);
    let note = match kind {
        Kind::Link => Note::Link(u64::from_le_bytes(reader.take(8)?.try_into().ok()?)),
        Kind::Oldest => Note::Oldest(reader.varint()?),
        _ => Note::Nothing,
    };
    (note == Note::Nothing || reader.is_at_end()).then_some(note)
}

/// See [`read_note`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    Nothing,
    Link(u64),
    Oldest(u64),
}

/// The payload of a link to a file with this fold; 0 says that all before is as it was found.
pub(crate) fn put_link(out: &mut Vec<u8>, chain: u64) {
    out.extend_from_slice(&chain.to_le_bytes());
}

/// The payload of a record that says that files before this one are not needed.
pub(crate) fn put_oldest(out: &mut Vec<u8>, number: u64) {
    put_varint(out, number);
}

/// What is known of one file, or of the digest that stands for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) number: u64,
    /// Number of the one in front of it; 0 if it does not say.
    pub(crate) before: u64,
    /// What it says that one held.
    pub(crate) link: Option<u64>,
    /// What it holds itself; 0 if that is not known.
    pub(crate) chain: u64,
    /// It has records.
    pub(crate) used: bool,
    pub(crate) goes_on: bool,
}

impl Place {
    /// A file of which nothing has been read but its header.
    pub(crate) fn new(number: u64, before: u64) -> Self {
        Self { number, before, link: None, chain: CHAIN_START, used: false, goes_on: false }
    }

    /// Takes what a record says; false if its content is not what its kind says.
    pub(crate) fn note(&mut self, oldest: &mut u64, kind: Kind, payload: &[u8]) -> bool {
        match read_note(kind, payload) {
            Some(Note::Link(chain)) => self.link = Some(chain),
            Some(Note::Oldest(number)) => *oldest = number.max(*oldest),
            Some(Note::Nothing) => {}
            None => return false,
        }
        true
    }
}

/// What is wrong with the files as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Break {
    /// The file with this number is not there.
    Missing(u64),
    /// Those behind the file with this number are not there.
    Behind(u64),
    /// The file with this number is not the one that was in front of the next.
    Stranger(u64),
}

impl Break {
    pub(crate) fn file(&self) -> String {
        let (Self::Missing(number) | Self::Behind(number) | Self::Stranger(number)) = self;
        file_name(*number)
    }

    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Missing(_) => "the file is missing",
            Self::Behind(_) => "the file that goes on behind this one is missing",
            Self::Stranger(_) => "the next file goes on from another one: one of the two is not of this log",
        }
    }
}

/// All that is wrong with these files, the latest that is missing first; those before `oldest` were given up.
pub(crate) fn breaks(places: &[Place], oldest: u64) -> Vec<Break> {
    // A repair has looked at all before it.
    let repaired = places.iter().rposition(|place| place.link == Some(0)).unwrap_or(0);
    let places = &places[repaired..];
    let mut found = Vec::new();
    let is_here = |number: u64| places.binary_search_by_key(&number, |place| place.number).ok();
    let mut strangers = Vec::new();
    for (at, place) in places.iter().enumerate().rev() {
        // One without records in front of others is about to be removed, and so may be what was in front of it.
        let counts = place.used || at + 1 == places.len();
        if !counts || place.before == 0 || place.link == Some(0) {
            continue;
        }
        match is_here(place.before).map(|before| places[before].chain) {
            // What says that the first ones were given up may have gone with a later file, which is named then.
            None if place.before >= oldest && (at > 0 || found.is_empty()) => found.push(Break::Missing(place.before)),
            None => {}
            Some(chain) if chain != 0 && place.link.is_some_and(|link| link != chain) => {
                strangers.push(Break::Stranger(place.before));
            }
            Some(_) => {}
        }
    }
    if found.is_empty() && repaired == 0 && oldest != 0 && is_here(oldest).is_none() {
        found.push(Break::Missing(oldest));
    }
    found.extend(strangers);
    found.extend(places.last().filter(|last| last.goes_on).map(|last| Break::Behind(last.number)));
    found
}
