//! Bodies that are too large for memory.

use super::{Check, DURABLE, PASSING, PERSISTENT, Rig, TRANSIENT, at, dead_at, message, queue, take};
use crate::{Batch, BodyLost, Limits, Outcome, Ticket};
use bytes::Bytes;
use model::{LargeBody, QueueId};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) const CHECKS: &[Check] = &[
    ("a_body_comes_in_parts_and_goes_in_pieces", a_body_comes_in_parts_and_goes_in_pieces),
    ("a_body_survives_with_its_message", a_body_survives_with_its_message),
    ("a_body_of_several_queues_goes_with_the_last", a_body_of_several_queues_goes_with_the_last),
    ("a_body_is_there_while_somebody_has_it", a_body_is_there_while_somebody_has_it),
    ("a_body_that_is_not_finished_leaves_nothing", a_body_that_is_not_finished_leaves_nothing),
    ("a_body_counts_in_full", a_body_counts_in_full),
    ("a_body_dies_and_is_purged_and_deleted", a_body_dies_and_is_purged_and_deleted),
];

/// Rounds of waiting after which an engine counts as stuck.
const ROUNDS_MAX: usize = 60_000;

/// Some bytes, no two bodies alike.
fn content(len: usize, salt: usize) -> Bytes {
    (0..len).map(|at| (at * 31 + at / 251 + salt) as u8).collect()
}

fn wait_for<T>(rig: &mut dyn Rig, mut look: impl FnMut(&mut dyn Rig) -> Option<T>) -> T {
    for _ in 0..ROUNDS_MAX {
        if let Some(found) = look(rig) {
            return found;
        }
        rig.work();
    }
    look(rig).expect("the engine goes on")
}

/// Hands a body in, in parts of some bytes.
fn store(rig: &mut dyn Rig, content: &Bytes, part: usize) -> Arc<LargeBody> {
    let mut writer = rig.engine().begin_body(content.len() as u64, Arc::new(|| {})).expect("an engine at rest");
    for at in (0..content.len()).step_by(part) {
        wait_for(rig, |_| writer.is_ready().expect("no fault").then_some(()));
        writer.append(content.slice(at..content.len().min(at + part)));
    }
    let body = wait_for(rig, |_| writer.finish().expect("no fault"));
    assert_eq!(body.len(), content.len() as u64);
    body
}

fn read(rig: &mut dyn Rig, body: &Arc<LargeBody>, at: u64) -> Result<Bytes, BodyLost> {
    let slot = Arc::new(Mutex::new(None));
    let to = slot.clone();
    let put = move |piece| *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(piece);
    rig.engine().read_body(body, at, Box::new(put));
    wait_for(rig, |_| slot.lock().unwrap_or_else(PoisonError::into_inner).take())
}

/// All of a body.
fn read_all(rig: &mut dyn Rig, body: &Arc<LargeBody>) -> Vec<u8> {
    let mut all = Vec::new();
    while (all.len() as u64) < body.len() {
        let piece = read(rig, body, all.len() as u64).expect("what was written");
        assert!(!piece.is_empty());
        all.extend_from_slice(&piece);
    }
    all
}

/// Publishes a message with a body to queues.
fn publish(rig: &mut dyn Rig, queues: &[QueueId], made: super::Made, body: &Bytes) -> Ticket {
    let large = store(rig, body, 700);
    let mut batch = Batch::new();
    batch.push(message(made, "").with_large_body(large), queues);
    let ticket = rig.engine().append(&mut batch, at(0)).expect("an engine at rest takes a batch");
    rig.wait_durable(ticket);
    ticket
}

/// The body of the first message of a queue, which is given back.
fn peek(rig: &mut dyn Rig, queue: QueueId) -> Vec<u8> {
    let got = take(rig, queue, 1, 1);
    let body = got[0].message.large_body().expect("a large body").clone();
    assert_eq!((got[0].message.body_len() as u64, got[0].message.routing_key()), (body.len(), &b"key"[..]));
    let all = read_all(rig, &body);
    rig.engine().settle(queue, &[got[0].seq], Outcome::Requeue, at(0));
    all
}

fn wait_for_files(rig: &mut dyn Rig, files: u64) {
    wait_for(rig, |rig| (rig.engine().metrics().body_files == files).then_some(()));
}

fn a_body_comes_in_parts_and_goes_in_pieces(rig: &mut dyn Rig) {
    for (len, part) in [(1, 1), (999, 400), (1000, 1000), (1001, 7), (5_000, 5_000), (5_001, 1_999)] {
        let whole = content(len, part);
        let body = store(rig, &whole, part);
        assert_eq!(read_all(rig, &body), whole);
        let middle = read(rig, &body, len as u64 / 2).expect("what was written");
        assert!(whole[len / 2..].starts_with(&middle), "from any place");
    }
}

