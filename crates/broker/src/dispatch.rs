//! Handing entries of a queue to consumers with credit: the highest priority first, round robin within one.
//!
//! The queue's lock is held while entries move from the engine into mailboxes, so a consumer that has left a queue
//! gets nothing more and a consumer's deliveries keep their order. Connections are woken once per batch.

use crate::broker::Broker;
use crate::consumer::Consumer;
use crate::dead_letter::Burial;
use crate::mailbox::{Mailbox, Parcel};
use crate::publish::Touched;
use crate::queue::{Queue, QueueState};
use crate::ring::Ring;
use engine::{Credit, Delivery};
use model::limits::OUTBOX_BYTES_MAX;
use model::{HolderId, Mono, Now, QueueId, Wall, near};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Entries handed out under one hold of a queue's lock.
const BATCH_MESSAGES: u32 = 256;
/// Queues whose memory is asked for together.
const NEAR: usize = 32;
/// Consumers served under one hold of a queue's lock.
const BATCH_CONSUMERS: usize = 64;

/// Credit taken from one consumer for a batch.
struct Slot {
    consumer: Arc<Consumer>,
    granted: u32,
    used: u32,
}

/// Memory of a batch, kept by each thread. Who dispatches while this thread does gets a new one.
#[derive(Default)]
struct Scratch {
    slots: Vec<Slot>,
    /// Consumers that got no credit for the batch.
    passed: Vec<Arc<Consumer>>,
    handed: Vec<(usize, Option<Delivery>)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Connections to be woken.
#[derive(Default)]
struct Woken {
    mailboxes: Vec<Arc<Mailbox>>,
    /// Entries that lie there for them.
    entries: u32,
}

impl Woken {
    fn add(&mut self, mailbox: &Arc<Mailbox>, entries: u32) {
        self.entries += entries;
        if !self.mailboxes.iter().any(|known| Arc::ptr_eq(known, mailbox)) {
            self.mailboxes.push(mailbox.clone());
        }
        if self.entries >= BATCH_MESSAGES {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.mailboxes.drain(..).for_each(|mailbox| mailbox.wake());
        self.entries = 0;
    }
}

/// What a batch leaves behind.
struct Done {
    more: bool,
    head_dead: bool,
}

impl Broker {
    /// Hands out what can be handed out.
    pub(crate) fn dispatch(&self, queue: &Arc<Queue>, now: Now) {
        let mut scratch = SCRATCH.with(RefCell::take);
        self.dispatch_and(queue, &mut |mailbox, _| mailbox.wake(), &mut scratch, now);
        SCRATCH.set(scratch);
    }

    /// The same for many queues. Each may hand out a single entry, so connections are woken for many together.
    pub(crate) fn dispatch_all(&self, queues: &[Touched], now: Now) {
        let mut woken = Woken::default();
        let mut scratch = SCRATCH.with(RefCell::take);
        for some in queues.chunks(NEAR) {
            if some.len() > 1 {
                self.bring_near(some);
            }
            for Touched { queue, .. } in some {
                self.dispatch_and(queue, &mut |mailbox, entries| woken.add(mailbox, entries), &mut scratch, now);
            }
        }
        SCRATCH.set(scratch);
        woken.wake();
    }

    /// Asks for what handing out from these queues will look at.
    fn bring_near(&self, queues: &[Touched]) {
        let mut ids = [QueueId(0); NEAR];
        for (id, touched) in ids.iter_mut().zip(queues) {
            *id = touched.id;
            near::ask_for(&*touched.queue, usize::MAX);
        }
        self.engine.bring_near(&ids[..queues.len()]);
        for Touched { queue, .. } in queues {
            if let Some(state) = queue.state.try_lock()
                && let Some(consumer) = state.ring.top(0)
            {
                near::ask_for(&**consumer, usize::MAX);
            }
        }
    }

    /// The same; `wake` is told who has something, and how much more.
    fn dispatch_and(
        &self,
        queue: &Arc<Queue>,
        wake: &mut dyn FnMut(&Arc<Mailbox>, u32),
        scratch: &mut Scratch,
        now: Now,
    ) {
        if queue.consumer_count.load(SeqCst) == 0 {
            return;
        }
        loop {
            let done = self.dispatch_batch(queue, scratch, now);
            for slot in &scratch.slots {
                if slot.used > 0 {
                    wake(&slot.consumer.mailbox, slot.used);
                }
            }
            for slot in scratch.slots.drain(..) {
                if slot.used < slot.granted && slot.consumer.mailbox.any_starved() {
                    // What was reserved here may have starved another queue's consumer; its driver feeds it.
                    slot.consumer.mailbox.wake();
                }
            }
            if done.head_dead {
                if self.bury(queue, now) != Burial::Done {
                    break;
                }
            } else if !done.more {
                break;
            }
        }
        if queue.buries_on_publish() {
            self.bury(queue, now);
        }
        if queue.may_expire.load(SeqCst) {
            self.watch_head(queue, now);
        }
    }

