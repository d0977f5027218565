//! Order, credit, settling, priority, time to live: what a queue does while the engine runs.

use super::{
    ALL, Check, DURABLE, LETTERS, Made, PASSING, PERSISTENT, Rig, TRANSIENT, append, at, bodies, dead_at, dead_bodies,
    dead_seqs, deliver_at, publish, queue, seqs, take,
};
use crate::{Batch, Credit, Death, Outcome, QueueSpec, QueueStats, Ticket};
use model::{HolderId, QueueId, Seq};

pub(super) const CHECKS: &[Check] = &[
    ("order_and_credit", order_and_credit),
    ("brought_near", brought_near),
    ("bytes_of_credit", bytes_of_credit),
    ("one_holder", one_holder),
    ("back_to_its_place", back_to_its_place),
    ("release", release),
    ("settle_what_is_not_held", settle_what_is_not_held),
    ("fan_out", fan_out),
    ("priorities", priorities),
    ("time_to_live", time_to_live),
    ("only_the_head_expires", only_the_head_expires),
    ("purge", purge),
    ("delete", delete),
    ("stats", stats),
    ("totals", totals),
];

fn order_and_credit(rig: &mut dyn Rig) {
    for spec in [TRANSIENT, DURABLE] {
        let q = queue(rig, spec);
        publish(rig, q, PERSISTENT, &["a", "b", "c", "d", "e"]);
        let credit = Credit { messages: 3, bytes: usize::MAX };
        let (got, rest) = deliver_at(rig, q, credit, 1, at(0));
        assert_eq!(bodies(&got), ["a", "b", "c"]);
        assert!(rest.ready, "two are left");
        let (got, rest) = deliver_at(rig, q, ALL, 1, at(0));
        assert_eq!(bodies(&got), ["d", "e"]);
        assert!(!rest.ready && !rest.pending, "nothing is left");
        assert!(got.iter().all(|d| !d.redelivered && d.attempts == 0));
        assert_eq!(got[0].message.exchange(), b"ex");
        assert_eq!(got[0].message.routing_key(), b"key");
        assert_eq!(got[0].message.header(), b"hh");
    }
}

fn brought_near(rig: &mut dyn Rig) {
    let (used, unused) = (queue(rig, DURABLE), queue(rig, TRANSIENT));
    publish(rig, used, PERSISTENT, &["a", "b"]);
    // Those that are there, those that are not, and one twice: it changes nothing.
    rig.engine().bring_near(&[unused, QueueId(u64::MAX), used, used]);
    rig.engine().bring_near(&[]);
    assert_eq!(bodies(&take(rig, used, 2, 1)), ["a", "b"]);
    assert_eq!(rig.engine().stats(unused), QueueStats::default());
}

fn bytes_of_credit(rig: &mut dyn Rig) {
    let q = queue(rig, TRANSIENT);
    publish(rig, q, PASSING, &["0123456789", "0123456789", "0123456789"]);
    let credit = Credit { messages: usize::MAX, bytes: 18 };
    let (got, rest) = deliver_at(rig, q, credit, 1, at(0));
    assert_eq!(got.len(), 2, "the one that crosses the line is handed out");
    assert!(rest.ready);
    let none = Credit { messages: 0, bytes: usize::MAX };
    let (got, rest) = deliver_at(rig, q, none, 1, at(0));
    assert!(got.is_empty() && rest.ready);
}

fn one_holder(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b"]);
    assert_eq!(take(rig, q, 1, 1).len(), 1);
    let second = take(rig, q, 9, 2);
    assert_eq!(bodies(&second), ["b"], "an entry goes to one holder");
}

fn back_to_its_place(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b", "c", "d"]);
    let got = take(rig, q, 3, 1);
    let seqs = seqs(&got);
    let n = rig.engine().settle(q, &[seqs[2], seqs[0]], Outcome::Requeue, at(0));
    assert_eq!(n, 2);
    let again = take(rig, q, 9, 1);
    assert_eq!(bodies(&again), ["a", "c", "d"]);
    assert!(again[0].redelivered && again[1].redelivered && !again[2].redelivered);
    assert_eq!((again[0].attempts, again[2].attempts), (1, 0));
    assert_eq!(again[0].seq, seqs[0], "a requeued entry keeps its seq");
    assert_eq!(again[0].enqueued_at, got[0].enqueued_at);
}

