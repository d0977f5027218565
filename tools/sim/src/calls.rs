//! The calls of the port, by chance, and what each must answer.

use crate::bodies::check_body;
use crate::message::{checked_tag, message_of, tag_of};
use crate::model::{Entry, Gone, Mark, Queue, State, Value, key_of};
use crate::run::Run;
use ::model::{HolderId, Message, QueueId, Seq, Wall};
use engine::{
    Credit, Dead, Death, Delivery, Durability, Engine, EngineError, EntryKey, Limits, MetaChange, Order,
    Outcome as Settle, Overflow, QueueSpec, Schedule, Ticket,
};
use std::collections::VecDeque;
use std::num::NonZeroU64;

impl Run {
    /// One call.
    pub(crate) fn call(&mut self) -> Result<(), String> {
        match self.dice.below(75) {
            0..=29 => self.publish(),
            30..=45 => self.deliver(),
            46..=57 => self.settle(),
            58..=59 => self.release(),
            60 => self.purge(),
            61..=63 => self.create(),
            64 => self.delete(),
            65..=67 => self.meta(),
            68..=69 => self.expire(),
            70..=72 => self.cancel(),
            _ => self.count(),
        }
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
    pub(crate) fn excuse(&self, error: &EngineError) -> Result<(), String> {
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
            let message = self.message()?;
            let waits = targets.iter().find(|id| self.model.queues.get(id).is_some_and(|q| q.by_due)).copied();
            if let Some(target) = waits {
                let schedule = self.schedule(&message);
                self.batch.push_scheduled(message.clone(), target, schedule);
                tags.push((message, vec![target], schedule.at.0));
            } else {
                self.batch.push(message.clone(), &targets);
                tags.push((message, targets, 0));
            }
        }
        while self.dice.once_in(4) {
            match self.meta_change() {
                MetaChange { key, value: Some(value) } => self.batch.put_meta(key, value),
                MetaChange { key, value: None } => self.batch.delete_meta(key),
            }
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
        messages: &[(Message, Vec<QueueId>, u64)],
        acked: QueueId,
        acks: &[(usize, Seq)],
    ) -> Result<(), String> {
        let now = self.now;
        let claim = self.engine.durable().0;
        let changes = self.batch.metas().to_vec();
        let ticket = match self.engine.append(&mut self.batch, now) {
            Ok(ticket) => ticket,
            Err(error) => {
                self.batch.clear();
                return self.excuse(&error);
            }
        };
        let batch = self.model.batches.len();
        let mark = Mark { step: self.model.step, ticket: ticket.0 };
        self.model.batches.push(mark);
        if ticket != Ticket::NONE {
            self.model.tickets.push((mark.step, mark.ticket));
            self.model.claims.push((claim, mark.ticket));
        }
        for MetaChange { key, value } in changes {
            let history = self.model.metas.entry(key).or_insert_with(|| vec![Value::default()]);
            history.push(Value { mark, batch: Some(batch), value });
        }
        let mut rejected = Vec::new();
        // A message without targets is in no batch.
        let sent = messages.iter().filter(|(_, targets, _)| !targets.is_empty());
        for (index, (message, targets, due)) in (0u32..).zip(sent) {
            for id in targets {
                let Some(queue) = self.model.queues.get_mut(id) else {
                    continue;
                };
                let refuses = queue.limits.refuse_publishes() && queue.is_full(1);
                if refuses && rejected.last() != Some(&index) {
                    rejected.push(index);
                }
                if refuses && queue.limits.overflow == Overflow::RejectPublish {
                    continue;
                }
                let syncs = queue.durability == Durability::Sync;
                let durable = queue.durable && queue.durability != Durability::Memory && message.envelope.persistent;
                if durable && syncs && ticket == Ticket::NONE {
                    return Err("a durable message got no ticket".to_owned());
                }
                queue.entries.push(Entry {
                    tag: tag_of(message),
                    durable,
                    lane: message.envelope.priority.min(queue.priority_max),
                    due: *due,
                    key: if queue.by_due { key_of(tag_of(message)) } else { 0 },
                    batch,
                    state: State::Ready,
                    requeued: false,
                    size: message.body_len() as u64,
                    expires_at: shorter(queue.ttl_ms, message.envelope.ttl_ms)
                        .filter(|_| !queue.by_due)
                        .map(|ms| now.wall.after_millis(ms)),
                });
                if refuses {
                    queue.die(queue.entries.len() - 1, Death::MaxLen);
                }
                queue.totals[0] += 1;
                queue.pending = false;
            }
        }
        if let Some(queue) = self.model.queues.get_mut(&acked) {
            for &(at, _) in acks {
                queue.totals[2] += u64::from(queue.entries[at].is_with_client());
                queue.entries[at].state = State::Gone(Gone::With(batch));
            }
        }
        for id in messages.iter().flat_map(|(_, targets, _)| targets) {
            if let Some(queue) = self.model.queues.get_mut(id) {
                queue.trim();
            }
        }
        let said = self.batch.take_rejected();
        if said == rejected { Ok(()) } else { Err(format!("refused {said:?} and should refuse {rejected:?}")) }
    }

    /// Soon, far away, or past.
    fn schedule(&mut self, message: &Message) -> Schedule {
        let wall = self.now.wall.0;
        let at = match self.dice.below(8) {
            0 => wall + 1_000_000,
            1 => wall - 1,
            _ => wall + self.dice.below(300) as u64,
        };
        Schedule { at: Wall(at), key: NonZeroU64::new(key_of(tag_of(message))).map(EntryKey) }
    }

    /// Takes back what waits under a key.
    fn cancel(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let key = EntryKey(NonZeroU64::MIN.saturating_add(self.dice.below(4) as u64));
        let (n, ticket) = match self.engine.cancel(id, key, self.now) {
            Ok(taken) => taken,
            Err(error) => return self.excuse(&error),
        };
        let step = self.model.step;
        let mut expected = 0;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            for entry in queue.entries.iter_mut().filter(|e| e.state == State::Ready && e.key == key.0.get()) {
                entry.state = State::Gone(Gone::At(step));
                queue.pending = false;
                expected += 1;
            }
        }
        if ticket != Ticket::NONE {
            // Once it is durable, so is all that was logged up to this operation.
            self.model.tickets.push((step + 1, ticket.0));
        }
        if n == expected { Ok(()) } else { Err(format!("{n} of queue {id} taken back of {expected}")) }
    }

