//! What the space on the disk is used for: how much of a file lives, bytes written by purpose, files by their fate.
//!
//! Invariants: every reference, queue and value is counted with the same bytes when it comes and when it goes, so what
//! lives in a file is exact as long as each message is in one queue. Of a message in several queues, each reference
//! stands for its share: it takes its space until the last one goes.

use model::QueueId;
use std::ops::AddAssign;
use std::sync::atomic::AtomicU64;

/// About what a message takes in a file besides its own bytes.
const MESSAGE_OVERHEAD: u64 = 16;
/// About what a reference takes there.
const REFERENCE_BYTES: u64 = 12;
/// What a queue's creation is counted with.
pub(crate) const QUEUE_BYTES: usize = 16;

/// What something of this size counts, of a message each reference.
pub(crate) fn charge(size: usize) -> u64 {
    size as u64 + MESSAGE_OVERHEAD + REFERENCE_BYTES
}

/// What a record brings that lives until it is settled, deleted or replaced.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Arrivals {
    /// References, queues and values.
    pub(crate) count: u64,
    /// Bytes they take in the file: a message once.
    pub(crate) content: u64,
    /// The same by reference: a message once for each.
    pub(crate) charged: u64,
    /// Bytes of the messages alone, each once.
    pub(crate) message_bytes: u64,
    /// How often a message is for another queue than the one before it: what a reader of one queue must skip. Of a
    /// message for several queues the first counts, for they are read the same way.
    pub(crate) runs: u64,
    first: Option<QueueId>,
    last: Option<QueueId>,
}

impl Arrivals {
    /// One queue or value of this size.
    pub(crate) fn one(size: usize) -> Self {
        Self { count: 1, content: charge(size), charged: charge(size), ..Self::default() }
    }

    /// A message of this size whose first reference is one of this queue.
    pub(crate) fn message(&mut self, size: usize, queue: QueueId) {
        self.content += size as u64 + MESSAGE_OVERHEAD;
        self.message_bytes += size as u64;
        self.runs += u64::from(self.last != Some(queue));
        self.first.get_or_insert(queue);
        self.last = Some(queue);
    }

    /// A reference to a message of this size.
    pub(crate) fn reference(&mut self, size: usize) {
        self.count += 1;
        self.charged += charge(size);
        self.content += REFERENCE_BYTES;
    }
}

impl AddAssign for Arrivals {
    fn add_assign(&mut self, other: Self) {
        let goes_on = other.first.is_some() && self.last == other.first;
        self.runs += other.runs - u64::from(goes_on);
        self.first = self.first.or(other.first);
        self.last = other.last.or(self.last);
        self.count += other.count;
        self.content += other.content;
        self.charged += other.charged;
        self.message_bytes += other.message_bytes;
    }
}

/// Bytes of the log by what they are, counted when a record gets its place.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Written {
    /// Durable messages taken in, each once.
    pub(crate) message_bytes: u64,
    /// Records that brought messages.
    pub(crate) first: u64,
    /// Copies of what lived in a file that was to go.
    pub(crate) moved: u64,
    /// Everything else: settles, queues, metadata, what is said again.
    pub(crate) bookkeeping: u64,
}

/// Files of the log by their fate.
#[derive(Default)]
pub(crate) struct FileCounts {
    /// Made from nothing.
    pub(crate) created: AtomicU64,
    /// Made from one that nothing needed any more.
    pub(crate) reused: AtomicU64,
    /// Removed.
    pub(crate) removed: AtomicU64,
}
