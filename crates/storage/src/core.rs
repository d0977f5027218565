//! The engine's state, shared by the calls of the port and by the background jobs: write, sync, keep, read,
//! and the writing of large bodies.
//!
//! Invariants: locks are taken in the order metas, queues (by id), log; `waiters`, `reads`, `spill`, `pages`, `discarded`, `prep` and
//! those of bodies are leaves. Who holds the map of the queues may try to lock them, never wait for one.
//! No lock of a queue or of the log is held during IO. The LSN up to which the log is durable only grows.
//!
//! Not here: threads (see `threads`), so a simulation can run every job by hand.

use crate::Options;
use crate::bodies::{Bodies, BodyRefs};
use crate::body_io::BodyJobs;
use crate::canary::Canary;
use crate::deliver::HandedOut;
use crate::disk::{Disk, DiskError};
use crate::log::LogState;
use crate::metas::Metas;
use crate::metrics::Counters;
use crate::page::Page;
use crate::payload::Record;
use crate::prepare::Prepared;
use crate::queue::{FREE_BYTES, Queue};
use crate::signal::Signals;
use crate::space::Space;
use crate::spill::Spill;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, RwLock};
use crate::writer::Writer;
use engine::{EngineError, EngineEvents, Pressure, QueueMap, Ticket};
use model::{Now, QueueId, near};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that wait to be written before publishers are refused.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Records whose memory is kept for reuse, and the largest one kept.
const POOL_RECORDS: usize = 64;
const POOL_RECORD_BYTES: usize = 1024 * 1024;
/// Queues whose contents are asked for at once.
pub(crate) const NEAR: usize = 32;

/// A queue behind its lock.
pub(crate) struct Cell {
    /// As [`QueueSpec::keeps`] says.
    ///
    /// [`QueueSpec::keeps`]: engine::QueueSpec::keeps
    pub(crate) keeps: bool,
    queue: Mutex<Queue>,
}

impl Cell {
    pub(crate) fn new(queue: Queue) -> QueueCell {
        Arc::new(Self { keeps: queue.spec.keeps(), queue: Mutex::new(queue) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Queue>> {
        self.queue.try_lock()
    }
}

pub(crate) type QueueCell = Arc<Cell>;

/// See the module.
pub(crate) struct Core {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) events: Arc<dyn EngineEvents>,
    pub(crate) generation: u64,
    pub(crate) queues: RwLock<QueueMap<QueueCell>>,
    pub(crate) next_queue: AtomicU64,
    pub(crate) metas: Mutex<Metas>,
    pub(crate) log: Mutex<LogState>,
    pub(crate) writer: Mutex<Writer>,
    /// Who holds it syncs; the others wait and are covered by the next sync.
    pub(crate) sync_role: Mutex<()>,
    /// Held from the beginning of a sync until its failure is known to all: an error is reported to one sync only, and
    /// the next one succeeds although what was written is gone.
    pub(crate) sync_turn: Mutex<()>,
    pub(crate) prepared: Mutex<Prepared>,
    pub(crate) durable: AtomicU64,
    /// Queues whose head waits for the log to be durable beyond an LSN.
    pub(crate) waiters: Mutex<Vec<(u64, QueueId)>>,
    /// Queues whose head must be read from the disk, and when somebody asked for that.
    pub(crate) reads: Mutex<VecDeque<(QueueId, Now)>>,
    /// Bytes of messages and of queues' indexes in memory.
    pub(crate) resident: AtomicUsize,
    pub(crate) spill: Mutex<Spill>,
    /// Where pages of the index go.
    pub(crate) pages: Mutex<Spill>,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) body_jobs: BodyJobs,
    /// The disk was full when last tried: by the writer, by the keeper, by who writes bodies.
    pub(crate) full: [AtomicBool; 3],
    pub(crate) space: Space,
    pub(crate) told_pressure: Mutex<Pressure>,
    pub(crate) counters: Counters,
    pub(crate) signals: Arc<Signals>,
    pub(crate) keeper: Mutex<crate::keeper::Keeper>,
    pub(crate) handed_out: Mutex<HandedOut>,
    pub(crate) delivered_told_us: AtomicU64,
    /// The keeper goes on once the log is durable up to here; 0 if it does not wait for that.
    pub(crate) keeper_waits: AtomicU64,
    /// Since when something waits that must be synced within an interval; 0 is nothing.
    pub(crate) interval_since_us: AtomicU64,
    /// Pages of queues that were deleted or purged: what they held still counts as living in the log.
    pub(crate) discarded: Mutex<VecDeque<Page>>,
    pool: Mutex<Vec<Record>>,
}

/// Who found the disk full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Writer = 0,
    Keeper = 1,
    Bodies = 2,
}

