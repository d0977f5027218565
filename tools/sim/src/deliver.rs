//! Handing entries out, taking dead ones, and settling: what comes, in which order, and what is left.

use crate::bodies::check_body;
use crate::message::checked_tag;
use crate::model::{Gone, State, Tag};
use crate::run::Run;
use ::model::{HolderId, QueueId, Seq};
use engine::{Credit, Dead, Death, Delivery, Durability, Engine, Outcome as Settle};
use std::collections::VecDeque;

impl Run {
    pub(crate) fn deliver(&mut self) -> Result<(), String> {
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
            let queue = self.model.queues.get_mut(&id).ok_or("no such queue")?;
            let heads = queue.heads(now.wall);
            let Some(&at) = heads.iter().find(|at| queue.entries[**at].tag == tag) else {
                let tags: Vec<Tag> = heads.iter().map(|at| queue.entries[*at].tag).collect();
                return Err(format!("queue {id} handed out {tag} instead of one of {tags:?}"));
            };
            let entry = &queue.entries[at];
            let syncs = queue.durability == Durability::Sync;
            if entry.durable && syncs && self.model.batches[entry.batch].ticket > durable.0 {
                return Err(format!("message {tag} was handed out before it was durable"));
            }
            if entry.requeued && entry.batch > 0 && !delivery.redelivered {
                return Err(format!("message {tag} is not marked redelivered"));
            }
            if let Some(death) = entry.death(&queue.limits, now.wall) {
                return Err(format!("message {tag} was handed out and is dead: {death:?}"));
            }
            if delivery.attempts != entry.attempts.now {
                let (said, so_often) = (delivery.attempts, entry.attempts.now);
                return Err(format!("message {tag} was handed out {so_often} times before, and not {said}"));
            }
            queue.hand_out(at, delivery.seq, holder);
        }
        self.check_remainder(id, remainder)?;
        Ok(remainder)
    }

    /// What is said to be left in a queue.
    fn check_remainder(&mut self, id: QueueId, remainder: engine::Remainder) -> Result<(), String> {
        let now = self.now.wall;
        let Some(queue) = self.model.queues.get_mut(&id) else {
            return Ok(());
        };
        queue.pending = remainder.pending;
        let heads = queue.heads(now);
        let is_dead = |at: &usize| queue.entries[*at].death(&queue.limits, now).is_some();
        let right = match (remainder.ready, remainder.head_dead, remainder.pending) {
            (false, false, false) => heads.is_empty(),
            (false, false, true) => !heads.is_empty(),
            (true, false, _) => !heads.iter().all(is_dead),
            (false, true, _) => heads.iter().any(is_dead),
            (true, true, _) => false,
        };
        if right { Ok(()) } else { Err(format!("queue {id} says of its rest: {remainder:?}")) }
    }

    /// Takes dead entries out.
    pub(crate) fn bury(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let max = 1 + self.dice.below(6);
        let mut taken: Vec<Dead> = Vec::new();
        let reaped = self.engine.take_dead(id, max, self.now, &mut taken);
        let letters = self.model.queues.get(&id).is_some_and(|queue| queue.limits.dead_letters);
        let untold = reaped.ended.checked_sub(taken.len()).filter(|untold| !letters || *untold == 0);
        let Some(untold) = untold.filter(|_| reaped.ended <= max) else {
            return Err(format!("{} are dead of {max} asked for, and said {}", taken.len(), reaped.ended));
        };
        for dead in taken {
            let tag = checked_tag(&dead.message)?;
            self.model.see(id, dead.seq, tag)?;
            let queue = self.model.queues.get_mut(&id).ok_or("no such queue")?;
            let buried = queue.graves.pop_front();
            let heads = buried.map_or_else(|| queue.heads(self.now.wall), |at| vec![at]);
            let Some(&at) = heads.iter().find(|at| queue.entries[**at].tag == tag) else {
                return Err(format!("message {tag} of queue {id} is not the next that is dead"));
            };
            if buried.is_none() {
                queue.take_turn(at);
            }
            let entry = &mut queue.entries[at];
            let death = match entry.state {
                State::Dead(death) => Some(death),
                _ => entry.death(&queue.limits, self.now.wall),
            };
            if death != Some(dead.death) {
                return Err(format!("message {tag} of queue {id} is not dead so: {:?}", dead.death));
            }
            entry.state = State::Held(dead.seq, HolderId::BROKER.0);
            queue.pending = false;
        }
        for _ in 0..untold {
            self.end_untold(id)?;
        }
        Ok(())
    }

    /// The head of a queue without dead letters was dead and is gone.
    fn end_untold(&mut self, id: QueueId) -> Result<(), String> {
        let step = self.model.step;
        let queue = self.model.queues.get_mut(&id).ok_or("no such queue")?;
        let at = *queue.heads(self.now.wall).first().ok_or("something died in an empty queue")?;
        let Some(death) = queue.entries[at].death(&queue.limits, self.now.wall) else {
            return Err(format!("queue {id} dropped message {}, which is not dead", queue.entries[at].tag));
        };
        queue.die(at, death, step);
        Ok(())
    }

    pub(crate) fn settle(&mut self) -> Result<(), String> {
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
        self.settled(id, &held, outcome);
        self.trim(id)
    }

    /// Entries of a queue were settled.
    fn settled(&mut self, id: QueueId, held: &[(usize, Seq)], outcome: Settle) {
        let step = self.model.step;
        let Some(queue) = self.model.queues.get_mut(&id) else { return };
        // What the broker gives back as dead comes before all others, in its order.
        let again =
            matches!(outcome, Settle::Dead(_)) && !held.iter().any(|&(at, _)| queue.entries[at].is_with_client());
        let before = if again { std::mem::take(&mut queue.graves) } else { VecDeque::new() };
        for &(at, _) in held {
            let entry = &mut queue.entries[at];
            if outcome != Settle::Requeue {
                queue.totals[2] += u64::from(entry.is_with_client());
            }
            match outcome {
                Settle::Ack => entry.state = State::Gone(Gone::At(step)),
                Settle::Dead(death) => queue.die(at, death, step),
                Settle::Requeue => queue.put_back(at, step),
            }
        }
        queue.graves.extend(before);
    }

    pub(crate) fn release(&mut self) -> Result<(), String> {
        let Some(id) = self.any_queue() else {
            return Ok(());
        };
        let holder = self.next_holder - 1 - self.dice.below(5) as u64 % self.next_holder;
        // What the broker has is settled, never released.
        let holder = holder.max(1);
        let n = self.engine.release(id, HolderId(holder), self.now);
        let (mut expected, step) = (0, self.model.step);
        if let Some(queue) = self.model.queues.get_mut(&id) {
            for at in 0..queue.entries.len() {
                if matches!(queue.entries[at].state, State::Held(_, by) if by == holder) {
                    queue.put_back(at, step);
                    expected += 1;
                }
            }
        }
        self.trim(id)?;
        if n != expected {
            return Err(format!("{n} released of {expected}"));
        }
        Ok(())
    }

    /// Some entries of a queue that are handed out.
    pub(crate) fn held(&mut self, id: QueueId, max: usize) -> Vec<(usize, Seq)> {
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
}
