//! Queues in order of due time: nothing early, nothing out of order, nothing lost, nothing after it was taken back.

use super::{ALL, Check, DURABLE, Made, PASSING, PERSISTENT, Rig, at, bodies, deliver_at, message, queue, seqs};
use crate::{Batch, Credit, EntryKey, Order, Outcome, QueueSpec, Schedule, Ticket};
use model::{QueueId, Wall};
use std::num::NonZeroU64;

pub(super) const CHECKS: &[Check] = &[
    ("due_order", due_order),
    ("due_without_schedule", due_without_schedule),
    ("due_far_away", due_far_away),
    ("due_after_a_jump_of_the_clock", due_after_a_jump_of_the_clock),
    ("due_requeue", due_requeue),
    ("due_cancel", due_cancel),
    ("due_cancel_of_what_is_handed_out", due_cancel_of_what_is_handed_out),
    ("due_restart", due_restart),
    ("due_cancel_is_durable", due_cancel_is_durable),
];

const BY_DUE: QueueSpec = QueueSpec { order: Order::Due, ..DURABLE };

fn key(n: u64) -> Option<EntryKey> {
    NonZeroU64::new(n).map(EntryKey)
}

/// Schedules bodies, each with its time in milliseconds and its key (0 is none), and waits until they are durable.
fn schedule(rig: &mut dyn Rig, q: QueueId, made: Made, entries: &[(u64, u64, &str)]) {
    let mut batch = Batch::new();
    for &(ms, code, body) in entries {
        batch.push_scheduled(message(made, body), q, Schedule { at: at(ms).wall, key: key(code) });
    }
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    rig.wait_durable(ticket);
}

fn due(rig: &mut dyn Rig, q: QueueId, ms: u64) -> Vec<String> {
    let (got, rest) = deliver_at(rig, q, ALL, 1, at(ms));
    assert!(!rest.ready && !rest.pending && !rest.head_dead);
    rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(ms));
    bodies(&got)
}

fn due_order(rig: &mut dyn Rig) {
    for durable in [true, false] {
        let q = queue(rig, QueueSpec { durable, ..BY_DUE });
        let urgent = Made { priority: 9, ttl_ms: Some(1), ..PERSISTENT };
        schedule(rig, q, PERSISTENT, &[(500, 0, "d"), (100, 0, "a"), (100, 0, "b")]);
        schedule(rig, q, PASSING, &[(300, 0, "c")]);
        schedule(rig, q, urgent, &[(9000, 0, "e"), (100, 0, "b2")]);
        let stats = rig.engine().stats(q);
        assert_eq!((stats.ready, stats.unsettled), (6, 0), "what waits counts as ready");
        assert_eq!((stats.head_due_at, stats.head_expires_at), (Some(at(100).wall), None));
        assert!(due(rig, q, 99).is_empty(), "nothing is early");
        let credit = Credit { messages: 2, bytes: usize::MAX };
        let (got, rest) = deliver_at(rig, q, credit, 1, at(300));
        assert_eq!(bodies(&got), ["a", "b"], "of those due at one time the first to come, whatever its priority");
        assert!(rest.ready, "there is more that is due");
        assert_eq!(due(rig, q, 300), ["b2", "c"], "time to live does not count while it waits");
        assert_eq!(due(rig, q, 9000), ["d", "e"]);
        assert_eq!(rig.engine().stats(q).head_due_at, None);
    }
}

fn due_without_schedule(rig: &mut dyn Rig) {
    let q = queue(rig, BY_DUE);
    schedule(rig, q, PERSISTENT, &[(100, 0, "later")]);
    super::publish(rig, q, PERSISTENT, &["now"]);
    assert_eq!(due(rig, q, 0), ["now"]);
    assert_eq!(due(rig, q, 100), ["later"]);
}

fn due_far_away(rig: &mut dyn Rig) {
    let q = queue(rig, BY_DUE);
    let mut batch = Batch::new();
    let end = Schedule { at: Wall(u64::MAX), key: None };
    batch.push_scheduled(message(PERSISTENT, "never"), q, end);
    let ticket = rig.engine().append(&mut batch, at(0)).expect("taken");
    rig.wait_durable(ticket);
    let century = 100 * 365 * 24 * 3_600_000;
    schedule(rig, q, PERSISTENT, &[(century, 0, "a century")]);
    assert!(due(rig, q, century - 1).is_empty());
    rig.restart();
    assert!(due(rig, q, century - 1).is_empty());
    assert_eq!(due(rig, q, century), ["a century"]);
    assert_eq!(rig.engine().stats(q).head_due_at, Some(Wall(u64::MAX)));
}

