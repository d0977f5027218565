//! A file in which nothing lives goes without being read if no older file needs anything of it, and only then.

mod common;

use common::counting::{Counting, Reads};
use common::{Recorder, at, message};
use engine::{Batch, Credit, Durability, Engine, Order, Outcome, QueueSpec};
use model::{HolderId, QueueId, Seq};
use sluicegate_storage::sim::SimDisk;
use sluicegate_storage::{Canary, Options, Storage};
use std::sync::Arc;

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };
const FILE: u64 = 64 * 1024;
/// A digest that says nothing but its link has this size, and one that also says which file is the oldest is not larger
/// than that.
const LINK_BYTES: usize = 96 + 11;
const BARE_BYTES: usize = LINK_BYTES + 6;
/// So many small values are not moved to free the file they lie in, before there are many digests.
const MANY: usize = 1200;
/// Messages that are not settled while others come.
const BEHIND: u64 = 25;

/// An engine whose first file holds two queues and some values, and work in one of the queues.
struct World {
    disk: SimDisk,
    reads: Arc<Reads>,
    canary: Option<Canary>,
    storage: Storage,
    kept: QueueId,
    busy: QueueId,
}

fn open(disk: &SimDisk, reads: &Arc<Reads>, canary: Option<Canary>) -> Storage {
    let options = Options { first_file_bytes: FILE, file_bytes: FILE, canary, ..Options::default() };
    let disk = Arc::new(Counting::new(disk.clone(), reads.clone()));
    Storage::open_by_hand(disk, options, Arc::new(Recorder::default())).expect("opens")
}

impl World {
    fn new(values: usize, canary: Option<Canary>) -> Self {
        let (disk, reads) = (SimDisk::new(), Arc::default());
        let storage = open(&disk, &reads, canary);
        let (kept, _) = storage.create_queue(DURABLE).expect("a queue");
        let (busy, _) = storage.create_queue(DURABLE).expect("a queue");
        let world = Self { disk, reads, canary, storage, kept, busy };
        world.put(values);
        world
    }

    fn put(&self, values: usize) {
        for n in 0..values {
            self.storage.put_meta(&n.to_le_bytes()[..2], b"value").expect("kept");
        }
    }

    fn publish(&self, queue: QueueId, count: usize, size: usize) {
        let mut batch = Batch::new();
        (0..count).for_each(|_| batch.push(message(true, vec![7; size]), &[queue]));
        self.storage.append(&mut batch, at(0)).expect("taken");
    }

    /// Hands messages out; returns which, and how many had been before.
    fn take(&self, queue: QueueId, count: u64) -> (Vec<Seq>, usize) {
        let (mut seqs, mut again) = (Vec::new(), 0);
        loop {
            let credit = Credit { messages: count as usize - seqs.len(), bytes: usize::MAX };
            self.storage.deliver(queue, credit, at(0), &mut |delivery| {
                seqs.push(delivery.seq);
                again += usize::from(delivery.redelivered);
                HolderId(1)
            });
            if seqs.len() as u64 == count || !self.storage.read_step() {
                return (seqs, again);
            }
        }
    }

    fn ack(&self, queue: QueueId, count: u64) {
        let (seqs, _) = self.take(queue, count);
        assert_eq!(self.storage.settle(queue, &seqs, Outcome::Ack, at(0)) as u64, count);
    }

    fn steps(&self) {
        self.storage.sync_step(true);
        self.storage.keep_step();
        self.storage.keep_step();
    }

    /// Has messages go through the busy queue until so many files more were made.
    fn pass(&self, files: u64) {
        let made = |storage: &Storage| storage.metrics().files_created + storage.metrics().files_reused;
        let until = made(&self.storage) + files;
        while made(&self.storage) < until {
            self.publish(self.busy, 10, 1000);
            self.steps();
            self.ack(self.busy, self.storage.stats(self.busy).ready.saturating_sub(BEHIND));
            self.steps();
        }
    }

    /// Sizes of the digests that stand alone, the oldest first.
    fn alone(&self) -> Vec<usize> {
        let files = self.disk.files();
        let digests = files.iter().filter(|name| name.ends_with(".digest"));
        let alone = digests.filter(|name| !files.contains(&name.replace(".digest", ".log")));
        alone.map(|name| self.disk.content(name).expect("it is listed").len()).collect()
    }

    /// What comes back of the disk as it is now, of which no file is missed.
    fn is_whole(&self) -> Storage {
        let copy = self.disk.copy();
        let report = sluicegate_storage::repair(&copy, false).expect("it can be looked at");
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        copy.kill();
        open(&copy, &Arc::default(), None)
    }

    /// The same engine after its process died.
    fn again(self) -> Self {
        let Self { disk, reads, canary, storage, kept, busy } = self;
        storage.sync_step(true);
        drop(storage);
        disk.kill();
        let storage = open(&disk, &reads, canary);
        Self { disk, reads, canary, storage, kept, busy }
    }
}

