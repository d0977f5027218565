//! How entries end: limits of length, rejects, too many attempts, and what a restart makes of them.

use super::{
    ALL, Check, DURABLE, LETTERS, Made, PASSING, PERSISTENT, Rig, TRANSIENT, append, at, bodies, dead_at, dead_bodies,
    dead_seqs, deliver_at, message, publish, queue, seqs, take,
};
use crate::{Batch, Death, Limits, Outcome, Overflow, QueueSpec, Ticket};
use model::{HolderId, QueueId};

pub(super) const CHECKS: &[Check] = &[
    ("drop_head", drop_head),
    ("drop_head_to_dead_letters", drop_head_to_dead_letters),
    ("bytes_of_bodies", bytes_of_bodies),
    ("a_limit_of_zero", a_limit_of_zero),
    ("what_is_waited_for_is_let_in", what_is_waited_for_is_let_in),
    ("refused_publishes", refused_publishes),
    ("refused_and_dead", refused_and_dead),
    ("limits_change", limits_change),
    ("limits_after_a_restart", limits_after_a_restart),
    ("unsettled_does_not_count", unsettled_does_not_count),
    ("requeue_into_a_full_queue", requeue_into_a_full_queue),
    ("what_refuses_keeps_what_it_has", what_refuses_keeps_what_it_has),
    ("reject", reject),
    ("dead_entries_keep_their_order", dead_entries_keep_their_order),
    ("a_crash_brings_the_dead_back", a_crash_brings_the_dead_back),
    ("attempts_are_limited", attempts_are_limited),
    ("attempts_outlive_a_restart", attempts_outlive_a_restart),
    ("attempts_with_priorities", attempts_with_priorities),
    ("a_shorter_time_to_live", a_shorter_time_to_live),
];

fn limit(messages: u64) -> Limits {
    Limits { messages: Some(messages), ..Limits::default() }
}

fn limited(rig: &mut dyn Rig, spec: QueueSpec, limits: Limits) -> QueueId {
    let q = queue(rig, spec);
    rig.engine().set_limits(q, limits, at(0));
    q
}

fn all(rig: &mut dyn Rig, q: QueueId) -> Vec<String> {
    bodies(&take(rig, q, 99, 7))
}

fn drop_head(rig: &mut dyn Rig) {
    for spec in [DURABLE, TRANSIENT] {
        let q = limited(rig, spec, limit(2));
        publish(rig, q, PERSISTENT, &["a", "b", "c", "d", "e"]);
        assert_eq!(rig.engine().stats(q).ready, 2);
        assert!(dead_at(rig, q, 9, at(0)).is_empty(), "gone without dead letters");
        publish(rig, q, PERSISTENT, &["f"]);
        assert_eq!(all(rig, q), ["e", "f"]);
    }
}

fn drop_head_to_dead_letters(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, Limits { messages: Some(1), ..LETTERS });
    publish(rig, q, PERSISTENT, &["a", "b", "c"]);
    assert_eq!(rig.engine().stats(q).ready, 1);
    let first = dead_at(rig, q, 1, at(0));
    assert_eq!((dead_bodies(&first), first[0].death), (vec!["a".to_owned()], Death::MaxLen));
    assert_eq!(dead_bodies(&dead_at(rig, q, 9, at(0))), ["b"]);
    assert!(dead_at(rig, q, 9, at(0)).is_empty(), "each is taken once");
    assert_eq!(rig.engine().settle(q, &dead_seqs(&first), Outcome::Ack, at(0)), 1);
    assert_eq!(all(rig, q), ["c"]);
}

fn bytes_of_bodies(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, Limits { bytes: Some(6), ..Limits::default() });
    publish(rig, q, PERSISTENT, &["123", "456"]);
    assert_eq!(rig.engine().stats(q).ready, 2, "six are not more than six");
    publish(rig, q, PERSISTENT, &["", "7"]);
    assert_eq!(rig.engine().stats(q).ready_bytes, 4);
    assert_eq!(all(rig, q), ["456", "", "7"]);
    publish(rig, q, PERSISTENT, &["too long for it"]);
    assert!(all(rig, q).is_empty());
}

