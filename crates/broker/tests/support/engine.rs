//! An engine in memory for tests: simple, with durability that happens when the test says so.

use bytes::Bytes;
use engine::{
    Batch, BodyLost, BodyWake, BodyWriter, Credit, Dead, Death, Delivery, Engine, EngineError, EngineMetrics, EntryKey,
    Limits, MetaChange, Order, Outcome, Overflow, PieceRead, Pressure, QueueSpec, QueueStats, Reaped, Remainder,
    Schedule, Ticket,
};
use model::{HolderId, LargeBody, Message, Mono, Now, QueueId, Seq, Wall};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

/// The engine. Deleting it forgets everything; [`MemoryEngine::restart`] keeps what is durable.
#[derive(Default)]
pub(crate) struct MemoryEngine {
    state: Mutex<State>,
    bodies: Arc<Bodies>,
}

/// Large bodies, by id.
#[derive(Default)]
struct Bodies {
    whole: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// Writers and readers that wait for [`MemoryEngine::work_on_bodies`].
    waiting: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    slow: AtomicBool,
    damaged: AtomicBool,
    next: AtomicU64,
}

impl Bodies {
    fn soon(&self, work: impl FnOnce() + Send + 'static) {
        if self.slow.load(SeqCst) {
            self.waiting.lock().unwrap().push(Box::new(work));
        } else {
            work();
        }
    }
}

struct Writer {
    bodies: Arc<Bodies>,
    id: u64,
    len: u64,
    content: Vec<u8>,
    busy: Arc<AtomicBool>,
    finishing: bool,
    wake: BodyWake,
}

impl Writer {
    fn soon(&self) {
        self.busy.store(true, SeqCst);
        let (busy, wake) = (self.busy.clone(), self.wake.clone());
        self.bodies.soon(move || {
            busy.store(false, SeqCst);
            wake();
        });
    }
}

impl BodyWriter for Writer {
    fn is_ready(&self) -> Result<bool, EngineError> {
        Ok(!self.busy.load(SeqCst))
    }

    fn append(&mut self, piece: Bytes) {
        assert_eq!(self.is_ready(), Ok(true));
        self.content.extend_from_slice(&piece);
        self.soon();
    }

    fn finish(&mut self) -> Result<Option<Arc<LargeBody>>, EngineError> {
        assert_eq!(self.content.len() as u64, self.len);
        if self.is_ready()? && !std::mem::replace(&mut self.finishing, true) {
            self.soon();
        }
        if !self.is_ready()? {
            return Ok(None);
        }
        self.bodies.whole.lock().unwrap().insert(self.id, std::mem::take(&mut self.content));
        let lease = Lease { bodies: self.bodies.clone(), id: self.id };
        Ok(Some(Arc::new(LargeBody::new(self.id, self.len, Box::new(lease)))))
    }
}

struct Lease {
    bodies: Arc<Bodies>,
    id: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.bodies.whole.lock().unwrap().remove(&self.id);
    }
}

#[derive(Default)]
struct State {
    queues: BTreeMap<QueueId, Queue>,
    metas: BTreeMap<Vec<u8>, Vec<u8>>,
    next_queue: u64,
    ticket: u64,
    durable: u64,
    /// Makes every ticket durable at once.
    instant: bool,
    pressure: Option<Pressure>,
    appends: u64,
    settles: u64,
    waiting: Vec<QueueId>,
}

#[derive(Default)]
struct Queue {
    spec: QueueSpec,
    next_seq: u64,
    /// By due time (0 in order of arrival), priority and seq.
    ready: BTreeMap<Place, Entry>,
    unsettled: BTreeMap<Seq, (HolderId, Entry)>,
    dead: Vec<(Seq, Death)>,
    limits: Limits,
    waited: bool,
    enqueued: u64,
    delivered: u64,
    acked: u64,
}

type Place = (Wall, u8, Seq);

#[derive(Clone)]
struct Entry {
    message: Message,
    ticket: u64,
    redelivered: bool,
    attempts: u32,
    /// By the time to live of the message and of what the queue was made with.
    expires_at: Option<Wall>,
    enqueued_at: Wall,
    schedule: Option<Schedule>,
}