    fn message(&mut self) -> Result<Message, String> {
        let tag = self.next_tag;
        self.next_tag += 1;
        let size = match self.dice.below(20) {
            0 => 4096 + self.dice.below(6000),
            1..=4 => self.dice.below(2000),
            _ => self.dice.below(100),
        };
        let persistent = !self.dice.once_in(4);
        let priority = u8::try_from(self.dice.below(4)).unwrap_or(0);
        let ttl_ms = self.ttl();
        if self.dice.once_in(12) {
            let size = 1 + self.dice.below(6000);
            if let Some(body) = self.store_body(tag, size)? {
                return Ok(message_of(tag, 0, persistent, priority, ttl_ms).with_large_body(body));
            }
        }
        Ok(message_of(tag, size, persistent, priority, ttl_ms))
    }

    fn ttl(&mut self) -> Option<u64> {
        self.dice.once_in(8).then(|| self.dice.below(1_000_000) as u64)
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
        let now = self.now;
        let remainder = self.engine.deliver(id, credit, now, &mut |delivery| {
            got.push(delivery);
            holder
        });
        if got.len() != remainder.delivered || got.len() > credit.messages {
            return Err("more was handed out than asked for or said".to_owned());
        }
        let mut fresh = self.model.queues.get(&id).is_some_and(|queue| queue.pending);
        for delivery in got {
            if std::mem::take(&mut fresh) && !self.watch.said().readable.remove(&id) {
                return Err(format!("queue {id} was pending and nobody was told that it no longer is"));
            }
            let tag = checked_tag(&delivery.message)?;
            if self.dice.once_in(2) {
                check_body(&self.engine, &delivery.message)?;
            }
            self.model.see(id, delivery.seq, tag)?;
            let at = self.model.next(id, self.now.wall);
            let queue = self.model.queues.get_mut(&id).ok_or("no such queue")?;
            let Some(entry) = at.map(|at| &mut queue.entries[at]) else {
                return Err(format!("queue {id} handed out {tag}, and should be empty"));
            };
            if entry.tag != tag {
                return Err(format!("queue {id} handed out {tag} instead of {}", entry.tag));
            }
            let syncs = queue.durability == Durability::Sync;
            if entry.durable && syncs && self.model.batches[entry.batch].ticket > durable.0 {
                return Err(format!("message {tag} was handed out before it was durable"));
            }
            if entry.requeued && entry.batch > 0 && !delivery.redelivered {
                return Err(format!("message {tag} is not marked redelivered"));
            }
            if entry.expires_at.is_some_and(|at| at <= now.wall) {
                return Err(format!("message {tag} was handed out after it had expired"));
            }
            entry.state = State::Held(delivery.seq, holder.0);
            queue.totals[1] += 1;
        }
        self.check_remainder(id, remainder)?;
        Ok(remainder)
    }

