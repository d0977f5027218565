//! The engine port: what a place that keeps messages must do, whatever it is made of.
//!
//! The **engine** owns which entries of a queue are ready and which are unsettled, their order, attempts, priority
//! and time to live, and the durable metadata. The **broker** above it owns routing, permissions, which consumer
//! gets an entry, and credit.
//!
//! Invariants every engine keeps, checked by [`suite`]:
//! * A [`Ticket`] that [`Engine::durable`] has reached will not be undone by a crash.
//! * An entry of a queue with [`Durability::Sync`] is handed out only when its ticket is durable; what other queues hold
//!   is handed out at once. Entries of a queue are handed out in order of priority, then [`Seq`].
//! * A batch, whatever it touches, is there after a crash wholly or not at all, its changes of the metadata included.
//! * [`Engine::deliver`] hands out at most the credit it is given and each entry to one holder until it is settled
//!   or released; a released or requeued entry returns to its place by seq.
//! * Entries of a queue in [`Order::Due`] are handed out in order of their [`Schedule`] and never before it.
//! * An entry that is dead ([`Death`]) is never handed out to a consumer again while the engine runs; with dead letters
//!   it ends when the broker settles it, so a crash before that brings it back.
//! * A publish is never let in beyond the [`Limits`] of a queue that refuses it, however many publish at once.
//! * A [`Seq`] and a [`QueueId`] are never used twice.
//! * A large body can be read for as long as a message that has it is in a queue or in somebody's hands.
//! * Settling never waits for the disk and never fails.
//!
//! Hot calls (append, deliver, settle) are synchronous, batched, and never wait for IO.

mod batch;
mod body;
mod durability;
mod lifecycle;
mod metrics;
mod queue_map;
mod schedule;
mod space;
pub mod suite;

pub use batch::{Batch, Entry, MetaChange};
pub use body::{BodyLost, BodyWake, BodyWriter, PieceRead};
pub use durability::Durability;
pub use lifecycle::{Dead, Death, Grouping, Limits, Overflow, Reaped};
pub use metrics::{DiskBytes, EngineMetrics};
pub use queue_map::QueueMap;
pub use schedule::{EntryKey, Order, Schedule};
pub use space::MetaSpace;

use model::{HolderId, LargeBody, Message, Mono, Now, QueueId, Seq, Wall};
use std::fmt;
use std::sync::Arc;

/// A promise of durability. Monotone: a durable ticket covers every lower one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Nothing to wait for.
    pub const NONE: Self = Self(0);
}

/// What a queue does with its entries. Fixed for the life of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueSpec {
    /// The queue survives a restart, and so do the persistent messages in it, as far as `durability` says.
    pub durable: bool,
    /// When a persistent message in it is safe, if the queue is durable.
    pub durability: Durability,
    /// Highest priority that counts; higher ones are treated as this. 0 is a plain queue.
    pub priority_max: u8,
    /// Time to live of each entry in milliseconds; the message's own counts too if it is shorter.
    pub ttl_ms: Option<u64>,
    /// Which entry is the next.
    pub order: Order,
}

impl QueueSpec {
    /// Whether persistent messages in it are kept over a restart.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.durable && self.durability != Durability::Memory
    }

    /// Whether persistent messages in it are handed out and confirmed only when they are synced.
    #[must_use]
    pub fn syncs(&self) -> bool {
        self.durable && self.durability == Durability::Sync
    }
}

/// An entry handed out.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The queue it was taken from.
    pub queue: QueueId,
    /// Its place there, by which it is settled.
    pub seq: Seq,
    /// The message.
    pub message: Message,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// How often it was handed out before: as far as this process knows, and since ever if the queue
    /// [counts attempts](Limits::counts_attempts). What was handed out when the process died was handed out once more.
    pub attempts: u32,
    /// When it was enqueued, for latency metrics.
    pub enqueued_at: Mono,
}

/// How much may be handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credit {
    /// Entries.
    pub messages: usize,
    /// Bytes of messages. The entry that crosses the line is still handed out.
    pub bytes: usize,
}

/// What is left in a queue after a call that took from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Remainder {
    /// Entries handed out by this call.
    pub delivered: usize,
    /// Entries that could be handed out right now, had there been credit.
    pub ready: bool,
    /// The head is dead: call [`Engine::take_dead`] before delivering more.
    pub head_dead: bool,
    /// The next entry waits for its ticket or its body is being read from disk; the engine will say
    /// [`EngineEvents::readable`] when it can be handed out.
    pub pending: bool,
}