/// What [`Core`] is made of after recovery.
pub(crate) struct Parts {
    pub(crate) generation: u64,
    pub(crate) queues: QueueMap<QueueCell>,
    pub(crate) metas: Metas,
    pub(crate) log: LogState,
    pub(crate) writer: Writer,
    pub(crate) pages: Spill,
    /// What living entries refer to, and the files there are.
    pub(crate) bodies: (BodyRefs, Vec<String>),
}

impl Core {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: Options, events: Arc<dyn EngineEvents>, parts: Parts) -> Self {
        let durable = parts.log.next;
        let mut next_queue = parts.generation << 32;
        if options.plants(Canary::ReuseQueueId) {
            next_queue = parts.queues.values().map(|cell| cell.lock().id.0 + 1).max().unwrap_or(1);
        }
        let signals = Arc::new(Signals::new(&options));
        let resident = parts.queues.values().map(|cell| cell.lock().charged).sum();
        Self {
            disk,
            options,
            events,
            generation: parts.generation,
            queues: RwLock::new(parts.queues),
            next_queue: AtomicU64::new(next_queue),
            metas: Mutex::new(parts.metas),
            log: Mutex::new(parts.log),
            writer: Mutex::new(parts.writer),
            sync_role: Mutex::new(()),
            sync_turn: Mutex::new(()),
            prepared: Mutex::new(Prepared::default()),
            durable: AtomicU64::new(durable),
            waiters: Mutex::new(Vec::new()),
            reads: Mutex::new(VecDeque::new()),
            resident: AtomicUsize::new(resident),
            spill: Mutex::new(Spill::new("spill-")),
            pages: Mutex::new(parts.pages),
            bodies: Bodies::new(parts.generation, signals.clone()),
            body_jobs: BodyJobs::default(),
            full: Default::default(),
            space: Space::default(),
            told_pressure: Mutex::new(Pressure::None),
            counters: Counters::default(),
            signals,
            keeper: Mutex::new(crate::keeper::Keeper::default()),
            handed_out: Mutex::default(),
            delivered_told_us: AtomicU64::new(0),
            keeper_waits: AtomicU64::new(0),
            interval_since_us: AtomicU64::new(0),
            discarded: Mutex::new(VecDeque::new()),
            pool: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<QueueCell> {
        self.queues.read().get(id).cloned()
    }

    /// Finds queues by id, none where there is none, and asks for their memory: `queues` is the map under its lock.
    pub(crate) fn find_near(
        queues: &QueueMap<QueueCell>,
        ids: impl Iterator<Item = QueueId>,
    ) -> impl Iterator<Item = Option<&QueueCell>> {
        let found = queues.get_all(ids);
        found.inspect(|cell| cell.iter().for_each(|cell| near::ask_for(&***cell, size_of::<Cell>())))
    }

    /// Asks for what is in queues that were found so and will be locked soon, one by one.
    pub(crate) fn contents_near<'a>(cells: impl ExactSizeIterator<Item = &'a QueueCell>) {
        if cells.len() > 1 {
            // Whoever holds one has it near.
            cells.filter_map(|cell| cell.try_lock()).for_each(|queue| queue.contents.ask_for());
        }
    }