impl Entry {
    fn expires_at(&self, queue_ttl_ms: Option<u64>) -> Option<Wall> {
        self.expires_at.into_iter().chain(queue_ttl_ms.map(|ms| self.enqueued_at.after_millis(ms))).min()
    }
}

impl Queue {
    fn place(&self, message: &Message, schedule: Option<Schedule>, seq: Seq) -> Place {
        if self.spec.order == Order::Due {
            return (schedule.map_or(Wall(0), |s| s.at), 0, seq);
        }
        let priority = message.envelope.priority.min(self.spec.priority_max);
        (Wall(0), u8::MAX - priority, seq)
    }

    fn requeue(&mut self, seq: Seq) -> bool {
        let Some((_, mut entry)) = self.unsettled.remove(&seq) else {
            return false;
        };
        entry.redelivered = true;
        if self.limits.are_exhausted_by(entry.attempts) {
            self.die(seq, entry, Death::DeliveryLimit);
            return true;
        }
        let place = self.place(&entry.message, entry.schedule, seq);
        self.ready.insert(place, entry);
        self.trim();
        true
    }

    /// Kept to be dead-lettered, or gone.
    fn die(&mut self, seq: Seq, entry: Entry, death: Death) {
        if self.limits.dead_letters {
            self.unsettled.insert(seq, (HolderId::BROKER, entry));
            self.dead.push((seq, death));
        }
    }

    fn body_bytes(&self) -> u64 {
        self.ready.values().map(|e| e.message.body_len() as u64).sum()
    }

    fn is_over(&self, more: u64, bytes: u64) -> bool {
        self.limits.are_exceeded_by(self.ready.len() as u64 + more, self.body_bytes() + bytes)
    }

    fn trim(&mut self) {
        while !self.waited && self.limits.push_out(self.ready.len() as u64, self.body_bytes()) {
            let Some(((_, _, seq), entry)) = self.ready.pop_first() else {
                break;
            };
            self.die(seq, entry, Death::MaxLen);
        }
    }

    fn ack(&mut self, seq: Seq) -> bool {
        let holder = self.unsettled.remove(&seq).map(|(holder, _)| holder);
        self.acked += u64::from(holder.is_some_and(|holder| holder != HolderId::BROKER));
        holder.is_some()
    }
}

impl MemoryEngine {
    /// Everything is durable at once.
    pub(crate) fn instant() -> Self {
        let engine = Self::default();
        engine.state().instant = true;
        engine
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes everything durable; returns the ticket and the queues somebody waited on.
    pub(crate) fn make_durable(&self) -> (Ticket, Vec<QueueId>) {
        let mut state = self.state();
        state.durable = state.ticket;
        (Ticket(state.durable), std::mem::take(&mut state.waiting))
    }

    /// Bodies wait until [`MemoryEngine::work_on_bodies`].
    pub(crate) fn slow_bodies(&self) {
        self.bodies.slow.store(true, SeqCst);
    }

    /// Every body is damaged from now on.
    pub(crate) fn damage_bodies(&self) {
        self.bodies.damaged.store(true, SeqCst);
    }

    /// Does what waits for bodies; returns how much that was.
    pub(crate) fn work_on_bodies(&self) -> usize {
        let waiting = std::mem::take(&mut *self.bodies.waiting.lock().unwrap());
        let count = waiting.len();
        waiting.into_iter().for_each(|work| work());
        count
    }

    /// Large bodies that somebody needs.
    pub(crate) fn bodies(&self) -> usize {
        self.bodies.whole.lock().unwrap().len()
    }

    pub(crate) fn set_pressure(&self, pressure: Pressure) {
        self.state().pressure = Some(pressure);
    }

    /// Batches appended so far, and calls of settle.
    pub(crate) fn calls(&self) -> (u64, u64) {
        let state = self.state();
        (state.appends, state.settles)
    }

    /// What a new process would find after a clean stop.
    pub(crate) fn restart(&self) -> Self {
        let mut state = self.state();
        let mut queues = std::mem::take(&mut state.queues);
        queues.retain(|_, q| q.spec.durable);
        for queue in queues.values_mut() {
            let held: Vec<Seq> = queue.unsettled.keys().copied().collect();
            for seq in held {
                queue.requeue(seq);
            }
            let keeps = queue.spec.keeps();
            queue.ready.retain(|_, e| keeps && e.message.envelope.persistent);
        }
        let state = State {
            queues,
            metas: std::mem::take(&mut state.metas),
            next_queue: state.next_queue,
            instant: state.instant,
            ticket: state.ticket,
            durable: state.ticket,
            ..State::default()
        };
        Self { state: Mutex::new(state), bodies: self.bodies.clone() }
    }
}

impl State {
    fn new_ticket(&mut self) -> Ticket {
        self.ticket += 1;
        if self.instant {
            self.durable = self.ticket;
        }
        Ticket(self.ticket)
    }

