//! What a ticket promises, and what a restart brings back.

use super::{
    ALL, Check, DURABLE, LETTERS, Made, PASSING, PERSISTENT, Rig, TRANSIENT, append, at, bodies, dead_at, dead_bodies,
    deliver_once, message, publish, queue, seqs, take,
};
use crate::{Batch, EngineError, Outcome, QueueSpec, Ticket};

pub(super) const CHECKS: &[Check] = &[
    ("handed_out_only_when_durable", handed_out_only_when_durable),
    ("transient_goes_at_once", transient_goes_at_once),
    ("order_holds_between_kinds", order_holds_between_kinds),
    ("tickets_grow", tickets_grow),
    ("restart_keeps_what_is_durable", restart_keeps_what_is_durable),
    ("crash_keeps_what_was_promised", crash_keeps_what_was_promised),
    ("settled_stays_settled", settled_stays_settled),
    ("acknowledged_stays_settled", acknowledged_stays_settled),
    ("batch_with_acks", batch_with_acks),
    ("nothing_is_numbered_twice", nothing_is_numbered_twice),
    ("time_to_live_goes_on", time_to_live_goes_on),
    ("metadata", metadata),
    ("closed", closed),
];

fn handed_out_only_when_durable(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    for round in 0..20 {
        let body = round.to_string();
        let ticket = append(rig, &[q], PERSISTENT, &[&body]);
        assert_ne!(ticket, Ticket::NONE);
        let (got, rest) = deliver_once(rig, q, ALL, 1, at(0));
        let durable = rig.engine().durable() >= ticket;
        assert!(got.is_empty() || durable, "handed out before it was durable");
        if got.is_empty() {
            assert!(rest.pending, "the engine must say that there is more to come");
            rig.wait_readable(q);
            assert!(rig.engine().durable() >= ticket);
            assert_eq!(bodies(&take(rig, q, 9, 1)), [body]);
        }
    }
}

fn transient_goes_at_once(rig: &mut dyn Rig) {
    let durable = queue(rig, DURABLE);
    let transient = queue(rig, TRANSIENT);
    assert_eq!(append(rig, &[durable], PASSING, &["a"]), Ticket::NONE);
    assert_eq!(append(rig, &[transient], PERSISTENT, &["b"]), Ticket::NONE);
    for q in [durable, transient] {
        assert_eq!(deliver_once(rig, q, ALL, 1, at(0)).0.len(), 1);
    }
}

fn order_holds_between_kinds(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    let mut batch = Batch::new();
    batch.push(message(PASSING, "1"), &[q]);
    batch.push(message(PERSISTENT, "2"), &[q]);
    batch.push(message(PASSING, "3"), &[q]);
    rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    assert_eq!(bodies(&take(rig, q, 9, 1)), ["1", "2", "3"]);
}

fn tickets_grow(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    let mut last = Ticket::NONE;
    for _ in 0..50 {
        let ticket = append(rig, &[q], PERSISTENT, &["x"]);
        assert!(ticket > last);
        last = ticket;
    }
    rig.wait_durable(last);
    assert!(rig.engine().durable() >= last);
}

fn restart_keeps_what_is_durable(rig: &mut dyn Rig) {
    let spec = QueueSpec { priority_max: 3, ttl_ms: Some(1_000_000), ..DURABLE };
    let kept = queue(rig, spec);
    let gone = queue(rig, TRANSIENT);
    publish(rig, kept, PERSISTENT, &["a", "b", "c", "d"]);
    publish(rig, kept, PASSING, &["passing"]);
    publish(rig, gone, PERSISTENT, &["lost"]);
    let got = take(rig, kept, 3, 1);
    rig.engine().settle(kept, &seqs(&got[1..2]), Outcome::Ack, at(0));
    rig.restart();
    assert_eq!(rig.engine().queues(), [(kept, spec)]);
    assert_eq!(rig.engine().stats(kept).ready, 3);
    let again = take(rig, kept, 9, 1);
    assert_eq!(bodies(&again), ["a", "c", "d"]);
    let redelivered: Vec<bool> = again.iter().map(|d| d.redelivered).collect();
    assert_eq!(redelivered, [true, true, false]);
    assert_eq!(again[0].message, got[0].message, "the message is as it was");
}

fn crash_keeps_what_was_promised(rig: &mut dyn Rig) {
    let a = queue(rig, DURABLE);
    let b = queue(rig, DURABLE);
    for round in 0..20 {
        let body = format!("{round:02}");
        let ticket = append(rig, &[a, b], PERSISTENT, &[&body]);
        rig.wait_durable(ticket);
        append(rig, &[a], PERSISTENT, &["unpromised"]);
        rig.crash();
        for q in [a, b] {
            let got = take(rig, q, 99, 1);
            let promised = bodies(&got).into_iter().filter(|b| b != "unpromised");
            let expected: Vec<String> = (0..=round).map(|n| format!("{n:02}")).collect();
            assert_eq!(promised.collect::<Vec<_>>(), expected);
        }
    }
}

