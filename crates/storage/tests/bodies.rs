//! Large bodies on a disk that tears, loses, flips and fills up, and beside a log that moves.

mod common;

use bytes::Bytes;
use common::{Recorder, at, message};
use engine::{Batch, BodyLost, BodyWriter, Credit, Delivery, Durability, Engine, Order, Outcome, Pressure, QueueSpec};
use model::{HolderId, LargeBody, QueueId};
use parking_lot::Mutex;
use sluicegate_storage::sim::{Dice, SimDisk};
use sluicegate_storage::{OpenError, Options, Report, Storage, kept_name, repair};
use std::path::Path;
use std::sync::Arc;

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };

fn options() -> Options {
    Options { first_file_bytes: 4096, file_bytes: 8192, body_piece_bytes: 1000, ..Options::default() }
}

struct World {
    disk: SimDisk,
    events: Arc<Recorder>,
    storage: Storage,
}

fn open(disk: &SimDisk) -> World {
    let events = Arc::new(Recorder::default());
    let storage = Storage::open_by_hand(Arc::new(disk.clone()), options(), events.clone()).expect("opens");
    World { disk: disk.clone(), events, storage }
}

impl World {
    fn new() -> (Self, QueueId) {
        let world = open(&SimDisk::new());
        let (queue, _) = world.storage.create_queue(DURABLE).expect("a queue");
        (world, queue)
    }

    /// The disk is pulled or the process killed, and the directory opened again.
    fn again(self, crash: Option<u64>) -> Self {
        let Self { disk, storage, .. } = self;
        drop(storage);
        match crash {
            Some(seed) => disk.crash(&mut Dice::new(seed)),
            None => disk.kill(),
        }
        open(&disk)
    }

    fn begin(&self, len: usize) -> Box<dyn BodyWriter> {
        self.storage.begin_body(len as u64, Arc::new(|| {})).expect("an engine at rest")
    }

    fn store(&self, content: &Bytes) -> Arc<LargeBody> {
        let mut writer = self.begin(content.len());
        writer.append(content.clone());
        while self.storage.body_step() {}
        writer.finish().expect("no fault");
        while self.storage.body_step() {}
        writer.finish().expect("no fault").expect("it is finished")
    }

    fn publish(&self, queue: QueueId, content: &Bytes) {
        let mut batch = Batch::new();
        batch.push(message(true, Vec::new()).with_large_body(self.store(content)), &[queue]);
        self.storage.append(&mut batch, at(0)).expect("taken");
        self.storage.sync_step(false);
    }

    fn publish_small(&self, queue: QueueId, body: &str) {
        let mut batch = Batch::new();
        batch.push(message(true, body.into()), &[queue]);
        self.storage.append(&mut batch, at(0)).expect("taken");
        self.storage.sync_step(false);
    }

    fn take(&self, queue: QueueId) -> Vec<Delivery> {
        let mut got = Vec::new();
        let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
        loop {
            let rest = self.storage.deliver(queue, credit, at(0), &mut |delivery| {
                got.push(delivery);
                HolderId(1)
            });
            if !rest.pending {
                return got;
            }
            self.storage.sync_step(true);
            while self.storage.read_step() {}
        }
    }

