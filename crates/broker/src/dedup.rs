//! Deduplication of a queue: which messages it has seen, within a window.
//!
//! A message is known by its id, or by its producer and a number that only grows. Invariants: what is remembered of a
//! message that is kept goes into the record of that message, so after any crash both are there or neither; of one that
//! is not kept, nothing outlives the process. A duplicate is safe when the message it repeats is, so it is confirmed when
//! everything this queue has taken in is durable. The window is bounded in count and, if declared so, in time; what leaves
//! it is found at its old end, never by looking through it.
//!
//! Ids are kept as the first 16 bytes of their SHA-256. Not here: which batches are checked (see `publish`).

use engine::{Batch, MetaSpace, Ticket};
use model::limits::{DEDUP_PRODUCERS_MAX, DEDUP_WINDOW_DEFAULT};
use model::{Properties, QueueId, Table, Value, Wall};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// An id or a producer, digested.
pub(crate) type Digest = [u8; 16];

/// How a queue deduplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DedupSpec {
    /// Ids remembered.
    pub(crate) window: usize,
    /// For how long, in milliseconds; none is as long as the window reaches.
    pub(crate) ttl_ms: Option<u64>,
    /// The header with the id.
    pub(crate) header: String,
}

impl Default for DedupSpec {
    fn default() -> Self {
        Self { window: DEDUP_WINDOW_DEFAULT, ttl_ms: None, header: "x-deduplication-header".into() }
    }
}

/// What a message is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Id(Digest),
    Sequence { producer: Digest, number: u64 },
}

impl Identity {
    /// What a message with these properties is known by; a producer's number before an id, and the header before the
    /// property. `None`: it is like no other.
    pub(crate) fn of(properties: &Properties, header: &str) -> Option<Self> {
        let headers = properties.headers.as_ref();
        if let Some(sequence) = headers.and_then(sequence) {
            return Some(sequence);
        }
        match headers.and_then(|headers| headers.get(header)) {
            Some(Value::Text(text) | Value::Bytes(text)) => Some(Self::Id(digest(b't', text))),
            Some(value) => value.as_integer().map(|n| Self::Id(digest(b'n', &n.to_le_bytes()))),
            None => properties.message_id.as_ref().map(|id| Self::Id(digest(b'm', id.as_bytes()))),
        }
    }
}

fn sequence(headers: &Table) -> Option<Identity> {
    let (Value::Text(producer) | Value::Bytes(producer)) = headers.get("x-producer-id")? else {
        return None;
    };
    let number = u64::try_from(headers.get("x-producer-seq")?.as_integer()?).ok()?;
    Some(Identity::Sequence { producer: digest(b'p', producer), number })
}

fn digest(kind: u8, bytes: &[u8]) -> Digest {
    let whole = Sha256::new().chain_update([kind]).chain_update(bytes).finalize();
    let mut digest = Digest::default();
    digest.copy_from_slice(&whole[..16]);
    digest
}

/// A producer and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    number: u64,
    /// Its place in the order of use.
    used: u64,
    kept: bool,
}

/// An id in the window.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: Digest,
    at: Wall,
    /// The value it lies in; 0 if it is not kept.
    chunk: u64,
}

/// What a batch that is not appended yet has added.
#[derive(Debug)]
enum Added {
    Id,
    Producer(Digest, Option<Producer>),
}

/// What a queue has seen.
#[derive(Debug)]
pub(crate) struct Dedup {
    queue: QueueId,
    pub(crate) spec: Box<DedupSpec>,
    ids: HashSet<Digest, foldhash::fast::RandomState>,
    order: VecDeque<Seen>,
    /// Ids still in the window of each value kept.
    chunks: BTreeMap<u64, usize>,
    next_chunk: u64,
    producers: HashMap<Digest, Producer, foldhash::fast::RandomState>,
    /// Producers by their last use.
    idle: BTreeMap<u64, Digest>,
    next_use: u64,
    added: Vec<Added>,
    /// Keys of what has left the window, to be deleted with the next batch.
    gone: Vec<Vec<u8>>,
    /// Everything it remembers is durable with this.
    pub(crate) ticket: Ticket,
}

impl Dedup {
    pub(crate) fn new(queue: QueueId, spec: Box<DedupSpec>) -> Self {
        Self {
            queue,
            spec,
            ids: HashSet::default(),
            order: VecDeque::new(),
            chunks: BTreeMap::new(),
            next_chunk: 1,
            producers: HashMap::default(),
            idle: BTreeMap::new(),
            next_use: 1,
            added: Vec::new(),
            gone: Vec::new(),
            ticket: Ticket::NONE,
        }
    }

