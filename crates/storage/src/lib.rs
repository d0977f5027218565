//! The embedded engine: one write-ahead log for everything, over a small door to the disk.
//!
//! What is where: `record` and `payload` are the format (`docs/storage-format.md`), `log` gives records their place,
//! `writer` writes and syncs them, `chain` tells whether its files belong together, `prepare` makes files ahead, `keeper` gives them back, `mover` (with `choice`, `gather`
//! and `allowance`) empties them, `usage` counts what they hold, `recover` and `replay` read them at the start, from
//! digests that `digest` and `checkpoint` make; `repair` looks for damage and `mend` moves it aside; `queue` is a queue in memory, `lane` its entries of one priority, `page`
//! and `paging` pack the far part of it, `due` has its entries when they wait for a time; `append`, `deliver`,
//! `acknowledge`, `dead` and `admin` are the calls of the port,
//! `reader` brings back messages that are not in memory; `bodies` knows the large bodies, which lie in files of their own
//! (`body`) that `body_io` writes and reads.
//!
//! Invariants: those of the port ([`engine`]), and: the decisions are separate from the threads that run them, so the
//! simulated disk drives the very same code by hand. No clock, no random numbers, no runtime.

mod acknowledge;
mod admin;
mod allowance;
mod append;
mod attempts;
mod bare;
mod bodies;
mod body;
mod body_io;
mod canary;
mod cancel;
mod chain;
mod checkpoint;
mod choice;
mod contents;
mod core;
mod dead;
mod deliver;
mod digest;
mod disk;
mod due;
mod entry;
mod gather;
mod groups;
#[cfg(all(loom, test))]
mod handover;
mod held;
mod keeper;
mod lane;
mod log;
mod mend;
mod metas;
mod metrics;
mod mover;
mod page;
mod paging;
mod payload;
mod prepare;
mod queue;
mod reader;
mod record;
mod recover;
mod repair;
mod repair_bodies;
mod replay;
mod scan;
mod seldom;
mod short;
mod signal;
#[cfg(feature = "sim")]
pub mod sim;
mod slots;
mod sorted;
mod space;
mod spill;
mod sync;
mod threads;
mod traits;
mod usage;
mod writer;

#[cfg(feature = "sim")]
pub use canary::Canary;
pub use disk::{Disk, DiskError, DiskFile, RealDisk};
pub use recover::OpenError;
pub use repair::{Affected, Damage, Report, repair};
pub use repair_bodies::{DamagedBody, kept_name};

use crate::core::Core;
use engine::{
    Batch, BodyWake, BodyWriter, Credit, Dead, Delivery, Engine, EngineError, EngineEvents, EngineMetrics, EntryKey,
    Limits, Outcome, PieceRead, Pressure, QueueSpec, QueueStats, Reaped, Remainder, Ticket,
};
use model::limits::{BODY_PIECE_BYTES, LOG_MOVE_BYTES_PER_S};
use model::{HolderId, LargeBody, Now, QueueId, Seq};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Of [`Options::resident_bytes_max`], one part in so many may be held in addition while files are emptied.
const GATHERED_SHARE: usize = 8;

/// Of [`Options::resident_bytes_max`], one part in so many may be in use for messages that are handed out to stay.
const HANDED_OUT_SHARE: usize = 4;

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes held in memory: messages, and what queues know of theirs.
    pub resident_bytes_max: usize,
    /// Bytes of the first file of every start.
    pub first_file_bytes: u64,
    /// Bytes of the files that follow. An idle log keeps at most four of them: the current, the next and two
    /// spares.
    pub file_bytes: u64,
    /// Bytes of the file system that must be free for publishers to be welcome; 0 is no limit.
    pub disk_free_limit: u64,
    /// Bytes a second that may be read to empty files, beside a share of what is published.
    pub move_bytes_per_s: u64,
    /// Bytes of a piece of a large body, which has a checksum of its own and is read at once.
    pub body_piece_bytes: u64,
    /// A fault built in on purpose, to prove that the simulation finds it.
    #[cfg(feature = "sim")]
    pub canary: Option<Canary>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resident_bytes_max: 64 * 1024 * 1024,
            first_file_bytes: 4 * 1024 * 1024,
            // Small, so that little of the disk is reserved and what is settled is soon given back.
            file_bytes: 12 * 1024 * 1024,
            disk_free_limit: 0,
            move_bytes_per_s: LOG_MOVE_BYTES_PER_S,
            body_piece_bytes: BODY_PIECE_BYTES as u64,
            #[cfg(feature = "sim")]
            canary: None,
        }
    }
}