    fn pressed(&self) -> Result<(), EngineError> {
        match self.pressure {
            None | Some(Pressure::None) => Ok(()),
            Some(pressure) => Err(EngineError::Pressed(pressure)),
        }
    }
}

impl Engine for MemoryEngine {
    fn append(&self, batch: &mut Batch, now: Now) -> Result<Ticket, EngineError> {
        let mut state = self.state();
        if batch.entries().next().is_some() {
            state.pressed()?;
        }
        state.appends += 1;
        let syncs = batch.entries().any(|(message, targets)| {
            let to_synced = |id| state.queues.get(id).is_some_and(|q| q.spec.syncs());
            message.envelope.persistent && targets.iter().any(to_synced)
        });
        let ends = batch.acks().iter().any(|(id, seq)| {
            let queue = state.queues.get(id).filter(|queue| queue.spec.syncs());
            queue.is_some_and(|queue| queue.unsettled.get(seq).is_some_and(|(_, entry)| entry.ticket > 0))
        });
        let only_metas = batch.entries().next().is_none() && batch.acks().is_empty() && !batch.metas().is_empty();
        let ticket = if syncs || ends || only_metas { state.new_ticket() } else { Ticket::NONE };
        for (queue, seq) in batch.acks().to_vec() {
            if let Some(queue) = state.queues.get_mut(&queue) {
                queue.ack(seq);
            }
        }
        for MetaChange { key, value } in batch.take_metas() {
            match value {
                Some(value) => state.metas.insert(key, value),
                None => state.metas.remove(&key),
            };
        }
        let mut index = 0;
        let mut rejected = Vec::new();
        batch.drain(|message, targets, schedule| {
            for target in targets {
                let Some(queue) = state.queues.get_mut(target) else {
                    continue;
                };
                let refuses = queue.limits.refuse_publishes() && queue.is_over(1, message.body_len() as u64);
                if refuses {
                    rejected.push(index);
                    if queue.limits.overflow == Overflow::RejectPublish {
                        continue;
                    }
                }
                queue.next_seq += 1;
                let place = queue.place(&message, schedule, Seq(queue.next_seq));
                let ttl = [queue.spec.ttl_ms, message.envelope.ttl_ms];
                let waits = message.envelope.persistent && queue.spec.syncs();
                let entry = Entry {
                    message: message.clone(),
                    ticket: if waits { ticket.0 } else { 0 },
                    redelivered: false,
                    attempts: 0,
                    expires_at: ttl
                        .into_iter()
                        .flatten()
                        .min()
                        .filter(|_| queue.spec.order == Order::Arrival)
                        .map(|ms| now.wall.after_millis(ms)),
                    enqueued_at: now.wall,
                    schedule,
                };
                queue.enqueued += 1;
                if refuses {
                    queue.die(place.2, entry, Death::MaxLen);
                    continue;
                }
                queue.ready.insert(place, entry);
                queue.trim();
            }
            index += 1;
        });
        for index in rejected {
            batch.reject(index);
        }
        Ok(ticket)
    }

    fn begin_body(&self, len: u64, wake: BodyWake) -> Result<Box<dyn BodyWriter>, EngineError> {
        self.state().pressed()?;
        let id = self.bodies.next.fetch_add(1, SeqCst);
        let (bodies, busy) = (self.bodies.clone(), Arc::default());
        Ok(Box::new(Writer { bodies, id, len, content: Vec::new(), busy, finishing: false, wake }))
    }