fn a_limit_of_zero(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, limit(0));
    publish(rig, q, PERSISTENT, &["a", "b"]);
    assert!(all(rig, q).is_empty());
    rig.engine().set_waited(q, true, at(0));
    publish(rig, q, PERSISTENT, &["c"]);
    assert_eq!(all(rig, q), ["c"], "it goes to who waits");
}

fn what_is_waited_for_is_let_in(rig: &mut dyn Rig) {
    let q = limited(rig, TRANSIENT, limit(1));
    rig.engine().set_waited(q, true, at(0));
    publish(rig, q, PASSING, &["a", "b", "c"]);
    assert_eq!(bodies(&take(rig, q, 1, 1)), ["a"]);
    rig.engine().set_waited(q, false, at(0));
    assert_eq!(rig.engine().stats(q).ready, 1, "nobody waits for the others");
    assert_eq!(all(rig, q), ["c"]);
}

fn refused_publishes(rig: &mut dyn Rig) {
    let full = limited(rig, DURABLE, Limits { overflow: Overflow::RejectPublish, ..limit(2) });
    let open = queue(rig, DURABLE);
    let mut batch = Batch::new();
    for (body, targets) in
        [("1", &[full, open][..]), ("2", &[full]), ("3", &[full, open]), ("4", &[open]), ("5", &[full])]
    {
        batch.push(message(PERSISTENT, body), targets);
    }
    let ticket = rig.engine().append(&mut batch, at(0)).expect("taken");
    assert_eq!(batch.take_rejected(), [2, 4]);
    assert!(batch.take_rejected().is_empty());
    rig.wait_durable(ticket);
    rig.engine().set_waited(full, true, at(0));
    batch.push(message(PERSISTENT, "6"), &[full]);
    assert_eq!(rig.engine().append(&mut batch, at(0)), Ok(Ticket::NONE), "nothing was taken");
    assert_eq!(batch.take_rejected(), [0], "whoever waits");
    rig.crash();
    assert_eq!(all(rig, full), ["1", "2"]);
    assert_eq!(all(rig, open), ["1", "3", "4"], "the others have it");
}

fn refused_and_dead(rig: &mut dyn Rig) {
    let limits = Limits { messages: Some(1), overflow: Overflow::RejectPublishDeadLetter, ..LETTERS };
    let q = limited(rig, DURABLE, limits);
    let mut batch = Batch::new();
    for body in ["a", "b", "c"] {
        batch.push(message(PERSISTENT, body), &[q]);
    }
    rig.engine().append(&mut batch, at(0)).expect("taken");
    assert_eq!(batch.take_rejected(), [1, 2]);
    let dead = dead_at(rig, q, 9, at(0));
    assert_eq!(dead_bodies(&dead), ["b", "c"]);
    assert_eq!(dead[0].death, Death::MaxLen);
    rig.engine().settle(q, &dead_seqs(&dead), Outcome::Ack, at(0));
    assert_eq!(all(rig, q), ["a"]);
    let plain = limited(rig, DURABLE, Limits { dead_letters: false, ..limits });
    batch.push(message(PERSISTENT, "a"), &[plain]);
    batch.push(message(PERSISTENT, "b"), &[plain]);
    rig.engine().append(&mut batch, at(0)).expect("taken");
    assert_eq!(batch.take_rejected(), [1]);
    assert_eq!(all(rig, plain), ["a"]);
}

fn limits_change(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b", "c", "d"]);
    rig.engine().set_limits(q, limit(3), at(0));
    assert_eq!(rig.engine().stats(q).ready, 3);
    rig.engine().set_limits(q, Limits { messages: Some(2), ..LETTERS }, at(0));
    assert_eq!(dead_bodies(&dead_at(rig, q, 9, at(0))), ["b"]);
    rig.engine().set_limits(q, Limits::default(), at(0));
    publish(rig, q, PERSISTENT, &["e"]);
    assert_eq!(all(rig, q), ["c", "d", "e"]);
    rig.engine().set_limits(QueueId(u64::MAX), limit(1), at(0));
}

