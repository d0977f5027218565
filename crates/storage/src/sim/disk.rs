//! A simulated disk: at a crash every write that was not synced survives wholly, in part, or not at all.
//!
//! Invariants: what was synced survives, names only once the directory was synced (see `content`). Faults are injected
//! for one call each. Files opened before a crash are dead after it.

use super::Dice;
use super::content::{Content, NameChange, Names};
use super::gate::Gate;
use crate::disk::{Disk, DiskError, DiskFile};
use parking_lot::{Mutex, MutexGuard};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const CRASHED: &str = "the machine has crashed";

/// A fault to come, of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The next sync fails, and what it should have made durable is gone.
    Sync,
    /// The next write fails after a part of it.
    Write,
    /// The next read fails.
    Read,
    /// Of the reads, the one after so many brings one bit wrong: this one, counted round and round in what it reads.
    Flip(usize, usize),
    /// The next sync of the directory fails.
    SyncDir,
    /// The next creation, removal or renaming fails.
    Name,
    /// Of the calls that may need space, the one after so many finds none.
    Full(usize),
}

#[derive(Clone, Default)]
struct State {
    files: Vec<Content>,
    names: Names,
    synced_names: Names,
    name_changes: Vec<NameChange>,
    fault: Option<Fault>,
    stall: Option<Gate>,
    /// Bytes all files may have in all.
    capacity: Option<usize>,
    /// Counts crashes, so that files opened before one are dead after it.
    life: u64,
    micros: u64,
    locked: bool,
    read_only: bool,
}

/// See the module. Clones are the same disk; one that was locked is dead after a crash.
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// The life in which this handle was locked.
    life: AtomicU64,
}

/// Not locked.
const NEVER: u64 = u64::MAX;

impl Clone for SimDisk {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), life: AtomicU64::new(NEVER) }
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self { state: Arc::default(), life: AtomicU64::new(NEVER) }
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another disk with the same content, which nobody has open.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = State { locked: false, stall: None, fault: None, ..self.state.lock().clone() };
        Self { state: Arc::new(Mutex::new(state)), life: AtomicU64::new(NEVER) }
    }

    /// Pulls the plug: what was not synced survives as the dice say.
    pub fn crash(&self, dice: &mut Dice) {
        let mut state = self.state.lock();
        state.begin_life();
        for file in &mut state.files {
            file.crash(dice);
        }
        let changes = std::mem::take(&mut state.name_changes);
        let mut names = std::mem::take(&mut state.synced_names);
        let kept = dice.below(changes.len() + 1);
        for change in changes.into_iter().take(kept) {
            change.apply(&mut names);
        }
        state.names = names.clone();
        state.synced_names = names;
    }

    /// The process dies, the machine does not: everything written survives.
    pub fn kill(&self) {
        self.state.lock().begin_life();
    }

    /// All that was written is on the disk by now, synced or not: time has passed.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        for file in &mut state.files {
            *file = Content::of(&file.now);
        }
        state.name_changes.clear();
        state.synced_names = state.names.clone();
    }

    /// Makes one call fail.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().fault = Some(fault);
    }

    /// Takes a fault back that has not come; false if it has.
    pub fn take_back(&self) -> bool {
        self.state.lock().fault.take().is_some()
    }

    /// Runs a job whose first sync of a file takes as long as `meanwhile` does, if it syncs; returns whether it did.
    pub fn during_sync(&self, job: impl FnOnce() + Send, meanwhile: impl FnOnce()) -> bool {
        let gate = Gate::default();
        self.state.lock().stall = Some(gate.clone());
        let stood = gate.hold(job, meanwhile);
        self.state.lock().stall = None;
        stood
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

    /// Replaces the content of a file, durably: a disk that rots. Who has it open sees it too.
    pub fn set_content(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state.lock();
        let file = state.names.get(name).copied().unwrap_or_else(|| {
            state.files.push(Content::default());
            state.files.len() - 1
        });
        state.names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
        state.files[file] = Content::of(bytes);
    }

    /// Removes a file, durably and behind everybody's back.
    pub fn lose_file(&self, name: &str) {
        let mut state = self.state.lock();
        state.names.remove(name);
        state.synced_names.remove(name);
    }

    /// The disk, for who may still use it.
    fn alive(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        let state = self.state.lock();
        let life = self.life.load(Relaxed);
        if life != NEVER && life != state.life {
            return Err(DiskError::Io(CRASHED.to_owned()));
        }
        Ok(state)
    }

    fn file(&self, state: &State, index: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { state: self.state.clone(), index, life: state.life })
    }
}

