//! Queues that promise less than a sync, and batches that change metadata.

use super::{
    ALL, Check, DURABLE, PASSING, PERSISTENT, Rig, append, at, bodies, deliver_at, message, publish, queue, seqs, take,
};
use crate::{Batch, Durability, EngineError, Outcome, QueueSpec, Ticket};

pub(super) const CHECKS: &[Check] = &[
    ("nobody_waits_for_what_need_not_be_synced", nobody_waits_for_what_need_not_be_synced),
    ("a_clean_stop_keeps_all_but_memory", a_clean_stop_keeps_all_but_memory),
    ("what_comes_later_carries_it_along", what_comes_later_carries_it_along),
    ("the_strictest_queue_decides", the_strictest_queue_decides),
    ("metadata_in_a_batch", metadata_in_a_batch),
    ("metadata_as_safe_as_its_batch", metadata_as_safe_as_its_batch),
    ("a_batch_refused_keeps_its_metadata", a_batch_refused_keeps_its_metadata),
];

const INTERVAL: QueueSpec = QueueSpec { durability: Durability::Interval, ..DURABLE };
const NONE: QueueSpec = QueueSpec { durability: Durability::None, ..DURABLE };
const MEMORY: QueueSpec = QueueSpec { durability: Durability::Memory, ..DURABLE };

fn nobody_waits_for_what_need_not_be_synced(rig: &mut dyn Rig) {
    for spec in [INTERVAL, NONE, MEMORY] {
        let q = queue(rig, spec);
        assert_eq!(append(rig, &[q], PERSISTENT, &["a", "b"]), Ticket::NONE);
        // Before anything is synced, as far as its messages are in memory.
        let (got, _) = deliver_at(rig, q, ALL, 1, at(0));
        assert_eq!(bodies(&got), ["a", "b"]);
        let mut batch = Batch::new();
        batch.ack(q, got[0].seq);
        let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
        assert_eq!(ticket, Ticket::NONE, "its end is worth no more than its start");
        assert_eq!(rig.engine().settle(q, &seqs(&got), Outcome::Requeue, at(0)), 1);
        assert_eq!(bodies(&take(rig, q, 9, 1)), ["b"]);
    }
}

fn a_clean_stop_keeps_all_but_memory(rig: &mut dyn Rig) {
    let made = [INTERVAL, NONE, MEMORY].map(|spec| (queue(rig, spec), spec));
    for (q, _) in made {
        append(rig, &[q], PERSISTENT, &["a", "b"]);
        append(rig, &[q], PASSING, &["passing"]);
        let got = take(rig, q, 1, 1);
        rig.engine().settle(q, &seqs(&got), Outcome::Ack, at(0));
    }
    rig.restart();
    assert_eq!(rig.engine().queues(), made, "the queues are all there, and what they are");
    assert_eq!(bodies(&take(rig, made[0].0, 9, 1)), ["b"]);
    assert_eq!(bodies(&take(rig, made[1].0, 9, 1)), ["b"]);
    assert!(take(rig, made[2].0, 9, 1).is_empty());
}

fn what_comes_later_carries_it_along(rig: &mut dyn Rig) {
    let sync = queue(rig, DURABLE);
    let made = [INTERVAL, NONE].map(|spec| queue(rig, spec));
    for q in made {
        append(rig, &[q], PERSISTENT, &["a"]);
    }
    publish(rig, sync, PERSISTENT, &["later"]);
    rig.crash();
    for q in made {
        assert_eq!(bodies(&take(rig, q, 9, 1)), ["a"], "what is durable makes everything before it durable");
    }
}

fn the_strictest_queue_decides(rig: &mut dyn Rig) {
    let sync = queue(rig, DURABLE);
    let others = [INTERVAL, NONE, MEMORY].map(|spec| queue(rig, spec));
    let ticket = append(rig, &[sync, others[0], others[1], others[2]], PERSISTENT, &["a"]);
    assert_ne!(ticket, Ticket::NONE);
    rig.wait_durable(ticket);
    rig.crash();
    for q in [sync, others[0], others[1]] {
        assert_eq!(bodies(&take(rig, q, 9, 1)), ["a"]);
    }
    assert!(take(rig, others[2], 9, 1).is_empty());
}

fn metadata_in_a_batch(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    let ticket = rig.engine().put_meta(b"old", b"1").expect("a value is kept");
    rig.wait_durable(ticket);
    let mut batch = Batch::new();
    batch.push(message(PERSISTENT, "a"), &[q]);
    batch.put_meta(b"new".to_vec(), b"1".to_vec());
    batch.put_meta(b"new".to_vec(), b"2".to_vec());
    batch.put_meta(b"brief".to_vec(), b"".to_vec());
    batch.delete_meta(b"brief".to_vec());
    batch.delete_meta(b"old".to_vec());
    batch.delete_meta(b"never".to_vec());
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    assert!(batch.is_empty());
    let expected = [(b"new".to_vec(), b"2".to_vec())];
    assert_eq!(rig.engine().metas(), expected, "it takes effect at once");
    rig.wait_durable(ticket);
    rig.crash();
    assert_eq!(rig.engine().metas(), expected);
    assert_eq!(bodies(&take(rig, q, 9, 1)), ["a"]);
    batch.put_meta(b"alone".to_vec(), vec![7; 3000]);
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    assert_ne!(ticket, Ticket::NONE, "metadata alone is worth a sync");
    rig.wait_durable(ticket);
    rig.crash();
    assert_eq!(rig.engine().get_meta(b"alone"), Some(vec![7; 3000]));
    assert_eq!(rig.engine().get_meta(b"new"), Some(b"2".to_vec()));
}

fn metadata_as_safe_as_its_batch(rig: &mut dyn Rig) {
    let q = queue(rig, INTERVAL);
    for round in 0..20u8 {
        let mut batch = Batch::new();
        batch.push(message(PERSISTENT, "a"), &[q]);
        batch.put_meta(vec![round], vec![round]);
        let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
        assert_eq!(ticket, Ticket::NONE);
        rig.crash();
        let there = take(rig, q, 99, 1);
        assert_eq!(rig.engine().metas().len(), there.len(), "both or neither");
        rig.engine().settle(q, &seqs(&there), Outcome::Requeue, at(0));
    }
}

fn a_batch_refused_keeps_its_metadata(rig: &mut dyn Rig) {
    rig.engine().close().expect("everything can be written");
    let mut batch = Batch::new();
    batch.put_meta(b"key".to_vec(), b"value".to_vec());
    let refused = rig.engine().append(&mut batch, at(0));
    assert!(matches!(refused, Err(EngineError::Failed(_))));
    assert_eq!(batch.metas().len(), 1);
    assert_eq!(rig.engine().get_meta(b"key"), None);
}
