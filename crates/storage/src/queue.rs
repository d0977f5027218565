//! A queue: which entries are ready, which are handed out, and the messages of those that are in memory.
//!
//! Invariants: an entry is in exactly one place, a lane or `unsettled`. What is `ready` is in the lanes, or in
//! `due`. A message is in the slab exactly if its entry has a slot; a transient entry always has one, unless it was
//! spilled.
//!
//! Not here: the order within a lane (see `lane`), pages (see `paging`), locks, the log, reading messages back.

use crate::attempts::attempts_at_start;
use crate::contents::{Contents, Lazy};
use crate::due::{Due, due_at};
pub(crate) use crate::entry::{Entry, NO_SLOT, NO_TTL, SPILLED};
use crate::groups;
use crate::lane::{Found, Lane, Next};
use crate::page::{ENTRY_BYTES, Page, Spot};
use crate::paging::Paged;
use crate::slots::Slot;
use crate::spill::Leaving;
use crate::traits::Traits;
use engine::{EntryKey, Limits, Order, QueueSpec, QueueStats, Schedule};
use model::{Message, Mono, QueueId, Wall};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::LazyLock;

/// The message was damaged on the disk when it was read; it is nowhere else.
pub(crate) const DAMAGED: u32 = u32::MAX - 1;
/// Memory that a message in memory takes besides its bytes and its slot.
pub(crate) const SLOT_BYTES: usize = 32;
/// Memory of an entry that is handed out.
const UNSETTLED_BYTES: usize = ENTRY_BYTES + 3 * size_of::<u64>();
/// Memory of an entry that waits for a time.
const WAITING_BYTES: usize = 96;
/// Every queue may have so much that does not count.
pub(crate) const FREE_BYTES: usize = 512;
/// Entries of each group whose messages are read ahead.
const AHEAD_OF_GROUP: usize = 16;
/// Messages of a queue in order of due time that are spilled at once.
const SPILL_MESSAGES: usize = 1024;

/// What most queues do not have.
#[derive(Default)]
struct Rare {
    /// Of the spec.
    ttl_ms: Option<u64>,
    limits: Limits,
    /// Where ready entries are instead if the queue is in order of due time.
    due: Option<Due>,
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
    pub(crate) spec: Traits,
    /// A consumer waits for entries.
    pub(crate) waited: bool,
    pub(crate) deleted: bool,
    pub(crate) next_seq: u64,
    /// Where the log says that it exists; 0 for a transient queue.
    pub(crate) create_lsn: u64,
    /// The highest seq handed out.
    pub(crate) delivered: u64,
    /// Entries up to here were handed out before the last restart, perhaps.
    pub(crate) redelivered_to: u64,
    /// The reader was told to read ahead.
    pub(crate) reading: bool,
    /// Entries since the start that came, were handed out to somebody, and were settled for good by somebody.
    pub(crate) totals: Totals,
    /// Memory of everything but messages when it was last told to the core.
    pub(crate) charged: usize,
    rare: Option<Box<Rare>>,
    pub(crate) contents: Lazy,
}

impl Queue {
    pub(crate) fn new(id: QueueId, spec: QueueSpec, next_seq: u64, create_lsn: u64) -> Self {
        let mut queue = Self {
            id,
            spec: Traits::of(spec),
            waited: false,
            deleted: false,
            next_seq,
            create_lsn,
            delivered: 0,
            redelivered_to: 0,
            reading: false,
            totals: Totals::default(),
            charged: 0,
            rare: None,
            contents: Lazy::default(),
        };
        queue.set_spec(spec);
        if spec.order == Order::Due {
            queue.rare.get_or_insert_default().due = Some(Due::default());
        }
        queue
    }

    /// What it was created with.
    pub(crate) fn spec(&self) -> QueueSpec {
        self.spec.with(self.rare.as_ref().and_then(|rare| rare.ttl_ms))
    }