fn limits_after_a_restart(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, limit(2));
    publish(rig, q, PERSISTENT, &["a", "b", "c"]);
    rig.restart();
    assert_eq!(rig.engine().stats(q).ready, 2, "what is gone stays gone");
    publish(rig, q, PERSISTENT, &["d"]);
    assert_eq!(rig.engine().stats(q).ready, 3, "limits are not kept");
    rig.engine().set_limits(q, limit(2), at(0));
    assert_eq!(all(rig, q), ["c", "d"]);
    rig.restart();
    assert_eq!(rig.engine().stats(q).ready_bytes, 2, "of the bodies");
}

fn unsettled_does_not_count(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, limit(1));
    publish(rig, q, PERSISTENT, &["a"]);
    assert_eq!(bodies(&take(rig, q, 1, 1)), ["a"]);
    publish(rig, q, PERSISTENT, &["b"]);
    assert_eq!(rig.engine().stats(q).ready, 1);
    assert_eq!(all(rig, q), ["b"]);
}

fn requeue_into_a_full_queue(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, Limits { messages: Some(1), ..LETTERS });
    publish(rig, q, PERSISTENT, &["a"]);
    let got = take(rig, q, 1, 1);
    publish(rig, q, PERSISTENT, &["b"]);
    rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(0));
    assert_eq!(dead_bodies(&dead_at(rig, q, 9, at(0))), ["a"], "the head again");
    assert_eq!(all(rig, q), ["b"]);
}

fn what_refuses_keeps_what_it_has(rig: &mut dyn Rig) {
    for overflow in [Overflow::RejectPublish, Overflow::RejectPublishDeadLetter] {
        let refusing = |n| Limits { messages: Some(n), overflow, ..LETTERS };
        let q = limited(rig, DURABLE, refusing(2));
        publish(rig, q, PERSISTENT, &["a", "b"]);
        let got = take(rig, q, 2, 1);
        publish(rig, q, PERSISTENT, &["c", "d"]);
        rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(0));
        rig.engine().set_limits(q, refusing(1), at(0));
        rig.engine().set_waited(q, false, at(0));
        assert!(dead_at(rig, q, 9, at(0)).is_empty());
        assert_eq!(rig.engine().stats(q).ready, 4);
        rig.engine().set_limits(q, Limits { dead_letters: false, ..limit(3) }, at(0));
        assert_eq!(all(rig, q), ["b", "c", "d"], "now it pushes out");
    }
}

fn reject(rig: &mut dyn Rig) {
    for spec in [DURABLE, TRANSIENT] {
        let q = limited(rig, spec, LETTERS);
        publish(rig, q, PERSISTENT, &["a", "b", "c"]);
        let got = take(rig, q, 2, 1);
        let n = rig.engine().settle(q, &seqs(&got), Outcome::Dead(Death::Rejected), at(0));
        assert_eq!(n, 2);
        assert_eq!(rig.engine().release(q, HolderId(1), at(0)), 0, "it is no longer theirs");
        let dead = dead_at(rig, q, 9, at(0));
        assert!(dead.len() >= 2 && dead.iter().all(|d| d.death == Death::Rejected));
        assert_eq!(dead_bodies(&dead[..2]), ["a", "b"]);
        rig.engine().settle(q, &dead_seqs(&dead), Outcome::Ack, at(0));
        assert_eq!(rig.engine().stats(q).unsettled, 0);
        rig.engine().set_limits(q, Limits::default(), at(0));
        let got = take(rig, q, 1, 1);
        rig.engine().settle(q, &seqs(&got), Outcome::Dead(Death::Rejected), at(0));
        assert_eq!(rig.engine().stats(q).unsettled, 0, "without dead letters it is gone");
        assert_eq!(rig.engine().stats(q).acked, 3, "settled for good by who had it");
    }
}

fn dead_entries_keep_their_order(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, LETTERS);
    publish(rig, q, PERSISTENT, &["a", "b", "c", "d"]);
    let got = take(rig, q, 4, 1);
    rig.engine().settle(q, &seqs(&got), Outcome::Dead(Death::Rejected), at(0));
    let dead = dead_at(rig, q, 3, at(0));
    rig.engine().settle(q, &dead_seqs(&dead[1..]), Outcome::Dead(Death::Rejected), at(0));
    assert_eq!(dead_bodies(&dead_at(rig, q, 9, at(0))), ["b", "c", "d"], "what could not be dead-lettered comes first");
}

