//! A batch of publishes and settles that takes effect as one.
//!
//! Invariants: the target lists of all entries lie in one vector, so a batch allocates nothing per message once its
//! vectors have grown; it is cleared and reused, never rebuilt.

use crate::Schedule;
use model::{Message, QueueId, Seq};

/// Publishes and settles that take effect together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    targets: Vec<QueueId>,
    acks: Vec<(QueueId, Seq)>,
    /// By the index of their entry, ascending. Few have one, so it costs the others nothing.
    schedules: Vec<(usize, Schedule)>,
    rejected: Vec<u32>,
}

/// A message and where its targets lie in the batch.
#[derive(Debug)]
pub struct Entry {
    /// The message.
    pub message: Message,
    targets: (u32, u32),
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message for each of `targets`. A message without targets is not added.
    pub fn push(&mut self, message: Message, targets: &[QueueId]) {
        if targets.is_empty() {
            return;
        }
        let start = u32::try_from(self.targets.len()).expect("a batch is bounded by a read buffer");
        self.targets.extend_from_slice(targets);
        let end = u32::try_from(self.targets.len()).expect("a batch is bounded by a read buffer");
        self.entries.push(Entry { message, targets: (start, end) });
    }

    /// Adds a message for a queue in [`crate::Order::Due`].
    pub fn push_scheduled(&mut self, message: Message, target: QueueId, schedule: Schedule) {
        self.schedules.push((self.entries.len(), schedule));
        self.push(message, &[target]);
    }

    /// Acknowledges an entry that was handed out, together with the publishes of this batch.
    pub fn ack(&mut self, queue: QueueId, seq: Seq) {
        self.acks.push((queue, seq));
    }

    /// The messages in order, each with its targets.
    pub fn entries(&self) -> impl Iterator<Item = (&Message, &[QueueId])> {
        self.entries.iter().map(|e| (&e.message, &self.targets[e.targets.0 as usize..e.targets.1 as usize]))
    }

    /// The schedules of messages that have one, with the index of each, ascending.
    #[must_use]
    pub fn schedules(&self) -> &[(usize, Schedule)] {
        &self.schedules
    }

    /// The entries it acknowledges.
    #[must_use]
    pub fn acks(&self) -> &[(QueueId, Seq)] {
        &self.acks
    }

    /// For engines: a queue of the message with this index did not take it in.
    pub fn reject(&mut self, index: usize) {
        let index = u32::try_from(index).expect("a batch is bounded by a read buffer");
        if self.rejected.last() != Some(&index) {
            self.rejected.push(index);
        }
    }

    /// The messages, by their index in the batch that was appended, that a queue did not take in; ascending.
    #[must_use]
    pub fn take_rejected(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.rejected)
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.acks.is_empty()
    }

    /// Takes the messages out, each with its targets and its schedule, and leaves the batch empty with its memory.
    pub fn drain(&mut self, mut each: impl FnMut(Message, &[QueueId], Option<Schedule>)) {
        let mut schedules = self.schedules.drain(..).peekable();
        for (index, entry) in self.entries.drain(..).enumerate() {
            let schedule = schedules.next_if(|(at, _)| *at == index).map(|(_, schedule)| schedule);
            each(entry.message, &self.targets[entry.targets.0 as usize..entry.targets.1 as usize], schedule);
        }
        drop(schedules);
        self.targets.clear();
        self.acks.clear();
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.targets.clear();
        self.acks.clear();
        self.schedules.clear();
        self.rejected.clear();
    }
}
