//! Files and memory stay bounded, whatever goes through.

mod common;

use common::{Recorder, Scratch, at, message};
use engine::{Batch, Credit, Durability, Engine, Order, Outcome, Pressure, QueueSpec, Ticket};
use model::{HolderId, QueueId, Seq};
use sluicegate_storage::sim::SimDisk;
use sluicegate_storage::{Options, Storage};
use std::sync::Arc;

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };
const MIB: u64 = 1024 * 1024;

fn publish(storage: &Storage, queue: QueueId, persistent: bool, count: usize, size: usize) -> Ticket {
    let mut batch = Batch::new();
    for _ in 0..count {
        batch.push(message(persistent, vec![7; size]), &[queue]);
    }
    storage.append(&mut batch, at(0)).expect("taken")
}

fn ack_all(storage: &Storage, queue: QueueId, max: usize) -> usize {
    let mut seqs: Vec<Seq> = Vec::new();
    let credit = Credit { messages: max, bytes: usize::MAX };
    storage.deliver(queue, credit, at(0), &mut |delivery| {
        seqs.push(delivery.seq);
        HolderId(1)
    });
    storage.settle(queue, &seqs, Outcome::Ack, at(0))
}

fn steps(storage: &Storage) {
    storage.sync_step(true);
    storage.keep_step();
    storage.keep_step();
    while storage.read_step() {}
}

#[test]
fn two_gibibytes_pass_through_a_few_files_of_a_real_disk() {
    let dir = Scratch::new("through");
    let events = Arc::new(Recorder::default());
    let storage = Storage::open(dir.path(), Options::default(), events.clone()).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let mut files = 0;
    for _ in 0..2048 {
        let ticket = publish(&storage, queue, true, 16, 64 * 1024);
        events.wait_durable(ticket);
        assert_eq!(ack_all(&storage, queue, usize::MAX), 16);
        files = files.max(storage.metrics().files);
    }
    assert!(files <= 6, "{files} files");
    storage.close().expect("closes");
}

#[test]
fn a_backlog_in_the_oldest_file_does_not_hold_the_others_up() {
    let disk = SimDisk::new();
    let options = Options { first_file_bytes: 65536, file_bytes: 65536, ..Options::default() };
    let open = || Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Recorder::default()));
    let storage = open().expect("opens");
    let (slow, _) = storage.create_queue(DURABLE).expect("a queue");
    let (busy, _) = storage.create_queue(DURABLE).expect("a queue");
    publish(&storage, slow, true, 100, 1000);
    for _ in 0..2000 {
        publish(&storage, busy, true, 10, 1000);
        steps(&storage);
        assert_eq!(ack_all(&storage, busy, usize::MAX), 10);
        assert!(storage.metrics().files <= 10, "{} files", storage.metrics().files);
    }
    storage.close().expect("closes");
    drop(storage);
    disk.kill();
    let storage = open().expect("opens");
    assert_eq!((storage.stats(slow).ready, storage.stats(busy).ready), (100, 0));
}

#[test]
fn a_message_here_and_there_does_not_keep_whole_files() {
    let disk = SimDisk::new();
    let options = Options { first_file_bytes: 65536, file_bytes: 65536, ..Options::default() };
    let open = || Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Recorder::default()));
    let storage = open().expect("opens");
    let (kept, _) = storage.create_queue(DURABLE).expect("a queue");
    let (busy, _) = storage.create_queue(DURABLE).expect("a queue");
    for _ in 0..2000 {
        publish(&storage, kept, true, 1, 100);
        publish(&storage, busy, true, 20, 1000);
        steps(&storage);
        assert_eq!(ack_all(&storage, busy, usize::MAX), 20);
    }
    let metrics = storage.metrics();
    let bound = 4 * metrics.live_bytes / options.file_bytes + 12;
    assert!(metrics.files <= bound, "{} files for {} live bytes", metrics.files, metrics.live_bytes);
    drop(storage);
    disk.kill();
    let storage = open().expect("opens");
    assert_eq!(storage.stats(kept).ready, 2000);
    assert!(disk.used() < 40_000_000 / 4);
}

