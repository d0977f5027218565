//! Queues whose groups of entries take turns.

use super::{ALL, Check, DURABLE, PERSISTENT, Rig, TRANSIENT, at, bodies, deliver_at, message, queue, seqs, take};
use crate::{Batch, Grouping, Limits, Outcome, QueueSpec};
use bytes::Bytes;
use model::{HolderId, Message, QueueId};

pub(super) const CHECKS: &[Check] = &[
    ("groups_take_turns", groups_take_turns),
    ("keys_take_turns", keys_take_turns),
    ("groups_keep_their_order", groups_keep_their_order),
    ("what_was_there_before_comes_first", what_was_there_before_comes_first),
    ("what_comes_back_is_first_of_its_group", what_comes_back_is_first_of_its_group),
    ("groups_after_a_restart", groups_after_a_restart),
    ("priorities_have_no_groups", priorities_have_no_groups),
];

fn fair(grouping: Grouping) -> Limits {
    Limits { fair: Some(grouping), ..Limits::default() }
}

/// Publishes bodies, each of the producer its first letter names.
fn publish(rig: &mut dyn Rig, q: QueueId, bodies: &[&str]) {
    let mut batch = Batch::new();
    for body in bodies {
        let mut made = message(PERSISTENT, body);
        made.envelope.producer = u32::from(body.as_bytes()[0]);
        batch.push(made, &[q]);
    }
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    rig.wait_durable(ticket);
}

/// Everything there is, a little at a time.
fn all(rig: &mut dyn Rig, q: QueueId) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let got = take(rig, q, 10, 7);
        rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(0));
        all.extend(bodies(&got));
        if got.is_empty() {
            return all;
        }
    }
}

/// Those of one producer.
fn of<'a>(bodies: &'a [String], producer: &str) -> Vec<&'a str> {
    bodies.iter().map(String::as_str).filter(|body| body.starts_with(producer)).collect()
}

const QUIET: [&str; 8] = ["b1", "c1", "d1", "e1", "f1", "g1", "h1", "i1"];

/// Some of them may share a group with each other, or with the busy one.
fn are_served_soon(got: &[String]) -> bool {
    got.iter().take(24).filter(|body| QUIET.contains(&body.as_str())).count() >= 6
}

fn groups_take_turns(rig: &mut dyn Rig) {
    for spec in [DURABLE, TRANSIENT] {
        let q = queue(rig, spec);
        rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
        let busy: Vec<String> = (0..100).map(|n| format!("a{n:03}")).collect();
        publish(rig, q, &busy.iter().map(String::as_str).collect::<Vec<_>>());
        publish(rig, q, &QUIET);
        let got = all(rig, q);
        assert_eq!(got.len(), 108);
        assert!(are_served_soon(&got), "{got:?}");
        assert_eq!(of(&got, "a"), busy);
    }
}

fn keys_take_turns(rig: &mut dyn Rig) {
    let keyed = |key: &str, body: &str| {
        let made = message(PERSISTENT, body);
        let bytes = Bytes::from(format!("{key}{body}"));
        Message::from_parts(made.envelope, 0, key.len() as u8, 0, bytes).expect("a key and a body")
    };
    let q = queue(rig, DURABLE);
    rig.engine().set_limits(q, fair(Grouping::RoutingKey), at(0));
    let mut batch = Batch::new();
    (0..100).for_each(|n| batch.push(keyed("busy", &format!("a{n:03}")), &[q]));
    QUIET.iter().for_each(|body| batch.push(keyed(body, body), &[q]));
    let ticket = rig.engine().append(&mut batch, at(0)).expect("taken");
    rig.wait_durable(ticket);
    let got = all(rig, q);
    assert!(got.len() == 108 && are_served_soon(&got), "{got:?}");
    assert!(of(&got, "a").is_sorted());
}

fn groups_keep_their_order(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, &["a1", "b1"]);
    rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
    publish(rig, q, &["a2", "a3", "b2", "c1", "b3"]);
    let mut got = bodies(&take(rig, q, 3, 7));
    rig.engine().set_limits(q, Limits::default(), at(0));
    publish(rig, q, &["a4", "c2"]);
    rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
    publish(rig, q, &["a5", "b4"]);
    got.extend(all(rig, q));
    assert_eq!(got.len(), 11, "{got:?}");
    for producer in ["a", "b", "c"] {
        assert!(of(&got, producer).is_sorted(), "{got:?}");
    }
}

fn what_was_there_before_comes_first(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, q, &["a1", "a2", "b1"]);
    rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
    publish(rig, q, &["b2", "c1"]);
    assert_eq!(bodies(&take(rig, q, 3, 7)), ["a1", "a2", "b1"]);
    publish(rig, q, &["a3", "c2"]);
    rig.engine().set_limits(q, Limits::default(), at(0));
    publish(rig, q, &["b3"]);
    assert_eq!(all(rig, q), ["b2", "c1", "a3", "c2", "b3"], "what is no longer fair is in order");
}

fn what_comes_back_is_first_of_its_group(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
    publish(rig, q, &["a1", "a2", "a3", "b1"]);
    let first = take(rig, q, 2, 7);
    rig.engine().settle(q, &seqs(&first), Outcome::Requeue, at(0));
    let got = all(rig, q);
    assert_eq!(got.len(), 4);
    assert_eq!(of(&got, "a"), ["a1", "a2", "a3"]);
}

fn groups_after_a_restart(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
    publish(rig, q, &["a1", "a2", "b1", "a3"]);
    let (got, _) = deliver_at(rig, q, crate::Credit { messages: 1, ..ALL }, 7, at(0));
    assert_eq!(rig.engine().release(q, HolderId(7), at(0)), got.len());
    rig.crash();
    rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
    publish(rig, q, &["c1", "a4"]);
    let got = all(rig, q);
    assert_eq!(got[..4], ["a1", "a2", "b1", "a3"], "they are in no group");
    assert_eq!(got.len(), 6);
}

fn priorities_have_no_groups(rig: &mut dyn Rig) {
    let q = queue(rig, QueueSpec { priority_max: 5, ..DURABLE });
    rig.engine().set_limits(q, fair(Grouping::Producer), at(0));
    let mut batch = Batch::new();
    for (priority, body) in [(1, "a1"), (5, "b1"), (1, "c1"), (5, "a2")] {
        batch.push(message(super::Made { priority, ..PERSISTENT }, body), &[q]);
    }
    let ticket = rig.engine().append(&mut batch, at(0)).expect("taken");
    rig.wait_durable(ticket);
    assert_eq!(all(rig, q), ["b1", "a2", "a1", "c1"]);
}
