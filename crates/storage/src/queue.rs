//! A queue: which entries are ready, which are handed out, and the messages of those that are in memory.
//!
//! Invariants: an entry is in exactly one place, a lane or `unsettled`. A lane is in order of seq. `ready` and
//! `ready_bytes` count the lanes. A message is in the slab exactly if its entry has a slot; a transient entry
//! always has one, unless it was spilled.
//!
//! Not here: locks, the log, reading messages back. 56 bytes an entry, plus the message while it is in memory.

use crate::attempts::Retries;
use crate::dead::Graveyard;
use crate::due::{Due, due_at};
use crate::spill::Leaving;
use engine::{EntryKey, Limits, Order, QueueSpec, QueueStats, Schedule};
use foldhash::fast::FixedState;
use model::{HolderId, Message, Mono, QueueId, Wall};
use std::collections::{HashMap, VecDeque};

/// No message in memory.
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// The message was damaged on the disk when it was read; it is nowhere else.
pub(crate) const DAMAGED: u32 = u32::MAX - 1;
/// No time to live.
pub(crate) const NO_TTL: u32 = u32::MAX;
/// In [`Entry::lsn`]: the rest is a place in the spill, not in the log.
pub(crate) const SPILLED: u64 = 1 << 63;
/// Memory a message in a slab takes besides its bytes.
pub(crate) const SLOT_BYTES: usize = 112;

/// What a queue knows of a message in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    /// Where the message lies in the log or, with [`SPILLED`], in the spill; 0 if in neither.
    pub(crate) lsn: u64,
    pub(crate) wall: u64,
    pub(crate) mono: u64,
    /// Bytes of the message.
    pub(crate) size: u32,
    /// Bytes of its body.
    pub(crate) body: u32,
    pub(crate) ttl_ms: u32,
    pub(crate) slot: u32,
    pub(crate) attempts: u16,
    pub(crate) lane: u8,
    pub(crate) redelivered: bool,
}

impl Entry {
    pub(crate) fn is_durable(&self) -> bool {
        self.lsn != 0 && self.lsn & SPILLED == 0
    }

    /// Whether its message lies in the log, which is durable up to `durable`, or in the spill.
    pub(crate) fn is_elsewhere(&self, durable: u64) -> bool {
        self.lsn & SPILLED != 0 || (self.is_durable() && self.lsn < durable)
    }

    /// When it expires in a queue of this time to live.
    pub(crate) fn expires_at(&self, queue_ttl_ms: Option<u64>) -> Option<Wall> {
        let own = (self.ttl_ms != NO_TTL).then(|| u64::from(self.ttl_ms));
        let ttl = own.into_iter().chain(queue_ttl_ms).min()?;
        Some(Wall(self.wall).after_millis(ttl))
    }
}

/// A message in memory and how many bytes it is charged with.
struct Slot {
    message: Message,
    charge: u32,
}

/// Counts since the start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) enqueued: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
}

/// See the module.
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) spec: QueueSpec,
    pub(crate) limits: Limits,
    /// A consumer waits for entries.
    pub(crate) waited: bool,
    pub(crate) deleted: bool,
    pub(crate) next_seq: u64,
    /// Where the log says that it exists; 0 for a transient queue.
    pub(crate) create_lsn: u64,
    /// The highest seq handed out, and what the log was told of it.
    pub(crate) delivered: u64,
    pub(crate) delivered_logged: u64,
    /// Someone waits for the head to become durable.
    pub(crate) waiting: bool,
    /// The reader was told to read ahead.
    pub(crate) reading: bool,
    /// Entries since the start that came, were handed out to somebody, and were settled for good by somebody.
    pub(crate) totals: Totals,
    lanes: Vec<VecDeque<Entry>>,
    /// Where ready entries are instead if the queue is in order of due time.
    due: Option<Box<Due>>,
    ready: u64,
    ready_bytes: u64,
    pub(crate) unsettled: HashMap<u64, (Entry, HolderId), FixedState>,
    pub(crate) graves: Graveyard,
    pub(crate) retries: Retries,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
}

