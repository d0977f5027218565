//! What a queue may hold also holds for what is not in memory.

mod common;

use common::{Recorder, at, message};
use engine::{
    Batch, Credit, Death, Durability, Engine, EntryKey, Limits, Order, Outcome, Overflow, QueueSpec, Schedule,
};
use model::{HolderId, QueueId, Seq};
use sluicegate_storage::sim::SimDisk;
use sluicegate_storage::{Options, Storage};
use std::num::NonZeroU64;
use std::sync::Arc;

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };
/// So many lie in pages that are on the disk.
const BACKLOG: usize = 4000;

/// An engine with a backlog whose pages are spilled.
struct Backlog {
    events: Arc<Recorder>,
    storage: Storage,
    queue: QueueId,
}

impl Backlog {
    fn new() -> Self {
        let options =
            Options { resident_bytes_max: 8192, first_file_bytes: 65536, file_bytes: 65536, ..Options::default() };
        let events = Arc::new(Recorder::default());
        let opened = Storage::open_by_hand(Arc::new(SimDisk::new()), options, events.clone());
        let storage = opened.expect("an empty disk opens");
        let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
        let this = Self { events, storage, queue };
        for first in (0..BACKLOG).step_by(100) {
            this.publish(first..first + 100);
            this.storage.sync_step(true);
            this.storage.keep_step();
        }
        this
    }

    fn publish(&self, numbers: std::ops::Range<usize>) {
        let mut batch = Batch::new();
        numbers.for_each(|n| batch.push(message(true, n.to_string().into_bytes()), &[self.queue]));
        self.storage.append(&mut batch, at(0)).expect("taken");
    }

    fn limit(&self, messages: u64, dead_letters: bool) {
        let limits = Limits { messages: Some(messages), dead_letters, ..Limits::default() };
        self.storage.set_limits(self.queue, limits, at(0));
    }

    fn ready(&self) -> u64 {
        self.storage.stats(self.queue).ready
    }

    /// What a consumer gets now.
    fn deliver(&self) -> Vec<String> {
        let mut got = Vec::new();
        let credit = Credit { messages: 1000, bytes: usize::MAX };
        self.storage.deliver(self.queue, credit, at(0), &mut |delivery| {
            got.push(text(&delivery.message));
            HolderId(1)
        });
        got
    }
}

