//! One seed: random operations, crashes, and checks.

use crate::model::{Entry, Gone, Model, Queue, Recovered, State, Tag};
use ::model::{Envelope, HolderId, Message, Mono, Now, Origin, QueueId, Seq, Wall};
use bytes::Bytes;
use engine::{
    Batch, Credit, Delivery, Engine, EngineError, EngineEvents, Outcome as Settle, Pressure, QueueSpec, Ticket,
};
use std::sync::Arc;
use storage::sim::{Dice, Fault, SimDisk};
use storage::{Canary, OpenError, Options, Storage};

/// What a run did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Operations of the port.
    pub operations: u64,
    /// Crashes of machine or process, and clean restarts.
    pub crashes: u64,
}

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The seed that shows it.
    pub seed: u64,
    /// After how many operations.
    pub operation: u64,
    /// What is wrong.
    pub what: String,
}

struct Nothing;

impl EngineEvents for Nothing {
    fn durable(&self, _: Ticket) {}
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, _: &str) {}
}

/// Rounds that reading everything back may take before it counts as stuck.
const ROUNDS_MAX: usize = 100_000;

struct Run {
    dice: Dice,
    disk: SimDisk,
    engine: Storage,
    options: Options,
    model: Model,
    next_tag: Tag,
    next_holder: u64,
    done: Outcome,
    /// A fault was injected: the engine may fail from now on.
    faulty: bool,
    batch: Batch,
}

/// Runs a seed for about `operations` operations.
///
/// # Errors
/// What the engine did wrong.
pub fn run_seed(seed: u64, operations: u64, canary: Option<Canary>) -> Result<Outcome, Found> {
    let mut dice = Dice::new(seed);
    let options = Options {
        resident_bytes_max: 8192 << dice.below(4),
        first_file_bytes: 4096 << dice.below(2),
        file_bytes: 8192 << dice.below(3),
        canary,
    };
    let disk = SimDisk::new();
    let fail = |operation, what| Found { seed, operation, what };
    let engine = Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Nothing))
        .map_err(|e| fail(0, e.to_string()))?;
    let mut run = Run {
        dice,
        disk,
        engine,
        options,
        model: Model { batches: vec![0], ..Model::default() },
        next_tag: 1,
        next_holder: 1,
        done: Outcome::default(),
        faulty: false,
        batch: Batch::new(),
    };
    for _ in 0..operations {
        run.done.operations += 1;
        run.model.step += 1;
        run.operation().map_err(|e| fail(run.done.operations, e))?;
    }
    run.crash().map_err(|e| fail(run.done.operations, e))?;
    Ok(run.done)
}