#[test]
fn a_backlog_stays_within_memory_and_comes_back_in_order() {
    let disk = SimDisk::new();
    let options =
        Options { resident_bytes_max: 1024 * 1024, first_file_bytes: MIB, file_bytes: 4 * MIB, ..Options::default() };
    let storage = Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Recorder::default())).expect("opens");
    for (persistent, spec) in [(true, DURABLE), (false, QueueSpec { durable: false, ..DURABLE })] {
        let (queue, _) = storage.create_queue(spec).expect("a queue");
        for _ in 0..100 {
            publish(&storage, queue, persistent, 100, 1000);
            steps(&storage);
            let resident = storage.metrics().resident_bytes;
            assert!(resident <= 2 * MIB, "{resident} bytes in memory");
        }
        let (mut got, mut last) = (0, None);
        while got < 10_000 {
            let mut seqs = Vec::new();
            let credit = Credit { messages: 500, bytes: usize::MAX };
            storage.deliver(queue, credit, at(0), &mut |delivery| {
                assert!(last < Some(delivery.seq), "out of order");
                assert_eq!(delivery.message.bytes().len(), 1000);
                last = Some(delivery.seq);
                seqs.push(delivery.seq);
                HolderId(1)
            });
            got += storage.settle(queue, &seqs, Outcome::Ack, at(0));
            steps(&storage);
        }
        let resident = storage.metrics().resident_bytes;
        assert!(resident < 100_000, "{resident} bytes of an empty queue");
    }
    assert!(storage.metrics().cold_reads > 0);
}

#[test]
fn what_is_handed_out_leaves_memory_to_what_is_not_and_is_read_should_it_come_back() {
    let disk = SimDisk::new();
    let options = Options { resident_bytes_max: 4 * 1024 * 1024, ..Options::default() };
    let storage = Storage::open_by_hand(Arc::new(disk), options, Arc::new(Recorder::default())).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    publish(&storage, queue, true, 2000, 1000);
    steps(&storage);
    let take = || {
        let mut bodies = Vec::new();
        storage.deliver(queue, Credit { messages: 2000, bytes: usize::MAX }, at(0), &mut |delivery| {
            bodies.push((delivery.seq, delivery.message.bytes().clone()));
            HolderId(1)
        });
        bodies
    };
    assert!(storage.metrics().resident_bytes > 2_000_000, "there is room for all");
    let first = take();
    assert_eq!(first.len(), 2000);
    let resident = storage.metrics().resident_bytes;
    assert!((900_000..1_300_000).contains(&resident), "{resident} bytes of 2,000 unsettled messages");
    storage.release(queue, HolderId(1), at(0));
    let mut second = Vec::new();
    while second.len() < 2000 {
        let before = second.len();
        second.extend(take());
        steps(&storage);
        assert!(second.len() > before || storage.metrics().cold_reads > 0);
    }
    assert!(first == second);
}

#[test]
fn publishers_are_told_to_go_on_once_what_waited_is_written() {
    let events = Arc::new(Recorder::default());
    let options = Options { resident_bytes_max: 1 << 30, ..Options::default() };
    let storage = Storage::open_by_hand(Arc::new(SimDisk::new()), options, events.clone()).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let mut batch = Batch::new();
    loop {
        batch.push(message(true, vec![7; 8 * MIB as usize]), &[queue]);
        if storage.append(&mut batch, at(0)).is_err() {
            break;
        }
    }
    assert_eq!(events.pressures(), [Pressure::Memory]);
    storage.sync_step(false);
    assert_eq!(events.pressures(), [Pressure::Memory, Pressure::None], "nobody else will look");
    storage.append(&mut batch, at(0)).expect("taken");
}