impl State {
    fn begin_life(&mut self) {
        self.life += 1;
        self.fault = None;
        self.locked = false;
    }

    fn used(&self) -> usize {
        self.names.values().map(|&f| self.files[f].now.len()).sum()
    }

    /// Whether the fault comes now.
    fn fails(&mut self, fault: Fault) -> bool {
        let fails = self.fault == Some(fault);
        if fails {
            self.fault = None;
        }
        fails
    }

    /// A call that changes something and may need `bytes` more.
    fn change(&mut self, bytes: usize) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly("read-only file system".to_owned()));
        }
        if let Some(Fault::Full(calls)) = self.fault {
            self.fault = calls.checked_sub(1).map(Fault::Full);
            if calls == 0 {
                return Err(DiskError::Full);
            }
        }
        if bytes > 0 && self.capacity.is_some_and(|max| self.used() + bytes > max) {
            return Err(DiskError::Full);
        }
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) -> Result<(), DiskError> {
        self.change(0)?;
        if self.fails(Fault::Name) {
            return Err(DiskError::Io("injected error of a name".to_owned()));
        }
        change.apply(&mut self.names);
        self.name_changes.push(change);
        Ok(())
    }

    fn lookup(&self, name: &str) -> Result<usize, DiskError> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| DiskError::Io(format!("{name}: no such file")))
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        if state.locked {
            return Err(DiskError::Locked);
        }
        state.locked = true;
        self.life.store(state.life, Relaxed);
        Ok(())
    }

    fn unlock(&self) {
        if let Ok(mut state) = self.alive() {
            state.locked = false;
        }
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut state = self.alive()?;
        let index = state.files.len();
        state.change_name(NameChange::Create(name.to_owned(), index))?;
        state.files.push(Content::default());
        Ok(self.file(&state, index))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let state = self.alive()?;
        let index = state.lookup(name)?;
        Ok(self.file(&state, index))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut state = self.alive()?;
        state.lookup(name)?;
        state.change_name(NameChange::Remove(name.to_owned()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.alive()?;
        let file = state.lookup(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), file))
    }

    fn put_aside(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.alive()?.change(bytes.len())?;
        let mut aside = format!("quarantine/{name}");
        while self.content(&aside).is_some() {
            aside.push_str(".1");
        }
        self.set_content(&aside, bytes);
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        let mut state = self.alive()?;
        if state.fails(Fault::SyncDir) {
            return Err(DiskError::Io("injected error of a directory sync".to_owned()));
        }
        state.name_changes.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let state = self.alive()?;
        Ok(state.capacity.map_or(u64::MAX, |max| max.saturating_sub(state.used()) as u64))
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
            return Err(DiskError::Io(CRASHED.to_owned()));
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
            if state.fails(Fault::Read) {
                return Err(DiskError::Io("injected read error".to_owned()));
            }
            let now = &state.files[index].now;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(now.len());
            let n = buffer.len().min(now.len() - from);
            buffer[..n].copy_from_slice(&now[from..from + n]);
            if let Some(Fault::Flip(reads, bit)) = state.fault {
                state.fault = reads.checked_sub(1).map(|reads| Fault::Flip(reads, bit));
                if reads == 0 && n > 0 {
                    buffer[bit / 8 % n] ^= 1 << (bit % 8);
                }
            }
            Ok(n)
        })
    }

    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<(), DiskError> {
        self.with(|state, index| {
            let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            state.change((offset + bytes.len()).saturating_sub(state.files[index].now.len()))?;
            let fails = state.fails(Fault::Write);
            let end = if fails { bytes.len() / 2 } else { bytes.len() };
            state.files[index].write(offset, &bytes[..end]);
            if fails { Err(DiskError::Io("injected write error".to_owned())) } else { Ok(()) }
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        let (covered, stall) = self.with(|state, index| {
            if state.fails(Fault::Sync) {
                state.files[index].lose();
                return Err(DiskError::Io("injected sync error".to_owned()));
            }
            Ok((state.files[index].changes(), state.stall.take()))
        })?;
        if let Some(gate) = stall {
            gate.stand();
        }
        self.with(|state, index| {
            state.files[index].sync(covered);
            Ok(())
        })
    }

    fn preallocate(&self, size: u64) -> Result<(), DiskError> {
        self.with(|state, index| {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let grows = size.saturating_sub(state.files[index].now.len());
            state.change(grows)?;
            if grows > 0 {
                state.files[index].resize(size);
            }
            Ok(())
        })
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.with(|state, index| {
            state.change(0)?;
            state.files[index].resize(usize::try_from(size).unwrap_or(usize::MAX));
            Ok(())
        })
    }
}