fn a_body_survives_with_its_message(rig: &mut dyn Rig) {
    let (durable, transient) = (queue(rig, DURABLE), queue(rig, TRANSIENT));
    let (kept, lost) = (content(3_210, 1), content(2_345, 2));
    publish(rig, &[durable, transient], PERSISTENT, &kept);
    publish(rig, &[durable], PASSING, &lost);
    for q in [durable, transient] {
        assert_eq!(peek(rig, q), kept);
    }
    rig.crash();
    assert_eq!(peek(rig, durable), kept);
    wait_for_files(rig, 1);
    rig.restart();
    assert_eq!(peek(rig, durable), kept);
    assert_eq!(rig.engine().stats(durable).ready, 1);
}

fn a_body_of_several_queues_goes_with_the_last(rig: &mut dyn Rig) {
    let queues = [queue(rig, DURABLE), queue(rig, DURABLE), queue(rig, TRANSIENT)];
    let body = content(2_500, 3);
    publish(rig, &queues, PERSISTENT, &body);
    for (at_queue, q) in queues.into_iter().enumerate() {
        assert_eq!(peek(rig, q), body);
        assert_eq!(rig.engine().metrics().body_files, 1);
        let seq = take(rig, q, 1, 1)[0].seq;
        if at_queue == 1 {
            rig.engine().acknowledge(&mut vec![(q, seq)], at(0));
        } else {
            rig.engine().settle(q, &[seq], Outcome::Ack, at(0));
        }
    }
    wait_for_files(rig, 0);
    rig.restart();
    assert_eq!(rig.engine().stats(queues[0]).ready, 0);
}

fn a_body_is_there_while_somebody_has_it(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    let whole = content(4_000, 4);
    publish(rig, &[q], PERSISTENT, &whole);
    let got = take(rig, q, 1, 1);
    let body = got[0].message.large_body().expect("a large body").clone();
    // As by a consumer without acknowledgements, which reads on.
    rig.engine().settle(q, &[got[0].seq], Outcome::Ack, at(0));
    drop(got);
    for _ in 0..10 {
        rig.work();
    }
    assert_eq!(read_all(rig, &body), whole);
    drop(body);
    wait_for_files(rig, 0);
}

fn a_body_that_is_not_finished_leaves_nothing(rig: &mut dyn Rig) {
    let part = content(800, 5);
    let mut writer = rig.engine().begin_body(2_000, Arc::new(|| {})).expect("an engine at rest");
    writer.append(part.clone());
    wait_for(rig, |_| writer.is_ready().expect("no fault").then_some(()));
    drop(writer);
    wait_for_files(rig, 0);
    // One that reaches no queue.
    drop(store(rig, &part, 800));
    wait_for_files(rig, 0);
    let mut writer = rig.engine().begin_body(2_000, Arc::new(|| {})).expect("an engine at rest");
    writer.append(part);
    wait_for(rig, |_| writer.is_ready().expect("no fault").then_some(()));
    drop(writer);
    rig.crash();
    assert_eq!(rig.engine().metrics().body_files, 0);
}

fn a_body_counts_in_full(rig: &mut dyn Rig) {
    let q = queue(rig, DURABLE);
    publish(rig, &[q], PERSISTENT, &content(3_000, 6));
    assert_eq!(rig.engine().stats(q).ready_bytes, 3_000);
    rig.engine().set_limits(q, Limits { bytes: Some(4_000), ..Limits::default() }, at(0));
    publish(rig, &[q], PERSISTENT, &content(1_001, 7));
    let stats = rig.engine().stats(q);
    assert_eq!((stats.ready, stats.ready_bytes), (1, 1_001), "the head made room");
    wait_for_files(rig, 1);
}

fn a_body_dies_and_is_purged_and_deleted(rig: &mut dyn Rig) {
    let (q, letters) = (queue(rig, DURABLE), queue(rig, DURABLE));
    let whole = content(1_500, 8);
    rig.engine().set_limits(q, super::LETTERS, at(0));
    publish(rig, &[q], super::Made { ttl_ms: Some(5), ..PERSISTENT }, &whole);
    let dead = dead_at(rig, q, 1, at(10));
    let mut batch = Batch::new();
    batch.push(dead[0].message.clone(), &[letters]);
    batch.ack(q, dead[0].seq);
    drop(dead);
    let ticket = rig.engine().append(&mut batch, at(10)).expect("an engine at rest takes a batch");
    rig.wait_durable(ticket);
    rig.restart();
    assert_eq!(peek(rig, letters), whole);
    assert_eq!(rig.engine().stats(q).ready, 0);
    publish(rig, &[letters, q], PERSISTENT, &content(2_000, 9));
    assert_eq!(rig.engine().purge(letters, at(10)), 2);
    wait_for_files(rig, 1);
    let ticket = rig.engine().delete_queue(q).expect("an engine at rest");
    rig.wait_durable(ticket);
    wait_for_files(rig, 0);
}
