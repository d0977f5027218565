//! What the engine must hold: a simple model of queues and metadata, and the check of what a restart brought back.
//!
//! Invariants checked after every restart, `D` being the highest durable ticket seen before it:
//! * what was appended with a ticket up to `D` is there unless it was settled;
//! * what was settled does not come back if something later was durable;
//! * a batch is there wholly or not at all, what it acknowledged and what it changed in the metadata included;
//! * what went to queues that are not synced is there if anything later was durable, and never if they are in memory;
//! * nothing is there that was not appended, nothing twice, and order is kept;
//! * a seq never means another message.

use engine::{Death, Durability, Limits, Overflow};
use model::{QueueId, Seq, Wall};
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
    /// Milliseconds since 1970; 0 in a queue that is not in order of due time.
    pub(crate) due: u64,
    /// What it can be taken back by while it waits; 0 is nothing.
    pub(crate) key: u64,
    pub(crate) batch: usize,
    pub(crate) state: State,
    pub(crate) requeued: bool,
    /// Bytes of the body.
    pub(crate) size: u64,
    pub(crate) expires_at: Option<Wall>,
}

impl Entry {
    /// Whether somebody else than the broker has it.
    pub(crate) fn is_with_client(&self) -> bool {
        matches!(self.state, State::Held(_, by) if by != model::HolderId::BROKER.0)
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

/// What a queue held after a restart, in order.
pub(crate) type Recovered = BTreeMap<QueueId, Vec<(Tag, Seq)>>;

impl Queue {
    /// The entry that must be handed out next at a time.
    fn next(&self, now: Wall) -> Option<usize> {
        let ready = self.entries.iter().enumerate();
        ready
            .filter(|(_, e)| e.state == State::Ready && e.due <= now.0)
            .min_by_key(|(at, e)| (std::cmp::Reverse(e.lane), e.due, *at))
            .map(|(at, _)| at)
    }

    /// An entry is dead.
    pub(crate) fn die(&mut self, at: usize, death: Death) {
        self.entries[at].state = State::Dead(death);
        self.graves.push_back(at);
        self.pending = false;
    }

    /// Entries that are ready.
    pub(crate) fn ready(&self) -> u64 {
        self.entries.iter().filter(|e| e.state == State::Ready).count() as u64
    }

    /// Whether it has no room for one more, or for none.
    pub(crate) fn is_full(&self, more: u64) -> bool {
        self.limits.are_exceeded_by(self.ready() + more, 0)
    }

    /// Whether it holds what must die.
    pub(crate) fn is_too_long(&self) -> bool {
        self.limits.overflow == Overflow::DropHead && self.is_full(0)
    }

    /// What is beyond its limits dies, from the head on, as long as more than `left` are there.
    pub(crate) fn trim(&mut self, left: u64) {
        while self.is_too_long() && self.ready() > left {
            let Some(at) = self.next(Wall(u64::MAX)) else { return };
            self.die(at, Death::MaxLen);
        }
    }
}

impl Model {
    /// The entry that must be handed out next at a time.
    pub(crate) fn next(&self, id: QueueId, now: Wall) -> Option<usize> {
        self.queues.get(&id)?.next(now)
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
    fn is_durable_at(&self, step: Step, durable: u64) -> bool {
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

    fn has_batch(&self, batch: usize, durable: u64) -> bool {
        self.is_durable(self.batches[batch], durable)
    }

    /// Checks what a restart brought back, and goes on from there.
    pub(crate) fn restart(
        &mut self,
        durable: u64,
        recovered: &Recovered,
        metas: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), String> {
        self.check_queues(durable, recovered)?;
        self.check_metas(durable, metas)?;
        for (&id, entries) in recovered {
            self.check_entries(id, entries, durable)?;
        }
        self.check_batches(durable, recovered, metas)?;
        self.adopt(recovered, metas);
        Ok(())
    }

    fn check_queues(&self, durable: u64, recovered: &Recovered) -> Result<(), String> {
        for (id, queue) in &self.queues {
            let there = recovered.contains_key(id);
            if !queue.durable {
                if there {
                    return Err(format!("transient queue {id} came back"));
                }
                continue;
            }
            match queue.deleted {
                Some(ticket) if ticket <= durable && there => {
                    return Err(format!("deleted queue {id} came back"));
                }
                None if queue.created <= durable && !there => {
                    return Err(format!("queue {id} was lost"));
                }
                _ => {}
            }
        }
        match recovered.keys().find(|id| !self.queues.contains_key(id)) {
            Some(id) => Err(format!("queue {id} came from nowhere")),
            None => Ok(()),
        }
    }

    fn check_entries(&self, id: QueueId, found: &[(Tag, Seq)], durable: u64) -> Result<(), String> {
        let queue = &self.queues[&id];
        let mut expected: Vec<&Entry> = queue.entries.iter().filter(|e| e.durable).collect();
        // Stable: within a lane or a time the order of appending stays.
        expected.sort_by_key(|e| (std::cmp::Reverse(e.lane), e.due));
        let mut found = found.iter().peekable();
        for entry in expected {
            let there = found.peek().is_some_and(|(tag, _)| *tag == entry.tag);
            if there {
                found.next();
            }
            let appended = self.has_batch(entry.batch, durable);
            match entry.state {
                State::Ready | State::Held(..) | State::Dead(_) if appended && !there => {
                    return Err(format!("message {} of queue {id} was lost", entry.tag));
                }
                State::Gone(Gone::At(step)) if there && self.is_durable_at(step, durable) => {
                    return Err(format!("settled message {} of queue {id} is back", entry.tag));
                }
                State::Gone(Gone::With(batch)) if there && self.has_batch(batch, durable) => {
                    return Err(format!("message {} of queue {id} is back", entry.tag));
                }
                _ => {}
            }
        }
        match found.next() {
            Some((tag, _)) => Err(format!("queue {id} holds message {tag} twice, out of order, or from nowhere")),
            None => Ok(()),
        }
    }

    /// Batches whose ticket was not durable: all or nothing.
    fn check_batches(&self, durable: u64, recovered: &Recovered, metas: &[(Vec<u8>, Vec<u8>)]) -> Result<(), String> {
        // Whether some of the batch is there, and whether some is not.
        let mut there = vec![(false, false); self.batches.len()];
        for (key, value) in metas {
            // No two values are the same, so this one tells up to where the history of its key goes.
            let history = self.metas.get(key).map_or(&[][..], Vec::as_slice);
            let last = history.iter().rposition(|v| v.value.as_ref() == Some(value));
            for (at, batch) in history.iter().enumerate().filter_map(|(at, v)| Some((at, v.batch?))) {
                if Some(at) <= last {
                    there[batch].0 = true;
                } else {
                    there[batch].1 = true;
                }
            }
        }
        let is_there = |id: &QueueId, tag: Tag| recovered.get(id).map(|entries| entries.iter().any(|(t, _)| *t == tag));
        for (id, queue) in &self.queues {
            for entry in queue.entries.iter().filter(|e| e.durable) {
                match is_there(id, entry.tag) {
                    Some(true) => there[entry.batch].0 = true,
                    Some(false) if !matches!(entry.state, State::Gone(_)) => {
                        there[entry.batch].1 = true;
                    }
                    _ => {}
                }
            }
        }
        if let Some(at) = there.iter().position(|t| *t == (true, true)) {
            return Err(format!("batch {at} came back in part"));
        }
        for (id, queue) in &self.queues {
            for entry in queue.entries.iter().filter(|e| e.durable) {
                let State::Gone(Gone::With(batch)) = entry.state else {
                    continue;
                };
                let back = is_there(id, entry.tag);
                if there[batch].0 && back == Some(true) {
                    return Err(format!("batch {batch} came back without its acks"));
                }
                let appended = self.has_batch(entry.batch, durable);
                if there[batch].1 && appended && back == Some(false) {
                    return Err(format!("batch {batch} was lost, but its acks were not"));
                }
            }
        }
        Ok(())
    }

    fn check_metas(&self, durable: u64, found: &[(Vec<u8>, Vec<u8>)]) -> Result<(), String> {
        let found: BTreeMap<&Vec<u8>, &Vec<u8>> = found.iter().map(|(k, v)| (k, v)).collect();
        for key in found.keys() {
            if !self.metas.contains_key(*key) {
                return Err("a key came from nowhere".to_owned());
            }
        }
        for (key, history) in &self.metas {
            let last = history.iter().rposition(|v| self.is_durable(v.mark, durable));
            let mut allowed = history[last.unwrap_or(0)..].iter().map(|v| v.value.as_ref());
            let value = found.get(key).copied();
            let never = last.is_none() && value.is_none();
            if !never && !allowed.any(|v| v == value) {
                return Err(format!("key {key:?} has a value it should not have"));
            }
        }
        Ok(())
    }

    fn adopt(&mut self, recovered: &Recovered, metas: &[(Vec<u8>, Vec<u8>)]) {
        self.batches = vec![Mark::default()];
        self.tickets.clear();
        self.claims.clear();
        let before = std::mem::take(&mut self.queues);
        for (id, entries) in recovered {
            let Some(mut queue) = before.get(id).cloned() else {
                continue;
            };
            queue.created = 0;
            queue.deleted = None;
            // Reading everything back has handed everything out once.
            queue.totals = [0, entries.len() as u64, 0];
            queue.pending = false;
            queue.graves.clear();
            let tags: BTreeSet<Tag> = entries.iter().map(|(tag, _)| *tag).collect();
            queue.entries.retain(|e| e.durable && tags.contains(&e.tag));
            for entry in &mut queue.entries {
                entry.state = State::Ready;
                entry.batch = 0;
                entry.requeued = true;
            }
            self.queues.insert(*id, queue);
        }
        self.metas.clear();
        for (key, value) in metas {
            self.metas.insert(key.clone(), vec![Value { value: Some(value.clone()), ..Value::default() }]);
        }
    }
}