fn release(rig: &mut dyn Rig) {
    let q = queue(rig, TRANSIENT);
    publish(rig, q, PASSING, &["a", "b", "c", "d"]);
    take(rig, q, 1, 1);
    take(rig, q, 1, 2);
    take(rig, q, 1, 1);
    assert_eq!(rig.engine().release(q, HolderId(1), at(0)), 2);
    assert_eq!(rig.engine().release(q, HolderId(1), at(0)), 0);
    assert_eq!(bodies(&take(rig, q, 9, 3)), ["a", "c", "d"]);
    assert_eq!(rig.engine().release(QueueId(u64::MAX), HolderId(1), at(0)), 0);
}

fn settle_what_is_not_held(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b"]);
    let got = take(rig, q, 1, 1);
    let seq = got[0].seq;
    let engine = rig.engine();
    assert_eq!(engine.settle(q, &[seq, seq], Outcome::Ack, at(0)), 1);
    assert_eq!(engine.settle(q, &[seq], Outcome::Ack, at(0)), 0);
    assert_eq!(engine.settle(q, &[Seq(u64::MAX)], Outcome::Requeue, at(0)), 0);
    let nowhere = QueueId(u64::MAX);
    assert_eq!(engine.settle(nowhere, &[seq], Outcome::Ack, at(0)), 0);
    assert_eq!(bodies(&take(rig, q, 9, 1)), ["b"]);
}

fn fan_out(rig: &mut dyn Rig) {
    let a = queue(rig, DURABLE);
    let b = queue(rig, TRANSIENT);
    let c = queue(rig, DURABLE);
    let nowhere = QueueId(u64::MAX);
    let ticket = append(rig, &[c, a, nowhere, b], PERSISTENT, &["x", "y"]);
    rig.wait_durable(ticket);
    for q in [a, b, c] {
        assert_eq!(bodies(&take(rig, q, 9, 1)), ["x", "y"]);
    }
    assert_eq!(append(rig, &[nowhere], PERSISTENT, &["z"]), Ticket::NONE);
}

fn priorities(rig: &mut dyn Rig) {
    let spec = QueueSpec { priority_max: 5, ..DURABLE };
    let q = queue(rig, spec);
    for (priority, body) in [(0, "a"), (9, "b"), (3, "c"), (5, "d"), (3, "e")] {
        let made = Made { priority, ..PERSISTENT };
        publish(rig, q, made, &[body]);
    }
    let got = take(rig, q, 3, 1);
    assert_eq!(bodies(&got), ["b", "d", "c"], "9 counts as 5");
    rig.engine().settle(q, &seqs(&got[1..2]), Outcome::Requeue, at(0));
    assert_eq!(bodies(&take(rig, q, 9, 1)), ["d", "e", "a"]);
}

fn time_to_live(rig: &mut dyn Rig) {
    let spec = QueueSpec { ttl_ms: Some(1000), ..DURABLE };
    let q = queue(rig, spec);
    rig.engine().set_limits(q, LETTERS, at(0));
    let short = Made { ttl_ms: Some(100), ..PERSISTENT };
    publish(rig, q, short, &["short"]);
    publish(rig, q, PERSISTENT, &["long", "held"]);
    assert_eq!(rig.engine().stats(q).head_expires_at, Some(at(100).wall), "the shorter of both counts");
    let (got, rest) = deliver_at(rig, q, ALL, 1, at(100));
    assert!(got.is_empty() && rest.head_dead, "expired at its time");
    let expired = dead_at(rig, q, 9, at(100));
    assert_eq!(dead_bodies(&expired), ["short"]);
    assert_eq!(expired[0].death, Death::Expired);
    assert_eq!(rig.engine().stats(q).unsettled, 1, "held until settled");
    let n = rig.engine().settle(q, &dead_seqs(&expired), Outcome::Ack, at(100));
    assert_eq!(n, 1);
    let (got, rest) = deliver_at(rig, q, ALL, 1, at(999));
    assert_eq!(bodies(&got), ["long", "held"]);
    assert!(!rest.head_dead);
    rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(999));
    let expired = dead_at(rig, q, 1, at(5000));
    assert_eq!(dead_bodies(&expired), ["long"], "no more than asked for");
}