fn due_after_a_jump_of_the_clock(rig: &mut dyn Rig) {
    let q = queue(rig, BY_DUE);
    schedule(rig, q, PERSISTENT, &[(1_000, 0, "a"), (2_000, 0, "b"), (900_000, 0, "c")]);
    let mut jumped = at(500);
    jumped.wall = at(1_500).wall;
    let (got, _) = deliver_at(rig, q, ALL, 1, jumped);
    assert_eq!(bodies(&got), ["a"], "it is due by the wall clock");
    rig.engine().settle(q, &seqs(&got), Outcome::Ack, jumped);
    assert!(due(rig, q, 600).is_empty(), "the clock went back: nothing again");
    assert_eq!(due(rig, q, 2_000), ["b"]);
}

fn due_requeue(rig: &mut dyn Rig) {
    let q = queue(rig, BY_DUE);
    schedule(rig, q, PERSISTENT, &[(100, 1, "a"), (200, 0, "b"), (300, 0, "c")]);
    let (got, _) = deliver_at(rig, q, ALL, 1, at(250));
    assert_eq!(rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(250)), 2);
    let (got, _) = deliver_at(rig, q, ALL, 1, at(250));
    assert_eq!(bodies(&got), ["a", "b"], "back to their places");
    assert!(got[0].redelivered);
    assert_eq!(rig.engine().release(q, model::HolderId(1), at(250)), 2);
    let taken = rig.engine().cancel(q, key(1).expect("a key"), at(250));
    assert_eq!(taken.map(|(taken, _)| taken), Ok(1), "what is back can be taken back again");
    assert_eq!(due(rig, q, 300), ["b", "c"]);
}

fn due_cancel(rig: &mut dyn Rig) {
    for (spec, made) in [(BY_DUE, PERSISTENT), (BY_DUE, PASSING), (QueueSpec { durable: false, ..BY_DUE }, PERSISTENT)]
    {
        let q = queue(rig, spec);
        schedule(rig, q, made, &[(100, 1, "a"), (100, 2, "b"), (200, 1, "c"), (300, 0, "d")]);
        let cancel = |n| rig.engine().cancel(q, key(n).expect("a key"), at(0)).expect("an engine at rest");
        assert_eq!(cancel(1).0, 2, "all that have the key");
        assert_eq!(cancel(1), (0, Ticket::NONE), "again is fine");
        assert_eq!(cancel(3), (0, Ticket::NONE));
        let stats = rig.engine().stats(q);
        assert_eq!((stats.ready, stats.ready_bytes), (2, 2));
        assert_eq!(due(rig, q, 300), ["b", "d"]);
    }
    let q = queue(rig, DURABLE);
    super::publish(rig, q, PERSISTENT, &["stays"]);
    let key = key(1).expect("a key");
    assert_eq!(rig.engine().cancel(q, key, at(0)), Ok((0, Ticket::NONE)), "no such queue has keys");
    assert_eq!(rig.engine().cancel(QueueId(u64::MAX), key, at(0)), Ok((0, Ticket::NONE)));
}

fn due_cancel_of_what_is_handed_out(rig: &mut dyn Rig) {
    let q = queue(rig, BY_DUE);
    schedule(rig, q, PERSISTENT, &[(100, 7, "a")]);
    let (got, _) = deliver_at(rig, q, ALL, 1, at(100));
    let key = key(7).expect("a key");
    assert_eq!(rig.engine().cancel(q, key, at(100)), Ok((0, Ticket::NONE)), "too late");
    assert_eq!(rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(100)), 1);
}

fn due_restart(rig: &mut dyn Rig) {
    let q = queue(rig, BY_DUE);
    schedule(rig, q, PERSISTENT, &[(5_000, 5, "later"), (100, 0, "gone"), (9_000, 6, "last"), (4_000, 0, "first")]);
    schedule(rig, q, PASSING, &[(1_000, 0, "passing")]);
    assert_eq!(due(rig, q, 200), ["gone"]);
    rig.restart();
    assert_eq!(rig.engine().queues(), [(q, BY_DUE)]);
    assert_eq!(rig.engine().stats(q).head_due_at, Some(at(4_000).wall));
    assert!(due(rig, q, 3_999).is_empty());
    let (taken, ticket) = rig.engine().cancel(q, key(6).expect("a key"), at(0)).expect("an engine at rest");
    assert_eq!(taken, 1, "keys survive");
    rig.wait_durable(ticket);
    assert_eq!(due(rig, q, 9_000), ["first", "later"]);
}

fn due_cancel_is_durable(rig: &mut dyn Rig) {
    let q = queue(rig, BY_DUE);
    schedule(rig, q, PERSISTENT, &[(100, 1, "taken back"), (100, 2, "stays")]);
    let (_, ticket) = rig.engine().cancel(q, key(1).expect("a key"), at(0)).expect("an engine at rest");
    assert_ne!(ticket, Ticket::NONE, "there is something to wait for");
    rig.wait_durable(ticket);
    rig.crash();
    assert_eq!(due(rig, q, 100), ["stays"]);
}
