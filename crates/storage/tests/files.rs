//! Data directories whose files are missing, exchanged, cut or emptied: refused by name, untouched, and repaired with
//! everything else still there.

mod common;

use common::{Recorder, at, message};
use engine::{Batch, Credit, Durability, Engine, Order, Outcome, QueueSpec};
use model::{HolderId, QueueId};
use sluicegate_storage::sim::SimDisk;
use sluicegate_storage::{OpenError, Options, Report, Storage, repair};
use std::collections::BTreeSet;
use std::sync::Arc;

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };

/// Messages of [`filled`], each about a third of a file.
const MESSAGES: usize = 20;

fn open(disk: &SimDisk) -> Result<Storage, OpenError> {
    let options = Options { first_file_bytes: 4096, file_bytes: 16384, ..Options::default() };
    Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Recorder::default()))
}

fn body(n: usize) -> String {
    format!("{:.>4994}<{n:04}>", "")
}

fn append(storage: &Storage, queue: QueueId, body: &str) {
    let mut batch = Batch::new();
    batch.push(message(true, body.as_bytes().to_vec()), &[queue]);
    storage.append(&mut batch, at(0)).expect("taken");
    storage.sync_step(false);
}

fn read_all(storage: &Storage, queue: QueueId) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
    loop {
        let rest = storage.deliver(queue, credit, at(0), &mut |delivery| {
            let text = String::from_utf8_lossy(delivery.message.body()).into_owned();
            all.extend(messages_in(text.as_bytes()));
            HolderId(1)
        });
        if !rest.pending {
            return all;
        }
        while storage.read_step() {}
    }
}

/// A log of many files in which everything lives: two lives of the process, `from` is the first message.
fn filled(from: usize, closed: bool) -> (SimDisk, QueueId) {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    for n in 0..MESSAGES / 2 {
        append(&storage, queue, &body(from + n));
        storage.keep_step();
    }
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    let storage = open(&disk).expect("opens");
    for n in MESSAGES / 2..MESSAGES {
        append(&storage, queue, &body(from + n));
        storage.keep_step();
    }
    if closed {
        storage.close().expect("written");
    }
    drop(storage);
    disk.kill();
    (disk, queue)
}

fn logs(disk: &SimDisk) -> Vec<String> {
    disk.files().into_iter().filter(|name| name.ends_with(".log")).collect()
}

fn everything(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|name| (name.clone(), disk.content(&name))).collect()
}

/// The numbers of the messages in a file.
fn messages_in(content: &[u8]) -> BTreeSet<usize> {
    let numbers = content.windows(6).filter(|w| w[0] == b'<' && w[5] == b'>').map(|w| &w[1..5]);
    numbers.filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).collect()
}

/// The directory is refused because of this file, and left as it is.
fn refused(disk: &SimDisk, name: &str) {
    refused_for_one_of(disk, &[name]);
}

fn refused_for_one_of(disk: &SimDisk, names: &[&str]) {
    let before = everything(disk);
    let error = open(disk).err();
    let is_one = matches!(&error, Some(OpenError::Damaged { file, .. }) if names.contains(&file.as_str()));
    assert!(is_one, "{names:?}: {error:?}");
    disk.kill();
    assert!(everything(disk) == before, "{names:?}: something was changed");
}

/// A repair names the file, and then all is there but what the file held.
fn repaired(disk: &SimDisk, queue: QueueId, name: &str, lost: &BTreeSet<usize>) -> Report {
    let before = everything(disk);
    let found = repair(&disk.clone(), false).expect("it can be looked at");
    disk.kill();
    assert!(everything(disk) == before, "looking changes nothing");
    assert!(found.damages.iter().any(|damage| damage.file == name), "{name}: {found:?}");
    let mended = repair(&disk.clone(), true).expect("it can be repaired");
    disk.kill();
    assert_eq!(mended, found);
    for _ in 0..2 {
        let storage = open(disk);
        assert!(storage.is_ok(), "after the repair of {name}: {:?}", storage.err());
        let storage = storage.expect("it opens");
        let all: BTreeSet<usize> = (0..MESSAGES).collect();
        let left = read_all(&storage, queue);
        assert!(left.is_superset(&(&all - lost)), "{name}: {left:?} are left, and only {lost:?} were lost");
        drop(storage);
        disk.kill();
    }
    assert!(repair(&disk.clone(), false).expect("it can be looked at").damages.is_empty(), "{name}");
    disk.kill();
    mended
}