    fn dispatch_batch(&self, queue: &Arc<Queue>, scratch: &mut Scratch, now: Now) -> Done {
        let mut state = queue.state.lock();
        let total = plan(&mut state, &mut scratch.slots, &mut scratch.passed, now.mono);
        if total == 0 {
            state.set_waited_since(None);
            // Credit that came back while this looked is used at once: nobody else will look for it.
            let more = self.rest(&mut state, &mut scratch.passed, now.mono);
            if queue.drops_head() && !more {
                self.engine.set_waited(queue.id, false, now);
            }
            return Done { more, head_dead: false };
        }
        let credit = Credit { messages: total as usize, bytes: OUTBOX_BYTES_MAX / 2 };
        let (slots, handed) = (&mut scratch.slots, &mut scratch.handed);
        let mut turn = 0;
        let then = Now { wall: state.waited_since().unwrap_or(now.wall).min(now.wall), ..now };
        let left = self.engine.deliver(queue.id, credit, then, &mut |delivery| {
            let mut tried = 0;
            while slots[turn].used == slots[turn].granted {
                turn = (turn + 1) % slots.len();
                tried += 1;
                assert!(tried <= slots.len(), "the engine exceeded its credit");
            }
            let slot = &mut slots[turn];
            slot.used += 1;
            let holder: HolderId = slot.consumer.channel.holder;
            handed.push((turn, Some(delivery)));
            turn = (turn + 1) % slots.len();
            holder
        });
        for (i, slot) in slots.iter().enumerate().filter(|(_, s)| s.used > 0) {
            slot.consumer.mailbox.put(handed.iter_mut().filter_map(|(to, delivery)| {
                let delivery = (*to == i).then(|| delivery.take()).flatten()?;
                Some(Parcel::Delivery {
                    consumer: slot.consumer.clone(),
                    seq: delivery.seq,
                    message: delivery.message,
                    redelivered: delivery.redelivered,
                    attempts: delivery.attempts,
                })
            }));
        }
        let served = handed.len();
        handed.clear();
        for slot in slots.iter() {
            slot.consumer.unreserve(slot.granted - slot.used);
        }
        let all_served = turn == 0 && served > 0;
        let turns = if all_served { slots.len() } else { turn };
        state.ring.turn(turns);
        let more = self.rest(&mut state, &mut scratch.passed, now.mono) || served > 0;
        let waits = !left.ready && !left.head_dead && state.ring.any(|consumer| consumer.has_credit(now.mono));
        let since = state.waited_since().unwrap_or(Wall(now.wall.0.saturating_sub(1)));
        state.set_waited_since(waits.then_some(since));
        let more = left.ready && more;
        if queue.drops_head() && !more && !left.head_dead {
            self.engine.set_waited(queue.id, waits, now);
        }
        Done { more, head_dead: left.head_dead }
    }

    /// Where the consumers go that were passed over, now that unused credit is back: who has some again was only short of
    /// what others of its channel, or of its quota, had reserved for this batch and stays in the ring; the others starve,
    /// and those that a quota holds are woken when it lets them go on. Returns whether any stays.
    fn rest(&self, state: &mut QueueState, passed: &mut Vec<Arc<Consumer>>, now: Mono) -> bool {
        let mut any = false;
        for consumer in passed.drain(..) {
            if consumer.has_credit(now) {
                state.rejoin(consumer);
                any = true;
                continue;
            }
            let mailbox = consumer.mailbox.clone();
            mailbox.starve(consumer.clone());
            match consumer.credit(now) {
                // Credit came back between the two: whoever gave it may not have seen this consumer starve.
                Ok(()) => mailbox.wake(),
                Err(Some(later)) => self.schedule_wake(mailbox.id, later),
                Err(None) => {}
            }
        }
        any
    }

    /// Offers the queues of a connection's starved consumers again, as far as they have credit.
    pub(crate) fn feed(&self, mailbox: &Mailbox, now: Now) {
        if !mailbox.any_starved() {
            return;
        }
        let (mut from, mut held) = (0, None);
        while let Some(consumer) = mailbox.next_fed(&mut from, &mut held, now.mono) {
            {
                let mut state = consumer.queue.state.lock();
                if consumer.gone.load(SeqCst) || state.deleted {
                    continue;
                }
                state.rejoin(consumer.clone());
            }
            self.dispatch(&consumer.queue, now);
        }
        if let Some(at) = held {
            self.schedule_wake(mailbox.id, at);
        }
    }
}

/// Takes credit from the consumers whose turn it is, all of one priority; those without any leave the ring and are
/// passed over.
fn plan(state: &mut QueueState, slots: &mut Vec<Slot>, passed: &mut Vec<Arc<Consumer>>, now: Mono) -> u32 {
    while let Some(consumers) = state.ring.top_len() {
        let total = plan_level(&mut state.ring, consumers, slots, passed, now);
        if total > 0 {
            return total;
        }
        state.ring.drop_top();
    }
    0
}

/// The same for one priority; leaves nobody if it takes nothing.
fn plan_level(
    ring: &mut Ring,
    consumers: usize,
    slots: &mut Vec<Slot>,
    passed: &mut Vec<Arc<Consumer>>,
    now: Mono,
) -> u32 {
    let share = match u32::try_from(consumers) {
        Ok(n) if consumers <= BATCH_CONSUMERS => BATCH_MESSAGES / n.max(1),
        _ => 1,
    };
    let mut total = 0;
    while let Some(consumer) = ring.top(slots.len()) {
        if slots.len() == BATCH_CONSUMERS {
            break;
        }
        let granted = consumer.reserve(share, now);
        if granted > 0 {
            total += granted;
            slots.push(Slot { consumer: consumer.clone(), granted, used: 0 });
            continue;
        }
        passed.extend(ring.take_top(slots.len()));
    }
    total
}
