//! A simulated disk: at a crash every write that was not synced survives wholly, in part, or not at all.
//!
//! Invariants: what was synced survives, names only once the directory was synced. Sectors of 512 bytes are written
//! or not, each on its own; writes survive in any combination, whatever their order was. All choices come from
//! one seed, so a run repeats exactly. Errors are injected at the next call of their kind.
//!
//! For tests and `tools/sim` only.

use crate::disk::{Disk, DiskError, DiskFile};
use crate::record::{FILE_HEADER_BYTES, FileHeader, Kind, encode_header, record_bytes};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

const SECTOR: usize = 512;

/// Numbers that look random and repeat with their seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same for a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.roll();
        dice.roll();
        dice
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.roll()) * n as u128) >> 64) as usize
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A fault to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The next sync fails, and what it should have made durable is gone.
    Sync,
    /// The next write fails after a part of it.
    Write,
}

/// What happened to a file since it was last synced.
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

#[derive(Default)]
struct Content {
    /// What a crash leaves in any case.
    synced: Vec<u8>,
    /// What is read now.
    now: Vec<u8>,
    changes: Vec<Change>,
}

enum NameChange {
    Create(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

#[derive(Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    fault: Option<Fault>,
    /// Bytes all files may have in all.
    capacity: Option<usize>,
    /// Counts crashes, so that files opened before one are dead after it.
    life: u64,
    micros: u64,
    locked: bool,
    read_only: bool,
}

/// A file of the log, number 1, that holds these payloads as records of these kinds with checksums that are right:
/// what gets past them must still not be believed.
#[must_use]
pub fn log_file_of(records: &[(u8, &[u8])]) -> Vec<u8> {
    let header = FileHeader { number: 1, base: 4096, generation: 1 };
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

/// See the module. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Pulls the plug: what was not synced survives as the dice say.
    pub fn crash(&self, dice: &mut Dice) {
        let mut state = self.state.lock();
        state.life += 1;
        state.fault = None;
        state.locked = false;
        for file in &mut state.files {
            file.crash(dice);
        }
        let changes = std::mem::take(&mut state.name_changes);
        let mut names = std::mem::take(&mut state.synced_names);
        // Names are journalled in order: a crash keeps a prefix of the changes.
        let kept = dice.below(changes.len() + 1);
        for change in changes.into_iter().take(kept) {
            change.apply(&mut names);
        }
        state.names = names.clone();
        state.synced_names = names;
    }

    /// The process dies, the machine does not: everything written survives.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.life += 1;
        state.fault = None;
        state.locked = false;
    }

    /// Makes the next call of a kind fail.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().fault = Some(fault);
    }

    /// Limits the bytes of all files together, or no longer does.
    pub fn limit(&self, bytes: Option<usize>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used(&self) -> usize {
        self.state.lock().used()
    }

    /// Refuses every change, or no longer does.
    pub fn set_read_only(&self, read_only: bool) {
        self.state.lock().read_only = read_only;
    }

    /// The names there are, in order.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// The content of a file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let file = *state.names.get(name)?;
        Some(state.files[file].now.clone())
    }

    /// Replaces the content of a file, durably: a disk that rots.
    pub fn set_content(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state.lock();
        let file = state.names.get(name).copied().unwrap_or_else(|| {
            state.files.push(Content::default());
            state.files.len() - 1
        });
        state.names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
        state.files[file] = Content { synced: bytes.to_vec(), now: bytes.to_vec(), changes: Vec::new() };
    }

    fn file(&self, state: &State, index: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { state: self.state.clone(), index, life: state.life })
    }
}

impl State {
    fn used(&self) -> usize {
        self.names.values().map(|&f| self.files[f].now.len()).sum()
    }