    /// Makes it what it was created with. What is in it stays where it is.
    pub(crate) fn set_spec(&mut self, spec: QueueSpec) {
        self.spec = Traits::of(spec);
        if spec.ttl_ms.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().ttl_ms = spec.ttl_ms;
        }
    }

    fn due(&self) -> Option<&Due> {
        self.rare.as_ref()?.due.as_ref()
    }

    fn due_mut(&mut self) -> Option<&mut Due> {
        self.rare.as_mut()?.due.as_mut()
    }

    /// A durable queue without anything.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let spec = QueueSpec {
            durable: true,
            durability: engine::Durability::Sync,
            priority_max: 0,
            ttl_ms: None,
            order: Order::Arrival,
        };
        Self::new(QueueId(1), spec, 1, 8)
    }

    pub(crate) fn limits(&self) -> &Limits {
        static NONE: LazyLock<Limits> = LazyLock::new(Limits::default);
        self.rare.as_ref().map_or_else(|| &*NONE, |rare| &rare.limits)
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        if limits != Limits::default() || self.rare.is_some() {
            self.rare.get_or_insert_default().limits = limits;
        }
    }

    /// The lane of a message of this priority.
    pub(crate) fn lane_of(&self, priority: u8) -> u8 {
        priority.min(self.spec.priority_max)
    }

    /// The lane that a message goes to: that of its group, if the queue is fair.
    pub(crate) fn lane_for(&self, message: &Message) -> u8 {
        match self.limits().fair.filter(|_| self.is_fair()) {
            None => self.lane_of(message.envelope.priority),
            Some(grouping) => groups::lane(grouping, message),
        }
    }

    /// The shorter of the queue's and the message's time to live.
    pub(crate) fn ttl_of(&self, message_ttl_ms: Option<u64>) -> u32 {
        let ttl = match (self.rare.as_ref().and_then(|rare| rare.ttl_ms), message_ttl_ms) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) => a,
            (None, Some(b)) => b,
            (None, None) => return NO_TTL,
        };
        u32::try_from(ttl).unwrap_or(NO_TTL - 1).min(NO_TTL - 1)
    }

    /// Adds a new entry behind its lane or to its time; its seq is the highest so far.
    pub(crate) fn push(&mut self, entry: Entry, schedule: Option<Schedule>) {
        match self.due_mut() {
            Some(due) => due.push(entry, schedule),
            None => self.lane_mut(entry.lane).push(entry),
        }
        self.contents.count_in(&entry);
    }

    /// A new entry as it is when it comes back, for one that is not added.
    pub(crate) fn pass(&mut self, entry: Entry, schedule: Option<Schedule>) -> Entry {
        match self.due_mut() {
            Some(due) => due.pass(entry, schedule),
            None => entry,
        }
    }

    /// Whether the entries of this queue wait for a time.
    pub(crate) fn is_by_due(&self) -> bool {
        self.due().is_some()
    }

    /// Whether the head must wait for its time.
    pub(crate) fn head_waits(&self, now: Wall) -> bool {
        self.due().and_then(Due::head).is_some_and(|head| due_at(head) > now)
    }

    /// Whether messages that are due soon are to be read into memory.
    pub(crate) fn wants_messages(&mut self, now: Wall, durable: u64) -> bool {
        self.due_mut().is_some_and(|due| due.wants_messages(now, durable))
    }

    /// Takes out what waits under a key.
    pub(crate) fn take_key(&mut self, key: EntryKey) -> Vec<Entry> {
        let taken = self.due_mut().map(|due| due.take(key)).unwrap_or_default();
        taken.iter().for_each(|entry| self.contents.count_out(entry));
        taken
    }

    /// When an entry was enqueued, for latencies; those that were meant to wait have none.
    pub(crate) fn enqueued_at(&self, entry: &Entry) -> Mono {
        Mono(if self.is_by_due() { 0 } else { entry.mono })
    }

    /// Puts an entry back to its place.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        match self.due_mut() {
            Some(due) => due.put_back(entry),
            None => self.lane_mut(entry.lane).put_back(entry),
        }
        self.contents.count_in(&entry);
    }

    /// The lane of this number, made if it is not there.
    pub(crate) fn lane_mut(&mut self, lane: u8) -> &mut Lane {
        let lanes = &mut self.contents.lanes;
        while lanes.len() <= usize::from(lane) {
            lanes.push(Lane::new(lanes.len() as u8));
        }
        &mut lanes[usize::from(lane)]
    }

    /// Ready entries and the bytes of their bodies.
    pub(crate) fn length(&self) -> (u64, u64) {
        (self.contents.ready, self.contents.ready_bytes)
    }

    /// Whether it holds more than it may.
    pub(crate) fn is_too_long(&self) -> bool {
        let (ready, bytes) = self.length();
        self.limits().push_out(ready, bytes)
    }

    /// All lanes there are, the highest priority last.
    pub(crate) fn lanes_mut(&mut self) -> &mut [Lane] {
        self.contents.get_mut().map_or(&mut [], |contents| &mut contents.lanes)
    }

    /// Puts what was recovered in order of due time, if that is the queue's.
    pub(crate) fn order_recovered(&mut self, entries: Vec<Entry>, mut schedule: impl FnMut(u64) -> Option<Schedule>) {
        let mut due = Due::default();
        for entry in entries {
            due.push(entry, schedule(entry.seq));
        }
        self.rare.get_or_insert_default().due = Some(due);
    }

    /// Counts all that recovery found ready.
    pub(crate) fn count_recovered(&mut self, entries: u64, bytes: u64) {
        if entries > 0 {
            self.contents.ready = entries;
            self.contents.ready_bytes = bytes;
        }
    }

    /// The next entry to hand out.
    pub(crate) fn next(&mut self) -> Next {
        match self.first() {
            Next::Entry(entry) if entry.attempts == 0 => {
                Next::Entry(Entry { attempts: attempts_at_start(self, entry.seq), ..entry })
            }
            other => other,
        }
    }

    fn first(&mut self) -> Next {
        if let Some(due) = self.due() {
            return due.head().map_or(Next::Nothing, |entry| Next::Entry(*entry));
        }
        self.next_lane().map_or(Next::Nothing, Lane::next)
    }

    /// Takes it, if it is in memory.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let unsettled = &self.contents.unsettled;
        let mut entry = match self.rare.as_mut().and_then(|rare| rare.due.as_mut()) {
            Some(due) => due.pop(unsettled.len(), |seq| unsettled.contains(seq))?,
            None => {
                let entry = self.next_lane()?.pop()?;
                self.contents.turn = entry.lane;
                entry
            }
        };
        if entry.attempts == 0 {
            entry.attempts = attempts_at_start(self, entry.seq);
        }
        self.contents.count_out(&entry);
        Some(entry)
    }

    /// Takes every ready entry out: those in memory, the pages with the rest, and how many that are in all.
    pub(crate) fn drain_ready(&mut self) -> (Vec<Entry>, VecDeque<Page>, u64) {
        let mut entries = Vec::new();
        let mut pages = VecDeque::new();
        for lane in self.lanes_mut() {
            let (mut loose, mut paged) = lane.take_all();
            entries.append(&mut loose);
            pages.append(&mut paged);
        }
        if let Some(due) = self.due_mut() {
            entries.extend(due.drain());
        }
        let mut count = 0;
        if let Some(contents) = self.contents.get_mut() {
            contents.lanes = SmallVec::new();
            contents.ready_bytes = 0;
            count = std::mem::take(&mut contents.ready);
        }
        (entries, pages, count)
    }

    /// The entries that are handed out next, in order, as far as they are unpacked; of those that wait for a time, the
    /// ones due soon.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = &Entry> {
        let lanes = &self.contents.lanes;
        let grouped = self.is_grouped();
        let first = self.turn().filter(|_| grouped);
        // A little of every group, from the one whose turn it is on.
        let turns = first.into_iter().flat_map(|first| lanes[first..].iter().chain(&lanes[..first]));
        let of_groups = turns.flat_map(|lane| lane.ahead().take(AHEAD_OF_GROUP));
        let mut behind_pages = grouped;
        let lanes = self.contents.lanes.iter().rev().take_while(move |lane| {
            let this = !behind_pages;
            behind_pages |= lane.cold.is_some();
            this
        });
        lanes.flat_map(Lane::ahead).chain(of_groups).chain(self.due().into_iter().flat_map(|due| due.soon()))
    }

    /// Whether entries that come are put in groups.
    pub(crate) fn is_fair(&self) -> bool {
        self.spec.priority_max == 0 && self.limits().fair.is_some()
    }

    /// Whether entries lie in lanes by their group.
    pub(crate) fn is_grouped(&self) -> bool {
        self.spec.priority_max == 0 && self.contents.lanes.len() > 1
    }

    /// Which lane is next.
    fn turn(&self) -> Option<usize> {
        let lanes = &self.contents.lanes;
        if self.is_grouped() {
            return groups::turn(lanes, self.limits().fair.is_some(), self.contents.turn);
        }
        lanes.iter().rposition(|lane| !lane.is_empty())
    }

    /// The lane whose turn it is.
    pub(crate) fn next_lane(&mut self) -> Option<&mut Lane> {
        let at = self.turn()?;
        self.contents.get_mut()?.lanes.get_mut(at)
    }

    /// Packs a page of entries behind the first `keep` bytes of a lane; returns what was freed.
    pub(crate) fn page_out(&mut self, keep: usize, durable: u64) -> PageOut {
        if let Some(due) = self.due_mut() {
            let slots = due.evict(keep, durable);
            if !slots.is_empty() {
                return PageOut::Freed(slots.into_iter().map(|slot| self.forget(slot)).sum());
            }
            let seqs: Vec<u64> = due.volatile(keep > 0).take(SPILL_MESSAGES).map(|entry| entry.seq).collect();
            let leaving = self.leaving(&seqs);
            return if leaving.is_empty() { PageOut::Nothing } else { PageOut::Spill(leaving) };
        }
        for lane in self.lanes_mut() {
            match lane.page_out(keep, durable) {
                Paged::Nothing => {}
                Paged::Packed(slots) => {
                    return PageOut::Freed(slots.into_iter().map(|slot| self.forget(slot)).sum());
                }
                Paged::Spill(seqs) => return PageOut::Spill(self.leaving(&seqs)),
            }
        }
        PageOut::Nothing
    }

    /// The messages of transient entries that must leave memory.
    fn leaving(&mut self, seqs: &[u64]) -> Vec<Leaving> {
        let mut leaving = Vec::with_capacity(seqs.len());
        for &seq in seqs {
            let Some(&mut Entry { slot, wall, .. }) = self.find_loose(seq) else {
                continue;
            };
            if let Some(message) = self.message(slot) {
                leaving.push(Leaving { seq, slot, wall, message: message.clone() });
            }
        }
        leaving
    }

    /// The message of an entry, which was only in memory, now lies in the spill.
    pub(crate) fn spilled(&mut self, seq: u64) {
        if let Some(due) = self.due_mut() {
            due.spilled(seq);
        }
    }

    /// Forgets messages of entries that are handed out or came back and lie on the disk, looking at up to `slots`
    /// slots; returns the bytes freed and whether all slots were looked at.
    pub(crate) fn forget_held(&mut self, slots: usize, durable: u64) -> (usize, bool) {
        let Some(contents) = self.contents.get_mut() else {
            return (0, true);
        };
        let Contents { lanes, unsettled, slots: all, hand, .. } = contents;
        let mut freed = 0;
        let mut free = Vec::new();
        let mut whole = all.len() <= slots;
        for _ in 0..slots.min(all.len()) {
            if *hand as usize >= all.len() {
                *hand = 0;
                whole = true;
                break;
            }
            let slot = all.get(*hand);
            *hand += 1;
            let Some(Slot { seq, .. }) = slot else {
                continue;
            };
            let Some(entry) = unsettled
                .get_mut(*seq)
                .or_else(|| lanes.iter_mut().find_map(|lane| lane.returned.get_mut()?.get_mut(seq)))
            else {
                continue;
            };
            if entry.slot < DAMAGED && entry.is_elsewhere(durable) {
                free.push(std::mem::replace(&mut entry.slot, NO_SLOT));
            }
        }
        for slot in free {
            freed += self.forget(slot);
        }
        (freed, whole)
    }

    /// The entry with this seq, unless it is in a page.
    pub(crate) fn find_loose(&mut self, seq: u64) -> Option<&mut Entry> {
        if let Some(entry) = self.rare.as_mut().and_then(|rare| rare.due.as_mut()?.find_mut(seq)) {
            return Some(entry);
        }
        let Contents { lanes, unsettled, .. } = self.contents.get_mut()?;
        if let Some(entry) = lanes.iter_mut().find_map(|lane| lane.find_loose(seq)) {
            return Some(entry);
        }
        unsettled.get_mut(seq)
    }

    /// An entry that was looked at before, unless it is in a page now. It is looked for in its own lane: of two with one seq,
    /// which no engine writes but a log may hold, each is found.
    pub(crate) fn find_again(&mut self, entry: &Entry) -> Option<&mut Entry> {
        let is_there = |lane: &mut Lane| lane.priority == entry.lane && lane.find_loose(entry.seq).is_some();
        match self.lanes_mut().iter_mut().position(is_there) {
            Some(at) => self.lanes_mut()[at].find_loose(entry.seq),
            None => self.find_loose(entry.seq),
        }
    }

    /// The entry with this seq, wherever it is; pages stay open until [`Queue::close_pages`].
    pub(crate) fn find(&mut self, seq: u64) -> Found<'_> {
        if let Some(entry) = self.rare.as_mut().and_then(|rare| rare.due.as_mut()?.find_mut(seq)) {
            return Found::Entry(entry);
        }
        let Some(Contents { lanes, unsettled, .. }) = self.contents.get_mut() else {
            return Found::Nowhere;
        };
        if let Some(entry) = unsettled.get_mut(seq) {
            return Found::Entry(entry);
        }
        for lane in lanes {
            match lane.find(seq) {
                Found::Nowhere => {}
                found => return found,
            }
        }
        Found::Nowhere
    }

    /// Packs the pages that were opened.
    pub(crate) fn close_pages(&mut self) {
        self.lanes_mut().iter_mut().for_each(Lane::close);
    }

    /// Puts back what was read of a page; false if it no longer lies there.
    pub(crate) fn install(&mut self, first: u64, spot: Spot, content: &[u8]) -> bool {
        self.lanes_mut().iter_mut().any(|lane| lane.install(first, spot, content))
    }

    /// Keeps a message in memory; returns its slot.
    pub(crate) fn keep(&mut self, seq: u64, message: Message, charge: u32) -> u32 {
        self.contents.slots.put(Slot { message, seq, charge })
    }

    /// The message in a slot.
    pub(crate) fn message(&self, slot: u32) -> Option<&Message> {
        self.contents.slots.get(slot).map(|slot| &slot.message)
    }

    /// Drops the message in a slot; returns what it was charged with.
    pub(crate) fn forget(&mut self, slot: u32) -> usize {
        let taken = self.contents.get_mut().and_then(|contents| contents.slots.take(slot));
        taken.map_or(0, |taken| taken.charge as usize)
    }

    /// Memory of everything but messages.
    pub(crate) fn index_bytes(&self) -> usize {
        let Contents { lanes, unsettled, slots, .. } = &*self.contents;
        let lanes: usize = lanes.iter().map(Lane::memory).sum();
        let waiting = if self.is_by_due() { self.contents.ready as usize * WAITING_BYTES } else { 0 };
        let all = lanes + slots.memory() + waiting + unsettled.capacity() * UNSETTLED_BYTES;
        all.saturating_sub(FREE_BYTES)
    }

    /// Gives back memory that an empty queue keeps for the next burst.
    pub(crate) fn shrink(&mut self) {
        self.contents.give_back();
        if let Some(contents) = self.contents.get_mut() {
            if contents.ready == 0 {
                contents.lanes = SmallVec::new();
            }
            contents.unsettled.shrink();
            contents.slots.shrink();
        }
    }

    pub(crate) fn stats(&mut self) -> QueueStats {
        let head_due_at = self.due().and_then(Due::head).map(due_at);
        let first = self.due().into_iter().filter_map(|due| due.iter().next()).map(|entry| Wall(entry.wall));
        let oldest = self.contents.lanes.iter().filter_map(Lane::oldest).chain(first).min();
        QueueStats {
            head_expires_at: self.next_expires_at(),
            oldest,
            head_due_at,
            ready: self.contents.ready,
            unsettled: self.contents.unsettled.len() as u64,
            ready_bytes: self.contents.ready_bytes,
            enqueued: self.totals.enqueued,
            delivered: self.totals.delivered,
            acked: self.totals.acked,
        }
    }

    fn next_expires_at(&mut self) -> Option<Wall> {
        let ttl_ms = self.limits().ttl_ms;
        self.next_lane()?.next_expires_at(ttl_ms)
    }

    /// The durable seqs that are handed out, in order.
    pub(crate) fn held_seqs(&self) -> Vec<u64> {
        let mut seqs: Vec<u64> = self.contents.unsettled.entries().filter(|e| e.is_durable()).map(|e| e.seq).collect();
        seqs.sort_unstable();
        seqs
    }
}

/// What became of an attempt to page something out.
pub(crate) enum PageOut {
    /// Nothing can be.
    Nothing,
    /// A page was made, and messages of so many bytes were forgotten.
    Freed(usize),
    /// These must be spilled first.
    Spill(Vec<Leaving>),
}