impl Options {
    /// Bytes of messages held in memory while they are moved.
    fn gathered_bytes_max(&self) -> usize {
        self.resident_bytes_max / GATHERED_SHARE
    }

    /// Bytes in memory above which a message is not kept when it is handed out: it is seldom wanted again, and can be
    /// read again then.
    fn handed_out_bytes_max(&self) -> usize {
        self.resident_bytes_max / HANDED_OUT_SHARE
    }
}

/// The embedded engine. Dropping it without [`Engine::close`] is like a crash of the process.
pub struct Storage {
    core: Arc<Core>,
    threads: threads::Threads,
}

impl Storage {
    /// Opens the engine in a directory, recovering what is there, and starts its threads.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing that could hold a message was changed.
    pub fn open(path: &Path, options: Options, events: Arc<dyn EngineEvents>) -> Result<Self, OpenError> {
        let disk = RealDisk::open(path)?;
        Self::open_on(Arc::new(disk), options, events)
    }

    /// The same over any disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(disk: Arc<dyn Disk>, options: Options, events: Arc<dyn EngineEvents>) -> Result<Self, OpenError> {
        let core = Self::recover(disk, options, events)?;
        let threads = threads::Threads::start(&core)?;
        Ok(Self { core, threads })
    }

    /// The same without threads: nothing is written, synced or read until the steps are called.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[cfg(feature = "sim")]
    pub fn open_by_hand(
        disk: Arc<dyn Disk>,
        options: Options,
        events: Arc<dyn EngineEvents>,
    ) -> Result<Self, OpenError> {
        Ok(Self { core: Self::recover(disk, options, events)?, threads: threads::Threads::none() })
    }

    fn recover(disk: Arc<dyn Disk>, options: Options, events: Arc<dyn EngineEvents>) -> Result<Arc<Core>, OpenError> {
        let mut parts = recover::recover(&disk, &options)?;
        let (refs, names) = std::mem::take(&mut parts.bodies);
        let core = Arc::new(Core::new(disk, options, events, parts));
        for what in core.bodies.recover(&*core.disk, refs, names)? {
            core.counters.damaged.fetch_add(1, Ordering::Relaxed);
            core.events.damaged(&what);
        }
        core.look_at_space();
        Ok(core)
    }

    /// Writes what waits, and syncs it if somebody waits for it or `flush` says so.
    #[cfg(feature = "sim")]
    pub fn sync_step(&self, flush: bool) {
        self.core.sync_step(flush);
    }

    /// Writes what waits and syncs nothing, as the second writing thread does during a sync. Does nothing while
    /// somebody else holds what it needs.
    #[cfg(feature = "sim")]
    pub fn write_step(&self) {
        self.core.write_step();
    }

    /// One round of housekeeping.
    #[cfg(feature = "sim")]
    pub fn keep_step(&self) {
        self.core.keep_step();
    }

    /// Reads the head of one queue that waits for it; false if none does.
    #[cfg(feature = "sim")]
    pub fn read_step(&self) -> bool {
        self.core.read_step()
    }

    /// Whether the reader was asked for a queue and has not looked yet. Until then it may be longer than it may be.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn is_reading(&self, queue: QueueId) -> bool {
        self.core.queue(queue).is_some_and(|cell| cell.lock().reading)
    }

    /// Reads one piece of a large body that somebody waits for; false if nobody does.
    #[cfg(feature = "sim")]
    pub fn piece_step(&self) -> bool {
        self.core.read_piece_step()
    }

    /// Does the next thing for a large body that comes; false if there is none, or the disk is full.
    #[cfg(feature = "sim")]
    pub fn body_step(&self) -> bool {
        self.core.body_step()
    }
}