fn text(message: &model::Message) -> String {
    String::from_utf8(message.bytes().to_vec()).expect("a number")
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_queue_is_cut_to_its_length_once_its_pages_are_read_and_nobody_need_call() {
    let backlog = Backlog::new();
    backlog.limit(100, false);
    assert!((101..BACKLOG as u64).contains(&backlog.ready()), "{} are left at once", backlog.ready());
    assert!(backlog.storage.read_step(), "what is missing is asked for");
    while backlog.storage.read_step() {}
    assert_eq!(backlog.ready(), 100);
    assert!(backlog.events.take_readable(backlog.queue));
    assert_eq!(backlog.deliver(), numbers(BACKLOG - 100..BACKLOG));
}

#[test]
fn in_between_publishers_go_on_and_consumers_wait_for_the_right_head() {
    let backlog = Backlog::new();
    backlog.limit(100, false);
    assert!(backlog.ready() > 100);
    assert!(backlog.deliver().is_empty(), "what comes next dies");
    backlog.publish(BACKLOG..BACKLOG + 10);
    backlog.storage.sync_step(true);
    while backlog.storage.read_step() {}
    assert!(backlog.events.take_readable(backlog.queue));
    assert_eq!(backlog.deliver(), numbers(BACKLOG - 90..BACKLOG + 10));
}

#[test]
fn what_is_cut_off_later_is_dead_lettered_in_order_too() {
    let backlog = Backlog::new();
    backlog.limit(100, true);
    let mut dead = Vec::new();
    let mut rounds = 0;
    while dead.len() < BACKLOG - 100 {
        let mut taken = Vec::new();
        backlog.storage.take_dead(backlog.queue, 256, at(0), &mut taken);
        let seqs: Vec<Seq> = taken.iter().map(|one| one.seq).collect();
        assert!(taken.iter().all(|one| one.death == Death::MaxLen));
        dead.extend(taken.iter().map(|one| text(&one.message)));
        assert_eq!(backlog.storage.settle(backlog.queue, &seqs, Outcome::Ack, at(0)), seqs.len());
        if taken.is_empty() {
            rounds += 1;
            assert!(backlog.storage.read_step() && rounds < 1000, "{} are dead", dead.len());
            assert!(backlog.events.take_readable(backlog.queue), "the broker is told to look again");
        }
    }
    assert_eq!(dead, numbers(0..BACKLOG - 100));
    assert_eq!((backlog.ready(), backlog.storage.stats(backlog.queue).unsettled), (100, 0));
}

#[test]
fn a_large_one_that_comes_or_comes_back_pushes_as_many_small_ones_out_as_it_takes() {
    let events = Arc::new(Recorder::default());
    let opened = Storage::open_by_hand(Arc::new(SimDisk::new()), Options::default(), events);
    let storage = opened.expect("an empty disk opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let publish = |sizes: &[usize]| {
        let mut batch = Batch::new();
        sizes.iter().for_each(|size| batch.push(message(true, vec![1; *size]), &[queue]));
        storage.append(&mut batch, at(0)).expect("taken");
        storage.sync_step(true);
        while storage.read_step() {}
    };
    publish(&[5000]);
    let mut taken = Vec::new();
    storage.deliver(queue, Credit { messages: 1, bytes: 1 }, at(0), &mut |delivery| {
        taken.push(delivery.seq);
        HolderId(1)
    });
    publish(&[1; 5000]);
    let limits = Limits { bytes: Some(5000), ..Limits::default() };
    storage.set_limits(queue, limits, at(0));
    assert_eq!(storage.stats(queue).ready, 5000);
    assert_eq!(storage.settle(queue, &taken, Outcome::Requeue, at(0)), 1);
    assert_eq!(storage.stats(queue).ready_bytes, 5000, "it is the head, and the first to go");
    publish(&[4000]);
    assert_eq!((storage.stats(queue).ready, storage.stats(queue).ready_bytes), (1001, 5000));
    storage.set_limits(queue, Limits::default(), at(0));
    publish(&[1; 4000]);
    storage.set_limits(queue, limits, at(0));
    publish(&[5000]);
    assert_eq!((storage.stats(queue).ready, storage.stats(queue).ready_bytes), (1, 5000));
}

#[test]
fn what_is_refused_for_want_of_room_and_given_back_waits_for_its_time_after_all() {
    let opened = Storage::open_by_hand(Arc::new(SimDisk::new()), Options::default(), Arc::new(Recorder::default()));
    let storage = opened.expect("an empty disk opens");
    let (queue, _) = storage.create_queue(QueueSpec { order: Order::Due, ..DURABLE }).expect("a queue");
    let overflow = Overflow::RejectPublishDeadLetter;
    storage.set_limits(queue, Limits { messages: Some(1), overflow, dead_letters: true, ..Limits::default() }, at(0));
    let mut batch = Batch::new();
    for (ms, key) in [(300, 1), (200, 2), (400, 3)] {
        let schedule = Schedule { at: at(ms).wall, key: NonZeroU64::new(key).map(EntryKey) };
        batch.push_scheduled(message(true, ms.to_string().into_bytes()), queue, schedule);
    }
    storage.append(&mut batch, at(0)).expect("taken");
    storage.sync_step(true);
    let mut dead = Vec::new();
    storage.take_dead(queue, 9, at(0), &mut dead);
    let seqs: Vec<Seq> = dead.iter().map(|one| one.seq).collect();
    assert_eq!(storage.settle(queue, &seqs, Outcome::Requeue, at(0)), 2);
    let key = EntryKey(NonZeroU64::new(3).expect("not zero"));
    assert_eq!(storage.cancel(queue, key, at(0)).map(|(n, _)| n), Ok(1));
    while storage.read_step() {}
    let mut got = Vec::new();
    let credit = Credit { messages: 9, bytes: usize::MAX };
    for ms in [199, 200, 300, 999] {
        storage.deliver(queue, credit, at(ms), &mut |delivery| {
            got.push((ms, text(&delivery.message)));
            HolderId(1)
        });
    }
    assert_eq!(got, [(200, "200".to_owned()), (300, "300".to_owned())]);
}