    /// Takes in what was kept before a restart. Values come in the order of their keys.
    pub(crate) fn recover(&mut self, key: &DedupKey, value: &[u8]) -> Option<()> {
        let (at, rest) = value.split_first_chunk()?;
        let at = Wall(u64::from_le_bytes(*at));
        match *key {
            DedupKey::Chunk { number, .. } => {
                self.next_chunk = self.next_chunk.max(number + 1);
                let (ids, []) = rest.as_chunks::<16>() else { return None };
                for &id in ids {
                    self.ids.insert(id);
                    self.order.push_back(Seen { id, at, chunk: number });
                }
                self.chunks.insert(number, ids.len());
            }
            DedupKey::Producer { producer, .. } => {
                let number = u64::from_le_bytes(rest.try_into().ok()?);
                let used = self.next_use();
                self.idle.insert(used, producer);
                self.producers.insert(producer, Producer { number, used, kept: true });
            }
        }
        Some(())
    }

    fn next_use(&mut self) -> u64 {
        self.next_use += 1;
        self.next_use - 1
    }

    /// Whether a message is new; it is remembered then, from [`Dedup::appended`] on. `kept`: the message survives a restart.
    pub(crate) fn is_new(&mut self, identity: Identity, kept: bool, now: Wall) -> bool {
        match identity {
            Identity::Id(id) => {
                if !self.ids.insert(id) {
                    return false;
                }
                let chunk = if kept { self.next_chunk } else { 0 };
                self.order.push_back(Seen { id, at: now, chunk });
                self.added.push(Added::Id);
            }
            Identity::Sequence { producer, number } => {
                let before = self.producers.get(&producer).copied();
                if before.is_some_and(|before| number <= before.number) {
                    return false;
                }
                self.use_producer(producer, number, kept || before.is_some_and(|before| before.kept));
                self.added.push(Added::Producer(producer, before));
            }
        }
        true
    }

    fn use_producer(&mut self, producer: Digest, number: u64, kept: bool) {
        let used = self.next_use();
        if let Some(before) = self.producers.insert(producer, Producer { number, used, kept }) {
            self.idle.remove(&before.used);
        }
        self.idle.insert(used, producer);
    }

    /// Lets go of what has left the window, as of now: before a batch is checked.
    pub(crate) fn expire(&mut self, now: Wall) {
        let is_over = |at: Wall, ttl_ms: Option<u64>| ttl_ms.is_some_and(|ttl| at.after_millis(ttl) <= now);
        while let Some(first) = self.order.front() {
            if self.order.len() <= self.spec.window && !is_over(first.at, self.spec.ttl_ms) {
                break;
            }
            self.forget_first();
        }
        while self.producers.len() > DEDUP_PRODUCERS_MAX {
            let Some((_, producer)) = self.idle.pop_first() else { break };
            if self.producers.remove(&producer).is_some_and(|p| p.kept) {
                self.gone.push(DedupKey::Producer { queue: self.queue, producer }.bytes());
            }
        }
    }

    fn forget_first(&mut self) {
        let Some(first) = self.order.pop_front() else { return };
        self.ids.remove(&first.id);
        let Some(left) = self.chunks.get_mut(&first.chunk) else { return };
        *left -= 1;
        if *left == 0 {
            self.chunks.remove(&first.chunk);
            self.gone.push(DedupKey::Chunk { queue: self.queue, number: first.chunk }.bytes());
        }
    }

    /// Adds what is new, and must be kept, to the batch that carries the messages.
    pub(crate) fn stage(&mut self, now: Wall, batch: &mut Batch) {
        if self.added.is_empty() {
            return;
        }
        for key in &self.gone {
            batch.delete_meta(key.clone());
        }
        let ids = self.added.iter().filter(|added| matches!(added, Added::Id)).count();
        let new = self.order.range(self.order.len() - ids..).filter(|seen| seen.chunk != 0);
        let mut value = now.0.to_le_bytes().to_vec();
        let mut count = 0;
        for seen in new {
            value.extend_from_slice(&seen.id);
            count += 1;
        }
        if count > 0 {
            batch.put_meta(DedupKey::Chunk { queue: self.queue, number: self.next_chunk }.bytes(), value);
            self.chunks.insert(self.next_chunk, count);
        }
        let mut staged = HashSet::new();
        for added in &self.added {
            let Added::Producer(producer, _) = added else { continue };
            let Some(now_at) = self.producers.get(producer).filter(|p| p.kept && staged.insert(*producer)) else {
                continue;
            };
            let mut value = now.0.to_le_bytes().to_vec();
            value.extend_from_slice(&now_at.number.to_le_bytes());
            batch.put_meta(DedupKey::Producer { queue: self.queue, producer: *producer }.bytes(), value);
        }
    }