impl Run {
    fn operation(&mut self) -> Result<(), String> {
        match self.dice.below(100) {
            0..=29 => self.publish(),
            30..=45 => self.deliver(),
            46..=57 => self.settle(),
            58..=59 => self.release(),
            60..=61 => self.purge(),
            62..=64 => self.create(),
            65 => self.delete(),
            66..=69 => self.meta(),
            70..=74 => {
                self.engine.write_step();
                Ok(())
            }
            75..=84 => {
                self.engine.sync_step(false);
                Ok(())
            }
            85..=87 => {
                self.engine.sync_step(true);
                Ok(())
            }
            88..=92 => {
                self.engine.keep_step();
                Ok(())
            }
            93..=95 => {
                self.engine.read_step();
                Ok(())
            }
            96 => self.fault(),
            97 => self.fill_disk(),
            98 if self.dice.once_in(2) => self.crash(),
            99 if self.dice.once_in(4) => self.close(),
            _ => Ok(()),
        }
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.model.step), wall: Wall(1_700_000_000_000 + self.model.step) }
    }

    /// A queue that exists.
    fn any_queue(&mut self) -> Option<QueueId> {
        let ids: Vec<QueueId> =
            self.model.queues.iter().filter(|(_, q)| q.deleted.is_none()).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return None;
        }
        Some(ids[self.dice.below(ids.len())])
    }

    /// An error of a call, if the engine had no right to it.
    fn excuse(&self, error: &EngineError) -> Result<(), String> {
        match error {
            EngineError::Failed(_) if self.faulty => Ok(()),
            EngineError::Pressed(_) => Ok(()),
            other => Err(format!("unexpected: {other}")),
        }
    }

    fn publish(&mut self) -> Result<(), String> {
        let mut tags = Vec::new();
        for _ in 0..1 + self.dice.below(5) {
            let mut targets: Vec<QueueId> = (0..1 + self.dice.below(3)).filter_map(|_| self.any_queue()).collect();
            targets.sort_unstable();
            targets.dedup();
            let message = self.message();
            self.batch.push(message.clone(), &targets);
            tags.push((message, targets));
        }
        let mut acks = Vec::new();
        if self.dice.once_in(4)
            && let Some(id) = self.any_queue()
        {
            acks = self.held(id, 3);
            for &(_, seq) in &acks {
                self.batch.ack(id, seq);
            }
            self.append(&tags, id, &acks)
        } else {
            self.append(&tags, QueueId(0), &acks)
        }
    }

    fn append(
        &mut self,
        messages: &[(Message, Vec<QueueId>)],
        acked: QueueId,
        acks: &[(usize, Seq)],
    ) -> Result<(), String> {
        let now = self.now();
        let ticket = match self.engine.append(&mut self.batch, now) {
            Ok(ticket) => ticket,
            Err(error) => {
                self.batch.clear();
                return self.excuse(&error);
            }
        };
        let batch = self.model.batches.len();
        self.model.batches.push(ticket.0);
        self.model.tickets.push((self.model.step, ticket.0));
        if ticket == Ticket::NONE {
            self.model.tickets.pop();
        }
        for (message, targets) in messages {
            for id in targets {
                let Some(queue) = self.model.queues.get_mut(id) else {
                    continue;
                };
                let durable = queue.durable && message.envelope.persistent;
                if durable && ticket == Ticket::NONE {
                    return Err("a durable message got no ticket".to_owned());
                }
                queue.entries.push(Entry {
                    tag: tag_of(message),
                    durable,
                    lane: message.envelope.priority.min(queue.priority_max),
                    batch,
                    state: State::Ready,
                    requeued: false,
                });
            }
        }
        if let Some(queue) = self.model.queues.get_mut(&acked) {
            for &(at, _) in acks {
                queue.entries[at].state = State::Gone(Gone::With(batch));
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Message {
        let tag = self.next_tag;
        self.next_tag += 1;
        let size = match self.dice.below(20) {
            0 => 4096 + self.dice.below(6000),
            1..=4 => self.dice.below(2000),
            _ => self.dice.below(100),
        };
        let persistent = !self.dice.once_in(4);
        let priority = u8::try_from(self.dice.below(4)).unwrap_or(0);
        message_of(tag, size, persistent, priority)
    }

    /// Some entries of a queue that are handed out.
    fn held(&mut self, id: QueueId, max: usize) -> Vec<(usize, Seq)> {
        let Some(queue) = self.model.queues.get(&id) else {
            return Vec::new();
        };
        let mut held: Vec<(usize, Seq)> = Vec::new();
        for (at, entry) in queue.entries.iter().enumerate() {
            if let State::Held(seq, _) = entry.state
                && held.len() < max
                && !self.dice.once_in(3)
            {
                held.push((at, seq));
            }
        }
        held
    }

    fn deliver(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let credit = Credit { messages: 1 + self.dice.below(8), bytes: 1 + self.dice.below(20_000) };
        let holder = HolderId(self.next_holder);
        self.next_holder += 1;
        self.take(id, credit, holder).map(|_| ())
    }

    /// Delivers and checks what comes.
    fn take(&mut self, id: QueueId, credit: Credit, holder: HolderId) -> Result<engine::Remainder, String> {
        let mut got: Vec<Delivery> = Vec::new();
        let durable = self.engine.durable();
        let now = self.now();
        let remainder = self.engine.deliver(id, credit, now, &mut |delivery| {
            got.push(delivery);
            holder
        });
        if got.len() != remainder.delivered || got.len() > credit.messages {
            return Err("more was handed out than asked for or said".to_owned());
        }
        for delivery in got {
            let tag = checked_tag(&delivery.message)?;
            self.model.see(id, delivery.seq, tag)?;
            let at = self.model.next(id);
            let queue = self.model.queues.get_mut(&id).ok_or("no such queue")?;
            let Some(entry) = at.map(|at| &mut queue.entries[at]) else {
                return Err(format!("queue {id} handed out {tag}, and should be empty"));
            };
            if entry.tag != tag {
                return Err(format!("queue {id} handed out {tag} instead of {}", entry.tag));
            }
            if entry.durable && self.model.batches[entry.batch] > durable.0 {
                return Err(format!("message {tag} was handed out before it was durable"));
            }
            if entry.requeued && entry.batch > 0 && !delivery.redelivered {
                return Err(format!("message {tag} is not marked redelivered"));
            }
            entry.state = State::Held(delivery.seq, holder.0);
        }
        Ok(remainder)
    }

    fn settle(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let held = self.held(id, 10);
        let seqs: Vec<Seq> = held.iter().map(|&(_, seq)| seq).collect();
        let outcome = if self.dice.once_in(4) { Settle::Requeue } else { Settle::Ack };
        let n = self.engine.settle(id, &seqs, outcome, self.now());
        if n != seqs.len() {
            return Err(format!("{n} settled of {}", seqs.len()));
        }
        let step = self.model.step;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            for (at, _) in held {
                let entry = &mut queue.entries[at];
                if outcome == Settle::Ack {
                    entry.state = State::Gone(Gone::At(step));
                } else {
                    entry.state = State::Ready;
                    entry.requeued = true;
                }
            }
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let holder = self.next_holder - 1 - self.dice.below(5) as u64 % self.next_holder;
        let n = self.engine.release(id, HolderId(holder), self.now());
        let mut expected = 0;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            for entry in &mut queue.entries {
                if matches!(entry.state, State::Held(_, by) if by == holder) {
                    entry.state = State::Ready;
                    entry.requeued = true;
                    expected += 1;
                }
            }
        }
        if n != expected {
            return Err(format!("{n} released of {expected}"));
        }
        Ok(())
    }

    fn purge(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let n = self.engine.purge(id, self.now());
        let step = self.model.step;
        let mut expected = 0;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            for entry in &mut queue.entries {
                if entry.state == State::Ready {
                    entry.state = State::Gone(Gone::At(step));
                    expected += 1;
                }
            }
        }
        if n != expected {
            return Err(format!("{n} purged of {expected}"));
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), String> {
        if self.model.queues.len() > 8 && !self.dice.once_in(4) {
            return Ok(());
        }
        let spec = QueueSpec {
            durable: !self.dice.once_in(5),
            priority_max: if self.dice.once_in(4) { 2 } else { 0 },
            ttl_ms: None,
        };
        match self.engine.create_queue(spec) {
            Ok((id, ticket)) => {
                if spec.durable {
                    self.model.tickets.push((self.model.step, ticket.0));
                }
                let queue = Queue {
                    durable: spec.durable,
                    priority_max: spec.priority_max,
                    created: ticket.0,
                    deleted: None,
                    entries: Vec::new(),
                };
                self.model.create(id, queue)
            }
            Err(error) => self.excuse(&error),
        }
    }

    fn delete(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        match self.engine.delete_queue(id) {
            Ok(ticket) => {
                if ticket != Ticket::NONE {
                    self.model.tickets.push((self.model.step, ticket.0));
                }
                if let Some(queue) = self.model.queues.get_mut(&id) {
                    queue.deleted = Some(ticket.0);
                    let step = self.model.step;
                    for entry in &mut queue.entries {
                        if !matches!(entry.state, State::Gone(_)) {
                            entry.state = State::Gone(Gone::At(step));
                        }
                    }
                }
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    fn meta(&mut self) -> Result<(), String> {
        let key = vec![b'a' + u8::try_from(self.dice.below(6)).unwrap_or(0)];
        let value = if self.dice.once_in(4) { None } else { Some(vec![self.dice.roll() as u8; self.dice.below(300)]) };
        let result = match &value {
            Some(value) => self.engine.put_meta(&key, value),
            None => self.engine.delete_meta(&key),
        };
        match result {
            Ok(Ticket::NONE) => Ok(()),
            Ok(ticket) => {
                self.model.tickets.push((self.model.step, ticket.0));
                let history = self.model.metas.entry(key).or_insert_with(|| vec![(0, None)]);
                history.push((ticket.0, value));
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }

    fn fault(&mut self) -> Result<(), String> {
        if self.dice.once_in(6) {
            self.faulty = true;
            let fault = if self.dice.once_in(2) { Fault::Sync } else { Fault::Write };
            self.disk.inject(fault);
        }
        Ok(())
    }

    fn fill_disk(&mut self) -> Result<(), String> {
        if self.dice.once_in(2) {
            let room = self.dice.below(20_000);
            self.disk.limit(Some(self.disk.used() + room));
        } else {
            self.disk.limit(None);
            self.engine.sync_step(false);
            self.engine.keep_step();
            if self.engine.pressure() == Pressure::Disk && !self.faulty {
                return Err("there is space again, and publishers are still refused".to_owned());
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.disk.limit(None);
        if !self.faulty {
            self.engine.close().map_err(|e| e.to_string())?;
            let durable = self.engine.durable().0;
            // Everything is durable, settles too.
            self.model.tickets.push((u64::MAX, durable));
            self.disk.kill();
            return self.reopen(durable);
        }
        self.crash()
    }

    fn crash(&mut self) -> Result<(), String> {
        self.disk.limit(None);
        let durable = self.engine.durable().0;
        if self.dice.once_in(4) {
            self.disk.kill();
        } else {
            self.disk.crash(&mut self.dice);
        }
        self.reopen(durable)
    }

    fn reopen(&mut self, durable: u64) -> Result<(), String> {
        self.done.crashes += 1;
        self.faulty = false;
        // Now and then the machine crashes again during recovery.
        while self.dice.once_in(4) {
            if let Ok(engine) = self.open() {
                drop(engine);
            }
            self.disk.crash(&mut self.dice);
        }
        self.engine = self.open().map_err(|e| e.to_string())?;
        let mut recovered = Recovered::new();
        for (id, spec) in self.engine.queues() {
            if !spec.durable {
                return Err(format!("transient queue {id} was recovered"));
            }
            recovered.insert(id, self.read_all(id)?);
        }
        let metas = self.engine.metas();
        for (id, entries) in &recovered {
            for (tag, seq) in entries {
                self.model.see(*id, *seq, *tag)?;
            }
        }
        self.model.restart(durable, &recovered, &metas)
    }

    fn open(&self) -> Result<Storage, OpenError> {
        let disk = Arc::new(self.disk.clone());
        Storage::open_by_hand(disk, self.options, Arc::new(Nothing))
    }

    /// Everything in a queue, put back afterwards.
    fn read_all(&mut self, id: QueueId) -> Result<Vec<(Tag, Seq)>, String> {
        let mut all = Vec::new();
        let holder = HolderId(self.next_holder);
        self.next_holder += 1;
        let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
        let now = self.now();
        for _ in 0..ROUNDS_MAX {
            let mut bad = None;
            let remainder = self.engine.deliver(id, credit, now, &mut |delivery| {
                match checked_tag(&delivery.message) {
                    Ok(tag) => all.push((tag, delivery.seq)),
                    Err(error) => bad = Some(error),
                }
                holder
            });
            if let Some(bad) = bad {
                return Err(bad);
            }
            if !remainder.pending {
                self.engine.release(id, holder, now);
                return Ok(all);
            }
            self.engine.read_step();
        }
        Err(format!("queue {id} is never read to its end"))
    }
}

/// A message whose body tells its number and is full of it.
fn message_of(tag: Tag, size: usize, persistent: bool, priority: u8) -> Message {
    let mut bytes = tag.to_le_bytes().to_vec();
    bytes.extend((0..size).map(|i| (tag as usize + i * 7) as u8));
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent,
        priority,
        ttl_ms: None,
        received_at: Wall(1_700_000_000_000 + tag % 50),
        has_headers: tag.is_multiple_of(2),
    };
    Message::from_parts(envelope, 2, 3, 3, Bytes::from(bytes)).expect("eight bytes at least")
}

fn tag_of(message: &Message) -> Tag {
    let bytes: [u8; 8] = message.bytes()[..8].try_into().expect("eight bytes");
    Tag::from_le_bytes(bytes)
}

/// The number of a message that came back, if all of it is as it was.
fn checked_tag(message: &Message) -> Result<Tag, String> {
    if message.bytes().len() < 8 {
        return Err("a message came back too short".to_owned());
    }
    let tag = tag_of(message);
    let envelope = message.envelope;
    let size = message.bytes().len() - 8;
    if *message != message_of(tag, size, envelope.persistent, envelope.priority) {
        return Err(format!("message {tag} came back changed"));
    }
    Ok(tag)
}
