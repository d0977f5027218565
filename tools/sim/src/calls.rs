//! The calls of the port, by chance: which one comes next, and what the smaller ones must answer.

use crate::model::{Gone, Mark, State, Value};
use crate::run::Run;
use ::model::QueueId;
use engine::{Engine, EngineError, EntryKey, MetaChange, Ticket};
use std::num::NonZeroU64;

impl Run {
    /// One call.
    pub(crate) fn call(&mut self) -> Result<(), String> {
        match self.dice.below(78) {
            0..=29 => self.publish(),
            30..=45 => self.deliver(),
            46..=57 => self.settle(),
            58..=59 => self.release(),
            60 => self.purge(),
            61..=63 => self.create(),
            64 => self.delete(),
            65..=67 => self.meta(),
            68..=69 => self.bury(),
            70..=72 => self.cancel(),
            73..=74 => self.count(),
            75..=76 => self.limit(),
            _ => self.wait(),
        }
    }

    /// A queue that exists.
    pub(crate) fn any_queue(&mut self) -> Option<QueueId> {
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

    /// Takes back what waits under a key.
    pub(crate) fn cancel(&mut self) -> Result<(), String> {
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

    /// Something to change in the metadata. No value comes twice.
    pub(crate) fn meta_change(&mut self) -> MetaChange {
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
