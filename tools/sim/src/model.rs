//! What the engine must hold: a simple model of queues and metadata. What a restart brings back is checked in `check`.

use crate::attempts::Attempts;
use crate::turns::{Group, Turns};
use engine::{Death, Durability, Limits, Overflow};
use model::{HolderId, QueueId, Seq, Wall};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A message, told apart by a number that its body carries.
pub(crate) type Tag = u64;

/// What a scheduled message can be taken back by; 0 is nothing.
pub(crate) fn key_of(tag: Tag) -> u64 {
    tag % 5
}

/// A point in time: how many operations came before.
pub(crate) type Step = u64;

/// Why something is no longer in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gone {
    /// Settled by a call that has no ticket.
    At(Step),
    /// Acknowledged in a batch.
    With(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Ready,
    Held(Seq, u64),
    /// It waits to be taken by the broker.
    Dead(Death),
    Gone(Gone),
}

/// When something was logged, and the ticket it got; 0 if it was not worth one.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Mark {
    pub(crate) step: Step,
    pub(crate) ticket: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) tag: Tag,
    /// It is kept over a restart.
    pub(crate) durable: bool,
    pub(crate) lane: u8,
    /// Its group, if the queue was fair when it came, in this life.
    pub(crate) group: Option<Group>,
    /// Milliseconds since 1970; 0 in a queue that is not in order of due time.
    pub(crate) due: u64,
    /// What it can be taken back by while it waits; 0 is nothing.
    pub(crate) key: u64,
    pub(crate) batch: usize,
    pub(crate) state: State,
    pub(crate) requeued: bool,
    pub(crate) attempts: Attempts,
    /// Bytes of the body.
    pub(crate) size: u64,
    /// When it was appended, and how long it lives whatever its queue's limits say.
    pub(crate) at: Wall,
    pub(crate) ttl_ms: Option<u64>,
}

impl Entry {
    /// Whether somebody else than the broker has it.
    pub(crate) fn is_with_client(&self) -> bool {
        matches!(self.state, State::Held(_, by) if by != HolderId::BROKER.0)
    }

    /// Why it is dead when its turn comes, if it is.
    pub(crate) fn death(&self, limits: &Limits, now: Wall) -> Option<Death> {
        let ttl = self.ttl_ms.into_iter().chain(limits.ttl_ms).min();
        if ttl.is_some_and(|ms| self.at.after_millis(ms) <= now) {
            return Some(Death::Expired);
        }
        limits.are_exhausted_by(self.attempts.now).then_some(Death::DeliveryLimit)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) durable: bool,
    pub(crate) durability: Durability,
    pub(crate) priority_max: u8,
    pub(crate) by_due: bool,
    pub(crate) created: u64,
    pub(crate) deleted: Option<u64>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) ttl_ms: Option<u64>,
    /// Since the start: entries enqueued, handed out, and settled by who had them.
    pub(crate) totals: [u64; 3],
    pub(crate) limits: Limits,
    pub(crate) turns: Turns,
    /// A consumer waits.
    pub(crate) waited: bool,
    /// The last durable entry that was handed out.
    pub(crate) handed_to: Option<usize>,
    /// Entries that are dead, in the order they are taken.
    pub(crate) graves: VecDeque<usize>,
    /// It was said that its head is pending, and nothing has happened to it since.
    pub(crate) pending: bool,
}

/// The history since the last restart, and what was there then.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) step: Step,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    /// The batches since the last restart; the first stands for everything before.
    pub(crate) batches: Vec<Mark>,
    /// Tickets given, with their step: what is durable makes everything logged before durable too.
    pub(crate) tickets: Vec<(Step, u64)>,
    /// How far the log said it was durable when something was appended, with the ticket of that.
    pub(crate) claims: Vec<(u64, u64)>,
    pub(crate) metas: BTreeMap<Vec<u8>, History>,
    /// Which message each seq meant, for ever.
    pub(crate) seen: BTreeMap<(QueueId, Seq), Tag>,
    pub(crate) ids: BTreeSet<QueueId>,
}

/// The values a key had; the first is from before.
pub(crate) type History = Vec<Value>;

/// A value of a key; `None` is no value.
#[derive(Clone, Default)]
pub(crate) struct Value {
    pub(crate) mark: Mark,
    /// The batch it came with, if it came with one.
    pub(crate) batch: Option<usize>,
    pub(crate) value: Option<Vec<u8>>,
}

/// What came back after a restart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back {
    pub(crate) tag: Tag,
    /// How often it is said to have been handed out.
    pub(crate) attempts: u32,
}

/// What the queues held after a restart, in order.
pub(crate) type Recovered = BTreeMap<QueueId, Vec<Back>>;

impl Queue {
    /// The entries of which one must be handed out next at a time: more than one only where groups take turns.
    pub(crate) fn heads(&self, now: Wall) -> Vec<usize> {
        if self.is_fair() {
            let heads = self.heads_of_groups();
            let groups: Vec<Group> = heads.iter().filter_map(|at| self.entries[*at].group).collect();
            let may = |at: &usize| self.entries[*at].group.is_none_or(|group| self.turns.may_take(group, &groups));
            return heads.iter().copied().filter(may).collect();
        }
        let ready = self.entries.iter().enumerate();
        ready
            .filter(|(_, e)| e.state == State::Ready && e.due <= now.0)
            .min_by_key(|(at, e)| (std::cmp::Reverse(e.lane), e.due, *at))
            .map(|(at, _)| vec![at])
            .unwrap_or_default()
    }