#[test]
fn transient_messages_that_fill_the_memory_are_spilled_without_anybodys_help() {
    let dir = Scratch::new("pressed");
    let events = Arc::new(Recorder::default());
    let options = Options { resident_bytes_max: MIB as usize, ..Options::default() };
    let storage = Storage::open(dir.path(), options, events.clone()).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
    for _ in 0..4 {
        // While they are held they can go nowhere, so publishers are told to stop.
        loop {
            let mut batch = Batch::new();
            batch.push(message(false, vec![7; 64 * 1024]), &[queue]);
            if storage.append(&mut batch, at(0)).is_err() {
                break;
            }
            storage.deliver(queue, credit, at(0), &mut |_| HolderId(1));
        }
        assert_eq!(events.pressures().last(), Some(&Pressure::Memory));
        // Giving them back tells nobody, but now they can be spilled.
        storage.release(queue, HolderId(1), at(0));
        events.wait_pressure(Pressure::None);
    }
    storage.close().expect("closes");
}

/// Bytes that something of a message counts beside its own, as `usage` has it.
const OVERHEAD: u64 = 28;

#[test]
fn what_lives_is_counted_to_the_byte() {
    let disk = SimDisk::new();
    let open = || Storage::open_by_hand(Arc::new(disk.clone()), Options::default(), Arc::new(Recorder::default()));
    let storage = open().expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let empty = storage.metrics().live_bytes;
    let size_of = |body: usize| message(true, vec![7; body]).bytes().len() as u64;
    let mut lives = 0;
    for body in 1..200 {
        publish(&storage, queue, true, 1, body);
        lives += size_of(body) + OVERHEAD;
    }
    steps(&storage);
    assert_eq!(storage.metrics().live_bytes, empty + lives);
    assert_eq!(storage.metrics().message_bytes, lives - 199 * OVERHEAD);
    assert_eq!(ack_all(&storage, queue, 50), 50);
    lives -= (1..=50).map(|body| size_of(body) + OVERHEAD).sum::<u64>();
    assert_eq!(storage.metrics().live_bytes, empty + lives);
    storage.close().expect("closes");
    drop(storage);
    disk.kill();
    let storage = open().expect("opens");
    assert_eq!(storage.metrics().live_bytes, empty + lives, "the same after a restart");
}

#[test]
fn bytes_are_counted_by_what_they_are() {
    let storage = Storage::open_by_hand(Arc::new(SimDisk::new()), Options::default(), Arc::new(Recorder::default()))
        .expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    publish(&storage, queue, true, 100, 1000);
    steps(&storage);
    let published = storage.metrics();
    assert!(published.disk_bytes.first > published.message_bytes && published.message_bytes >= 100_000);
    assert_eq!((published.disk_bytes.moved, published.disk_bytes.spilled), (0, 0));
    ack_all(&storage, queue, usize::MAX);
    steps(&storage);
    let settled = storage.metrics();
    assert_eq!(settled.disk_bytes.first, published.disk_bytes.first);
    assert!(settled.disk_bytes.bookkeeping > published.disk_bytes.bookkeeping);
    assert_eq!(settled.disk_bytes.total(), settled.written_bytes, "everything was written to the log");
    assert!(settled.write_amplification().is_some_and(|factor| factor < 1.2));
    assert_eq!(settled.files_created, 1);
}

/// A queue of which some messages stay a while, among `busy` others that go at once.
fn sparse_load(busy: usize, lag: usize) -> (u64, engine::EngineMetrics) {
    let options = Options { first_file_bytes: 256 * 1024, file_bytes: 256 * 1024, ..Options::default() };
    let storage =
        Storage::open_by_hand(Arc::new(SimDisk::new()), options, Arc::new(Recorder::default())).expect("opens");
    let (kept, _) = storage.create_queue(DURABLE).expect("a queue");
    let (gone, _) = storage.create_queue(DURABLE).expect("a queue");
    let mut files = 0;
    let (mut published, mut waiting) = (0, 0);
    while published < 150_000 {
        publish(&storage, gone, true, busy.min(100), 200);
        published += busy.min(100);
        if published % busy < busy.min(100) {
            publish(&storage, kept, true, 1, 200);
            waiting += 1;
        }
        let before = storage.metrics();
        storage.sync_step(true);
        ack_all(&storage, gone, usize::MAX);
        if waiting > lag {
            waiting -= ack_all(&storage, kept, 1);
        }
        for _ in 0..4 {
            let before = storage.metrics().disk_bytes.moved;
            storage.keep_step();
            let moved = storage.metrics().disk_bytes.moved - before;
            assert!(moved <= 2 * 256 * 1024, "{moved} bytes moved at once");
            while storage.read_step() {}
        }
        let now = storage.metrics();
        let (moved, bound) = (now.disk_bytes.moved - before.disk_bytes.moved, 2 * 256 * 1024);
        assert!(moved <= bound, "{moved} bytes of copies in one group commit");
        let live_files = now.live_bytes / options.file_bytes;
        files = files.max(now.files - 2 * live_files.min(now.files / 2));
    }
    (files, storage.metrics())
}

