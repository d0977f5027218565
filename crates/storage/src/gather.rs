//! Messages that were read to be copied, put in the order they are copied in: by queue, and in a queue by seq.
//!
//! Invariants: a message is gathered once, with the references that were alive when it was read, and goes with the
//! queue of the first. Copies keep their bytes, and so their time: only messages of one time share a batch.

use crate::payload::{Placed, Record};
use crate::record::HEADER_BYTES;
use model::{QueueId, Wall};

/// Bytes of the messages in one record of copies, about.
const RECORD_BYTES: usize = 128 * 1024;

/// A message and where it lies.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    queue: QueueId,
    seq: u64,
    pub(crate) wall: u64,
    pub(crate) lsn: u64,
    pub(crate) size: usize,
    bytes: (usize, usize),
    references: (usize, usize),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Gathered {
    messages: Vec<Found>,
    references: Vec<(QueueId, u64)>,
    bytes: Vec<u8>,
    /// Messages, in order, that were copied.
    next: usize,
    /// How often the queue changed from one message to the next, as they lay.
    runs: usize,
}

impl Gathered {
    /// Whether all were copied.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.messages.len()
    }

    /// Bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + self.messages.len() * size_of::<Found>() + self.references.len() * 16
    }

    /// Adds a message of a batch at `lsn` and the references to it that live.
    pub(crate) fn add(
        &mut self,
        wall: Wall,
        lsn: u64,
        payload: &[u8],
        placed: &Placed,
        references: impl Iterator<Item = (QueueId, u64)>,
    ) {
        let first = self.references.len();
        self.references.extend(references);
        let Some(&(queue, seq)) = self.references.get(first) else {
            return;
        };
        let start = placed.offset - HEADER_BYTES;
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&payload[start..start + placed.encoded]);
        self.runs += usize::from(self.messages.last().is_none_or(|before| before.queue != queue));
        self.messages.push(Found {
            queue,
            seq,
            wall: wall.0,
            lsn: lsn + placed.offset as u64,
            size: placed.size,
            bytes: (at, self.bytes.len()),
            references: (first, self.references.len()),
        });
    }

    /// Puts them in order; returns in how many runs of one queue they lay, and in how many they will.
    pub(crate) fn sort(&mut self) -> (usize, usize) {
        self.messages.sort_unstable_by_key(|found| (found.queue, found.seq));
        (self.runs, self.messages.chunk_by(|a, b| a.queue == b.queue).count())
    }

    /// The next messages that go into one record.
    pub(crate) fn next_batch(&mut self) -> Vec<Found> {
        let rest = &self.messages[self.next..];
        let Some(first) = rest.first() else {
            return Vec::new();
        };
        let mut bytes = 0;
        let fits = |found: &&Found| {
            let before = bytes;
            bytes += found.bytes.1 - found.bytes.0;
            (found.queue, found.wall) == (first.queue, first.wall) && (before == 0 || bytes <= RECORD_BYTES)
        };
        let batch: Vec<Found> = rest.iter().take_while(fits).copied().collect();
        self.next += batch.len();
        batch
    }

    /// The references to a message.
    pub(crate) fn references(&self, found: &Found) -> &[(QueueId, u64)] {
        &self.references[found.references.0..found.references.1]
    }

    /// Adds a message to a record as it was.
    pub(crate) fn put(&self, found: &Found, record: &mut Record) {
        record.buf.extend_from_slice(&self.bytes[found.bytes.0..found.bytes.1]);
    }
}