    fn read_body(&self, body: &Arc<LargeBody>, at: u64, done: PieceRead) {
        let (bodies, body) = (self.bodies.clone(), body.clone());
        self.bodies.soon(move || {
            let whole = bodies.whole.lock().unwrap()[&body.id()].clone();
            let piece = Bytes::from(whole).slice(at as usize..);
            let len = piece.len().min(4);
            done(if bodies.damaged.load(SeqCst) { Err(BodyLost) } else { Ok(piece.slice(..len)) });
        });
    }

    fn durable(&self) -> Ticket {
        Ticket(self.state().durable)
    }

    fn deliver(
        &self,
        id: QueueId,
        credit: Credit,
        now: Now,
        assign: &mut dyn FnMut(Delivery) -> HolderId,
    ) -> Remainder {
        let mut state = self.state();
        let durable = state.durable;
        let mut left = Remainder::default();
        let mut bytes = 0;
        let Some(queue) = state.queues.get_mut(&id) else {
            return left;
        };
        while let Some(first) = queue.ready.first_entry() {
            let ((due, _, seq), entry) = (*first.key(), first.get());
            if due > now.wall {
                break;
            }
            if entry.ticket > durable {
                left.pending = true;
                break;
            }
            if entry.expires_at(queue.limits.ttl_ms).is_some_and(|at| at <= now.wall) {
                left.head_dead = true;
                break;
            }
            if left.delivered == credit.messages || bytes >= credit.bytes {
                left.ready = true;
                break;
            }
            let mut entry = first.remove();
            bytes += entry.message.bytes().len();
            let holder = assign(Delivery {
                queue: id,
                seq,
                message: entry.message.clone(),
                redelivered: entry.redelivered,
                attempts: entry.attempts,
                enqueued_at: Mono(0),
            });
            entry.attempts += 1;
            left.delivered += 1;
            queue.delivered += 1;
            queue.unsettled.insert(seq, (holder, entry));
        }
        if left.pending {
            state.waiting.push(id);
        }
        left
    }

    fn take_dead(&self, id: QueueId, max: usize, now: Now, dead: &mut Vec<Dead>) -> Reaped {
        let mut state = self.state();
        let durable = state.durable;
        let Some(queue) = state.queues.get_mut(&id) else {
            return Reaped::default();
        };
        let mut taken = 0;
        while taken < max {
            if !queue.dead.is_empty() {
                let (seq, death) = queue.dead.remove(0);
                let message = queue.unsettled[&seq].1.message.clone();
                dead.push(Dead { seq, message, death });
                taken += 1;
                continue;
            }
            let Some(first) = queue.ready.first_entry() else {
                break;
            };
            let expires_at = first.get().expires_at(queue.limits.ttl_ms);
            let over = first.get().ticket <= durable && expires_at.is_some_and(|at| at <= now.wall);
            if !over {
                break;
            }
            let (key, entry) = first.remove_entry();
            taken += usize::from(!queue.limits.dead_letters);
            queue.die(key.2, entry, Death::Expired);
        }
        Reaped { ended: taken, pending: false }
    }

    fn set_limits(&self, id: QueueId, limits: Limits, _now: Now) {
        if let Some(queue) = self.state().queues.get_mut(&id) {
            queue.limits = limits;
            queue.trim();
        }
    }

    fn set_waited(&self, id: QueueId, waited: bool, _now: Now) {
        if let Some(queue) = self.state().queues.get_mut(&id) {
            queue.waited = waited;
            queue.trim();
        }
    }

    fn settle(&self, id: QueueId, seqs: &[Seq], outcome: Outcome, _now: Now) -> usize {
        let mut state = self.state();
        state.settles += 1;
        let Some(queue) = state.queues.get_mut(&id) else {
            return 0;
        };
        let mut settled = 0;
        for seq in seqs {
            settled += usize::from(match outcome {
                Outcome::Ack => queue.ack(*seq),
                Outcome::Requeue => queue.requeue(*seq),
                Outcome::Dead(death) => match queue.unsettled.remove(seq) {
                    Some((holder, entry)) => {
                        queue.acked += u64::from(holder != HolderId::BROKER);
                        queue.die(*seq, entry, death);
                        true
                    }
                    None => false,
                },
            });
        }
        settled
    }