    fn may_change(&self) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly("read-only file system".to_owned()));
        }
        Ok(())
    }

    fn lookup(&self, name: &str) -> Result<usize, DiskError> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| DiskError::Io(format!("{name}: no such file")))
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
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

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.changes.push(Change::Write(offset, bytes.to_vec()));
    }

    fn sync(&mut self) {
        for change in self.changes.drain(..) {
            match change {
                Change::Write(offset, bytes) => put(&mut self.synced, offset, &bytes),
                Change::Size(size) => self.synced.resize(size, 0),
            }
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        // All, nothing, or each sector by itself: the extremes must not be rare.
        let fate = dice.below(4);
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Size(size) => {
                    if fate == 0 || (fate != 1 && dice.once_in(2)) {
                        self.synced.resize(size, 0);
                    }
                }
                Change::Write(offset, bytes) => match fate {
                    0 => put(&mut self.synced, offset, &bytes),
                    1 => {}
                    2 => tear(&mut self.synced, offset, &bytes, dice),
                    _ => {
                        if dice.once_in(2) {
                            put(&mut self.synced, offset, &bytes);
                        }
                    }
                },
            }
        }
        self.now = self.synced.clone();
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

impl Disk for SimDisk {
    fn lock(&self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        if state.locked {
            return Err(DiskError::Locked);
        }
        state.locked = true;
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut state = self.state.lock();
        state.may_change()?;
        state.files.push(Content::default());
        let index = state.files.len() - 1;
        state.change_name(NameChange::Create(name.to_owned(), index));
        Ok(self.file(&state, index))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let state = self.state.lock();
        let index = state.lookup(name)?;
        Ok(self.file(&state, index))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.may_change()?;
        state.lookup(name)?;
        state.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.may_change()?;
        let file = state.lookup(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.name_changes.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn micros(&self) -> u64 {
        let mut state = self.state.lock();
        state.micros += 1000;
        state.micros
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    index: usize,
    life: u64,
}

impl SimFile {
    fn with<T>(&self, body: impl FnOnce(&mut State, usize) -> Result<T, DiskError>) -> Result<T, DiskError> {
        let mut state = self.state.lock();
        if state.life != self.life {
            return Err(DiskError::Io("the machine has crashed".to_owned()));
        }
        body(&mut state, self.index)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.with(|state, index| Ok(state.files[index].now.len() as u64))
    }

    fn pread(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        self.with(|state, index| {
            let now = &state.files[index].now;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(now.len());
            let n = buffer.len().min(now.len() - from);
            buffer[..n].copy_from_slice(&now[from..from + n]);
            Ok(n)
        })
    }

    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<(), DiskError> {
        self.with(|state, index| {
            state.may_change()?;
            let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            if state.fault == Some(Fault::Write) {
                state.fault = None;
                state.files[index].write(offset, &bytes[..bytes.len() / 2]);
                return Err(DiskError::Io("injected write error".to_owned()));
            }
            let grows = (offset + bytes.len()).saturating_sub(state.files[index].now.len());
            if state.capacity.is_some_and(|max| state.used() + grows > max && grows > 0) {
                return Err(DiskError::Full);
            }
            state.files[index].write(offset, &bytes);
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.with(|state, index| {
            if state.fault == Some(Fault::Sync) {
                state.fault = None;
                return Err(DiskError::Io("injected sync error".to_owned()));
            }
            state.files[index].sync();
            Ok(())
        })
    }

    fn preallocate(&self, size: u64) -> Result<(), DiskError> {
        self.with(|state, index| {
            state.may_change()?;
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let grows = size.saturating_sub(state.files[index].now.len());
            if state.capacity.is_some_and(|max| state.used() + grows > max && grows > 0) {
                return Err(DiskError::Full);
            }
            if grows > 0 {
                state.files[index].now.resize(size, 0);
                state.files[index].changes.push(Change::Size(size));
            }
            Ok(())
        })
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.with(|state, index| {
            state.may_change()?;
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            state.files[index].now.resize(size, 0);
            state.files[index].changes.push(Change::Size(size));
            Ok(())
        })
    }
}
