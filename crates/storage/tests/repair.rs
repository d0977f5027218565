//! Repairing damaged directories: nothing but what is damaged goes, nothing of it is thrown away, all of it is said.

mod common;

use common::{Recorder, at, message};
use engine::{Batch, Credit, Engine, MetaSpace, Order, Outcome, QueueSpec, Ticket};
use model::{HolderId, QueueId};
use sluicegate_storage::sim::SimDisk;
use sluicegate_storage::{OpenError, Options, Report, Storage, repair};
use std::sync::Arc;

const DURABLE: QueueSpec = QueueSpec {
    durable: true,
    durability: engine::Durability::Sync,
    priority_max: 0,
    ttl_ms: None,
    order: Order::Arrival,
};
const FIRST: &str = "wal-000000000001.log";

fn open(disk: &SimDisk) -> Result<Storage, OpenError> {
    let options = Options { first_file_bytes: 4096, file_bytes: 16384, ..Options::default() };
    Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Recorder::default()))
}

fn append(storage: &Storage, queue: QueueId, body: &str) -> Ticket {
    let mut batch = Batch::new();
    batch.push(message(true, body.as_bytes().to_vec()), &[queue]);
    let ticket = storage.append(&mut batch, at(0)).expect("taken");
    storage.sync_step(false);
    ticket
}

fn read_all(storage: &Storage, queue: QueueId) -> Vec<String> {
    let mut all = Vec::new();
    let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
    loop {
        let rest = storage.deliver(queue, credit, at(0), &mut |delivery| {
            all.push(String::from_utf8_lossy(delivery.message.body()).into_owned());
            HolderId(1)
        });
        if !rest.pending {
            return all;
        }
        while storage.read_step() {}
    }
}

/// Two files: a queue, five messages of which the first is settled, a value, and a clean stop.
fn written() -> (SimDisk, QueueId) {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    for body in ["one", "two", "three"] {
        append(&storage, queue, body);
    }
    let mut first = Vec::new();
    storage.deliver(queue, Credit { messages: 1, bytes: 9 }, at(0), &mut |delivery| {
        first.push(delivery.seq);
        HolderId(1)
    });
    storage.settle(queue, &first, Outcome::Ack, at(0));
    storage.put_meta(b"key", b"value").expect("kept");
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    let storage = open(&disk).expect("opens");
    append(&storage, queue, "four");
    append(&storage, queue, "five");
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    (disk, queue)
}

fn run(disk: &SimDisk, apply: bool) -> Report {
    let report = repair(&disk.clone(), apply).expect("it can be repaired");
    disk.kill();
    report
}

fn flip(disk: &SimDisk, name: &str, wanted: &[u8]) -> Vec<u8> {
    let mut content = disk.content(name).expect("the file");
    let at = content.windows(wanted.len()).position(|w| w == wanted).expect("it is there");
    content[at] ^= 1;
    disk.set_content(name, &content);
    content
}

#[test]
fn looking_changes_nothing_and_a_sound_directory_is_left_alone() {
    let (disk, _) = written();
    let before = disk.files();
    assert!(run(&disk, true).damages.is_empty());
    assert_eq!(disk.files(), before);
    let damaged = flip(&disk, FIRST, b"two");
    assert_eq!(run(&disk, false).damages.len(), 1);
    assert_eq!((disk.files(), disk.content(FIRST)), (before, Some(damaged)), "nothing was changed");
    assert!(matches!(open(&disk).err(), Some(OpenError::Damaged { .. })));
}

#[test]
fn a_damaged_message_goes_to_quarantine_and_all_others_stay() {
    let (disk, queue) = written();
    let damaged = flip(&disk, FIRST, b"two");
    let report = run(&disk, true);
    let [damage] = &report.damages[..] else { panic!("{report:?}") };
    assert_eq!((damage.file.as_str(), damage.kind), (FIRST, Some("batch of messages")));
    assert_eq!(damage.queues[&queue].messages, 1);
    let (from, to) = (damage.offset as usize, (damage.offset + damage.bytes) as usize);
    let aside = disk.content(&format!("quarantine/{FIRST}.{from}-{to}"));
    assert_eq!(aside.as_deref(), Some(&damaged[from..to]), "byte for byte");
    for _ in 0..2 {
        let storage = open(&disk).expect("it opens again");
        assert_eq!(read_all(&storage, queue), ["three", "four", "five"]);
        assert!(storage.get_meta(b"key").is_some());
        assert!(storage.get_meta(&MetaSpace::Repair.key(b"")).is_some(), "the broker is told");
        drop(storage);
        disk.kill();
    }
}

