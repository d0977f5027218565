//! Publishing: batches of messages, changes of the metadata and acknowledgements, and what each must answer.

use crate::attempts::Attempts;
use crate::message::{message_of, tag_of};
use crate::model::{Entry, Gone, Mark, State, Value, key_of};
use crate::run::Run;
use crate::turns::group_of;
use ::model::{Message, QueueId, Seq, Wall};
use engine::{Death, Durability, Engine, EntryKey, MetaChange, Schedule, Ticket};
use std::num::NonZeroU64;

impl Run {
    pub(crate) fn publish(&mut self) -> Result<(), String> {
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
                let size = message.body_len() as u64;
                let refuses = queue.refuses(size);
                if refuses && rejected.last() != Some(&index) {
                    rejected.push(index);
                }
                if refuses && !queue.buries_refused() {
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
                    group: queue.limits.fair.filter(|_| queue.is_fair()).and_then(|by| group_of(by, message)),
                    lane: message.envelope.priority.min(queue.priority_max),
                    due: *due,
                    key: if queue.by_due { key_of(tag_of(message)) } else { 0 },
                    batch,
                    state: State::Ready,
                    requeued: false,
                    attempts: Attempts::default(),
                    size,
                    at: now.wall,
                    ttl_ms: shorter(queue.ttl_ms, message.envelope.ttl_ms).filter(|_| !queue.by_due),
                });
                if refuses {
                    queue.die(queue.entries.len() - 1, Death::MaxLen, mark.step);
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
            self.trim(*id)?;
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
}

fn shorter(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}
