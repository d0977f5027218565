//! How an entry ends other than by an acknowledgement, and the limits of a queue that bring it about.

use model::{Message, Seq};

/// Why an entry is dead: no consumer gets it any more. The reasons of RabbitMQ's `x-death`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Death {
    /// A consumer refused it.
    Rejected,
    /// Its time to live is over.
    Expired,
    /// The queue is longer than it may be.
    MaxLen,
    /// It was handed out and given back more often than it may be.
    DeliveryLimit,
}

/// A dead entry on its way to the dead-letter exchange, held by [`model::HolderId::BROKER`] until it is settled.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Its place in the queue, by which it is settled.
    pub seq: Seq,
    /// The message.
    pub message: Message,
    /// Why it is dead.
    pub death: Death,
}

/// What a call of [`crate::Engine::take_dead`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reaped {
    /// Entries taken, or gone at once. Fewer than asked for: there are no more for now.
    pub ended: usize,
    /// The next one waits for its ticket or its message is being read; the engine will say
    /// [`crate::EngineEvents::readable`].
    pub pending: bool,
}

/// What happens to a publish that a full queue has no room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// It comes in, and what is at the head dies.
    #[default]
    DropHead,
    /// It is refused; see [`crate::Batch::take_rejected`].
    RejectPublish,
    /// It is refused and dies.
    RejectPublishDeadLetter,
}

/// What a queue may hold and for how long. Not kept by the engine: whoever made the queue says it again after a start,
/// and may change it at any time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Ready entries.
    pub messages: Option<u64>,
    /// Bytes of their bodies.
    pub bytes: Option<u64>,
    /// What happens beyond these two.
    pub overflow: Overflow,
    /// How often an entry may be given back after it was handed out; the next time it dies.
    pub attempts: Option<u32>,
    /// How often entries were handed out outlives a restart.
    pub counts_attempts: bool,
    /// Time to live of the queue's entries in milliseconds, of those that are there too; a shorter one counts.
    pub ttl_ms: Option<u64>,
    /// Dead entries are kept for [`crate::Engine::take_dead`]; else they are gone at once.
    pub dead_letters: bool,
    /// Entries come in groups that take turns.
    pub fair: Option<Grouping>,
}

/// What makes entries of a queue a group. Groups take turns, one entry each, and each keeps its order. Entries of
/// unlike keys may share a group, of which there are at most [`model::limits::FAIR_GROUPS_MAX`].
///
/// Which group an entry is in is known from the moment the queue was told to be fair to the next start. What was there
/// before is in none, and is handed out before whatever came after it: so entries of a group never overtake each other.
/// A queue with priorities has no groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grouping {
    /// The routing key of their message.
    RoutingKey,
    /// Who published their message.
    Producer,
}

impl Limits {
    /// Whether a queue with this many ready entries and bytes of bodies is too long.
    #[must_use]
    pub fn are_exceeded_by(&self, messages: u64, bytes: u64) -> bool {
        self.messages.is_some_and(|max| messages > max) || self.bytes.is_some_and(|max| bytes > max)
    }

    /// Whether the head of a queue with this many ready entries and bytes of bodies dies. A queue that refuses publishes
    /// keeps what it has: entries that come back may make it longer than it may be.
    #[must_use]
    pub fn push_out(&self, messages: u64, bytes: u64) -> bool {
        self.overflow == Overflow::DropHead && self.are_exceeded_by(messages, bytes)
    }

    /// Whether a publish may be refused.
    #[must_use]
    pub fn refuse_publishes(&self) -> bool {
        self.overflow != Overflow::DropHead && (self.messages.is_some() || self.bytes.is_some())
    }

    /// Whether an entry that was handed out this often is dead when it is ready.
    #[must_use]
    pub fn are_exhausted_by(&self, attempts: u32) -> bool {
        self.attempts.is_some_and(|max| attempts > max)
    }
}