    /// The first entry of each group, as far as none that is in no group comes before it; if that is the first of all, it
    /// alone.
    fn heads_of_groups(&self) -> Vec<usize> {
        let mut heads: Vec<usize> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate().filter(|(_, e)| e.state == State::Ready) {
            if entry.group.is_none() {
                return if heads.is_empty() { vec![at] } else { heads };
            }
            if !heads.iter().any(|head| self.entries[*head].group == entry.group) {
                heads.push(at);
            }
        }
        heads
    }

    /// Whether groups of entries take turns.
    pub(crate) fn is_fair(&self) -> bool {
        self.limits.fair.is_some() && self.priority_max == 0 && !self.by_due
    }

    /// Whether entries are handed out in order of arrival.
    pub(crate) fn goes_by_seq(&self) -> bool {
        self.priority_max == 0 && !self.by_due && self.limits.fair.is_none()
    }

    /// The queue has something else to heed.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.pending = false;
        self.turns.clear();
    }

    /// It is the turn of a head.
    pub(crate) fn take_turn(&mut self, at: usize) {
        if self.is_fair() {
            let heads = self.heads_of_groups();
            let groups: Vec<Group> = heads.iter().filter_map(|at| self.entries[*at].group).collect();
            self.turns.take(self.entries[at].group, &groups);
        }
    }

    /// A head is handed out.
    pub(crate) fn hand_out(&mut self, at: usize, seq: Seq, holder: HolderId) {
        self.take_turn(at);
        let by_seq = self.goes_by_seq();
        let entry = &mut self.entries[at];
        entry.state = State::Held(seq, holder.0);
        if entry.durable {
            self.handed_to = self.handed_to.max(Some(at));
        }
        entry.attempts.hand_out(self.limits.counts_attempts, by_seq);
        self.totals[1] += 1;
    }

    /// An entry is dead: it waits to be taken, or is gone.
    pub(crate) fn die(&mut self, at: usize, death: Death, step: Step) {
        self.pending = false;
        if self.limits.dead_letters {
            self.entries[at].state = State::Dead(death);
            self.graves.push_back(at);
        } else {
            self.entries[at].state = State::Gone(Gone::At(step));
        }
    }

    /// An entry comes back: to its place, unless it was handed out too often.
    pub(crate) fn put_back(&mut self, at: usize, step: Step) {
        let entry = &mut self.entries[at];
        entry.state = State::Ready;
        entry.requeued = true;
        self.pending = false;
        if self.limits.are_exhausted_by(self.entries[at].attempts.now) {
            self.die(at, Death::DeliveryLimit, step);
        }
    }

    /// Entries that are ready, and the bytes of their bodies.
    pub(crate) fn length(&self) -> (u64, u64) {
        let ready = self.entries.iter().filter(|e| e.state == State::Ready);
        ready.fold((0, 0), |(n, bytes), entry| (n + 1, bytes + entry.size))
    }

    /// Whether a publish of so many bytes is refused.
    pub(crate) fn refuses(&self, size: u64) -> bool {
        let (n, bytes) = self.length();
        self.limits.refuse_publishes() && self.limits.are_exceeded_by(n + 1, bytes + size)
    }

    /// Whether what it refuses dies.
    pub(crate) fn buries_refused(&self) -> bool {
        self.limits.overflow == Overflow::RejectPublishDeadLetter && self.limits.dead_letters
    }

    /// Whether it holds what must die.
    pub(crate) fn is_too_long(&self) -> bool {
        let (n, bytes) = self.length();
        !self.waited && self.limits.push_out(n, bytes)
    }

    /// What is beyond its limits dies, from the head on, as long as more than `left` are there.
    pub(crate) fn trim(&mut self, left: u64, step: Step) {
        while self.is_too_long() && self.length().0 > left {
            let Some(&at) = self.heads(Wall(u64::MAX)).first() else { return };
            self.die(at, Death::MaxLen, step);
        }
    }
}

impl Model {
    /// The log is told how often everything was handed out.
    pub(crate) fn tell_attempts(&mut self) {
        let entries = self.queues.values_mut().flat_map(|queue| &mut queue.entries);
        entries.for_each(|entry| entry.attempts.tell(self.step));
    }

    /// Notes a new queue; its id must be new.
    pub(crate) fn create(&mut self, id: QueueId, queue: Queue) -> Result<(), String> {
        if !self.ids.insert(id) {
            return Err(format!("queue id {id} was given twice"));
        }
        self.queues.insert(id, queue);
        Ok(())
    }

    /// A seq must always mean the same message.
    pub(crate) fn see(&mut self, id: QueueId, seq: Seq, tag: Tag) -> Result<(), String> {
        match self.seen.insert((id, seq), tag) {
            Some(before) if before != tag => {
                Err(format!("seq {seq} of queue {id} meant message {before} and now {tag}"))
            }
            _ => Ok(()),
        }
    }

    /// How far the log itself proves that it was durable, if it was durable up to here: as far as something that
    /// survived says so. Behind that, damage looks like a torn tail.
    pub(crate) fn proven(&self, durable: u64) -> u64 {
        let survived = self.claims.iter().filter(|(_, ticket)| *ticket <= durable);
        survived.map(|(claim, _)| *claim).max().unwrap_or(0)
    }

    /// Whether something logged at `step` without a ticket must have survived.
    pub(crate) fn is_durable_at(&self, step: Step, durable: u64) -> bool {
        self.tickets.iter().any(|&(at, ticket)| at > step && ticket <= durable)
    }

    /// Whether something logged must have survived.
    pub(crate) fn is_durable(&self, mark: Mark, durable: u64) -> bool {
        match mark {
            Mark { step: 0, .. } => true,
            Mark { step, ticket: 0 } => self.is_durable_at(step, durable),
            Mark { ticket, .. } => ticket <= durable,
        }
    }

    pub(crate) fn has_batch(&self, batch: usize, durable: u64) -> bool {
        self.is_durable(self.batches[batch], durable)
    }
}