#[test]
fn a_missing_file_is_named_wherever_it_was() {
    for closed in [false, true] {
        let (disk, queue) = filled(0, closed);
        let names = logs(&disk);
        assert!(names.len() > 6, "{names:?}");
        let mut lossy = 0;
        for name in &names {
            let content = disk.content(name).expect("it is listed");
            let lost = messages_in(&content);
            let copy = disk.copy();
            copy.lose_file(name);
            copy.lose_file(&name.replace(".log", ".digest"));
            let is_prepared = name == names.last().expect("some") && content[64..].iter().all(|byte| *byte == 0);
            if is_prepared {
                assert_eq!(read_all(&open(&copy).expect("it held nothing yet"), queue).len(), MESSAGES);
                continue;
            }
            lossy += usize::from(!lost.is_empty());
            refused(&copy, name);
            let report = repaired(&copy, queue, name, &lost);
            assert_eq!((report.damages[0].kind, report.damages[0].bytes), (Some("file that is missing"), 0));
        }
        assert!(lossy > 4, "{lossy} files held messages");
    }
}

#[test]
fn all_files_behind_some_are_missed() {
    let (disk, _) = filled(0, true);
    let names = logs(&disk);
    for kept in 1..names.len() - 1 {
        let copy = disk.copy();
        names[kept..].iter().for_each(|name| copy.lose_file(name));
        refused(&copy, &names[kept - 1]);
    }
    for gone in 1..names.len() - 1 {
        let copy = disk.copy();
        names[..gone].iter().for_each(|name| copy.lose_file(name));
        refused(&copy, &names[gone - 1]);
    }
}

#[test]
fn exchanged_files_are_refused_by_name() {
    let (disk, queue) = filled(0, false);
    let names = logs(&disk);
    for (one, two) in names.iter().zip(&names[1..]) {
        let contents = [one, two].map(|name| disk.content(name).expect("it is listed"));
        let copy = disk.copy();
        copy.set_content(one, &contents[1]);
        copy.set_content(two, &contents[0]);
        refused(&copy, one);
        let lost = &messages_in(&contents[0]) | &messages_in(&contents[1]);
        let report = repaired(&copy, queue, one, &lost);
        assert_eq!(report.quarantined, [one.clone(), two.clone()]);
        assert_eq!(copy.content(&format!("quarantine/{one}")).as_ref(), Some(&contents[1]), "kept byte for byte");
    }
}

#[test]
fn a_file_of_another_directory_is_a_stranger() {
    let (disk, queue) = filled(0, true);
    let (other, _) = filled(MESSAGES, true);
    let names = logs(&disk);
    assert_eq!(names, logs(&other));
    for (before, name) in names.iter().zip(&names[1..]) {
        let stranger = other.content(name).expect("it is listed");
        if stranger == disk.content(name).expect("it is listed") {
            continue;
        }
        let copy = disk.copy();
        copy.lose_file(&name.replace(".log", ".digest"));
        copy.lose_file(&before.replace(".log", ".digest"));
        copy.set_content(name, &stranger);
        refused_for_one_of(&copy, &[before, name]);
        let report = repair(&copy.clone(), true).expect("it can be repaired");
        assert!(report.damages.iter().all(|damage| damage.file == *before || damage.file == *name), "{report:?}");
        copy.kill();
        let lost = messages_in(&disk.content(name).expect("it is listed"));
        let left = read_all(&open(&copy).expect("opens"), queue);
        assert!(left.is_superset(&(&(0..MESSAGES).collect() - &lost)), "{name}: {left:?}");
    }
}