    fn read(&self, body: &Arc<LargeBody>) -> Result<Vec<u8>, BodyLost> {
        let mut all = Vec::new();
        while (all.len() as u64) < body.len() {
            let slot = Arc::new(Mutex::new(None));
            let to = slot.clone();
            self.storage.read_body(body, all.len() as u64, Box::new(move |piece| *to.lock() = Some(piece)));
            while self.storage.piece_step() {}
            let piece = slot.lock().take().expect("it was read");
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    fn bodies(&self) -> Vec<String> {
        self.disk.files().into_iter().filter(|name| name.starts_with("body-")).collect()
    }

    fn keep_house(&self) {
        for _ in 0..20 {
            self.storage.keep_step();
            self.storage.sync_step(true);
        }
    }
}

/// What is done to a file.
type Change = fn(&SimDisk, &str);

fn content(len: usize) -> Bytes {
    (0..len).map(|at| (at * 13 + at / 256) as u8).collect()
}

fn body_of(delivery: &Delivery) -> Arc<LargeBody> {
    delivery.message.large_body().expect("a large body").clone()
}

#[test]
fn the_file_is_as_the_format_says() {
    let (world, queue) = World::new();
    world.publish(queue, &content(2_500));
    let bytes = world.disk.content(&world.bodies()[0]).expect("its file");
    assert_eq!(world.bodies(), ["body-0000000100000001.data"]);
    assert_eq!(bytes.len(), 64 + 2_500 + 3 * 4);
    assert_eq!((&bytes[..8], &bytes[8..16]), (&b"SLUICBOD"[..], &[2, 0, 0, 0, 0, 0, 0, 0][..]));
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((word(16), word(24), word(32), word(40), word(48)), (0x1_0000_0001, 2_500, 1_000, 0, 0));
    for (piece, (from, to)) in [(64, 1064), (1068, 2068), (2072, 2572)].into_iter().enumerate() {
        let mut crc = crc32c::crc32c(&0x1_0000_0001u64.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &(piece as u64).to_le_bytes());
        crc = crc32c::crc32c_append(crc, &bytes[from..to]);
        assert_eq!(bytes[to..to + 4], crc.to_le_bytes());
    }
}

/// A directory with a body, which two queues have, and small messages around it.
fn write_golden() -> SimDisk {
    let (world, queue) = World::new();
    let (other, _) = world.storage.create_queue(DURABLE).expect("a queue");
    world.publish_small(queue, "in front");
    let mut batch = Batch::new();
    batch.push(message(true, Vec::new()).with_large_body(world.store(&content(2_500))), &[queue, other]);
    world.storage.append(&mut batch, at(0)).expect("taken");
    world.publish_small(queue, "behind");
    world.disk
}

#[test]
fn the_golden_directory_opens_for_ever() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2-large-body");
    let written = write_golden();
    let names = ["body-0000000100000001.data", "wal-000000000001.log"];
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&dir).expect("a directory");
        for name in names {
            let content = written.content(name).expect("it was written");
            std::fs::write(dir.join(name), content).expect("the fixture can be written");
        }
    }
    let disk = SimDisk::new();
    for name in names {
        let content = std::fs::read(dir.join(name)).expect("the fixture");
        disk.set_content(name, &content);
        assert!(written.content(name) == Some(content), "what is written has changed: raise the format version");
    }
    let world = open(&disk);
    assert_eq!(world.events.damaged(), [""; 0]);
    let queues = world.storage.queues();
    let got = world.take(queues[0].0);
    assert_eq!((got[0].message.body(), got[2].message.body()), (&b"in front"[..], &b"behind"[..]));
    for large in [&got[1], &world.take(queues[1].0)[0]] {
        assert_eq!(world.read(&body_of(large)).expect("intact"), content(2_500));
    }
}

#[test]
fn what_is_on_its_way_when_the_plug_is_pulled_leaves_nothing() {
    for seed in 0..30 {
        let (world, queue) = World::new();
        world.publish(queue, &content(3_000));
        let mut half = world.begin(5_000);
        half.append(content(2_000));
        while world.storage.body_step() {}
        let whole = world.store(&content(1_234));
        drop(half);
        let world = world.again(Some(seed));
        assert_eq!(world.bodies().len(), 1, "neither the half one nor the one without a message");
        assert_eq!(world.read(&body_of(&world.take(queue)[0])).expect("durable"), content(3_000));
        assert_eq!(world.events.damaged(), [""; 0]);
        drop(whole);
    }
}

#[test]
fn a_body_lies_still_while_its_message_is_moved_and_digested() {
    let (world, queue) = World::new();
    let body = content(4_321);
    world.publish(queue, &body);
    let (busy, _) = world.storage.create_queue(DURABLE).expect("a queue");
    let before = world.disk.content(&world.bodies()[0]);
    for round in 0..200 {
        world.publish_small(busy, &format!("{round:500}"));
        let seqs: Vec<_> = world.take(busy).iter().map(|delivery| delivery.seq).collect();
        world.storage.settle(busy, &seqs, Outcome::Ack, at(0));
        world.storage.keep_step();
    }
    world.keep_house();
    assert!(world.storage.metrics().disk_bytes.moved > 0, "its message was moved");
    assert_eq!(world.disk.content(&world.bodies()[0]), before);
    let world = world.again(Some(1));
    let got = world.take(queue);
    assert_eq!(world.read(&body_of(&got[0])).expect("intact"), body);
    let seq = got[0].seq;
    drop(got);
    world.storage.settle(queue, &[seq], Outcome::Ack, at(0));
    world.keep_house();
    assert_eq!(world.bodies(), [""; 0]);
    let world = world.again(Some(2));
    assert_eq!(world.storage.stats(queue).ready, 0);
}

#[test]
fn a_digest_tells_of_bodies_too() {
    let (world, queue) = World::new();
    world.publish(queue, &content(1_500));
    for round in 0..100 {
        world.publish_small(queue, &format!("{round:300}"));
        world.storage.keep_step();
    }
    world.keep_house();
    assert!(world.disk.files().iter().any(|name| name == "wal-000000000001.digest"));
    let world = world.again(None);
    assert_eq!(world.read(&body_of(&world.take(queue)[0])).expect("intact"), content(1_500));
}

