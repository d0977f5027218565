//! A batch of publishes, settles and metadata that takes effect as one.
//!
//! Invariants: the target lists of all entries lie in one vector, so a batch allocates nothing per message once its
//! vectors have grown; it is cleared and reused, never rebuilt.

use crate::Schedule;
use model::{Message, QueueId, Seq};

/// Publishes, settles and metadata that take effect together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    targets: Vec<QueueId>,
    acks: Vec<(QueueId, Seq)>,
    /// By the index of their entry, ascending. Few have one, so it costs the others nothing.
    schedules: Vec<(usize, Schedule)>,
    rejected: Vec<u32>,
    metas: Vec<MetaChange>,
}

/// A key of the metadata and what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaChange {
    /// The key.
    pub key: Vec<u8>,
    /// Its new value; `None` forgets it.
    pub value: Option<Vec<u8>>,
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

    /// Drops the targets, of the first `count` messages, that `keep` says no to. A message with none left keeps its
    /// index and goes nowhere.
    pub fn retain_targets(&mut self, count: usize, mut keep: impl FnMut(&Message, QueueId) -> bool) {
        let old = std::mem::take(&mut self.targets);
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let start = self.targets.len();
            let theirs = &old[entry.targets.0 as usize..entry.targets.1 as usize];
            self.targets.extend(theirs.iter().filter(|id| index >= count || keep(&entry.message, **id)));
            // No more than there were, so they fit.
            entry.targets = (start as u32, self.targets.len() as u32);
        }
    }

    /// Acknowledges an entry that was handed out, together with the publishes of this batch.
    pub fn ack(&mut self, queue: QueueId, seq: Seq) {
        self.acks.push((queue, seq));
    }

    /// Keeps a value under a key, as [`crate::Engine::put_meta`] does, together with the rest of this batch. Of several
    /// changes of a key the last counts.
    pub fn put_meta(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.metas.push(MetaChange { key, value: Some(value) });
    }

    /// Forgets a key together with the rest of this batch.
    pub fn delete_meta(&mut self, key: Vec<u8>) {
        self.metas.push(MetaChange { key, value: None });
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

    /// What it changes in the metadata, in order.
    #[must_use]
    pub fn metas(&self) -> &[MetaChange] {
        &self.metas
    }

    /// Takes the changes of the metadata out.
    pub fn take_metas(&mut self) -> Vec<MetaChange> {
        std::mem::take(&mut self.metas)
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
        self.entries.is_empty() && self.acks.is_empty() && self.metas.is_empty()
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
        self.metas.clear();
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.targets.clear();
        self.acks.clear();
        self.schedules.clear();
        self.rejected.clear();
        self.metas.clear();
    }
}
