//! What a file and the directory hold, and what is left of it after a crash.
//!
//! Invariants: what was synced survives. Sectors of 512 bytes are written or not, each on its own; writes survive in
//! any combination, whatever their order was. Names are journalled: a crash keeps a prefix of their changes.

use super::Dice;
use std::collections::BTreeMap;

const SECTOR: usize = 512;

/// What happened to a file since it was last synced.
#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

#[derive(Clone, Default)]
pub(crate) struct Content {
    /// What a crash leaves in any case.
    synced: Vec<u8>,
    /// What is read now.
    pub(crate) now: Vec<u8>,
    changes: Vec<Change>,
    /// How many changes there were before these.
    before: u64,
}

impl Content {
    /// A file that is safely on the disk.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { synced: bytes.to_vec(), now: bytes.to_vec(), ..Self::default() }
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.now, offset, bytes);
        self.changes.push(Change::Write(offset, bytes.to_vec()));
    }

    pub(crate) fn resize(&mut self, size: usize) {
        self.now.resize(size, 0);
        self.changes.push(Change::Size(size));
    }

    /// Counts the changes that a sync which begins now will cover.
    pub(crate) fn changes(&self) -> u64 {
        self.before + self.changes.len() as u64
    }

    /// A sync has ended that began when there were so many changes.
    pub(crate) fn sync(&mut self, changes: u64) {
        let covered = changes.saturating_sub(self.before) as usize;
        for change in self.changes.drain(..covered) {
            change.apply(&mut self.synced);
            self.before += 1;
        }
    }

    /// A sync has failed: what it should have written is dropped and yet read back, as the page cache does. A later
    /// sync that succeeds says nothing about it.
    pub(crate) fn lose(&mut self) {
        self.before = self.changes();
        self.changes.clear();
    }

    pub(crate) fn crash(&mut self, dice: &mut Dice) {
        // All, nothing, or each sector by itself: the extremes must not be rare.
        let fate = dice.below(4);
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Write(offset, bytes) if fate == 2 => tear(&mut self.synced, offset, &bytes, dice),
                change if fate == 0 || (fate != 1 && dice.once_in(2)) => change.apply(&mut self.synced),
                _ => {}
            }
        }
        self.now.clone_from(&self.synced);
    }
}

impl Change {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => put(content, offset, &bytes),
            Self::Size(size) => content.resize(size, 0),
        }
    }
}

/// Writes; behind the end the size is what the write made it.
fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// Writes some of the sectors that a write touches.
fn tear(content: &mut Vec<u8>, offset: usize, bytes: &[u8], dice: &mut Dice) {
    let mut from = 0;
    while from < bytes.len() {
        let to = (((offset + from) / SECTOR + 1) * SECTOR - offset).min(bytes.len());
        if dice.once_in(2) {
            put(content, offset + from, &bytes[from..to]);
        }
        from = to;
    }
}

/// Names and the files they stand for.
pub(crate) type Names = BTreeMap<String, usize>;

/// What happened to the directory since it was last synced.
#[derive(Clone)]
pub(crate) enum NameChange {
    Create(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

impl NameChange {
    pub(crate) fn apply(&self, names: &mut Names) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}