#[test]
fn a_file_goes_only_when_its_settle_is_proven() {
    let (world, queue) = World::new();
    world.publish(queue, &content(1_500));
    let got = world.take(queue);
    world.storage.settle(queue, &[got[0].seq], Outcome::Ack, at(0));
    drop(got);
    for _ in 0..5 {
        world.storage.keep_step();
    }
    assert_eq!(world.bodies().len(), 1, "the settle is not even written");
    // It is lost, so the message is back, with its body.
    let world = world.again(Some(3));
    let got = world.take(queue);
    assert_eq!(world.read(&body_of(&got[0])).expect("intact"), content(1_500));
}

#[test]
fn a_damaged_body_is_told_and_its_message_kept_aside() {
    let damages: [(&str, Change); 4] = [
        ("its file is missing", |disk, name| disk.lose_file(name)),
        ("its file has 1000 bytes and should have 2576", |disk, name| {
            let bytes = disk.content(name).expect("there");
            disk.set_content(name, &bytes[..1000]);
        }),
        ("the header of its file is damaged", |disk, name| flip(disk, name, 30)),
        ("in its piece at byte 1000", |disk, name| flip(disk, name, 1_500)),
    ];
    for (what, damage) in damages {
        let (world, queue) = World::new();
        world.publish(queue, &content(2_500));
        world.publish_small(queue, "behind");
        let name = world.bodies()[0].clone();
        damage(&world.disk, &name);
        let world = world.again(None);
        let got = world.take(queue);
        if got.len() == 2 {
            // Only reading it tells.
            assert_eq!(world.read(&body_of(&got[0])), Err(BodyLost));
            world.storage.release(queue, HolderId(1), at(0));
            assert_eq!(world.take(queue).len(), 1, "{what}: it is not handed out again");
        } else {
            assert_eq!(got[0].message.body(), b"behind", "{what}");
        }
        let told = world.events.damaged();
        assert!(told.len() == 1 && told[0].contains(&name) && told[0].ends_with(what), "{told:?}");
        assert_eq!(world.storage.metrics().damaged, 1);
        assert_eq!(world.storage.stats(queue).unsettled, 2, "{what}: neither is dropped");
        drop(got);
        let ticket = world.storage.delete_queue(queue).expect("an engine at rest");
        world.storage.sync_step(false);
        assert!(world.storage.durable() >= ticket);
        world.keep_house();
        assert_eq!(world.bodies(), [""; 0], "{what}: it goes with its queue");
    }
}

fn flip(disk: &SimDisk, name: &str, at: usize) {
    let mut bytes = disk.content(name).expect("there");
    bytes[at] ^= 1;
    disk.set_content(name, &bytes);
}

#[test]
fn a_full_disk_holds_a_body_up_until_there_is_space() {
    let (world, queue) = World::new();
    let whole = content(6_000);
    let mut writer = world.begin(whole.len());
    writer.append(whole.slice(..1_000));
    while world.storage.body_step() {}
    world.disk.limit(Some(world.disk.used() + 500));
    writer.append(whole.slice(1_000..));
    assert!(!world.storage.body_step());
    assert_eq!((writer.is_ready(), world.storage.pressure()), (Ok(false), Pressure::Disk));
    world.disk.limit(None);
    assert!(world.storage.body_step());
    assert_eq!((writer.is_ready(), world.storage.pressure()), (Ok(true), Pressure::None));
    writer.finish().expect("no fault");
    while world.storage.body_step() {}
    let body = writer.finish().expect("no fault").expect("it is finished");
    assert_eq!(world.read(&body), Ok(whole.to_vec()));
    let mut batch = Batch::new();
    batch.push(message(true, Vec::new()).with_large_body(body), &[queue]);
    world.storage.append(&mut batch, at(0)).expect("taken");
}

#[test]
fn one_that_waits_for_space_is_given_up_at_once() {
    let (world, _) = World::new();
    let mut writer = world.begin(6_000);
    world.disk.limit(Some(world.disk.used() + 500));
    writer.append(content(6_000));
    assert!(!world.storage.body_step());
    drop(writer);
    while world.storage.body_step() {}
    world.disk.limit(None);
    world.storage.keep_step();
    assert_eq!(world.storage.pressure(), Pressure::None);
    assert_eq!((world.bodies().len(), world.storage.metrics().body_files), (0, 0));
}

#[test]
fn its_pieces_count_as_memory_until_they_are_written_and_its_file_as_space() {
    let (world, queue) = World::new();
    let before = world.storage.metrics();
    let mut writer = world.begin(2_000);
    writer.append(content(2_000));
    assert_eq!(world.storage.metrics().resident_bytes, before.resident_bytes + 2_000 + 2 * 4);
    while world.storage.body_step() {}
    assert_eq!(world.storage.metrics().resident_bytes, before.resident_bytes);
    drop(writer);
    world.publish(queue, &content(10_000));
    world.keep_house();
    let now = world.storage.metrics();
    assert_eq!((now.body_files, now.body_file_bytes), (1, 64 + 10_000 + 10 * 4));
    assert!(now.resident_bytes < before.resident_bytes + 500, "its message alone is in memory");
    assert!(now.file_bytes <= before.file_bytes + 8192, "the log does not grow with it");
    let world = world.again(None);
    assert_eq!(world.storage.metrics().body_file_bytes, 64 + 10_000 + 10 * 4);
}