    fn release(&self, id: QueueId, holder: HolderId, _now: Now) -> usize {
        let mut state = self.state();
        let Some(queue) = state.queues.get_mut(&id) else {
            return 0;
        };
        let held: Vec<Seq> = queue.unsettled.iter().filter(|(_, (h, _))| *h == holder).map(|(seq, _)| *seq).collect();
        for seq in &held {
            queue.requeue(*seq);
        }
        held.len()
    }

    fn cancel(&self, id: QueueId, key: EntryKey, _now: Now) -> Result<(usize, Ticket), EngineError> {
        let mut state = self.state();
        let Some(queue) = state.queues.get_mut(&id) else {
            return Ok((0, Ticket::NONE));
        };
        let before = queue.ready.len();
        queue.ready.retain(|_, e| e.schedule.and_then(|s| s.key) != Some(key));
        let taken = before - queue.ready.len();
        let ticket = if taken > 0 { state.new_ticket() } else { Ticket::NONE };
        Ok((taken, ticket))
    }

    fn purge(&self, id: QueueId, _now: Now) -> u64 {
        let mut state = self.state();
        let queue = state.queues.get_mut(&id);
        queue.map_or(0, |q| std::mem::take(&mut q.ready).len() as u64)
    }

    fn stats(&self, id: QueueId) -> QueueStats {
        let state = self.state();
        let Some(queue) = state.queues.get(&id) else {
            return QueueStats::default();
        };
        let head = queue.ready.values().next();
        let due = queue.ready.keys().next().map(|place| place.0);
        QueueStats {
            ready: queue.ready.len() as u64,
            unsettled: queue.unsettled.len() as u64,
            ready_bytes: queue.body_bytes(),
            oldest: head.map(|e| e.message.envelope.received_at),
            head_expires_at: head.and_then(|e| e.expires_at(queue.limits.ttl_ms)),
            head_due_at: due.filter(|_| queue.spec.order == Order::Due),
            enqueued: queue.enqueued,
            delivered: queue.delivered,
            acked: queue.acked,
        }
    }

    fn create_queue(&self, spec: QueueSpec) -> Result<(QueueId, Ticket), EngineError> {
        let mut state = self.state();
        state.pressed()?;
        state.next_queue += 1;
        let id = QueueId(state.next_queue);
        let queue = Queue { spec, ..Queue::default() };
        state.queues.insert(id, queue);
        let ticket = if spec.durable { state.new_ticket() } else { Ticket::NONE };
        Ok((id, ticket))
    }

    fn delete_queue(&self, id: QueueId) -> Result<Ticket, EngineError> {
        let mut state = self.state();
        state.queues.remove(&id);
        Ok(state.new_ticket())
    }

    fn queues(&self) -> Vec<(QueueId, QueueSpec)> {
        self.state().queues.iter().map(|(id, q)| (*id, q.spec)).collect()
    }

    fn put_meta(&self, key: &[u8], value: &[u8]) -> Result<Ticket, EngineError> {
        let mut state = self.state();
        state.pressed()?;
        state.metas.insert(key.to_vec(), value.to_vec());
        Ok(state.new_ticket())
    }

    fn delete_meta(&self, key: &[u8]) -> Result<Ticket, EngineError> {
        let mut state = self.state();
        state.metas.remove(key);
        Ok(state.new_ticket())
    }

    fn get_meta(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state().metas.get(key).cloned()
    }

    fn metas(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let state = self.state();
        state.metas.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    fn pressure(&self) -> Pressure {
        self.state().pressure.unwrap_or(Pressure::None)
    }

    fn metrics(&self) -> EngineMetrics {
        EngineMetrics::default()
    }

    fn close(&self) -> Result<(), EngineError> {
        Ok(())
    }
}