#[test]
fn one_message_in_a_thousand_that_lives_keeps_no_file() {
    let (files, metrics) = sparse_load(1000, usize::MAX);
    println!("at most {files} files; {} bytes moved of {}", metrics.disk_bytes.moved, metrics.message_bytes);
    assert!(files <= 12, "{files} files");
    assert!(metrics.files_reused > metrics.files_created, "files are used again: {metrics:?}");
    assert!(metrics.disk_bytes.moved < metrics.message_bytes / 10, "{} bytes moved", metrics.disk_bytes.moved);
}

#[test]
fn compaction_keeps_up_with_what_is_worst_for_it() {
    for (busy, lag) in [(10, 500), (2, 2_000), (1, 5_000)] {
        let (files, metrics) = sparse_load(busy, lag);
        println!("1 in {busy} stays: {files} files beside twice what lives; {} bytes moved", metrics.disk_bytes.moved);
        assert!(files <= 12, "{files} files beside those needed, 1 in {busy} stays");
        assert!(metrics.disk_bytes.moved <= 2 * metrics.disk_bytes.first, "{metrics:?}");
    }
}

#[test]
fn a_slow_consumer_of_transient_messages_keeps_no_files_of_the_spill() {
    let options =
        Options { resident_bytes_max: 128 * 1024, first_file_bytes: 65536, file_bytes: 65536, ..Options::default() };
    let disk = SimDisk::new();
    let storage = Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Recorder::default())).expect("opens");
    let transient = QueueSpec { durable: false, ..DURABLE };
    let (slow, _) = storage.create_queue(transient).expect("a queue");
    let (busy, _) = storage.create_queue(transient).expect("a queue");
    let mut most = 0;
    for round in 0..500 {
        publish(&storage, slow, false, 1, 100);
        publish(&storage, busy, false, 60, 1000);
        for _ in 0..4 {
            steps(&storage);
        }
        // The busy queue is behind, so its messages go through the spill too.
        if round >= 5 {
            let mut taken = 0;
            while taken < 60 {
                taken += ack_all(&storage, busy, 60 - taken);
                steps(&storage);
            }
        }
        let metrics = storage.metrics();
        most = most.max(metrics.spill_files - 2 * (metrics.spill_live_bytes / 65536).min(metrics.spill_files / 2));
    }
    let metrics = storage.metrics();
    println!("at most {most} files beside twice what lives; {} bytes spilled", metrics.disk_bytes.spilled);
    assert!(metrics.disk_bytes.spilled > 300 * 60_000, "it went through the spill: {metrics:?}");
    assert!(most <= 6, "{most} files beside those needed");
    let mut got = 0;
    while got < 500 {
        let before = got;
        for _ in 0..4 {
            got += ack_all(&storage, slow, 10);
            ack_all(&storage, busy, 100);
            steps(&storage);
        }
        assert!(got > before, "{got} of 500 came back");
    }
    while ack_all(&storage, busy, usize::MAX) > 0 {
        steps(&storage);
    }
    steps(&storage);
    assert_eq!((storage.metrics().spill_files, storage.metrics().spill_live_bytes), (0, 0));
}