/// The damaged bodies, and where they are damaged first.
fn said(report: &Report) -> Vec<(&str, Option<u64>)> {
    report.damaged_bodies.iter().map(|body| (&*body.file, body.offset)).collect()
}

#[test]
fn repair_tells_of_the_bodies_that_the_next_start_will_tell_of() {
    let (world, queue) = World::new();
    let (other, _) = world.storage.create_queue(DURABLE).expect("a queue");
    let (purged, _) = world.storage.create_queue(DURABLE).expect("a queue");
    let (deleted, _) = world.storage.create_queue(DURABLE).expect("a queue");
    for body in [content(2_500), content(1_500), content(3_500)] {
        world.publish(queue, &body);
    }
    let mut shared = Batch::new();
    let body = world.store(&content(1_234));
    shared.push(message(true, Vec::new()).with_large_body(body), &[queue, other, purged, deleted]);
    world.storage.append(&mut shared, at(0)).expect("taken");
    // What is settled has no message that could miss its body.
    let settled = world.take(queue)[2].seq;
    world.storage.settle(queue, &[settled], Outcome::Ack, at(0));
    world.storage.purge(purged, at(0));
    world.storage.delete_queue(deleted).expect("an engine at rest");
    world.storage.sync_step(true);
    let names = world.bodies();
    let World { disk, storage, .. } = world;
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    for name in [&names[0], &names[2], &names[3]] {
        disk.lose_file(name);
    }
    flip(&disk, &names[1], 1_100);
    let files = disk.files();
    for apply in [false, true] {
        let report = repair(&disk, apply).expect("it can be looked at");
        disk.kill();
        assert!(report.damages.is_empty() && report.kept_bodies.is_empty(), "the log is whole");
        assert_eq!(said(&report), [(&*names[0], None), (&*names[1], Some(1_068)), (&*names[3], None)]);
        assert_eq!(report.damaged_bodies[0].messages.iter().collect::<Vec<_>>(), [(&queue, &1)]);
        assert_eq!(report.damaged_bodies[2].messages.iter().collect::<Vec<_>>(), [(&queue, &1), (&other, &1)]);
    }
    assert_eq!(disk.files(), files, "there is nothing to mend");
    let world = open(&disk);
    let got = world.take(queue);
    assert_eq!(got.len(), 1, "its body is there");
    assert_eq!(world.read(&body_of(&got[0])), Err(BodyLost));
    let told = world.events.damaged();
    let of = |name: &String| told.iter().filter(|what| what.contains(name)).count();
    assert_eq!(names.iter().map(of).collect::<Vec<_>>(), [1, 1, 0, 1], "{told:?}");
    assert_eq!(world.storage.stats(queue).unsettled, 3, "none of them is dropped");
}

#[test]
fn repair_tells_of_damaged_bodies_and_keeps_those_it_knows_nothing_of() {
    let (world, queue) = World::new();
    world.publish(queue, &content(1_500));
    world.publish(queue, &content(2_500));
    let names = world.bodies();
    let log = world.disk.content("wal-000000000001.log").expect("there");
    let World { disk, storage, .. } = world;
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    flip(&disk, &names[1], 1_100);
    let report = repair(&disk, false).expect("it can be looked at");
    disk.kill();
    assert_eq!(report.damages.len(), 0);
    assert_eq!(said(&report), [(&*names[1], Some(1_068))]);
    // The message of the first is damaged too, and what follows proves that it had been synced.
    let first = log.windows(8).position(|w| w[..5] == [0x71, 0x11, 0, 0x81, 0x80]).expect("the head of the message");
    flip(&disk, "wal-000000000001.log", first + 2);
    let refused = Storage::open_by_hand(Arc::new(disk.clone()), options(), Arc::new(Recorder::default()));
    assert!(matches!(refused.err(), Some(OpenError::Damaged { .. })));
    disk.kill();
    let report = repair(&disk, true).expect("it can be repaired");
    disk.kill();
    assert_eq!(report.kept_bodies, [names[0].clone()]);
    let world = open(&disk);
    assert_eq!(world.storage.stats(queue).ready, 1);
    let kept = world.disk.content(&kept_name(&names[0])).expect("it is kept for ever");
    assert_eq!(kept.len(), 64 + 1_500 + 2 * 4);
}
