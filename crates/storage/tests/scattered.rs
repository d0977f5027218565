//! Backlogs of many queues that lie among each other are put together, so that draining one reads it in one piece.

mod common;

use common::counting::{Counting, Reads};
use common::{Recorder, at, message};
use engine::{Batch, Credit, Engine, Outcome, QueueSpec};
use model::{HolderId, QueueId, Seq};
use sluicegate_storage::sim::SimDisk;
use sluicegate_storage::{Options, Storage};
use std::sync::Arc;

const DURABLE: QueueSpec = QueueSpec {
    durable: true,
    durability: engine::Durability::Sync,
    priority_max: 0,
    ttl_ms: None,
    order: engine::Order::Arrival,
};
const KIB: u64 = 1024;
const QUEUES: usize = 100;
const PER_QUEUE: u64 = 400;

struct Bench {
    disk: SimDisk,
    reads: Arc<Reads>,
    storage: Storage,
    queues: Vec<QueueId>,
}

/// Two MiB are gathered at a time, so that about twenty messages of each queue come to lie together.
fn options() -> Options {
    Options {
        resident_bytes_max: 16 * 1024 * 1024,
        first_file_bytes: 512 * KIB,
        file_bytes: 512 * KIB,
        move_bytes_per_s: 1 << 40,
        ..Options::default()
    }
}

impl Bench {
    /// `PER_QUEUE` messages of about 1 KiB in each of `QUEUES` queues, written in turn: every message of a queue is
    /// followed by those of all others.
    fn filled() -> Self {
        let options = options();
        let (disk, reads) = (SimDisk::new(), Arc::new(Reads::default()));
        let storage = open(&disk, &reads, options);
        let queues: Vec<_> = (0..QUEUES).map(|_| storage.create_queue(DURABLE).expect("a queue").0).collect();
        for n in 0..PER_QUEUE {
            for &queue in &queues {
                let mut batch = Batch::new();
                batch.push(message(true, body(queue, n)), &[queue]);
                storage.append(&mut batch, at(n)).expect("taken");
            }
            storage.sync_step(true);
        }
        let mut bench = Self { disk, reads, storage, queues };
        bench.reopen();
        bench
    }

    fn keep_until_nothing_moves(&self) {
        let mut quiet = 0;
        while quiet < 20 {
            let before = self.storage.metrics().disk_bytes.moved;
            self.storage.keep_step();
            self.storage.sync_step(true);
            quiet = if self.storage.metrics().disk_bytes.moved == before { quiet + 1 } else { 0 };
        }
    }

    /// Takes everything out of one queue, checking each message; returns reads and bytes read.
    fn drain(&self, queue: QueueId) -> (u64, u64) {
        let _ = self.reads.take();
        let mut got = 0;
        while got < PER_QUEUE {
            let mut seqs: Vec<Seq> = Vec::new();
            let credit = Credit { messages: 100, bytes: usize::MAX };
            self.storage.deliver(queue, credit, at(0), &mut |delivery| {
                assert!(delivery.message.bytes().ends_with(&body(queue, got)), "message {got} of queue {queue}");
                got += 1;
                seqs.push(delivery.seq);
                HolderId(1)
            });
            self.storage.settle(queue, &seqs, Outcome::Ack, at(0));
            self.storage.sync_step(true);
            while self.storage.read_step() {}
        }
        self.reads.take()
    }

    fn reopen(&mut self) {
        self.disk.kill();
        self.storage = open(&self.disk, &self.reads, options());
    }
}

fn open(disk: &SimDisk, reads: &Arc<Reads>, options: Options) -> Storage {
    let disk = Arc::new(Counting::new(disk.clone(), reads.clone()));
    Storage::open_by_hand(disk, options, Arc::new(Recorder::default())).expect("opens")
}

fn body(queue: QueueId, n: u64) -> Vec<u8> {
    let mut body = vec![b'.'; 1000];
    body.extend_from_slice(format!("{queue}/{n}").as_bytes());
    body
}

#[test]
fn a_scattered_backlog_is_put_together_and_then_read_in_few_pieces() {
    let bench = Bench::filled();
    let (calls, bytes) = bench.drain(bench.queues[0]);
    bench.keep_until_nothing_moves();
    let (calls_after, bytes_after) = bench.drain(bench.queues[QUEUES / 2]);
    println!(
        "draining {PER_QUEUE} messages: {calls} reads of {bytes} bytes; put together, {calls_after} of {bytes_after}"
    );
    assert!(calls >= PER_QUEUE / 2, "{calls} reads: it was not scattered");
    assert!(calls_after * 10 <= calls, "{calls_after} reads of {bytes_after} bytes, before {calls} of {bytes}");
    assert!(bytes_after <= PER_QUEUE * 1100 * 2, "{bytes_after} bytes read");
    for &queue in &bench.queues[1..] {
        if queue != bench.queues[QUEUES / 2] {
            bench.drain(queue);
        }
    }
}

#[test]
fn every_file_is_put_together_once() {
    let mut bench = Bench::filled();
    bench.keep_until_nothing_moves();
    let taken_in = QUEUES as u64 * PER_QUEUE * 1010;
    let moved = bench.storage.metrics().disk_bytes.moved;
    assert!(moved > taken_in * 3 / 4, "only {moved} of {taken_in} bytes moved");
    assert!(moved < taken_in * 5 / 4, "{moved} bytes moved for {taken_in} taken in");
    bench.reopen();
    bench.keep_until_nothing_moves();
    let moved = bench.storage.metrics().disk_bytes.moved;
    assert!(moved < taken_in / 4, "{moved} bytes moved again after a restart");
    for &queue in &bench.queues {
        bench.drain(queue);
    }
}

#[test]
fn one_queue_alone_is_left_as_it_is() {
    let (disk, reads) = (SimDisk::new(), Arc::new(Reads::default()));
    let storage = open(&disk, &reads, options());
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let bench = Bench { disk, reads, storage, queues: vec![queue] };
    for n in 0..30_000 {
        let mut batch = Batch::new();
        batch.push(message(true, body(queue, n)), &[queue]);
        bench.storage.append(&mut batch, at(n)).expect("taken");
        bench.storage.sync_step(true);
        bench.storage.keep_step();
    }
    bench.keep_until_nothing_moves();
    assert_eq!(bench.storage.metrics().disk_bytes.moved, 0);
}