#[test]
fn a_file_that_was_cut_is_refused_wherever_it_was_cut() {
    for closed in [false, true] {
        let (disk, queue) = filled(0, closed);
        for name in logs(&disk) {
            let whole = disk.content(&name).expect("it is listed");
            let used = whole.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            // In the header, in the middle of records, and at every boundary of one.
            let bodies = (48..used).filter(|at| whole[*at..].starts_with(b"...") && whole[*at - 1] != b'.');
            let mut cuts: Vec<usize> = vec![0, 40, 64, used / 2, used.saturating_sub(16), used.saturating_sub(8)];
            cuts.extend(bodies.flat_map(|at| (at.saturating_sub(48)..at).step_by(8)));
            cuts.retain(|cut| *cut < used);
            for cut in cuts {
                let copy = disk.copy();
                copy.lose_file(&name.replace(".log", ".digest"));
                copy.set_content(&name, &whole[..cut]);
                refused(&copy, &name);
                // Behind the body come its references.
                let lost = &messages_in(&whole) - &messages_in(&whole[..cut.saturating_sub(64)]);
                repaired(&copy, queue, &name, &lost);
            }
        }
    }
}

/// A log whose middle lives on as a digest that stands alone; the messages 0 and 1 are kept in its first file.
fn with_alone() -> (SimDisk, QueueId, Vec<String>) {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let (kept, _) = storage.create_queue(DURABLE).expect("a queue");
    let (busy, _) = storage.create_queue(DURABLE).expect("a queue");
    append(&storage, kept, &body(0));
    append(&storage, kept, &body(1));
    for n in 0..100 {
        append(&storage, busy, &body(n));
        let mut seqs = Vec::new();
        storage.deliver(busy, Credit { messages: 9, bytes: usize::MAX }, at(0), &mut |delivery| {
            seqs.push(delivery.seq);
            HolderId(1)
        });
        storage.settle(busy, &seqs, Outcome::Ack, at(0));
        storage.sync_step(true);
        storage.keep_step();
    }
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    let is_alone =
        |name: &String| name.ends_with(".digest") && disk.content(&name.replace(".digest", ".log")).is_none();
    let alone = disk.files().into_iter().filter(is_alone).collect();
    (disk, kept, alone)
}

#[test]
fn a_missing_or_exchanged_digest_is_refused_if_it_stands_alone() {
    let (disk, kept, alone) = with_alone();
    assert!(alone.len() > 1, "{:?}", disk.files());
    assert_eq!(read_all(&open(&disk.copy()).expect("opens"), kept), BTreeSet::from([0, 1]));
    for name in &alone {
        let copy = disk.copy();
        copy.lose_file(name);
        refused(&copy, &name.replace(".digest", ".log"));
        assert!(!repair(&copy.clone(), true).expect("it can be repaired").damages.is_empty());
        copy.kill();
        let storage = open(&copy).expect("opens");
        assert_eq!(read_all(&storage, kept), BTreeSet::from([0, 1]));
    }
    let contents = [&alone[0], &alone[1]].map(|name| disk.content(name).expect("it is listed"));
    let copy = disk.copy();
    copy.set_content(&alone[0], &contents[1]);
    copy.set_content(&alone[1], &contents[0]);
    refused(&copy, &alone[0]);
}

#[test]
fn a_digest_beside_another_file_is_not_believed() {
    let (disk, queue) = filled(0, true);
    let digests: Vec<String> = disk.files().into_iter().filter(|name| name.ends_with(".digest")).collect();
    assert!(digests.len() > 1, "{:?}", disk.files());
    let contents = [&digests[0], &digests[1]].map(|name| disk.content(name).expect("it is listed"));
    let copy = disk.copy();
    copy.set_content(&digests[0], &contents[1]);
    copy.set_content(&digests[1], &contents[0]);
    assert_eq!(read_all(&open(&copy).expect("the files themselves are read"), queue).len(), MESSAGES);
}

#[test]
fn files_that_are_given_up_are_not_missed() {
    let disk = SimDisk::new();
    let mut storage = open(&disk).expect("an empty disk opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    for n in 0..60 {
        append(&storage, queue, &body(n));
        let mut seqs = Vec::new();
        storage.deliver(queue, Credit { messages: 9, bytes: usize::MAX }, at(0), &mut |delivery| {
            seqs.push(delivery.seq);
            HolderId(1)
        });
        while storage.read_step() {}
        storage.settle(queue, &seqs, Outcome::Ack, at(0));
        storage.sync_step(true);
        storage.keep_step();
        if n % 7 == 0 {
            drop(storage);
            disk.kill();
            storage = open(&disk).unwrap_or_else(|error| panic!("at {n}: {error}"));
        }
    }
    assert!(!logs(&disk).contains(&"wal-000000000001.log".to_owned()), "{:?}", disk.files());
}