    /// What is said to be left in a queue.
    fn check_remainder(&mut self, id: QueueId, remainder: engine::Remainder) -> Result<(), String> {
        let next = self.model.next(id, self.now.wall);
        let now = self.now.wall;
        let Some(queue) = self.model.queues.get_mut(&id) else {
            return Ok(());
        };
        queue.pending = remainder.pending;
        let next = next.map(|at| queue.entries[at].expires_at.is_some_and(|at| at <= now));
        let right = match next {
            None => !remainder.ready && !remainder.head_dead && !remainder.pending,
            Some(true) => !remainder.ready && (remainder.head_dead || remainder.pending),
            Some(false) => !remainder.head_dead && (remainder.ready || remainder.pending),
        };
        if right { Ok(()) } else { Err(format!("queue {id} says of its rest: {remainder:?}")) }
    }

    /// Takes expired entries out.
    fn expire(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let max = 1 + self.dice.below(6);
        let mut expired: Vec<Dead> = Vec::new();
        let reaped = self.engine.take_dead(id, max, self.now, &mut expired);
        if expired.len() > max || reaped.ended != expired.len() {
            return Err(format!("{} expired of {max} asked for, and said {}", expired.len(), reaped.ended));
        }
        for dead in expired {
            let tag = checked_tag(&dead.message)?;
            self.model.see(id, dead.seq, tag)?;
            let next = self.model.next(id, self.now.wall);
            let queue = self.model.queues.get_mut(&id).ok_or("no such queue")?;
            let at = queue.graves.pop_front().or(next).ok_or("something died in an empty queue")?;
            let entry = &mut queue.entries[at];
            let death = match entry.state {
                State::Dead(death) => Some(death),
                _ => entry.expires_at.filter(|at| *at <= self.now.wall).map(|_| Death::Expired),
            };
            if entry.tag != tag || death != Some(dead.death) {
                return Err(format!("message {tag} of queue {id} is not dead so, or is not the next"));
            }
            entry.state = State::Held(dead.seq, HolderId::BROKER.0);
            queue.pending = false;
        }
        Ok(())
    }

    /// What a queue may hold.
    fn limits(&mut self) -> Limits {
        if self.dice.once_in(2) {
            return LIMITS;
        }
        let overflow = match self.dice.below(3) {
            0 => Overflow::RejectPublish,
            1 => Overflow::RejectPublishDeadLetter,
            _ => Overflow::DropHead,
        };
        Limits { messages: Some(self.dice.below(12) as u64), overflow, ..LIMITS }
    }

    /// Says again what queues may hold, as after a start; now and then something else.
    pub(crate) fn set_limits(&mut self) {
        let ids: Vec<QueueId> = self.model.queues.keys().copied().collect();
        for id in ids {
            let other = self.dice.once_in(8).then(|| self.limits());
            let Some(queue) = self.model.queues.get_mut(&id) else { continue };
            if let Some(limits) = other.filter(|_| !queue.by_due) {
                queue.limits = limits;
            }
            self.engine.set_limits(id, queue.limits, self.now);
            queue.trim();
        }
    }

    /// The counts of a queue.
    fn count(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let stats = self.engine.stats(id);
        let queue = &self.model.queues[&id];
        let ready = || queue.entries.iter().filter(|e| e.state == State::Ready);
        let held = queue.entries.iter().filter(|e| matches!(e.state, State::Held(..) | State::Dead(_))).count() as u64;
        let expected = (ready().count() as u64, held, ready().map(|e| e.size).sum::<u64>(), queue.totals);
        let counted = (stats.ready, stats.unsettled, stats.ready_bytes, [stats.enqueued, stats.delivered, stats.acked]);
        if counted == expected { Ok(()) } else { Err(format!("queue {id} counts {counted:?} and has {expected:?}")) }
    }