fn only_the_head_expires(rig: &mut dyn Rig) {
    let q = queue(rig, TRANSIENT);
    rig.engine().set_limits(q, LETTERS, at(0));
    publish(rig, q, PASSING, &["stays"]);
    let short = Made { ttl_ms: Some(1), ..PASSING };
    publish(rig, q, short, &["behind"]);
    assert!(dead_at(rig, q, 9, at(50)).is_empty());
    let (got, rest) = deliver_at(rig, q, ALL, 1, at(50));
    assert_eq!(bodies(&got), ["stays"]);
    assert!(rest.head_dead, "what was behind is the head now");
}

fn purge(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b", "c"]);
    let got = take(rig, q, 1, 1);
    assert_eq!(rig.engine().purge(q, at(0)), 2);
    assert_eq!(rig.engine().purge(q, at(0)), 0);
    assert!(take(rig, q, 9, 1).is_empty());
    assert_eq!(rig.engine().stats(q).unsettled, 1, "held entries stay");
    rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(0));
    assert_eq!(bodies(&take(rig, q, 9, 1)), ["a"]);
}

fn delete(rig: &mut dyn Rig) {
    for spec in [DURABLE, TRANSIENT] {
        let q = queue(rig, spec);
        publish(rig, q, PERSISTENT, &["a", "b"]);
        let got = take(rig, q, 1, 1);
        let ticket = rig.engine().delete_queue(q).expect("a queue can go");
        rig.wait_durable(ticket);
        assert_eq!(rig.engine().stats(q), QueueStats::default());
        assert!(take(rig, q, 9, 1).is_empty());
        let n = rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(0));
        assert_eq!(n, 0);
        assert!(rig.engine().queues().is_empty());
        assert!(rig.engine().delete_queue(q).is_ok(), "deleting it again");
        let next = queue(rig, spec);
        assert_ne!(next, q, "an id is never used again");
        rig.engine().delete_queue(next).expect("a queue can go");
    }
}

fn stats(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    assert_eq!(rig.engine().stats(q), QueueStats::default());
    publish(rig, q, PERSISTENT, &["abc", "de"]);
    let got = take(rig, q, 1, 1);
    let stats = rig.engine().stats(q);
    assert_eq!((stats.ready, stats.unsettled), (1, 1));
    assert_eq!(stats.ready_bytes, 2);
    assert_eq!(stats.oldest, Some(at(0).wall));
    assert_eq!(stats.head_expires_at, None);
    rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(7));
    let metrics = rig.engine().metrics();
    assert_eq!((metrics.acked, metrics.ack_latency_us), (1, 7000));
}

fn totals(rig: &mut dyn Rig) {
    let totals = |rig: &dyn Rig, q| {
        let stats = rig.engine().stats(q);
        (stats.enqueued, stats.delivered, stats.acked)
    };
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b", "c"]);
    assert_eq!(totals(rig, q), (3, 0, 0));
    let got = take(rig, q, 2, 1);
    rig.engine().settle(q, &seqs(&got[1..]), Outcome::Requeue, at(0));
    assert_eq!(totals(rig, q), (3, 2, 0));
    let again = take(rig, q, 1, 1);
    assert_eq!(totals(rig, q), (3, 3, 0), "each time counts");
    rig.engine().settle(q, &seqs(&got[..1]), Outcome::Ack, at(0));
    let mut batch = Batch::new();
    batch.ack(q, again[0].seq);
    rig.engine().append(&mut batch, at(0)).expect("taken");
    assert_eq!(totals(rig, q), (3, 3, 2));
    rig.engine().purge(q, at(0));
    let short = Made { ttl_ms: Some(1), ..PERSISTENT };
    publish(rig, q, short, &["d"]);
    assert!(dead_at(rig, q, 1, at(1)).is_empty(), "without dead letters it is gone");
    assert_eq!(totals(rig, q), (4, 3, 2), "what expires goes to nobody");
    publish(rig, q, PERSISTENT, &["e"]);
    rig.restart();
    assert_eq!(totals(rig, q), (0, 0, 0), "they count from the start");
}
