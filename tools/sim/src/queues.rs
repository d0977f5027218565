//! Queues: made, limited, counted, emptied and deleted.

use crate::model::{Gone, Queue, State};
use crate::run::Run;
use crate::turns::Turns;
use ::model::QueueId;
use engine::{Durability, Engine, Grouping, Limits, Order, Overflow, QueueSpec, Ticket};
use std::collections::VecDeque;

impl Run {
    pub(crate) fn create(&mut self) -> Result<(), String> {
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
                let limits = self.limits();
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
                    turns: Turns::default(),
                    waited: false,
                    handed_to: None,
                    graves: VecDeque::new(),
                    pending: false,
                };
                self.model.create(id, queue)
            }
            Err(error) => self.excuse(&error),
        }
    }

    pub(crate) fn delete(&mut self) -> Result<(), String> {
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

    pub(crate) fn purge(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let n = self.engine.purge(id, self.now);
        let step = self.model.step;
        let mut expected = 0;
        if let Some(queue) = self.model.queues.get_mut(&id) {
            queue.turns.clear();
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

    /// What a queue may hold. Which group's turn it is cannot be told beforehand, so where they take turns nothing dies
    /// untold.
    pub(crate) fn limits(&mut self) -> Limits {
        if self.dice.once_in(3) {
            return LIMITS;
        }
        let fair = match self.dice.below(6) {
            0 => Some(Grouping::RoutingKey),
            1 => Some(Grouping::Producer),
            _ => None,
        };
        let overflow = match self.dice.below(3) {
            0 => Overflow::RejectPublish,
            1 => Overflow::RejectPublishDeadLetter,
            _ if fair.is_some() => Overflow::RejectPublish,
            _ => Overflow::DropHead,
        };
        Limits {
            fair,
            messages: self.dice.once_in(2).then(|| self.dice.below(12) as u64),
            bytes: self.dice.once_in(3).then(|| self.dice.below(4000) as u64),
            overflow,
            attempts: self.dice.once_in(3).then(|| self.dice.below(6) as u32),
            counts_attempts: self.dice.once_in(2),
            ttl_ms: if self.dice.once_in(4) { self.ttl() } else { None },
            dead_letters: fair.is_some() || !self.dice.once_in(4),
        }
    }

    /// Changes what a queue may hold.
    pub(crate) fn limit(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let limits = self.limits();
        self.engine.set_limits(id, limits, self.now);
        if let Some(queue) = self.model.queues.get_mut(&id) {
            queue.set_limits(limits);
        }
        self.trim(id)
    }

    /// A consumer waits, or does not any more.
    pub(crate) fn wait(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let waited = self.dice.once_in(2);
        self.engine.set_waited(id, waited, self.now);
        if let Some(queue) = self.model.queues.get_mut(&id) {
            queue.waited = waited;
        }
        self.trim(id)
    }

    /// Says again what queues may hold, as after a start; now and then something else.
    pub(crate) fn set_limits(&mut self) -> Result<(), String> {
        let ids: Vec<QueueId> = self.model.queues.keys().copied().collect();
        for id in ids {
            let other = self.dice.once_in(8).then(|| self.limits());
            let Some(queue) = self.model.queues.get_mut(&id) else { continue };
            queue.set_limits(other.unwrap_or(queue.limits));
            self.engine.set_limits(id, queue.limits, self.now);
        }
        self.trim_all()
    }

    pub(crate) fn ttl(&mut self) -> Option<u64> {
        self.dice.once_in(8).then(|| self.dice.below(1_000_000) as u64)
    }

    /// What is beyond the limits of a queue is dead; only if the head must be read first, more may be there until then.
    pub(crate) fn trim(&mut self, id: QueueId) -> Result<(), String> {
        let Some(queue) = self.model.queues.get_mut(&id) else { return Ok(()) };
        if !queue.is_too_long() || queue.deleted.is_some() {
            return Ok(());
        }
        queue.trim(self.engine.stats(id).ready, self.model.step);
        if queue.is_too_long() && !self.engine.is_reading(id) {
            return Err(format!("queue {id} is longer than it may be, and nothing is read for it"));
        }
        Ok(())
    }

    /// The same for all queues: something was read.
    pub(crate) fn trim_all(&mut self) -> Result<(), String> {
        let ids: Vec<QueueId> = self.model.queues.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.trim(id))
    }

    /// The counts of a queue.
    pub(crate) fn count(&mut self) -> Result<(), String> {
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