    /// The batch was appended.
    pub(crate) fn appended(&mut self, ticket: Ticket) {
        if !self.added.is_empty() {
            self.next_chunk += 1;
            self.ticket = self.ticket.max(ticket);
            self.added.clear();
            self.gone.clear();
        }
    }

    /// The batch was not appended: what it added is forgotten again. What left the window is not brought back.
    pub(crate) fn refused(&mut self) {
        self.chunks.remove(&self.next_chunk);
        while let Some(added) = self.added.pop() {
            match added {
                Added::Id => {
                    if let Some(last) = self.order.pop_back() {
                        self.ids.remove(&last.id);
                    }
                }
                Added::Producer(producer, before) => {
                    if let Some(now) = self.producers.remove(&producer) {
                        self.idle.remove(&now.used);
                    }
                    if let Some(before) = before {
                        self.idle.insert(before.used, producer);
                        self.producers.insert(producer, before);
                    }
                }
            }
        }
    }

    /// The keys of everything that is kept of it.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        let queue = self.queue;
        let chunks = self.chunks.keys().map(|&number| DedupKey::Chunk { queue, number }.bytes());
        let kept = self.producers.iter().filter(|(_, p)| p.kept);
        chunks.chain(kept.map(|(&producer, _)| DedupKey::Producer { queue, producer }.bytes())).collect()
    }
}

/// Where a queue's memory is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DedupKey {
    /// When, and the ids that came in one batch.
    Chunk { queue: QueueId, number: u64 },
    /// When, and how far the producer has come.
    Producer { queue: QueueId, producer: Digest },
}

impl DedupKey {
    pub(crate) fn queue(&self) -> QueueId {
        match *self {
            Self::Chunk { queue, .. } | Self::Producer { queue, .. } => queue,
        }
    }

    fn bytes(self) -> Vec<u8> {
        let mut name = self.queue().0.to_be_bytes().to_vec();
        match self {
            // The high byte first, so that keys sort as the numbers do.
            Self::Chunk { number, .. } => {
                name.push(b'i');
                name.extend_from_slice(&number.to_be_bytes());
            }
            Self::Producer { producer, .. } => {
                name.push(b'p');
                name.extend_from_slice(&producer);
            }
        }
        MetaSpace::Dedup.key(&name)
    }