impl Engine for Storage {
    fn append(&self, batch: &mut Batch, now: Now) -> Result<Ticket, EngineError> {
        self.core.append(batch, now)
    }

    fn begin_body(&self, len: u64, wake: BodyWake) -> Result<Box<dyn BodyWriter>, EngineError> {
        self.core.begin_body(len, wake)
    }

    fn read_body(&self, body: &Arc<LargeBody>, at: u64, done: PieceRead) {
        self.core.read_body(body, at, done);
    }

    fn durable(&self) -> Ticket {
        Ticket(self.core.durable.load(Ordering::Acquire))
    }

    fn bring_near(&self, queues: &[QueueId]) {
        self.core.bring_near(queues);
    }

    fn deliver(
        &self,
        queue: QueueId,
        credit: Credit,
        now: Now,
        assign: &mut dyn FnMut(Delivery) -> HolderId,
    ) -> Remainder {
        self.core.deliver(queue, credit, now, assign)
    }

    fn take_dead(&self, queue: QueueId, max: usize, now: Now, dead: &mut Vec<Dead>) -> Reaped {
        self.core.take_dead(queue, max, now, dead)
    }

    fn set_limits(&self, queue: QueueId, limits: Limits, now: Now) {
        self.core.set_limits(queue, limits, now);
    }

    fn set_waited(&self, queue: QueueId, waited: bool, now: Now) {
        self.core.set_waited(queue, waited, now);
    }

    fn settle(&self, queue: QueueId, seqs: &[Seq], outcome: Outcome, now: Now) -> usize {
        self.core.settle(queue, seqs, outcome, now)
    }

    fn acknowledge(&self, acks: &mut Vec<(QueueId, Seq)>, now: Now) {
        self.core.acknowledge(acks, now);
    }

    fn release(&self, queue: QueueId, holder: HolderId, now: Now) -> usize {
        self.core.release(queue, holder, now)
    }

    fn cancel(&self, queue: QueueId, key: EntryKey, _now: Now) -> Result<(usize, Ticket), EngineError> {
        self.core.cancel(queue, key)
    }

    fn purge(&self, queue: QueueId, _now: Now) -> u64 {
        self.core.purge(queue)
    }

    fn stats(&self, queue: QueueId) -> QueueStats {
        self.core.stats(queue)
    }

    fn create_queue(&self, spec: QueueSpec) -> Result<(QueueId, Ticket), EngineError> {
        self.core.create_queue(spec)
    }

    fn delete_queue(&self, queue: QueueId) -> Result<Ticket, EngineError> {
        self.core.delete_queue(queue)
    }

    fn queues(&self) -> Vec<(QueueId, QueueSpec)> {
        let cells: Vec<_> = self.core.queues.read().values().cloned().collect();
        let mut all: Vec<_> = cells.iter().map(|cell| cell.lock()).map(|queue| (queue.id, queue.spec())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    fn put_meta(&self, key: &[u8], value: &[u8]) -> Result<Ticket, EngineError> {
        self.core.put_meta(key, value)
    }

    fn delete_meta(&self, key: &[u8]) -> Result<Ticket, EngineError> {
        self.core.delete_meta(key)
    }

    fn get_meta(&self, key: &[u8]) -> Option<Vec<u8>> {
        let metas = self.core.metas.lock();
        metas.get(key).map(|meta| meta.value().to_vec())
    }

    fn metas(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let metas = self.core.metas.lock();
        let mut pairs: Vec<_> = metas.iter().map(|meta| (meta.key().to_vec(), meta.value().to_vec())).collect();
        pairs.sort_unstable();
        pairs
    }

    fn pressure(&self) -> Pressure {
        self.core.current_pressure()
    }

    fn metrics(&self) -> EngineMetrics {
        self.core.metrics()
    }

    fn close(&self) -> Result<(), EngineError> {
        let closed = self.core.close();
        self.threads.stop(&self.core);
        self.core.disk.unlock();
        closed
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.threads.stop(&self.core);
    }
}