/// How a holder settles an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done with: the entry is gone for good.
    Ack,
    /// Not done: back to its place, marked redelivered, unless it was handed out too often.
    Requeue,
    /// Dead: kept for [`Engine::take_dead`] or gone for good, as the queue's [`Limits`] say. The broker gives back
    /// with it what it has taken and could not dead-letter yet.
    Dead(Death),
}

/// Counts of a queue, for declare-ok, limits and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// Entries that wait for a consumer, those still being synced included.
    pub ready: u64,
    /// Entries handed out and not settled, dead ones included.
    pub unsettled: u64,
    /// Bytes of the bodies that are ready.
    pub ready_bytes: u64,
    /// When the oldest ready entry was published.
    pub oldest: Option<Wall>,
    /// When the head expires, if it does.
    pub head_expires_at: Option<Wall>,
    /// When the head is due, in a queue in [`Order::Due`].
    pub head_due_at: Option<Wall>,
    /// Entries enqueued since the process started.
    pub enqueued: u64,
    /// Entries handed out since then, again and again included, those that expired not.
    pub delivered: u64,
    /// Entries settled for good since then, by whoever they were handed out to.
    pub acked: u64,
}

/// Why nothing more can be taken in for now. Consumers are never affected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// Publishers are welcome.
    None,
    /// The memory for messages is used up.
    Memory,
    /// The disk is full or nearly so.
    Disk,
}

/// Why the engine could not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EngineError {
    /// No such queue (any more).
    NoQueue(QueueId),
    /// Refused for now because of [`Pressure`]; nothing was kept. Worth retrying later.
    Pressed(Pressure),
    /// The log is poisoned by a failed write or sync, or the engine is closed. Not worth retrying: restart.
    Failed(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQueue(id) => write!(f, "no queue with id {id}"),
            Self::Pressed(Pressure::Disk) => f.write_str("the disk is full"),
            Self::Pressed(_) => f.write_str("the memory for messages is used up"),
            Self::Failed(why) => write!(f, "the storage engine has failed: {why}"),
        }
    }
}

impl std::error::Error for EngineError {}

/// What the engine tells the shell, from any thread, at most once per batch. Implementations return at once.
pub trait EngineEvents: Send + Sync + 'static {
    /// Everything up to `ticket` is durable.
    fn durable(&self, ticket: Ticket);
    /// Entries of this queue can be handed out that could not before.
    fn readable(&self, queue: QueueId);
    /// Publishers must stop, or may go on.
    fn pressure(&self, pressure: Pressure);
    /// Something on the disk is not what was written, named by `what`. It is kept aside: not handed out, not dropped.
    fn damaged(&self, what: &str) {
        let _ = what;
    }
    /// A write or sync failed. Nothing will become durable any more; the process must stop.
    fn failed(&self, error: &str);
}