#[test]
fn every_flipped_bit_can_be_repaired_and_takes_little_with_it() {
    let (whole, queue) = written();
    let mut repaired = 0;
    for name in [FIRST, "wal-000000000002.log"] {
        let content = whole.content(name).expect("the file");
        let used = content.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
        for at in 0..used {
            let disk = whole.copy();
            let mut content = content.clone();
            content[at] ^= 0x10;
            disk.set_content(name, &content);
            match open(&disk.copy()) {
                Ok(_) => continue,
                Err(OpenError::Newer { .. } | OpenError::Encrypted { .. }) => {
                    assert!(repair(&disk.clone(), true).is_err(), "not ours to touch");
                    continue;
                }
                Err(_) => repaired += 1,
            }
            assert!(!run(&disk, true).damages.is_empty(), "byte {at} of {name}");
            let storage = open(&disk).unwrap_or_else(|error| panic!("byte {at} of {name}: {error}"));
            let left = read_all(&storage, queue);
            let others = left.iter().filter(|body| *body != "one").count();
            assert!(others >= 3, "byte {at} of {name}: only {left:?} is left");
            assert!(left.windows(2).all(|w| order(&w[0]) < order(&w[1])), "byte {at} of {name}: {left:?}");
        }
    }
    assert!(repaired > 300, "{repaired}");
}

fn order(body: &str) -> usize {
    ["one", "two", "three", "four", "five"].iter().position(|b| *b == body).expect("one of ours")
}

#[test]
fn a_file_that_is_gone_altogether_is_put_aside_whole() {
    let (disk, queue) = written();
    let mut content = disk.content(FIRST).expect("the file");
    content.fill(0x5a);
    disk.set_content(FIRST, &content);
    assert!(matches!(open(&disk.copy()).err(), Some(OpenError::Damaged { .. })));
    assert_eq!(run(&disk, true).quarantined, [FIRST]);
    assert_eq!(disk.content(&format!("quarantine/{FIRST}")), Some(content));
    let storage = open(&disk).expect("opens");
    assert_eq!(read_all(&storage, queue), ["four", "five"], "a queue whose creation is gone keeps its messages");
}

#[test]
fn what_a_file_held_before_it_was_used_again_does_not_pass_for_its_own() {
    // A message a file; the queue is emptied again and again, so the files go round.
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    for n in 0..8 {
        let body = format!("{n}{}", "x".repeat(12_000));
        append(&storage, queue, &body);
        storage.sync_step(true);
        storage.keep_step();
        every_bit_of_the_base_of_the_newest_file_can_be_repaired(&disk.copy(), queue, &body);
        let mut taken = Vec::new();
        storage.deliver(queue, Credit { messages: 1, bytes: usize::MAX }, at(0), &mut |delivery| {
            taken.push(delivery.seq);
            HolderId(1)
        });
        storage.settle(queue, &taken, Outcome::Ack, at(0));
        storage.sync_step(true);
        storage.keep_step();
    }
}

fn every_bit_of_the_base_of_the_newest_file_can_be_repaired(whole: &SimDisk, queue: QueueId, body: &str) {
    whole.kill();
    let files = whole.files().into_iter().filter(|name| name.starts_with("wal-") && name.ends_with(".log"));
    let newest = files.max().expect("a log");
    for bit in 0..64 {
        let disk = whole.copy();
        let mut content = disk.content(&newest).expect("the file");
        content[24 + bit / 8] ^= 1 << (bit % 8);
        disk.set_content(&newest, &content);
        assert!(open(&disk.copy()).is_err(), "bit {bit} of the base of {newest}");
        run(&disk, true);
        let opened = open(&disk);
        assert_eq!(opened.as_ref().err(), None, "bit {bit} of the base of {newest}");
        let storage = opened.expect("just looked");
        assert_eq!(read_all(&storage, queue), [body], "bit {bit} of the base of {newest}");
    }
}
