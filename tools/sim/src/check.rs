//! The check of what a restart brought back.
//!
//! Invariants checked after every restart, `D` being the highest durable ticket seen before it:
//! * what was appended with a ticket up to `D` is there unless it was settled;
//! * what was settled does not come back if something later was durable;
//! * a batch is there wholly or not at all, what it acknowledged and what it changed in the metadata included;
//! * what went to queues that are not synced is there if anything later was durable, and never if they are in memory;
//! * nothing is there that was not appended, nothing twice, and order is kept;
//! * nothing was handed out more often than it was, nor less often than the log was told where that counts;
//! * a seq never means another message.

use crate::attempts::Attempts;
use crate::model::{Back, Entry, Gone, Mark, Model, Queue, Recovered, State, Tag, Value};
use model::QueueId;
use std::collections::BTreeMap;

impl Model {
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

    fn check_entries(&self, id: QueueId, found: &[Back], durable: u64) -> Result<(), String> {
        let queue = &self.queues[&id];
        let mut expected: Vec<(usize, &Entry)> = queue.entries.iter().enumerate().filter(|(_, e)| e.durable).collect();
        // Stable: within a lane or a time the order of appending stays.
        expected.sort_by_key(|(_, e)| (std::cmp::Reverse(e.lane), e.due));
        let mut found = found.iter().peekable();
        for (at, entry) in expected {
            let back = found.next_if(|back| back.tag == entry.tag);
            let there = back.is_some();
            if let Some(back) = back {
                self.check_attempts(queue, at, back.attempts, durable)?;
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
            Some(Back { tag, .. }) => {
                Err(format!("queue {id} holds message {tag} twice, out of order, or from nowhere"))
            }
            None => Ok(()),
        }
    }

    /// How often an entry is said to have been handed out: as often as the log was durably told, or more, but not more
    /// often than it was. Where the order is that of arrival, what came before something that was handed out was, too.
    fn check_attempts(&self, queue: &Queue, at: usize, said: u32, durable: u64) -> Result<(), String> {
        let entry = &queue.entries[at];
        let by_seq = queue.goes_by_seq();
        let told = |step| step == 0 || self.is_durable_at(step, durable);
        let least = entry.attempts.at_least(by_seq, told);
        let most = entry.attempts.now.max(u32::from(by_seq && Some(at) <= queue.handed_to));
        if (least..=most).contains(&said) {
            return Ok(());
        }
        Err(format!("message {} was handed out {said} times before, and not {least} to {most}", entry.tag))
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
        let is_there =
            |id: &QueueId, tag: Tag| recovered.get(id).map(|entries| entries.iter().any(|back| back.tag == tag));
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
            queue.waited = false;
            queue.turns.clear();
            let attempts: BTreeMap<Tag, u32> = entries.iter().map(|back| (back.tag, back.attempts)).collect();
            queue.entries.retain(|e| e.durable && attempts.contains_key(&e.tag));
            queue.handed_to = queue.entries.len().checked_sub(1);
            let (counts, by_seq) = (queue.limits.counts_attempts, queue.goes_by_seq());
            for entry in &mut queue.entries {
                entry.state = State::Ready;
                entry.batch = 0;
                entry.requeued = true;
                entry.group = None;
                entry.attempts = Attempts::recovered(attempts[&entry.tag], by_seq);
                entry.attempts.hand_out(counts, by_seq);
            }
            self.queues.insert(*id, queue);
        }
        self.metas.clear();
        for (key, value) in metas {
            self.metas.insert(key.clone(), vec![Value { value: Some(value.clone()), ..Value::default() }]);
        }
    }
}