fn a_crash_brings_the_dead_back(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, Limits { messages: Some(2), ..LETTERS });
    let other = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b", "c"]);
    let got = take(rig, q, 1, 1);
    assert_eq!(bodies(&got), ["b"]);
    rig.engine().settle(q, &seqs(&got), Outcome::Dead(Death::Rejected), at(0));
    let dead = dead_at(rig, q, 9, at(0));
    assert_eq!(dead_bodies(&dead), ["a", "b"]);
    let mut batch = Batch::new();
    batch.push(message(PERSISTENT, "letter"), &[other]);
    batch.ack(q, dead[0].seq);
    let ticket = rig.engine().append(&mut batch, at(0)).expect("taken");
    rig.wait_durable(ticket);
    rig.crash();
    assert_eq!(all(rig, q), ["b", "c"], "one has ended, the other has not");
    assert_eq!(all(rig, other), ["letter"]);
}

fn counting(attempts: u32) -> Limits {
    Limits { attempts: Some(attempts), counts_attempts: true, ..LETTERS }
}

fn attempts_are_limited(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, counting(2));
    publish(rig, q, PERSISTENT, &["a", "b"]);
    for round in 0..3 {
        let got = take(rig, q, 1, 1);
        assert_eq!((bodies(&got), got[0].attempts), (vec!["a".to_owned()], round));
        if round == 1 {
            rig.engine().release(q, HolderId(1), at(0));
        } else {
            rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(0));
        }
    }
    let dead = dead_at(rig, q, 9, at(0));
    assert_eq!((dead_bodies(&dead), dead[0].death), (vec!["a".to_owned()], Death::DeliveryLimit));
    rig.engine().set_limits(q, Limits { dead_letters: false, ..counting(0) }, at(0));
    let got = take(rig, q, 1, 1);
    rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(0));
    assert!(all(rig, q).is_empty(), "gone without dead letters");
}

fn attempts_outlive_a_restart(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, counting(9));
    publish(rig, q, PERSISTENT, &["a", "b", "c"]);
    for _ in 0..3 {
        let got = take(rig, q, 1, 1);
        rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(0));
    }
    // In flight when the process ends: that counts too.
    assert_eq!(bodies(&take(rig, q, 2, 1)), ["a", "b"]);
    for _ in 0..3 {
        rig.restart();
    }
    rig.engine().set_limits(q, counting(3), at(0));
    assert_eq!(dead_bodies(&dead_at(rig, q, 9, at(0))), ["a"], "four times is more than it may be");
    let got = take(rig, q, 9, 1);
    assert_eq!(bodies(&got), ["b", "c"]);
    assert_eq!([got[0].attempts, got[1].attempts], [1, 0]);
}

fn attempts_with_priorities(rig: &mut dyn Rig) {
    let q = limited(rig, DURABLE, counting(9));
    let high = limited(rig, QueueSpec { priority_max: 9, ..DURABLE }, counting(9));
    let urgent = Made { priority: 5, ..PERSISTENT };
    for q in [q, high] {
        publish(rig, q, PERSISTENT, &["low"]);
        publish(rig, q, urgent, &["high"]);
    }
    assert_eq!(bodies(&take(rig, high, 1, 1)), ["high"]);
    rig.restart();
    let got = take(rig, high, 9, 1);
    assert_eq!(bodies(&got), ["high", "low"]);
    assert_eq!([got[0].attempts, got[1].attempts], [1, 0], "the lower seq was never handed out");
}

fn a_shorter_time_to_live(rig: &mut dyn Rig) {
    let q = queue(rig, QueueSpec { ttl_ms: Some(1000), ..DURABLE });
    publish(rig, q, PERSISTENT, &["a"]);
    rig.engine().set_limits(q, Limits { ttl_ms: Some(50), ..LETTERS }, at(0));
    assert_eq!(rig.engine().stats(q).head_expires_at, Some(at(50).wall), "of what is there too");
    append(rig, &[q], PERSISTENT, &["b"]);
    let (got, rest) = deliver_at(rig, q, ALL, 1, at(50));
    assert!(got.is_empty() && rest.head_dead);
    assert_eq!(dead_bodies(&dead_at(rig, q, 9, at(50))), ["a", "b"]);
}