/// A place that keeps messages.
pub trait Engine: Send + Sync + 'static {
    /// Appends a batch as one atomic unit: the entries are referenced by their queues and the settles take effect.
    ///
    /// A target queue that does not exist (any more) is skipped. The batch is left empty, its memory kept for reuse.
    /// What a full queue did not take in is in [`Batch::take_rejected`]; the other queues of that message have it.
    /// The ticket is [`Ticket::NONE`] if nothing in the batch is worth a sync: no entry that comes or goes is of a queue
    /// that [`QueueSpec::syncs`]. Metadata is worth one only if the batch holds no entry that is kept; beside entries it
    /// is as safe as they are.
    ///
    /// # Errors
    /// [`EngineError::Pressed`], never for a batch without messages, or [`EngineError::Failed`]; then nothing took effect
    /// and the batch is unchanged.
    fn append(&self, batch: &mut Batch, now: Now) -> Result<Ticket, EngineError>;

    /// Begins a body of `len` bytes, at least 1, that is too large for memory. `wake` is called when its writer has gone on.
    ///
    /// # Errors
    /// [`EngineError::Pressed`] or [`EngineError::Failed`].
    fn begin_body(&self, len: u64, wake: BodyWake) -> Result<Box<dyn BodyWriter>, EngineError>;

    /// Reads what lies at `at` of a body, one piece or the rest of it, and calls `done` with it. Bodies of messages that
    /// this engine handed out, or finished, can be read until the last [`LargeBody`] is dropped.
    fn read_body(&self, body: &Arc<LargeBody>, at: u64, done: PieceRead);

    /// The highest ticket that is durable.
    fn durable(&self) -> Ticket;

    /// Queues that [`deliver`](Self::deliver) will be called for next: what is known of them is seldom in the cache, and
    /// brought there faster for many at a time. A hint.
    fn bring_near(&self, _queues: &[QueueId]) {}

    /// Hands out entries from the head of a queue, at most `credit`, each to the holder that `assign` names.
    ///
    /// Dead entries are never handed out; see [`Remainder::head_dead`]. An unknown queue hands out nothing.
    fn deliver(
        &self,
        queue: QueueId,
        credit: Credit,
        now: Now,
        assign: &mut dyn FnMut(Delivery) -> HolderId,
    ) -> Remainder;

    /// Takes up to `max` dead entries, held by [`HolderId::BROKER`] until they are settled; without dead letters they
    /// are gone and not told.
    fn take_dead(&self, queue: QueueId, max: usize, now: Now, dead: &mut Vec<Dead>) -> Reaped;

    /// Changes what a queue may hold; what is there beyond it dies, or is gone, at once as far as that is quickly done. The
    /// rest follows by itself, and [`EngineEvents::readable`] is said; only while very many dead entries wait to be taken
    /// it waits for [`Engine::take_dead`].
    fn set_limits(&self, queue: QueueId, limits: Limits, now: Now);

    /// Says whether a consumer waits for entries of a queue. While one does, publishes beyond its limits push nothing
    /// out at the head: what is waited for goes to who waits. What is still beyond them when none waits any more dies.
    fn set_waited(&self, queue: QueueId, waited: bool, now: Now);

    /// Settles entries that were handed out. Seqs that are not unsettled are ignored; returns how many were.
    fn settle(&self, queue: QueueId, seqs: &[Seq], outcome: Outcome, now: Now) -> usize;

    /// Settles entries of any queues with [`Outcome::Ack`], and empties `acks` but keeps its memory.
    ///
    /// Does what [`Engine::settle`] does for each queue; an engine that can say it all at once does so here.
    fn acknowledge(&self, acks: &mut Vec<(QueueId, Seq)>, now: Now) {
        acks.sort_unstable();
        for of_queue in acks.chunk_by(|a, b| a.0 == b.0) {
            let seqs: Vec<Seq> = of_queue.iter().map(|&(_, seq)| seq).collect();
            self.settle(of_queue[0].0, &seqs, Outcome::Ack, now);
        }
        acks.clear();
    }

    /// Requeues everything a holder has of a queue; returns how many entries that were.
    fn release(&self, queue: QueueId, holder: HolderId, now: Now) -> usize;

    /// Takes back what waits under a key in a queue in [`Order::Due`]: it will not be handed out once the ticket is
    /// durable. Returns how many entries that were; what is handed out already is not among them.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    fn cancel(&self, queue: QueueId, key: EntryKey, now: Now) -> Result<(usize, Ticket), EngineError>;

    /// Drops every ready entry; returns how many.
    fn purge(&self, queue: QueueId, now: Now) -> u64;

    /// Counts of a queue; zeros if there is none.
    fn stats(&self, queue: QueueId) -> QueueStats;

    /// Makes an empty queue. It exists at once; a durable one survives a crash once the ticket is durable.
    ///
    /// # Errors
    /// [`EngineError::Pressed`] or [`EngineError::Failed`].
    fn create_queue(&self, spec: QueueSpec) -> Result<(QueueId, Ticket), EngineError>;

    /// Removes a queue and drops its entries. Unknown queues are ignored.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    fn delete_queue(&self, queue: QueueId) -> Result<Ticket, EngineError>;

    /// The queues that exist, with what they were made with. After a restart: the durable ones.
    fn queues(&self) -> Vec<(QueueId, QueueSpec)>;

    /// Keeps a small value under a key of a [`MetaSpace`], replacing what was there.
    ///
    /// # Errors
    /// [`EngineError::Pressed`] or [`EngineError::Failed`].
    fn put_meta(&self, key: &[u8], value: &[u8]) -> Result<Ticket, EngineError>;

    /// Forgets a key.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    fn delete_meta(&self, key: &[u8]) -> Result<Ticket, EngineError>;

    /// What is kept under a key.
    fn get_meta(&self, key: &[u8]) -> Option<Vec<u8>>;

    /// Every key and value, in order of keys.
    fn metas(&self) -> Vec<(Vec<u8>, Vec<u8>)>;

    /// Whether publishers are welcome.
    fn pressure(&self) -> Pressure;

    /// Figures for `/metrics`.
    fn metrics(&self) -> EngineMetrics;

    /// Makes everything appended so far durable, settles included, and waits for it. For a clean stop; later calls
    /// fail. What it kept is another process's to open then, though this one still runs.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    fn close(&self) -> Result<(), EngineError>;
}
