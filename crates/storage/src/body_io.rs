//! Writing large bodies as they come and reading them as they go, a piece at a time.
//!
//! Invariants: bodies are written and synced on a thread of their own, so a large sync keeps nobody waiting but other
//! bodies; pieces are read on the read thread. A body is finished when its file and its name are synced: its message is
//! appended after that, so the log never refers to a body that a crash could take. A full disk is waited out; any other
//! failed write or sync is final, as in `writer`. One piece of a body waits in memory at most, and counts there.

use crate::body::{BODY_HEADER_BYTES, BodyHeader, PIECE_CRC_BYTES, body_name};
use crate::canary::Canary;
use crate::core::{Core, Who};
use crate::disk::{DiskError, DiskFile};
use crate::sync::Mutex;
use bytes::Bytes;
use engine::{BodyLost, BodyWake, BodyWriter, EngineError, PieceRead};
use model::LargeBody;
use model::limits::BODY_UNSYNCED_BYTES_MAX;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A body on its way in, as the threads see it.
struct Incoming {
    header: BodyHeader,
    wake: BodyWake,
    state: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// Something was handed in and is not done.
    busy: bool,
    aborted: bool,
    file: Option<Arc<dyn DiskFile>>,
    unsynced: u64,
    finished: Option<Arc<LargeBody>>,
}

/// Something to do for a body.
enum Task {
    /// Write these, one after the other, so many bytes behind the header.
    Write {
        behind: u64,
        slices: Vec<Bytes>,
    },
    Finish,
    Abort,
}

/// Bodies to write and pieces to read.
#[derive(Default)]
pub(crate) struct BodyJobs {
    tasks: Mutex<VecDeque<(Arc<Incoming>, Task)>>,
    reads: Mutex<VecDeque<(Arc<LargeBody>, u64, PieceRead)>>,
}

/// See [`engine::BodyWriter`].
struct Writer {
    core: Arc<Core>,
    body: Arc<Incoming>,
    /// Bytes of the body handed in, and of its file behind the header.
    taken: u64,
    behind: u64,
    /// Of the piece that is under way.
    crc: u32,
    finishing: bool,
}

impl Core {
    /// See [`engine::Engine::begin_body`].
    pub(crate) fn begin_body(self: &Arc<Self>, len: u64, wake: BodyWake) -> Result<Box<dyn BodyWriter>, EngineError> {
        self.check()?;
        debug_assert!(len > 0);
        let header = BodyHeader { id: self.bodies.begin(), len, piece: self.options.body_piece_bytes };
        let body = Arc::new(Incoming { header, wake, state: Mutex::default() });
        let crc = header.seed(0);
        Ok(Box::new(Writer { core: self.clone(), body, taken: 0, behind: 0, crc, finishing: false }))
    }

    /// See [`engine::Engine::read_body`].
    pub(crate) fn read_body(&self, body: &Arc<LargeBody>, at: u64, done: PieceRead) {
        self.body_jobs.reads.lock().push_back((body.clone(), at, done));
        self.signals.read.work();
    }

    /// Does the next thing for a body; false if there is none, or the disk is full.
    pub(crate) fn body_step(&self) -> bool {
        let Some((body, task)) = self.body_jobs.tasks.lock().pop_front() else {
            return false;
        };
        let result = self.do_task(&body, &task);
        if result.is_err() || self.full[Who::Bodies as usize].load(Relaxed) {
            self.note_disk(Who::Bodies, &result);
        }
        if result == Err(DiskError::Full) {
            self.body_jobs.tasks.lock().push_front((body, task));
            self.signals.bodies.lazy();
            return false;
        }
        if let Task::Write { slices, .. } = &task {
            self.resident.fetch_sub(slices.iter().map(Bytes::len).sum(), Relaxed);
        }
        body.state.lock().busy = result.is_err();
        (body.wake)();
        true
    }

    fn do_task(&self, body: &Incoming, task: &Task) -> Result<(), DiskError> {
        let aborted = body.state.lock().aborted;
        match task {
            Task::Abort => self.bodies.abort(body.header.id),
            _ if aborted => {}
            Task::Write { behind, slices } => self.write_piece(body, *behind, slices)?,
            Task::Finish => self.finish_body(body)?,
        }
        Ok(())
    }

