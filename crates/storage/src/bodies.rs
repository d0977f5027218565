//! Which large bodies there are, and which entries refer to them.
//!
//! Invariants: a body's file stays for as long as an entry of any queue refers to it or anybody holds its
//! [`LargeBody`]; then until the log proves that the last of those entries is gone. Compaction moves messages and never
//! bodies. `state` is a leaf among the locks, and no [`LargeBody`] is dropped under it.

use crate::body::{BodyHeader, body_id, body_name};
use crate::canary::Canary;
use crate::core::Core;
use crate::disk::{Disk, DiskError};
use crate::entry::Entry;
use crate::keeper::Left;
use crate::signal::Signals;
use crate::sync::Mutex;
use foldhash::fast::FixedState;
use model::{LargeBody, QueueId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

/// Bodies of one life of the process; the bits above count the lives.
const ID_BITS: u32 = 32;

/// The references that recovery found: of which entry, to which body of which length.
pub(crate) type BodyRefs = HashMap<(QueueId, u64), (u64, u64), FixedState>;

/// See the module.
pub(crate) struct Bodies {
    state: Mutex<State>,
    signals: Arc<Signals>,
}

#[derive(Default)]
struct State {
    next: u64,
    bodies: HashMap<u64, Body, FixedState>,
    refs: BTreeMap<(QueueId, u64), u64>,
    /// Bodies nothing needs, and up to where the log must be proven before their files go.
    dead: Vec<(u64, u64)>,
    files: u64,
    bytes: u64,
}

struct Body {
    header: BodyHeader,
    refs: usize,
    held: Weak<LargeBody>,
    /// Where the log says that the last reference so far that ended has.
    after: u64,
    damaged: bool,
}

/// Tells that nobody holds a body any more.
struct Lease {
    bodies: Arc<Bodies>,
    id: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.bodies.state.lock();
        if state.bury(self.id) {
            drop(state);
            self.bodies.signals.keep.work();
        }
    }
}

impl State {
    /// Notes that a body is dead if it is.
    fn bury(&mut self, id: u64) -> bool {
        let Some(body) = self.bodies.get(&id) else { return false };
        if body.refs > 0 || body.held.strong_count() > 0 {
            return false;
        }
        self.dead.push((id, body.after));
        self.bodies.remove(&id);
        true
    }

    fn end(&mut self, place: (QueueId, u64), after: u64) -> bool {
        let Some(id) = self.refs.remove(&place) else { return false };
        let Some(body) = self.bodies.get_mut(&id) else { return false };
        body.refs -= 1;
        body.after = body.after.max(after);
        self.bury(id)
    }
}

impl Bodies {
    /// No bodies yet; the ids of this life begin behind `generation`.
    pub(crate) fn new(generation: u64, signals: Arc<Signals>) -> Arc<Self> {
        let state = State { next: generation << ID_BITS, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), signals })
    }

    /// An id for a body that is begun.
    pub(crate) fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.next += 1;
        state.next
    }

    /// A file was made, or has grown.
    pub(crate) fn grew(&self, files: u64, bytes: u64) {
        let mut state = self.state.lock();
        state.files += files;
        state.bytes += bytes;
    }

    /// Files and their bytes.
    pub(crate) fn used(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.files, state.bytes)
    }

    /// A body is begun and will not be finished: its file may go at once.
    pub(crate) fn abort(&self, id: u64) {
        self.state.lock().dead.push((id, 0));
        self.signals.keep.work();
    }

    /// A body is whole and durable.
    pub(crate) fn complete(self: &Arc<Self>, header: BodyHeader) -> Arc<LargeBody> {
        let held = self.hold(header);
        let body = Body { header, refs: 0, held: Arc::downgrade(&held), after: 0, damaged: false };
        self.state.lock().bodies.insert(header.id, body);
        held
    }

    fn hold(self: &Arc<Self>, header: BodyHeader) -> Arc<LargeBody> {
        let lease = Lease { bodies: self.clone(), id: header.id };
        Arc::new(LargeBody::new(header.id, header.len, Box::new(lease)))
    }

    /// Holds a body that something refers to; `None` if it is gone.
    pub(crate) fn get(self: &Arc<Self>, id: u64) -> Option<Arc<LargeBody>> {
        let mut state = self.state.lock();
        let body = state.bodies.get_mut(&id)?;
        if let Some(held) = body.held.upgrade() {
            return Some(held);
        }
        let held = self.hold(body.header);
        body.held = Arc::downgrade(&held);
        Some(held)
    }

    /// What is known of a body that somebody holds.
    pub(crate) fn header(&self, id: u64) -> Option<BodyHeader> {
        self.state.lock().bodies.get(&id).map(|body| body.header)
    }

    /// An entry refers to a body that the caller holds.
    pub(crate) fn refer(&self, queue: QueueId, seq: u64, id: u64) {
        let mut state = self.state.lock();
        if let Some(body) = state.bodies.get_mut(&id) {
            body.refs += 1;
            state.refs.insert((queue, seq), id);
        }
    }

    /// Whether the body of an entry is damaged.
    #[cold]
    pub(crate) fn is_damaged(&self, queue: QueueId, seq: u64) -> bool {
        let state = self.state.lock();
        let id = state.refs.get(&(queue, seq));
        id.is_none_or(|id| state.bodies.get(id).is_none_or(|body| body.damaged))
    }

    /// Marks a body as damaged; false if it was known.
    pub(crate) fn mark_damaged(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        state.bodies.get_mut(&id).is_some_and(|body| !std::mem::replace(&mut body.damaged, true))
    }

    /// Takes over what recovery found: the references of living entries, and the files in `names`. Returns what is
    /// damaged or missing.
    pub(crate) fn recover(
        self: &Arc<Self>,
        disk: &dyn Disk,
        refs: BodyRefs,
        names: Vec<String>,
    ) -> Result<Vec<String>, DiskError> {
        let mut wrong = Vec::new();
        let mut state = self.state.lock();
        for (place, (id, len)) in refs {
            state.refs.insert(place, id);
            if let Some(body) = state.bodies.get_mut(&id) {
                body.refs += 1;
                continue;
            }
            let (mut header, mut damaged) = (BodyHeader { id, len, piece: 1 }, false);
            match look_at(disk, id, len, &names) {
                Ok((found, bytes)) => {
                    header = found;
                    state.files += 1;
                    state.bytes += bytes;
                }
                Err(what) => {
                    damaged = true;
                    wrong.push(format!("the body {}, of {len} bytes: {what}", body_name(id)));
                }
            }
            state.bodies.insert(id, Body { header, refs: 1, held: Weak::new(), after: 0, damaged });
        }
        for name in names {
            if body_id(&name).is_some_and(|id| !state.bodies.contains_key(&id)) {
                disk.remove(&name)?;
            }
        }
        Ok(wrong)
    }
}