    /// Reads a key's name within its space; `None` if it is damaged or of a newer version.
    pub(crate) fn read(name: &[u8]) -> Option<Self> {
        let (queue, rest) = name.split_first_chunk()?;
        let queue = QueueId(u64::from_be_bytes(*queue));
        match rest.split_first()? {
            (b'i', number) => Some(Self::Chunk { queue, number: u64::from_be_bytes(number.try_into().ok()?) }),
            (b'p', producer) => Some(Self::Producer { queue, producer: producer.try_into().ok()? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dedup(window: usize, ttl_ms: Option<u64>) -> Dedup {
        Dedup::new(QueueId(7), Box::new(DedupSpec { window, ttl_ms, ..DedupSpec::default() }))
    }

    fn id(n: u8) -> Identity {
        Identity::Id([n; 16])
    }

    fn sequence(producer: u8, number: u64) -> Identity {
        Identity::Sequence { producer: [producer; 16], number }
    }

    /// One batch; tells what was new and what would be kept.
    fn batch(dedup: &mut Dedup, ids: &[Identity], now: u64) -> (Vec<bool>, Vec<engine::MetaChange>) {
        let mut batch = Batch::new();
        dedup.expire(Wall(now));
        let new = ids.iter().map(|id| dedup.is_new(*id, true, Wall(now))).collect();
        dedup.stage(Wall(now), &mut batch);
        dedup.appended(Ticket(now));
        (new, batch.take_metas())
    }

    /// The same queue in a new process that finds what these changes have left.
    fn restarted(dedup: &Dedup, all: &[engine::MetaChange]) -> Dedup {
        let mut kept = BTreeMap::new();
        for change in all {
            match &change.value {
                Some(value) => kept.insert(change.key.clone(), value.clone()),
                None => kept.remove(&change.key),
            };
        }
        let mut keys = dedup.keys();
        keys.sort();
        assert_eq!(keys, kept.keys().cloned().collect::<Vec<_>>(), "nothing is kept that is not known");
        let mut again = Dedup::new(dedup.queue, dedup.spec.clone());
        for (key, value) in kept {
            let (_, name) = MetaSpace::of(&key).expect("a key of its own space");
            again.recover(&DedupKey::read(name).expect("its own key"), &value).expect("its own value");
        }
        again
    }

    #[test]
    fn the_window_slides_and_is_the_same_after_a_restart() {
        let mut seen = dedup(4, None);
        let mut all = Vec::new();
        for n in 0..20 {
            let (new, changes) = batch(&mut seen, &[id(n), id(n)], 1);
            assert_eq!(new, [true, false]);
            all.extend(changes);
        }
        for mut seen in [restarted(&seen, &all), seen] {
            assert_eq!(batch(&mut seen, &[id(16), id(17), id(18), id(19)], 1).0, [false; 4]);
            assert_eq!(batch(&mut seen, &[id(14)], 1).0, [true]);
            assert_eq!(seen.order.len(), 5);
        }
    }

    #[test]
    fn ids_are_forgotten_with_time() {
        let mut seen = dedup(100, Some(1_000));
        let mut all = batch(&mut seen, &[id(1), id(2)], 1).1;
        all.extend(batch(&mut seen, &[id(3)], 500).1);
        for mut seen in [restarted(&seen, &all), seen] {
            assert_eq!(batch(&mut seen, &[id(1)], 1_000).0, [false]);
            assert_eq!(batch(&mut seen, &[id(1), id(3)], 1_001).0, [true, false]);
            assert_eq!(seen.ids.len(), 2);
        }
    }

    #[test]
    fn a_sequence_only_grows() {
        let mut seen = dedup(1, None);
        let (new, mut all) = batch(&mut seen, &[sequence(1, 5), sequence(1, 4), sequence(2, 1), sequence(1, 6)], 1);
        assert_eq!((new, all.len()), (vec![true, false, true, true], 2));
        all.extend(batch(&mut seen, &[sequence(1, 9)], 1).1);
        for mut seen in [restarted(&seen, &all), seen] {
            let again = [sequence(1, 9), sequence(2, 1), sequence(1, 8), sequence(1, 10)];
            assert_eq!(batch(&mut seen, &again, 1).0, [false, false, false, true]);
        }
    }

    #[test]
    fn producers_are_bounded_and_the_idlest_goes() {
        let mut seen = dedup(1, None);
        let producer = |n: usize| Identity::Sequence { producer: (n as u128).to_be_bytes(), number: 1 };
        let mut all = Vec::new();
        for n in 0..=DEDUP_PRODUCERS_MAX {
            all.extend(batch(&mut seen, &[producer(n)], 1).1);
        }
        let (new, changes) = batch(&mut seen, &[producer(1), producer(0)], 1);
        assert_eq!(new, [false, true], "the first was forgotten");
        all.extend(changes);
        assert!(restarted(&seen, &all).producers.len() <= DEDUP_PRODUCERS_MAX + 1);
    }

    #[test]
    fn what_was_refused_was_not_seen() {
        let mut seen = dedup(2, None);
        batch(&mut seen, &[id(1), sequence(1, 1)], 1);
        let ids = [id(2), id(3), sequence(1, 2), sequence(1, 3), sequence(2, 1)];
        let mut refused = Batch::new();
        assert!(ids.iter().all(|id| seen.is_new(*id, true, Wall(1))));
        seen.stage(Wall(1), &mut refused);
        seen.refused();
        assert_eq!(batch(&mut seen, &ids, 1).0, [true; 5]);
        assert_eq!(batch(&mut seen, &[id(1), sequence(1, 1)], 1).0, [true, false], "what had left stays gone");
    }

    #[test]
    fn what_is_not_kept_leaves_no_trace_on_disk() {
        let mut seen = dedup(2, None);
        let mut staged = Batch::new();
        assert!(seen.is_new(id(1), false, Wall(1)) && seen.is_new(sequence(1, 1), false, Wall(1)));
        assert!(!seen.is_new(id(1), false, Wall(1)));
        seen.stage(Wall(1), &mut staged);
        assert!(staged.metas().is_empty() && seen.keys().is_empty());
    }

    #[test]
    fn a_message_is_known_by_its_sequence_its_header_or_its_id() {
        let mut properties = Properties { message_id: Some("m".into()), ..Properties::default() };
        let of = |properties: &Properties| Identity::of(properties, "key");
        assert_eq!(of(&Properties::default()), None);
        let by_id = of(&properties);
        assert!(matches!(by_id, Some(Identity::Id(_))));
        properties.headers_mut().set("key", Value::text("m"));
        let by_header = of(&properties);
        assert!(by_header.is_some() && by_header != by_id, "a header is no message id");
        properties.headers_mut().set("x-producer-id", Value::text("p"));
        assert_eq!(of(&properties), by_header, "half a sequence is none");
        properties.headers_mut().set("x-producer-seq", Value::I32(3));
        assert!(matches!(of(&properties), Some(Identity::Sequence { number: 3, .. })));
    }
}