    fn write_piece(&self, body: &Incoming, behind: u64, slices: &[Bytes]) -> Result<(), DiskError> {
        let before = body.state.lock().file.clone();
        let file = match before {
            Some(file) => file,
            None => {
                let file = self.disk.create(&body_name(body.header.id))?;
                file.pwritev(&[IoSlice::new(&body.header.encode())], 0)?;
                self.bodies.grew(1, BODY_HEADER_BYTES);
                body.state.lock().file = Some(file.clone());
                file
            }
        };
        let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        file.pwritev(&slices, BODY_HEADER_BYTES + behind)?;
        let bytes = slices.iter().map(|slice| slice.len() as u64).sum();
        self.bodies.grew(0, bytes);
        self.counters.body_bytes.fetch_add(bytes, Relaxed);
        let unsynced = {
            let mut state = body.state.lock();
            state.unsynced += bytes;
            state.unsynced
        };
        if unsynced > BODY_UNSYNCED_BYTES_MAX {
            self.sync_body(&*file)?;
            body.state.lock().unsynced = 0;
        }
        Ok(())
    }

    fn finish_body(&self, body: &Incoming) -> Result<(), DiskError> {
        let file = body.state.lock().file.clone();
        if let Some(file) = file
            && !self.options.plants(Canary::BodyAfterLog)
        {
            self.sync_body(&*file)?;
            self.disk.sync_dir().map_err(final_error)?;
        }
        let finished = self.bodies.complete(body.header);
        let mut state = body.state.lock();
        state.file = None;
        state.finished = Some(finished);
        Ok(())
    }

    /// A sync that finds the disk full is as final as any other failure: what was written may be gone.
    fn sync_body(&self, file: &dyn DiskFile) -> Result<(), DiskError> {
        file.sync().map_err(final_error)
    }

    /// Reads one piece of a body that somebody waits for; false if nobody does.
    pub(crate) fn read_piece_step(&self) -> bool {
        let Some((body, at, done)) = self.body_jobs.reads.lock().pop_front() else {
            return false;
        };
        let piece = self.read_piece(&body, at).or_else(|| self.read_piece(&body, at));
        if piece.is_none() && self.bodies.mark_damaged(body.id()) {
            self.counters.damaged.fetch_add(1, Relaxed);
            let (name, len) = (body_name(body.id()), body.len());
            self.events.damaged(&format!("the body {name}, of {len} bytes, in its piece at byte {at}"));
        }
        // Before the answer: who has it may be waiting for the file to go.
        drop(body);
        done(piece.ok_or(BodyLost));
        true
    }

    fn read_piece(&self, body: &LargeBody, at: u64) -> Option<Bytes> {
        let header = self.bodies.header(body.id()).filter(|header| at < header.len)?;
        let (len, from) = header.piece_at(at);
        let start = at - from as u64;
        let file = self.disk.open(&body_name(header.id)).ok()?;
        let mut bytes = vec![0; len + PIECE_CRC_BYTES as usize];
        let read = file.pread(&mut bytes, header.place(start)).ok()?;
        header.check(start, &bytes[..read])?;
        Some(Bytes::from(bytes).slice(from..len))
    }
}

fn final_error(error: DiskError) -> DiskError {
    DiskError::Io(format!("a sync failed: {error}"))
}

impl Writer {
    fn ask(&self, task: Task) {
        self.body.state.lock().busy = true;
        self.core.body_jobs.tasks.lock().push_back((self.body.clone(), task));
        self.core.signals.bodies.work();
    }
}

impl BodyWriter for Writer {
    fn is_ready(&self) -> Result<bool, EngineError> {
        if !self.body.state.lock().busy {
            return Ok(true);
        }
        self.core.check_open().map(|()| false)
    }

    fn append(&mut self, mut piece: Bytes) {
        let header = self.body.header;
        assert!(piece.len() as u64 <= header.len - self.taken, "a body is as long as it was said to be");
        let behind = self.behind;
        let mut slices = Vec::new();
        while !piece.is_empty() {
            let (len, within) = header.piece_at(self.taken);
            let part = piece.split_to(piece.len().min(len - within));
            self.crc = crc32c::crc32c_append(self.crc, &part);
            self.taken += part.len() as u64;
            let complete = within + part.len() == len;
            slices.push(part);
            if complete {
                slices.push(Bytes::copy_from_slice(&self.crc.to_le_bytes()));
                self.crc = header.seed(self.taken);
            }
        }
        let bytes: usize = slices.iter().map(Bytes::len).sum();
        self.behind += bytes as u64;
        self.core.resident.fetch_add(bytes, Relaxed);
        self.ask(Task::Write { behind, slices });
    }

    fn finish(&mut self) -> Result<Option<Arc<LargeBody>>, EngineError> {
        debug_assert_eq!(self.taken, self.body.header.len, "a body is finished when all of it has come");
        if !self.is_ready()? {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.finishing, true) {
            self.ask(Task::Finish);
        }
        Ok(self.body.state.lock().finished.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.body.state.lock();
        let finished = state.finished.take();
        state.aborted = finished.is_none();
        drop(state);
        if finished.is_none() {
            self.ask(Task::Abort);
        }
    }
}