#[test]
fn while_only_queues_and_values_live_in_older_files_none_is_read() {
    let world = World::new(MANY, None);
    // Messages lay in the first file, too, and it gets a digest of its own.
    world.pass(8);
    let mut read = world.reads.take().1;
    assert!(read < 3 * FILE, "{read} bytes read");
    let bare = |bytes: &&usize| **bytes <= BARE_BYTES;
    while world.alone().len() < 40 {
        world.pass(1);
    }
    assert_eq!(world.reads.take(), (0, 0), "files went, and none was read");
    assert!(world.alone().iter().filter(bare).count() >= 38, "{:?}", world.alone());
    for _ in 0..40 {
        world.pass(5);
        read += world.reads.take().1;
        // What is on the disk at any time comes back as it is.
        let copy = world.is_whole();
        assert_eq!(copy.stats(world.busy).ready, world.storage.stats(world.busy).ready);
        assert_eq!((copy.queues().len(), copy.metas().len()), (2, MANY));
    }
    // What is read is the oldest file, when its queues and values are moved to let the digests behind it go.
    assert!(read > 0 && read < 250 * FILE / 20, "{read} bytes read of {}", 250 * FILE);
    let left = world.storage.stats(world.busy).ready;
    let world = world.again();
    assert_eq!((world.storage.stats(world.busy).ready, world.storage.stats(world.kept).ready), (left, 0));
    world.ack(world.busy, left);
}

#[test]
fn which_file_is_the_oldest_is_known_although_the_file_that_said_so_is_gone() {
    let mut world = World::new(0, None);
    world.pass(3);
    world.put(MANY);
    let (later, _) = world.storage.create_queue(DURABLE).expect("a queue");
    let before = std::mem::replace(&mut world.busy, later);
    world.ack(before, world.storage.stats(before).ready);
    world.pass(4);
    // The first file goes, and the record that says so lies behind the file with the values.
    world.storage.delete_queue(before).expect("deleted");
    world.storage.delete_queue(world.kept).expect("deleted");
    let mut told = 0;
    for _ in 0..8 {
        world.pass(1);
        told = told.max(world.alone().iter().filter(|bytes| **bytes > LINK_BYTES && **bytes <= BARE_BYTES).count());
        assert_eq!((world.is_whole().queues().len(), world.is_whole().metas().len()), (1, MANY));
    }
    assert!(told > 0, "{:?}", world.alone());
}

/// Whether a message comes back whose settle lay in a file behind it that is gone.
fn settled_late(canary: Option<Canary>) -> u64 {
    let world = World::new(MANY, canary);
    world.publish(world.kept, 1, 10);
    world.pass(3);
    world.ack(world.kept, 1);
    world.pass(8);
    assert!(world.alone().len() > 3);
    let world = world.again();
    world.storage.stats(world.kept).ready
}

#[test]
fn a_settle_of_what_lay_in_an_older_file_is_said_again() {
    assert_eq!(settled_late(None), 0);
    assert_eq!(settled_late(Some(Canary::BareTooSoon)), 1);
}

/// What there is of a key that was given another value in one file and forgotten in the next.
fn forgotten(canary: Option<Canary>) -> usize {
    let world = World::new(MANY, canary);
    world.storage.put_meta(b"other", b"one").expect("kept");
    world.pass(3);
    world.storage.put_meta(b"other", b"two").expect("kept");
    world.pass(3);
    world.storage.delete_meta(b"other").expect("forgotten");
    world.pass(8);
    assert!(world.alone().len() > 6);
    world.again().storage.metas().len() - MANY
}

#[test]
fn the_end_of_a_value_is_said_again_while_an_older_file_has_an_earlier_one() {
    assert_eq!(forgotten(None), 0);
    assert_eq!(forgotten(Some(Canary::BareBehindCopies)), 1);
}

/// Queues that come back of those that were deleted.
fn deleted(canary: Option<Canary>) -> usize {
    let world = World::new(MANY, canary);
    world.publish(world.kept, 3, 10);
    world.pass(3);
    world.storage.delete_queue(world.kept).expect("deleted");
    world.pass(8);
    assert!(world.alone().len() > 3);
    world.again().storage.queues().len() - 1
}

#[test]
fn the_deletion_of_a_queue_of_an_older_file_is_said_again() {
    assert_eq!(deleted(None), 0);
    assert_eq!(deleted(Some(Canary::BareTooSoon)), 1);
}

/// Messages that are known to have been handed out before, of one that was handed out while an older file held it.
fn handed_out(canary: Option<Canary>) -> usize {
    let world = World::new(MANY, canary);
    world.publish(world.kept, 1, 10);
    world.pass(3);
    assert_eq!(world.take(world.kept, 1).0.len(), 1);
    world.pass(8);
    assert!(world.alone().len() > 3);
    let world = world.again();
    world.take(world.kept, 1).1
}

#[test]
fn what_was_handed_out_of_an_older_file_is_said_again() {
    assert_eq!(handed_out(None), 1);
    assert_eq!(handed_out(Some(Canary::BareUncounted)), 0);
}

#[test]
fn what_ended_before_a_start_is_not_told_from_what_did_not() {
    let world = World::new(MANY, None);
    world.publish(world.kept, 1, 10);
    world.pass(3);
    world.ack(world.kept, 1);
    let world = world.again();
    // The file with the settle is older than the start, and is read.
    world.reads.take();
    world.pass(8);
    assert!(world.reads.take().1 > 0);
    let world = world.again();
    assert_eq!(world.storage.stats(world.kept).ready, 0);
    // Those that are younger are not.
    let before = world.alone().len();
    world.pass(8);
    world.reads.take();
    world.pass(3);
    assert_eq!(world.reads.take(), (0, 0));
    assert!(world.alone().len() > before);
}