    fn settle(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let held = self.held(id, 10);
        let seqs: Vec<Seq> = held.iter().map(|&(_, seq)| seq).collect();
        let outcome = match self.dice.below(8) {
            0..=1 => Settle::Requeue,
            2 => Settle::Dead(Death::Rejected),
            _ => Settle::Ack,
        };
        if outcome == Settle::Ack && seqs.len().is_multiple_of(2) {
            let mut acks = seqs.iter().map(|&seq| (id, seq)).collect();
            self.engine.acknowledge(&mut acks, self.now);
        } else {
            let n = self.engine.settle(id, &seqs, outcome, self.now);
            if n != seqs.len() {
                return Err(format!("{n} settled of {}", seqs.len()));
            }
        }
        let step = self.model.step;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            // What the broker gives back comes before all others, in its order.
            let again = !held.iter().any(|&(at, _)| queue.entries[at].is_with_client());
            let before = std::mem::take(&mut queue.graves);
            for (at, _) in held {
                let entry = &mut queue.entries[at];
                if outcome != Settle::Requeue {
                    queue.totals[2] += u64::from(entry.is_with_client());
                }
                match outcome {
                    Settle::Ack => entry.state = State::Gone(Gone::At(step)),
                    Settle::Dead(death) => queue.die(at, death),
                    Settle::Requeue => {
                        entry.state = State::Ready;
                        entry.requeued = true;
                        queue.pending = false;
                    }
                }
            }
            if again {
                queue.graves.extend(before);
            } else {
                for at in before.into_iter().rev() {
                    queue.graves.push_front(at);
                }
            }
            queue.trim();
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let holder = self.next_holder - 1 - self.dice.below(5) as u64 % self.next_holder;
        // What the broker has is settled, never released.
        let holder = holder.max(1);
        let n = self.engine.release(id, HolderId(holder), self.now);
        let mut expected = 0;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            for entry in &mut queue.entries {
                if matches!(entry.state, State::Held(_, by) if by == holder) {
                    entry.state = State::Ready;
                    entry.requeued = true;
                    queue.pending = false;
                    expected += 1;
                }
            }
            queue.trim();
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
        let n = self.engine.purge(id, self.now);
        let step = self.model.step;
        let mut expected = 0;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            for entry in &mut queue.entries {
                if entry.state == State::Ready {
                    entry.state = State::Gone(Gone::At(step));
                    queue.pending = false;
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
        let classes = [Durability::Interval, Durability::None, Durability::Memory];
        let durability = if self.dice.once_in(3) { classes[self.dice.below(3)] } else { Durability::Sync };
        let spec = QueueSpec {
            durable: !self.dice.once_in(5),
            durability,
            priority_max: if self.dice.once_in(4) { 2 } else { 0 },
            ttl_ms: self.ttl(),
            order: if self.dice.once_in(4) { Order::Due } else { Order::Arrival },
        };
        match self.engine.create_queue(spec) {
            Ok((id, ticket)) => {
                if spec.durable {
                    self.model.tickets.push((self.model.step, ticket.0));
                }
                let limits = if spec.order == Order::Due { LIMITS } else { self.limits() };
                self.engine.set_limits(id, limits, self.now);
                let queue = Queue {
                    durable: spec.durable,
                    durability,
                    // Where time counts, priorities do not.
                    priority_max: if spec.order == Order::Due { 0 } else { spec.priority_max },
                    by_due: spec.order == Order::Due,
                    created: ticket.0,
                    deleted: None,
                    entries: Vec::new(),
                    ttl_ms: spec.ttl_ms,
                    totals: [0; 3],
                    limits,
                    graves: VecDeque::new(),
                    pending: false,
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

    /// Something to change in the metadata. No value comes twice.
    fn meta_change(&mut self) -> MetaChange {
        let key = vec![b'a' + u8::try_from(self.dice.below(6)).unwrap_or(0)];
        let value = (!self.dice.once_in(4)).then(|| {
            self.next_tag += 1;
            let mut value = self.next_tag.to_le_bytes().to_vec();
            value.resize(8 + self.dice.below(300), self.dice.roll() as u8);
            value
        });
        MetaChange { key, value }
    }

    fn meta(&mut self) -> Result<(), String> {
        let MetaChange { key, value } = self.meta_change();
        let result = match &value {
            Some(value) => self.engine.put_meta(&key, value),
            None => self.engine.delete_meta(&key),
        };
        match result {
            Ok(Ticket::NONE) => Ok(()),
            Ok(ticket) => {
                self.model.tickets.push((self.model.step, ticket.0));
                let history = self.model.metas.entry(key).or_insert_with(|| vec![Value::default()]);
                let mark = Mark { step: self.model.step, ticket: ticket.0 };
                history.push(Value { mark, batch: None, value });
                Ok(())
            }
            Err(error) => self.excuse(&error),
        }
    }
}

/// Dead entries are told, and nothing else is limited.
const LIMITS: Limits = Limits {
    fair: None,
    messages: None,
    bytes: None,
    overflow: Overflow::DropHead,
    attempts: None,
    counts_attempts: false,
    ttl_ms: None,
    dead_letters: true,
};

fn shorter(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}
