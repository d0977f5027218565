//! The one suite every engine must pass. Each check is a function over a [`Rig`]: a fresh engine that can be waited
//! for, restarted and crashed.
//!
//! An engine's tests call [`run`] with a maker of rigs; a failing check panics with its name.

mod bodies;
mod classes;
mod durability;
mod fair;
mod lifecycle;
mod queues;
mod schedule;

use crate::{Batch, Credit, Dead, Delivery, Durability, Engine, Limits, Order, QueueSpec, Remainder, Ticket};
use bytes::Bytes;
use model::{Envelope, HolderId, Message, Mono, Now, Origin, QueueId, Seq, Wall};

/// An engine under test, with what only its tests can do to it.
pub trait Rig {
    /// The engine, which starts empty.
    fn engine(&self) -> &dyn Engine;
    /// Returns once the ticket is durable.
    fn wait_durable(&mut self, ticket: Ticket);
    /// Returns once the engine has said since the last call that this queue is readable.
    fn wait_readable(&mut self, queue: QueueId);
    /// Lets the engine do what it does in the background, for a moment.
    fn work(&mut self);
    /// Closes the engine and opens it again.
    fn restart(&mut self);
    /// Stops the engine without closing it and opens it again; what was not durable may be lost.
    fn crash(&mut self);
}

/// A check and its name.
type Check = (&'static str, fn(&mut dyn Rig));

/// Runs every check on a rig of its own; returns how many there are.
pub fn run(mut make: impl FnMut(&str) -> Box<dyn Rig>) -> usize {
    let checks: Vec<Check> = [
        queues::CHECKS,
        lifecycle::CHECKS,
        durability::CHECKS,
        classes::CHECKS,
        schedule::CHECKS,
        fair::CHECKS,
        bodies::CHECKS,
    ]
    .concat();
    for (name, check) in &checks {
        check(&mut *make(name));
    }
    checks.len()
}

/// A moment `ms` after an arbitrary start.
fn at(ms: u64) -> Now {
    Now { mono: Mono(1 + ms * 1000), wall: Wall(1_700_000_000_000 + ms) }
}

const ALL: Credit = Credit { messages: usize::MAX, bytes: usize::MAX };

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };

const TRANSIENT: QueueSpec = QueueSpec { durable: false, ..DURABLE };

/// What a test chooses of a message.
#[derive(Clone, Copy)]
struct Made {
    persistent: bool,
    priority: u8,
    ttl_ms: Option<u64>,
}

const PERSISTENT: Made = Made { persistent: true, priority: 0, ttl_ms: None };

const PASSING: Made = Made { persistent: false, priority: 0, ttl_ms: None };

/// A message with this body.
fn message(made: Made, body: &str) -> Message {
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent: made.persistent,
        priority: made.priority,
        ttl_ms: made.ttl_ms,
        received_at: at(0).wall,
        has_headers: false,
        producer: 0,
    };
    let bytes = Bytes::from(format!("exkeyhh{body}"));
    Message::from_parts(envelope, 2, 3, 2, bytes).expect("seven bytes before the body")
}

/// Publishes bodies in one batch and waits until they are durable.
fn publish(rig: &mut dyn Rig, queue: QueueId, made: Made, bodies: &[&str]) {
    let ticket = append(rig, &[queue], made, bodies);
    rig.wait_durable(ticket);
}

/// Publishes bodies in one batch.
fn append(rig: &mut dyn Rig, queues: &[QueueId], made: Made, bodies: &[&str]) -> Ticket {
    let mut batch = Batch::new();
    for body in bodies {
        batch.push(message(made, body), queues);
    }
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    assert!(batch.is_empty(), "a batch that was taken is left empty");
    ticket
}

/// A queue that is there to stay.
fn queue(rig: &mut dyn Rig, spec: QueueSpec) -> QueueId {
    let (id, ticket) = rig.engine().create_queue(spec).expect("an engine at rest makes a queue");
    rig.wait_durable(ticket);
    id
}

/// One call, whatever comes of it.
fn deliver_once(
    rig: &mut dyn Rig,
    queue: QueueId,
    credit: Credit,
    holder: u64,
    now: Now,
) -> (Vec<Delivery>, Remainder) {
    let mut got = Vec::new();
    let remainder = rig.engine().deliver(queue, credit, now, &mut |delivery| {
        got.push(delivery);
        HolderId(holder)
    });
    assert_eq!(got.len(), remainder.delivered);
    (got, remainder)
}

/// Deliveries at `now` until the credit is used up or nothing is left, waiting where the engine says so.
fn deliver_at(
    rig: &mut dyn Rig,
    queue: QueueId,
    mut credit: Credit,
    holder: u64,
    now: Now,
) -> (Vec<Delivery>, Remainder) {
    let mut all = Vec::new();
    loop {
        let (got, remainder) = deliver_once(rig, queue, credit, holder, now);
        let bytes: usize = got.iter().map(|d| d.message.bytes().len()).sum();
        credit.messages -= got.len();
        credit.bytes = credit.bytes.saturating_sub(bytes);
        all.extend(got);
        if !remainder.pending {
            return (all, remainder);
        }
        rig.wait_readable(queue);
    }
}

/// Up to `messages` deliveries.
fn take(rig: &mut dyn Rig, queue: QueueId, messages: usize, holder: u64) -> Vec<Delivery> {
    let credit = Credit { messages, bytes: usize::MAX };
    deliver_at(rig, queue, credit, holder, at(0)).0
}

/// Dead entries are kept to be dead-lettered.
const LETTERS: Limits = Limits {
    fair: None,
    messages: None,
    bytes: None,
    overflow: crate::Overflow::DropHead,
    attempts: None,
    counts_attempts: false,
    ttl_ms: None,
    dead_letters: true,
};

/// Up to `max` dead entries at `now`, of a queue that keeps them, waiting where the engine does.
fn dead_at(rig: &mut dyn Rig, queue: QueueId, max: usize, now: Now) -> Vec<Dead> {
    let mut dead = Vec::new();
    loop {
        let left = max - dead.len();
        let reaped = rig.engine().take_dead(queue, left, now, &mut dead);
        if !reaped.pending || dead.len() == max {
            return dead;
        }
        rig.wait_readable(queue);
    }
}

fn dead_bodies(dead: &[Dead]) -> Vec<String> {
    dead.iter().map(|d| String::from_utf8_lossy(d.message.body()).into_owned()).collect()
}

fn dead_seqs(dead: &[Dead]) -> Vec<Seq> {
    dead.iter().map(|d| d.seq).collect()
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    let body = |d: &Delivery| String::from_utf8_lossy(d.message.body()).into_owned();
    deliveries.iter().map(body).collect()
}

fn seqs(deliveries: &[Delivery]) -> Vec<Seq> {
    deliveries.iter().map(|d| d.seq).collect()
}