fn settled_stays_settled(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b"]);
    let got = take(rig, q, 1, 1);
    rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(0));
    // Whatever comes later in the log and is durable makes the settle durable.
    publish(rig, q, PERSISTENT, &["c"]);
    rig.crash();
    assert_eq!(bodies(&take(rig, q, 9, 1)), ["b", "c"]);
}

fn acknowledged_stays_settled(rig: &mut dyn Rig) {
    let (a, b, passing) = (queue(rig, DURABLE), queue(rig, DURABLE), queue(rig, TRANSIENT));
    let mut acks = vec![(b, model::Seq(u64::MAX))];
    for q in [b, passing, a] {
        publish(rig, q, PERSISTENT, &["1", "2", "3"]);
        let got = take(rig, q, 3, 1);
        acks.extend([(q, got[2].seq), (q, got[0].seq), (q, got[2].seq)]);
    }
    rig.engine().acknowledge(&mut acks, at(0));
    assert!(acks.is_empty());
    for q in [a, b, passing] {
        let stats = rig.engine().stats(q);
        assert_eq!((stats.unsettled, stats.acked), (1, 2), "each once, those that are not held not at all");
    }
    publish(rig, a, PERSISTENT, &["4"]);
    rig.crash();
    assert_eq!(bodies(&take(rig, a, 9, 1)), ["2", "4"]);
    assert_eq!(bodies(&take(rig, b, 9, 1)), ["2"]);
}

fn batch_with_acks(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a", "b"]);
    let got = take(rig, q, 2, 1);
    let mut batch = Batch::new();
    batch.push(message(PERSISTENT, "c"), &[q]);
    batch.ack(q, got[0].seq);
    batch.ack(q, got[0].seq);
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    rig.wait_durable(ticket);
    batch.ack(q, got[1].seq);
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    assert_ne!(ticket, Ticket::NONE, "the ack of a durable entry is durable");
    rig.wait_durable(ticket);
    assert_eq!(rig.engine().stats(q).unsettled, 0);
    rig.crash();
    assert_eq!(bodies(&take(rig, q, 9, 1)), ["c"]);
}

fn nothing_is_numbered_twice(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    let mut last = None;
    for round in 0..6 {
        append(rig, &[q], PASSING, &["passing"]);
        let got = take(rig, q, 1, 1);
        assert!(last < Some(got[0].seq), "a seq came again");
        last = Some(got[0].seq);
        rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(0));
        if round % 2 == 0 {
            rig.crash();
        } else {
            rig.restart();
        }
        let (id, _) = rig.engine().create_queue(TRANSIENT).expect("an engine at rest makes a queue");
        assert!(id > q);
    }
}

fn time_to_live_goes_on(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    let made = Made { ttl_ms: Some(500), ..PERSISTENT };
    publish(rig, q, made, &["a"]);
    rig.restart();
    assert_eq!(rig.engine().stats(q).head_expires_at, Some(at(500).wall));
    rig.engine().set_limits(q, LETTERS, at(500));
    let expired = dead_at(rig, q, 9, at(500));
    assert_eq!(dead_bodies(&expired), ["a"]);
}

fn metadata(rig: &mut dyn Rig) {
    let put = |rig: &mut dyn Rig, key: &[u8], value: &[u8]| {
        let ticket = rig.engine().put_meta(key, value).expect("a value is kept");
        rig.wait_durable(ticket);
    };
    put(rig, b"b", b"1");
    put(rig, b"a", b"2");
    put(rig, b"b", b"3");
    put(rig, b"c", b"");
    let ticket = rig.engine().delete_meta(b"a").expect("a key can go");
    rig.wait_durable(ticket);
    assert!(rig.engine().delete_meta(b"never").is_ok());
    let expected = [(b"b".to_vec(), b"3".to_vec()), (b"c".to_vec(), b"".to_vec())];
    assert_eq!(rig.engine().metas(), expected);
    rig.crash();
    assert_eq!(rig.engine().metas(), expected);
    assert_eq!(rig.engine().get_meta(b"b"), Some(b"3".to_vec()));
    assert_eq!(rig.engine().get_meta(b"a"), None);
    put(rig, b"a", b"4");
    rig.restart();
    assert_eq!(rig.engine().get_meta(b"a"), Some(b"4".to_vec()));
}

fn closed(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, PERSISTENT, &["a"]);
    let got = take(rig, q, 1, 1);
    rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(0));
    rig.engine().close().expect("everything can be written");
    let mut batch = Batch::new();
    batch.push(message(PERSISTENT, "b"), &[q]);
    let refused = rig.engine().append(&mut batch, at(0));
    assert!(matches!(refused, Err(EngineError::Failed(_))));
    assert_eq!(batch.len(), 1, "a batch that was refused is unchanged");
    rig.restart();
    assert_eq!(rig.engine().stats(q).ready, 0, "the settle was written");
}