impl Queue {
    pub(crate) fn new(id: QueueId, spec: QueueSpec, next_seq: u64, create_lsn: u64) -> Self {
        Self {
            id,
            spec,
            limits: Limits::default(),
            waited: false,
            deleted: false,
            next_seq,
            create_lsn,
            delivered: 0,
            delivered_logged: 0,
            waiting: false,
            reading: false,
            totals: Totals::default(),
            lanes: vec![VecDeque::new()],
            due: (spec.order == Order::Due).then(Box::default),
            ready: 0,
            ready_bytes: 0,
            unsettled: HashMap::default(),
            graves: Graveyard::new(),
            retries: Retries::default(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The lane of a message of this priority.
    pub(crate) fn lane_of(&self, priority: u8) -> u8 {
        priority.min(self.spec.priority_max)
    }

    /// The shorter of the queue's and the message's time to live.
    pub(crate) fn ttl_of(&self, message_ttl_ms: Option<u64>) -> u32 {
        let ttl = match (self.spec.ttl_ms, message_ttl_ms) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) => a,
            (None, Some(b)) => b,
            (None, None) => return NO_TTL,
        };
        u32::try_from(ttl).unwrap_or(NO_TTL - 1).min(NO_TTL - 1)
    }

    /// Adds a new entry behind its lane or to its time; its seq is the highest so far.
    pub(crate) fn push(&mut self, entry: Entry, schedule: Option<Schedule>) {
        match &mut self.due {
            Some(due) => due.push(Entry { ttl_ms: NO_TTL, ..entry }, schedule),
            None => self.lane_mut(entry.lane).push_back(entry),
        }
        self.count_in(&entry);
    }

    /// Whether the entries of this queue wait for a time.
    pub(crate) fn is_by_due(&self) -> bool {
        self.due.is_some()
    }

    /// Whether the head must wait for its time.
    pub(crate) fn head_waits(&self, now: Wall) -> bool {
        self.due.as_ref().and_then(|due| due.head()).is_some_and(|head| due_at(head) > now)
    }

    /// Whether messages that are due soon are to be read into memory.
    pub(crate) fn wants_messages(&mut self, now: Wall, durable: u64) -> bool {
        self.due.as_mut().is_some_and(|due| due.wants_messages(now, durable))
    }

    /// Takes out what waits under a key.
    pub(crate) fn take_key(&mut self, key: EntryKey) -> Vec<Entry> {
        let taken = self.due.as_mut().map(|due| due.take(key)).unwrap_or_default();
        self.ready -= taken.len() as u64;
        self.ready_bytes -= taken.iter().map(|e| u64::from(e.body)).sum::<u64>();
        taken
    }

    /// When an entry was enqueued, for latencies; those that were meant to wait have none.
    pub(crate) fn enqueued_at(&self, entry: &Entry) -> Mono {
        Mono(if self.is_by_due() { 0 } else { entry.mono })
    }

    /// Puts an entry back to its place.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        if let Some(due) = &mut self.due {
            due.put_back(entry);
            self.count_in(&entry);
            return;
        }
        let lane = self.lane_mut(entry.lane);
        match lane.front() {
            Some(front) if front.seq < entry.seq => {
                let at = lane.partition_point(|e| e.seq < entry.seq);
                lane.insert(at, entry);
            }
            _ => lane.push_front(entry),
        }
        self.count_in(&entry);
    }

    fn lane_mut(&mut self, lane: u8) -> &mut VecDeque<Entry> {
        let lane = usize::from(lane);
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, VecDeque::new);
        }
        &mut self.lanes[lane]
    }

    /// Ready entries and the bytes of their bodies.
    pub(crate) fn length(&self) -> (u64, u64) {
        (self.ready, self.ready_bytes)
    }

    /// Whether it holds more than it may.
    pub(crate) fn is_too_long(&self) -> bool {
        self.limits.are_exceeded_by(self.ready, self.ready_bytes)
    }

    fn count_in(&mut self, entry: &Entry) {
        self.ready += 1;
        self.ready_bytes += u64::from(entry.body);
    }

    /// The next entry to hand out.
    pub(crate) fn head(&self) -> Option<&Entry> {
        if let Some(due) = &self.due {
            return due.head();
        }
        self.lanes.iter().rev().find_map(VecDeque::front)
    }

    /// Takes it.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = match &mut self.due {
            Some(due) => due.pop(self.unsettled.len(), |seq| self.unsettled.contains_key(&seq))?,
            None => self.lanes.iter_mut().rev().find_map(VecDeque::pop_front)?,
        };
        self.ready -= 1;
        self.ready_bytes -= u64::from(entry.body);
        Some(entry)
    }

    /// Takes every ready entry out.
    pub(crate) fn drain_ready(&mut self) -> Vec<VecDeque<Entry>> {
        self.ready = 0;
        self.ready_bytes = 0;
        if let Some(due) = &mut self.due {
            return vec![due.drain()];
        }
        std::mem::replace(&mut self.lanes, vec![VecDeque::new()])
    }

    /// Ready entries in the order they will be handed out; of those that wait for a time, the ones due soon.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Entry> {
        let due = self.due.iter().flat_map(|due| due.soon());
        self.lanes.iter().rev().flatten().chain(due)
    }

    /// Drops messages that lie durably in the log or in the spill from memory, but for about `keep` bytes at the
    /// head; returns the bytes freed.
    pub(crate) fn evict(&mut self, keep: usize, durable: u64) -> usize {
        let mut passed = 0;
        let mut slots = Vec::new();
        let held = self.unsettled.values_mut().map(|(entry, _)| entry);
        for entry in self.lanes.iter_mut().rev().flatten().chain(held) {
            passed += entry.size as usize + SLOT_BYTES;
            if passed > keep && entry.slot < DAMAGED && entry.is_elsewhere(durable) {
                slots.push(entry.slot);
                entry.slot = NO_SLOT;
            }
        }
        if let Some(due) = &mut self.due {
            slots.extend(due.evict(keep, durable));
        }
        slots.into_iter().map(|slot| self.forget(slot)).sum()
    }

    /// Messages that are only in memory, but for about `keep` bytes at the head.
    pub(crate) fn leaving(&self, keep: usize, messages: usize, bytes: usize) -> Vec<Leaving> {
        let mut passed = 0;
        let mut taken = 0;
        let mut leaving = Vec::new();
        let waiting = self.due.iter().flat_map(|due| due.volatile(keep > 0));
        for entry in self.lanes.iter().rev().flatten().chain(waiting) {
            passed += entry.size as usize + SLOT_BYTES;
            if (passed <= keep && self.due.is_none()) || entry.lsn != 0 {
                continue;
            }
            if leaving.len() >= messages || taken >= bytes {
                break;
            }
            let Some(message) = self.message(entry.slot) else {
                continue;
            };
            taken += entry.size as usize;
            leaving.push(Leaving { seq: entry.seq, slot: entry.slot, wall: entry.wall, message: message.clone() });
        }
        leaving
    }

    /// The message of an entry, which was only in memory, now lies in the spill.
    pub(crate) fn spilled(&mut self, seq: u64) {
        if let Some(due) = &mut self.due {
            due.spilled(seq);
        }
    }

    /// The entry with this seq, wherever it is.
    pub(crate) fn find_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        if let Some(entry) = self.due.as_mut().and_then(|due| due.find_mut(seq)) {
            return Some(entry);
        }
        for lane in &mut self.lanes {
            if let Ok(at) = lane.binary_search_by_key(&seq, |e| e.seq) {
                return lane.get_mut(at);
            }
        }
        self.unsettled.get_mut(&seq).map(|(entry, _)| entry)
    }

    /// Keeps a message in memory; returns its slot.
    pub(crate) fn keep(&mut self, message: Message, charge: u32) -> u32 {
        let slot = Some(Slot { message, charge });
        if let Some(at) = self.free.pop() {
            self.slots[at as usize] = slot;
            return at;
        }
        let at = u32::try_from(self.slots.len()).expect("memory ends first");
        self.slots.push(slot);
        at
    }

    /// The message in a slot.
    pub(crate) fn message(&self, slot: u32) -> Option<&Message> {
        let slot = self.slots.get(slot as usize)?;
        slot.as_ref().map(|s| &s.message)
    }

    /// Drops the message in a slot; returns what it was charged with.
    pub(crate) fn forget(&mut self, slot: u32) -> usize {
        let Some(taken) = self.slots.get_mut(slot as usize).and_then(Option::take) else {
            return 0;
        };
        self.free.push(slot);
        if self.free.len() == self.slots.len() && self.slots.len() > 1024 {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        taken.charge as usize
    }

    pub(crate) fn stats(&self) -> QueueStats {
        QueueStats {
            ready: self.ready,
            unsettled: self.unsettled.len() as u64,
            ready_bytes: self.ready_bytes,
            oldest: self.oldest().min(),
            head_expires_at: self.head().and_then(|e| e.expires_at(self.limits.ttl_ms)),
            head_due_at: self.due.as_ref().and_then(|due| due.head()).map(due_at),
            enqueued: self.totals.enqueued,
            delivered: self.totals.delivered,
            acked: self.totals.acked,
        }
    }

    /// When the first entries of the lanes, or the first that came to wait, were enqueued.
    fn oldest(&self) -> impl Iterator<Item = Wall> {
        let due = self.due.iter().filter_map(|due| due.iter().next());
        self.lanes.iter().filter_map(VecDeque::front).chain(due).map(|e| Wall(e.wall))
    }

    /// The durable seqs that are not settled, in order.
    pub(crate) fn live_seqs(&self) -> Vec<u64> {
        let held = self.unsettled.values().map(|(entry, _)| entry);
        let waiting = self.due.iter().flat_map(|due| due.iter());
        let ready = self.lanes.iter().flatten().chain(waiting);
        let mut seqs: Vec<u64> = ready.chain(held).filter(|e| e.is_durable()).map(|e| e.seq).collect();
        seqs.sort_unstable();
        seqs
    }
}