    pub(crate) fn durable_lsn(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Counts the memory of a queue's index again. The caller holds its lock and has changed it.
    pub(crate) fn charge(&self, queue: &mut Queue) {
        let (before, now) = (queue.charged, queue.index_bytes());
        if now > before {
            self.resident.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            self.resident.fetch_sub(before - now, Ordering::Relaxed);
        }
        queue.charged = now;
    }

    /// The same, unless the queue is `small`: of what does not lie in place it has the first few at most, and looking for that
    /// would bring in memory that is seldom in the cache. So there may be twice as much that does not count.
    pub(crate) fn charge_unless(&self, small: bool, queue: &mut Queue) {
        if small && queue.charged == 0 {
            debug_assert!(queue.index_bytes() <= FREE_BYTES, "a small queue has {} bytes", queue.index_bytes());
        } else {
            self.charge(queue);
        }
    }

    /// An empty record, with memory of an earlier one if there is.
    pub(crate) fn record(&self) -> Record {
        let mut record = self.pool.lock().pop().unwrap_or_default();
        record.start();
        record
    }

    /// Keeps the memory of records that were written.
    pub(crate) fn reuse(&self, records: impl Iterator<Item = Record>) {
        let mut pool = self.pool.lock();
        for mut record in records {
            record.shared.clear();
            if pool.len() < POOL_RECORDS && record.buf.capacity() <= POOL_RECORD_BYTES {
                pool.push(record);
            }
        }
    }

    /// Everything up to `lsn` is durable: tells whoever waits.
    pub(crate) fn advance(&self, lsn: u64) {
        if self.durable.fetch_max(lsn, Ordering::AcqRel) >= lsn {
            return;
        }
        if self.options.plants(Canary::TicketGoesBack) && lsn.is_multiple_of(64) {
            self.durable.store(lsn / 2, Ordering::Release);
        }
        self.events.durable(Ticket(lsn));
        let keeper_waits = self.keeper_waits.load(Ordering::Acquire);
        if keeper_waits != 0 && keeper_waits <= lsn {
            self.keeper_waits.store(0, Ordering::Release);
            self.signals.keep.work();
        }
        let mut readable = Vec::new();
        self.waiters.lock().retain(|&(at, queue)| {
            if at < lsn {
                readable.push(queue);
            }
            at >= lsn
        });
        for queue in readable {
            if let Some(cell) = self.queue(queue) {
                if let Some(contents) = cell.lock().contents.get_mut() {
                    contents.waiting = 0;
                }
                if !self.options.plants(Canary::ForgetReadable) {
                    self.events.readable(queue);
                }
            }
        }
    }

    /// Has `readable` said once the log is durable beyond `lsn`; false if it is already.
    pub(crate) fn wait_durable(&self, queue: &mut Queue, lsn: u64) -> bool {
        // Its head may have died since, and the one behind it be durable sooner.
        if queue.contents.waiting != 0 && queue.contents.waiting <= lsn {
            return true;
        }
        let early = self.options.plants(Canary::AskTooEarly).then(|| self.durable_lsn());
        let mut waiters = self.waiters.lock();
        if lsn < early.unwrap_or_else(|| self.durable_lsn()) {
            return false;
        }
        waiters.push((lsn, queue.id));
        queue.contents.waiting = lsn;
        true
    }

    /// Poisons the log: nothing more becomes durable.
    pub(crate) fn fail(&self, error: &str) {
        {
            let mut log = self.log.lock();
            if log.failed.is_some() {
                return;
            }
            log.failed = Some(error.to_owned());
            log.pending.clear();
        }
        self.events.failed(error);
    }

    /// Notes that the disk is full, or that it no longer is; any other error is final.
    pub(crate) fn note_disk(&self, who: Who, result: &Result<(), DiskError>) {
        match result {
            Ok(()) if self.options.plants(Canary::ForgetRelief) => {}
            Ok(()) => self.full[who as usize].store(false, Ordering::Release),
            Err(DiskError::Full) => self.full[who as usize].store(true, Ordering::Release),
            Err(other) => self.fail(&other.to_string()),
        }
        self.tell_pressure();
    }

    /// Whether publishers are welcome right now.
    pub(crate) fn current_pressure(&self) -> Pressure {
        let told = *self.told_pressure.lock();
        self.pressure_after(told)
    }

    /// The pressure right now, if `told` was told last.
    fn pressure_after(&self, told: Pressure) -> Pressure {
        if self.is_full() || self.space.is_short() {
            return Pressure::Disk;
        }
        let resident = self.resident.load(Ordering::Relaxed);
        // Some way below the mark before publishers may go on, so that it does not flap.
        let mark = if told == Pressure::Memory {
            self.options.resident_bytes_max
        } else {
            self.options.resident_bytes_max.saturating_mul(2)
        };
        if resident > mark || self.log.lock().pending_bytes > PENDING_BYTES_MAX {
            return Pressure::Memory;
        }
        Pressure::None
    }

    /// Tells the shell if the pressure has changed.
    pub(crate) fn tell_pressure(&self) {
        // Looked at and told under one lock, so that of two threads the later look is told later.
        let mut told = self.told_pressure.lock();
        let now = self.pressure_after(*told);
        if *told == now {
            return;
        }
        *told = now;
        self.events.pressure(now);
        if now != Pressure::None {
            // Publishers will not come back to ask; the keeper looks again until it is over.
            self.signals.keep.lazy();
        }
    }

    /// Whether the disk was full when last tried.
    pub(crate) fn is_full(&self) -> bool {
        self.full.iter().any(|full| full.load(Ordering::Acquire))
    }

    /// Whether publishers were told to stop.
    pub(crate) fn is_pressed(&self) -> bool {
        *self.told_pressure.lock() != Pressure::None
    }

    /// Whether something small may be appended now: a queue, a value. A disk that is short of space and not full has
    /// room for that.
    pub(crate) fn check_small(&self) -> Result<(), EngineError> {
        match self.check() {
            Err(EngineError::Pressed(Pressure::Disk)) if !self.is_full() => Ok(()),
            other => other,
        }
    }

    /// Whether something may be appended now.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        self.check_open()?;
        self.tell_pressure();
        match *self.told_pressure.lock() {
            Pressure::None => Ok(()),
            pressed => Err(EngineError::Pressed(pressed)),
        }
    }
}