/// The header of a body's file and the file's size, if it is as long as it should be.
fn look_at(disk: &dyn Disk, id: u64, len: u64, names: &[String]) -> Result<(BodyHeader, u64), String> {
    let name = body_name(id);
    if !names.contains(&name) {
        return Err("its file is missing".to_owned());
    }
    let file = disk.open(&name).map_err(|error| error.to_string())?;
    let mut head = [0; crate::body::BODY_HEADER_BYTES as usize];
    let mut header = || -> Result<_, DiskError> {
        let read = file.pread(&mut head, 0)?;
        Ok(BodyHeader::decode(&head[..read]).filter(|header| header.id == id && header.len == len))
    };
    // Once more if it is not right: it may have come so only once.
    let header = header().and_then(|found| found.map_or_else(header, |found| Ok(Some(found))));
    let header = header.map_err(|error| error.to_string())?;
    let header = header.ok_or("the header of its file is damaged")?;
    let (size, right) = (file.size().map_err(|error| error.to_string())?, header.file_bytes());
    match right {
        Some(right) if size >= right => Ok((header, size)),
        _ => Err(format!("its file has {size} bytes and should have {}", right.unwrap_or(u64::MAX))),
    }
}

impl Core {
    /// The bodies of these entries are not needed by them any more, and the log has been told why.
    pub(crate) fn release_bodies<'a>(&self, entries: impl Iterator<Item = (QueueId, &'a Entry)>) {
        let mut large = entries.filter(|(_, entry)| entry.large).peekable();
        if large.peek().is_none() {
            return;
        }
        let after = self.log.lock().next;
        let mut state = self.bodies.state.lock();
        let dead = large.fold(false, |dead, (queue, entry)| state.end((queue, entry.seq), after) | dead);
        drop(state);
        if dead {
            self.signals.keep.work();
        }
    }

    /// The same of all entries of a queue but those that `stays` names.
    pub(crate) fn release_bodies_of(&self, queue: QueueId, stays: impl Fn(u64) -> bool) {
        let mut state = self.bodies.state.lock();
        let all = state.refs.range((queue, 0)..=(queue, u64::MAX));
        let gone: Vec<_> = all.map(|(place, _)| *place).filter(|(_, seq)| !stays(*seq)).collect();
        if gone.is_empty() {
            return;
        }
        drop(state);
        let after = self.log.lock().next;
        state = self.bodies.state.lock();
        let dead = gone.into_iter().fold(false, |dead, place| state.end(place, after) | dead);
        drop(state);
        if dead {
            self.signals.keep.work();
        }
    }

    /// Removes the files of dead bodies of which that is proven.
    pub(crate) fn give_up_bodies(&self) -> Result<Left, DiskError> {
        let dead = std::mem::take(&mut self.bodies.state.lock().dead);
        let mut left = Left::Nothing;
        for (id, after) in dead {
            if after > 0 && !self.options.plants(Canary::DropBodyEarly) && !self.prove(after) {
                self.bodies.state.lock().dead.push((id, after));
                left = Left::Later;
                continue;
            }
            self.remove_body(id)?;
        }
        Ok(left)
    }

    fn remove_body(&self, id: u64) -> Result<(), DiskError> {
        let name = body_name(id);
        // What was begun and given up before its first piece was written has none.
        let Ok(size) = self.disk.open(&name).and_then(|file| file.size()) else {
            return Ok(());
        };
        self.disk.remove(&name)?;
        let mut state = self.bodies.state.lock();
        state.files = state.files.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(size);
        Ok(())
    }
}
