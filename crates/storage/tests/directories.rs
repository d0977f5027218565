//! Data directories that are not as they should be, disks that fail, and the format that must open for ever.

mod common;

use common::{Recorder, Scratch, at, message};
use engine::{
    Batch, Credit, Durability, Engine, EngineError, EntryKey, Limits, Order, Outcome, Pressure, QueueSpec, Schedule,
    Ticket,
};
use model::{HolderId, QueueId};
use sluicegate_storage::sim::{Dice, Fault, SimDisk, log_file_of};
use sluicegate_storage::{OpenError, Options, Storage, repair};
use std::sync::Arc;

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };

fn small() -> Options {
    Options { first_file_bytes: 4096, file_bytes: 16384, ..Options::default() }
}

fn open(disk: &SimDisk) -> Result<Storage, OpenError> {
    Storage::open_by_hand(Arc::new(disk.clone()), small(), Arc::new(Recorder::default()))
}

fn append(storage: &Storage, queue: QueueId, bodies: &[&str]) -> Result<Ticket, EngineError> {
    let mut batch = Batch::new();
    for body in bodies {
        batch.push(message(true, body.as_bytes().to_vec()), &[queue]);
    }
    storage.append(&mut batch, at(0))
}

/// Everything in a queue.
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
        storage.sync_step(true);
        while storage.read_step() {}
    }
}

/// A disk with three synced batches, and the name and content of their file.
fn written() -> (SimDisk, QueueId, String, Vec<u8>) {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    for body in ["one", "two", "three"] {
        append(&storage, queue, &[body]).expect("taken");
        storage.sync_step(false);
    }
    drop(storage);
    disk.kill();
    let name = "wal-000000000001.log".to_owned();
    let content = disk.content(&name).expect("the first file");
    (disk, queue, name, content)
}

fn position(content: &[u8], wanted: &[u8]) -> usize {
    content.windows(wanted.len()).position(|w| w == wanted).expect("it is there")
}

#[test]
fn a_directory_in_use_is_refused_with_a_hint() {
    let dir = Scratch::new("locked");
    let first = Storage::open(dir.path(), Options::default(), Arc::new(Recorder::default()));
    let second = Storage::open(dir.path(), Options::default(), Arc::new(Recorder::default()));
    let error = second.err().expect("locked");
    assert_eq!(error, OpenError::Locked);
    assert!(error.to_string().contains("another process is using it"), "{error}");
    drop(first);
    assert!(Storage::open(dir.path(), Options::default(), Arc::new(Recorder::default())).is_ok());
}

#[test]
fn a_closed_engine_leaves_its_directory_to_another() {
    let dir = Scratch::new("left");
    let first = Storage::open(dir.path(), Options::default(), Arc::new(Recorder::default())).expect("open");
    let (queue, _) = first.create_queue(DURABLE).expect("a queue");
    append(&first, queue, &["one"]).expect("taken");
    first.close().expect("closed");
    let second = Storage::open(dir.path(), Options::default(), Arc::new(Recorder::default())).expect("open again");
    assert_eq!(second.stats(queue).ready, 1);
    assert!(append(&first, queue, &["two"]).is_err(), "the first takes nothing more");
    drop(first);
    append(&second, queue, &["three"]).expect("taken");
    assert_eq!(second.stats(queue).ready, 2);
}

#[test]
fn a_newer_format_is_refused() {
    let (disk, _, name, mut content) = written();
    content[8] = 3;
    disk.set_content(&name, &content);
    let error = open(&disk).err().expect("newer");
    assert_eq!(error, OpenError::Newer { file: name, found: 3, known: 2 });
    assert!(error.to_string().contains("newer program"), "{error}");
}

#[test]
fn a_full_and_a_read_only_disk_are_told_apart() {
    let disk = SimDisk::new();
    disk.limit(Some(100));
    assert_eq!(open(&disk).err(), Some(OpenError::Full));
    disk.kill();
    disk.limit(None);
    disk.set_read_only(true);
    assert!(matches!(open(&disk).err(), Some(OpenError::ReadOnly(_))));
    disk.kill();
    disk.set_read_only(false);
    assert!(open(&disk).is_ok());
}

#[test]
fn damage_before_the_tail_is_refused_and_nothing_is_touched() {
    let (disk, _, name, whole) = written();
    let at = position(&whole, b"two");
    let mut content = whole.clone();
    content[at] ^= 1;
    disk.set_content(&name, &content);
    let names = disk.files();
    match open(&disk).err() {
        Some(OpenError::Damaged { file, offset, .. }) => {
            assert_eq!(file, name);
            assert!(usize::try_from(offset).is_ok_and(|o| o < at && at - o < 64));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((disk.files(), disk.content(&name)), (names, Some(content)), "nothing was changed");
}

#[test]
fn every_flipped_bit_is_refused_or_cut_at_the_tail() {
    let (disk, queue, name, whole) = written();
    let end = position(&whole, b"three") + 16;
    let mut cut = 0;
    for at in 0..end {
        let mut content = whole.clone();
        content[at] ^= 0x10;
        let copy = SimDisk::new();
        copy.set_content(&name, &content);
        if let Ok(storage) = open(&copy) {
            let left = read_all(&storage, queue);
            let unchanged = left == ["one", "two", "three"];
            assert!(unchanged || left == ["one", "two"], "byte {at}: {left:?}");
            cut += usize::from(!unchanged);
        }
    }
    drop(disk);
    assert!(cut > 0 && cut < 80, "only the last record can be taken for a torn tail: {cut}");
}

#[test]
fn a_damaged_file_that_is_not_the_last_is_refused() {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let body = "x".repeat(3000);
    for _ in 0..8 {
        append(&storage, queue, &[&body]).expect("taken");
        storage.sync_step(false);
    }
    drop(storage);
    disk.kill();
    let name = "wal-000000000001.log";
    let mut content = disk.content(name).expect("the first file");
    let at = position(&content, b"xxx");
    content[at] ^= 1;
    disk.set_content(name, &content);
    assert!(matches!(open(&disk).err(), Some(OpenError::Damaged { .. })));
}

#[test]
fn a_torn_tail_is_cut_and_never_comes_back() {
    let (disk, queue, name, whole) = written();
    let storage = open(&disk).expect("opens");
    append(&storage, queue, &["torn", "lost"]).expect("taken");
    append(&storage, queue, &["behind"]).expect("taken");
    storage.write_step();
    drop(storage);
    let second = "wal-000000000002.log";
    let mut content = disk.content(second).expect("the second file");
    let at = position(&content, b"torn");
    content[at] ^= 1;
    disk.set_content(second, &content);
    disk.kill();
    let storage = open(&disk).expect("a torn tail opens");
    assert_eq!(read_all(&storage, queue), ["one", "two", "three"]);
    append(&storage, queue, &["next"]).expect("taken");
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    let storage = open(&disk).expect("opens");
    assert_eq!(read_all(&storage, queue), ["one", "two", "three", "next"]);
    assert!(disk.content(&name).is_some_and(|c| c.len() < whole.len()), "sealed and cut");
}

#[test]
fn a_failed_sync_is_final() {
    for fault in [Fault::Sync, Fault::Write] {
        let disk = SimDisk::new();
        let events = Arc::new(Recorder::default());
        let storage = Storage::open_by_hand(Arc::new(disk.clone()), small(), events.clone()).expect("opens");
        let (queue, ticket) = storage.create_queue(DURABLE).expect("a queue");
        storage.sync_step(false);
        assert!(storage.durable() >= ticket);
        let ticket = append(&storage, queue, &["x"]).expect("taken");
        disk.inject(fault);
        storage.sync_step(false);
        assert!(events.failed().is_some_and(|why| why.contains("injected")));
        storage.sync_step(true);
        assert!(storage.durable() < ticket, "nothing becomes durable after a failure");
        assert!(matches!(append(&storage, queue, &["y"]), Err(EngineError::Failed(_))));
        assert!(matches!(storage.close(), Err(EngineError::Failed(_))));
        drop(storage);
        disk.crash(&mut Dice::new(1));
        assert!(open(&disk).is_ok(), "a restart recovers");
    }
}

#[test]
fn a_full_disk_stops_publishers_until_there_is_space() {
    let disk = SimDisk::new();
    let events = Arc::new(Recorder::default());
    let storage = Storage::open_by_hand(Arc::new(disk.clone()), small(), events.clone()).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let last = append(&storage, queue, &["x"]).expect("taken");
    storage.sync_step(false);
    assert!(storage.durable() >= last);
    disk.limit(Some(disk.used()));
    storage.keep_step();
    assert_eq!(storage.pressure(), Pressure::Disk);
    assert_eq!(append(&storage, queue, &["y"]), Err(EngineError::Pressed(Pressure::Disk)));
    assert_eq!(read_all(&storage, queue), ["x"], "consumers go on");
    assert_eq!(storage.release(queue, HolderId(1), at(0)), 1);
    storage.sync_step(true);
    disk.limit(None);
    storage.keep_step();
    assert_eq!(events.pressures(), [Pressure::Disk, Pressure::None]);
    let ticket = append(&storage, queue, &["y"]).expect("taken again");
    storage.sync_step(false);
    assert!(storage.durable() >= ticket);
    assert_eq!(read_all(&storage, queue), ["x", "y"]);
}

#[test]
fn a_disk_short_of_space_stops_publishers_and_nobody_else() {
    let disk = SimDisk::new();
    let events = Arc::new(Recorder::default());
    let options = Options { disk_free_limit: 50_000, ..small() };
    let storage = Storage::open_by_hand(Arc::new(disk.clone()), options, events.clone()).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let free = |bytes: usize| disk.limit(Some(disk.used() + bytes));
    append(&storage, queue, &["x"]).expect("taken");
    storage.sync_step(false);
    free(50_000 + 16384);
    storage.keep_step();
    assert_eq!(storage.pressure(), Pressure::None, "exactly the limit is left once the next file is made");
    free(49_999);
    storage.keep_step();
    assert_eq!(append(&storage, queue, &["y"]), Err(EngineError::Pressed(Pressure::Disk)));
    assert!(storage.create_queue(DURABLE).is_ok() && storage.put_meta(b"key", b"value").is_ok(), "small things go on");
    assert_eq!(read_all(&storage, queue), ["x"], "consumers go on");
    disk.limit(None);
    storage.keep_step();
    assert_eq!(events.pressures(), [Pressure::Disk, Pressure::None]);
    append(&storage, queue, &["y"]).expect("taken again");
}

#[test]
fn what_is_damaged_while_running_is_kept_aside_and_stops_nothing() {
    let disk = SimDisk::new();
    let events = Arc::new(Recorder::default());
    let options = Options { resident_bytes_max: 100, ..small() };
    let storage = Storage::open_by_hand(Arc::new(disk.clone()), options, events.clone()).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    for body in ["first message", "second message", "third message"] {
        // Too little memory for any but the first: publishers would be stopped, a batch that came before is not.
        let _ = append(&storage, queue, &[body]);
        storage.sync_step(true);
        storage.keep_step();
    }
    let name = "wal-000000000001.log";
    let mut content = disk.content(name).expect("the first file");
    let bad = position(&content, b"second");
    content[bad] ^= 1;
    disk.set_content(name, &content);
    assert_eq!(read_all(&storage, queue), ["first message", "third message"], "the others come, in order");
    assert_eq!(events.failed(), None, "the process goes on");
    assert_eq!(events.damaged().len(), 1, "it is told once");
    assert_eq!((storage.metrics().damaged, storage.stats(queue).unsettled), (1, 3), "it is kept and counted");
    assert_eq!(storage.release(queue, HolderId(1), at(0)), 2, "nobody holds it");
    storage.close().expect("everything else is written");
    drop(storage);
    disk.kill();
    assert!(matches!(open(&disk).err(), Some(OpenError::Damaged { .. })), "a restart does not hide it");
}

#[test]
fn a_disk_that_turns_read_only_under_load_is_final() {
    let disk = SimDisk::new();
    let events = Arc::new(Recorder::default());
    let storage = Storage::open_by_hand(Arc::new(disk.clone()), small(), events.clone()).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let last = append(&storage, queue, &["kept"]).expect("taken");
    storage.sync_step(false);
    assert!(storage.durable() >= last);
    disk.set_read_only(true);
    let lost = append(&storage, queue, &["lost"]).expect("the engine does not know yet");
    storage.sync_step(false);
    assert!(events.failed().is_some_and(|why| why.contains("read-only")) && storage.durable() < lost);
    assert!(matches!(append(&storage, queue, &["late"]), Err(EngineError::Failed(_))));
    drop(storage);
    disk.kill();
    assert!(matches!(open(&disk).err(), Some(OpenError::ReadOnly(_))), "said by name as long as it is so");
    disk.kill();
    disk.set_read_only(false);
    let storage = open(&disk).expect("opens");
    assert_eq!(read_all(&storage, queue), ["kept"]);
}

#[test]
fn a_read_that_fails_once_is_read_again() {
    for fault in [Fault::Read, Fault::Flip(0, 700)] {
        let disk = SimDisk::new();
        let events = Arc::new(Recorder::default());
        let storage = Storage::open_by_hand(Arc::new(disk.clone()), small(), events.clone()).expect("opens");
        let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
        append(&storage, queue, &["a".repeat(500).as_str()]).expect("taken");
        storage.close().expect("written");
        drop(storage);
        disk.kill();
        let storage = Storage::open_by_hand(Arc::new(disk.clone()), small(), events.clone()).expect("opens");
        disk.inject(fault);
        assert_eq!(read_all(&storage, queue), ["a".repeat(500)]);
        assert!(!disk.take_back(), "the fault has come");
        assert!(events.damaged().is_empty());
    }
}

#[test]
fn a_rotation_into_a_full_disk_waits_and_loses_nothing() {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("opens");
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let body = "z".repeat(1500);
    storage.sync_step(false);
    disk.limit(Some(disk.used()));
    let mut last = Ticket::NONE;
    for _ in 0..4 {
        last = append(&storage, queue, &[&body]).expect("the engine does not know yet");
    }
    storage.sync_step(false);
    assert!(storage.durable() < last, "not everything fits");
    assert_eq!(storage.pressure(), Pressure::Disk);
    disk.limit(None);
    storage.sync_step(false);
    assert!(storage.durable() >= last, "written once there is space");
    storage.keep_step();
    assert_eq!(storage.pressure(), Pressure::None);
    assert_eq!(read_all(&storage, queue).len(), 4);
}

#[test]
fn garbage_with_right_checksums_is_refused_or_harmless() {
    let mut dice = Dice::new(7);
    let mut opened = 0;
    for _ in 0..20_000 {
        let payloads: Vec<(u8, Vec<u8>)> = (0..1 + dice.below(6))
            .map(|_| {
                let small = dice.once_in(2);
                let byte = |dice: &mut Dice| if small { dice.below(4) as u8 } else { dice.roll() as u8 };
                let len = dice.below(24);
                (1 + dice.below(10) as u8, (0..len).map(|_| byte(&mut dice)).collect())
            })
            .collect();
        let records: Vec<(u8, &[u8])> = payloads.iter().map(|(kind, payload)| (*kind, &payload[..])).collect();
        let disk = SimDisk::new();
        disk.set_content("wal-000000000001.log", &log_file_of(&records));
        if let Ok(storage) = open(&disk) {
            opened += 1;
            for (queue, _) in storage.queues() {
                read_all(&storage, queue);
            }
            storage.keep_step();
        }
    }
    assert!(opened > 100, "{opened} were harmless");
}

/// No engine writes such a log; the fuzzer did.
#[test]
fn two_entries_with_one_seq_and_two_priorities_are_read_to_their_end() {
    let mut first = vec![120, 1, 8];
    first.extend([21; 9]);
    first.extend([11, 0, 22, 0]);
    first.extend([21; 11]);
    first.extend([1, 74, 120, 1, 21, 21, 21, 21, 0, 3, 8, 0, 3, 255, 255, 42, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    first.extend([6, 0, 73, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 6, 0, 0]);
    let second = [120, 1, 8, 0, 0, 41, 26, 1, 21, 21, 21, 9, 0, 3, 8, 0, 8, 0, 3, 255, 255, 42, 0];
    let disk = SimDisk::new();
    let queue_of_priorities = [3, 3, 0];
    let log = log_file_of(&[(3, &queue_of_priorities), (1, &first), (1, &second)]);
    disk.set_content("wal-000000000001.log", &log);
    let storage = open(&disk).expect("whole records");
    let all = Credit { messages: usize::MAX, bytes: usize::MAX };
    let mut waits = 0;
    while storage.deliver(QueueId(3), all, at(0), &mut |_| HolderId(1)).pending {
        storage.read_step();
        waits += 1;
        assert!(waits < 100, "never read to its end");
    }
    assert_eq!(storage.stats(QueueId(3)).ready, 0);
}

/// The files that every version must open for ever.
const GOLDEN: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/wal-000000000001.log"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v2/wal-000000000001.log"),
];

/// Takes one entry and settles it.
fn settle_one(storage: &Storage, queue: QueueId, outcome: Outcome) {
    let mut first = Vec::new();
    let one = Credit { messages: 1, bytes: usize::MAX };
    storage.deliver(queue, one, at(0), &mut |delivery| {
        first.push(delivery.seq);
        HolderId(1)
    });
    storage.settle(queue, &first, outcome, at(0));
}

/// Writes one record of every kind but a seal.
fn write_golden() -> Vec<u8> {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let spec = QueueSpec { priority_max: 9, ttl_ms: Some(86_400_000), ..DURABLE };
    let (queue, _) = storage.create_queue(spec).expect("a queue");
    let (gone, _) = storage.create_queue(DURABLE).expect("a queue");
    append(&storage, queue, &["golden one", "golden two", "golden three"]).expect("taken");
    append(&storage, gone, &["never seen"]).expect("taken");
    storage.put_meta(b"key", b"value").expect("kept");
    storage.put_meta(b"old", b"value").expect("kept");
    storage.delete_meta(b"old").expect("gone");
    storage.delete_queue(gone).expect("gone");
    storage.sync_step(false);
    settle_one(&storage, queue, Outcome::Ack);
    storage.set_limits(queue, Limits { counts_attempts: true, ..Limits::default() }, at(0));
    settle_one(&storage, queue, Outcome::Requeue);
    write_golden_schedules(&storage);
    write_golden_classes(&storage);
    storage.sync_step(true);
    disk.content("wal-000000000001.log").expect("the first file")
}

/// What version 1 did not have: entries that wait for a time.
fn write_golden_schedules(storage: &Storage) {
    let (queue, _) = storage.create_queue(QueueSpec { order: Order::Due, ..DURABLE }).expect("a queue");
    let mut batch = Batch::new();
    for (ms, key, body) in [(2_000, None, "second"), (1_000, Some(GOLDEN_KEY), "first")] {
        batch.push_scheduled(message(true, body.into()), queue, Schedule { at: at(ms).wall, key });
    }
    storage.append(&mut batch, at(0)).expect("taken");
}

const GOLDEN_KEY: EntryKey = EntryKey(std::num::NonZeroU64::MAX);

/// Neither had it queues that are not synced, nor batches that change metadata.
fn write_golden_classes(storage: &Storage) {
    for durability in [Durability::Interval, Durability::None, Durability::Memory] {
        let (queue, _) = storage.create_queue(QueueSpec { durability, ..DURABLE }).expect("a queue");
        let mut batch = Batch::new();
        batch.push(message(true, durability.word().into()), &[queue]);
        batch.put_meta(b"batch".to_vec(), durability.word().into());
        batch.put_meta(b"brief".to_vec(), Vec::new());
        batch.delete_meta(b"brief".to_vec());
        storage.append(&mut batch, at(0)).expect("taken");
    }
}

type Metas = Vec<(Vec<u8>, Vec<u8>)>;

/// Opens a golden file and checks what the versions have in common; returns what else is there.
fn open_golden(golden: &[u8]) -> (Storage, Vec<(QueueId, QueueSpec)>, Metas) {
    let disk = SimDisk::new();
    disk.set_content("wal-000000000001.log", golden);
    let storage = open(&disk).expect("it opens");
    let mut queues = storage.queues();
    let (first, spec) = queues.remove(0);
    assert_eq!(spec, QueueSpec { priority_max: 9, ttl_ms: Some(86_400_000), ..DURABLE });
    assert_eq!(read_all(&storage, first), ["golden two", "golden three"]);
    let mut metas = storage.metas();
    assert_eq!(metas.pop(), Some((b"key".to_vec(), b"value".to_vec())));
    (storage, queues, metas)
}

#[test]
fn the_golden_files_open_for_ever() {
    let [one, two] = GOLDEN;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(two, write_golden()).expect("the fixture can be written");
    }
    let (_, queues, metas) = open_golden(&std::fs::read(one).expect("the fixture"));
    assert!(queues.is_empty() && metas.is_empty());

    let golden = std::fs::read(two).expect("the fixture");
    let (storage, mut queues, metas) = open_golden(&golden);
    let (waiting, spec) = queues.remove(0);
    assert_eq!(spec.order, Order::Due);
    assert_eq!(storage.stats(waiting).head_due_at, Some(at(1_000).wall));
    assert_eq!(storage.cancel(waiting, GOLDEN_KEY, at(0)).map(|(taken, _)| taken), Ok(1));
    assert_eq!(storage.stats(waiting).head_due_at, Some(at(2_000).wall));
    assert_eq!(metas, [(b"batch".to_vec(), b"memory".to_vec())]);
    let classes = [Durability::Interval, Durability::None, Durability::Memory];
    assert_eq!(queues.iter().map(|(_, spec)| spec.durability).collect::<Vec<_>>(), classes);
    assert_eq!(read_all(&storage, queues[0].0), ["interval"]);
    assert_eq!(read_all(&storage, queues[1].0), ["none"]);
    assert!(read_all(&storage, queues[2].0).is_empty());
    assert!(golden == write_golden(), "what is written has changed: raise the format version");
}

/// Work in two queues over many small files, and what is left of it: the first file has a digest, some later one a
/// digest alone.
fn digested() -> (SimDisk, QueueId, Vec<String>) {
    let disk = SimDisk::new();
    let storage = open(&disk).expect("an empty disk opens");
    let (kept, _) = storage.create_queue(DURABLE).expect("a queue");
    let (busy, _) = storage.create_queue(DURABLE).expect("a queue");
    let long = |body: &str| format!("{body:>5000}");
    append(&storage, kept, &[&long("kept one"), &long("kept two"), &long("kept three")]).expect("taken");
    storage.put_meta(b"key", b"value").expect("kept");
    let body = "x".repeat(2000);
    let all = Credit { messages: usize::MAX, bytes: usize::MAX };
    for round in 0..60 {
        append(&storage, busy, &[&body, &body]).expect("taken");
        storage.sync_step(false);
        let mut seqs = Vec::new();
        storage.deliver(busy, all, at(0), &mut |delivery| {
            seqs.push(delivery.seq);
            HolderId(1)
        });
        storage.settle(busy, &seqs, Outcome::Ack, at(0));
        if round == 50 {
            let mut first = Vec::new();
            storage.deliver(kept, Credit { messages: 1, bytes: 1 }, at(0), &mut |delivery| {
                first.push(delivery.seq);
                HolderId(1)
            });
            storage.settle(kept, &first, Outcome::Ack, at(0));
        }
        storage.sync_step(true);
        storage.keep_step();
    }
    storage.close().expect("written");
    drop(storage);
    disk.kill();
    let digests: Vec<String> = disk.files().into_iter().filter(|name| name.ends_with(".digest")).collect();
    (disk, kept, digests)
}

/// A copy of a disk with one file changed.
fn copy_with(disk: &SimDisk, changed: &str, content: Option<&[u8]>) -> SimDisk {
    let copy = SimDisk::new();
    for name in disk.files() {
        match content {
            Some(content) if name == changed => copy.set_content(&name, content),
            None if name == changed => {}
            _ => copy.set_content(&name, &disk.content(&name).expect("it is listed")),
        }
    }
    copy
}

fn has_what_was_kept(disk: &SimDisk, kept: QueueId) {
    let storage = open(disk).expect("opens");
    assert_eq!(storage.metas(), [(b"key".to_vec(), b"value".to_vec())]);
    let left = read_all(&storage, kept);
    assert_eq!(left.iter().map(|body| body.trim()).collect::<Vec<_>>(), ["kept two", "kept three"]);
    assert_eq!(storage.stats(storage.queues()[1].0).ready, 0, "what was settled stays so");
}

#[test]
fn digests_are_made_read_and_not_needed_beside_their_file() {
    let (disk, kept, digests) = digested();
    let (beside, alone): (Vec<_>, Vec<_>) =
        digests.iter().partition(|name| disk.content(&name.replace(".digest", ".log")).is_some());
    assert!(!beside.is_empty() && !alone.is_empty(), "{digests:?} of {:?}", disk.files());
    has_what_was_kept(&copy_with(&disk, "", None), kept);
    let mut bodies = 0;
    for name in beside {
        let whole = disk.content(name).expect("it is listed");
        has_what_was_kept(&copy_with(&disk, name, None), kept);
        has_what_was_kept(&copy_with(&disk, name, Some(&whole[..whole.len() - 1])), kept);
        has_what_was_kept(&copy_with(&disk, name, Some(&[])), kept);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            has_what_was_kept(&copy_with(&disk, name, Some(&bytes)), kept);
        }
        // Damage to a body is not looked for where a digest says all that is needed.
        let log = name.replace(".digest", ".log");
        let mut bytes = disk.content(&log).expect("it is there");
        let Some(at) = bytes.windows(8).position(|w| w == b"kept one") else { continue };
        bodies += 1;
        bytes[at] ^= 1;
        has_what_was_kept(&copy_with(&disk, &log, Some(&bytes)), kept);
        let without_digest = copy_with(&copy_with(&disk, &log, Some(&bytes)), name, None);
        assert!(matches!(open(&without_digest).err(), Some(OpenError::Damaged { .. })), "the file is read instead");
    }
    assert!(bodies > 0, "{digests:?}");
}

#[test]
fn a_digest_that_stands_alone_is_as_dear_as_a_file() {
    let (disk, kept, digests) = digested();
    let alone: Vec<_> =
        digests.iter().filter(|name| disk.content(&name.replace(".digest", ".log")).is_none()).collect();
    assert!(!alone.is_empty(), "{digests:?}");
    for name in alone {
        let whole = disk.content(name).expect("it is listed");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            match open(&copy_with(&disk, name, Some(&bytes))).err() {
                Some(OpenError::Damaged { file, .. } | OpenError::Newer { file, .. }) => assert_eq!(file, *name),
                other => panic!("byte {at}: {other:?}"),
            }
        }
        let mut bytes = whole.clone();
        *bytes.last_mut().expect("it is not empty") ^= 1;
        let damaged = copy_with(&disk, name, Some(&bytes));
        let files = damaged.files();
        let found = repair(&damaged.clone(), false).expect("it can be looked at");
        assert_eq!(&found.quarantined, std::slice::from_ref(name));
        assert_eq!(found.damages.len(), 1);
        assert_eq!(found.damages[0].kind, Some("digest"));
        damaged.kill();
        assert_eq!(damaged.files(), files, "looking changes nothing");
        let mended = repair(&damaged.clone(), true).expect("it can be repaired");
        assert_eq!(mended, found);
        damaged.kill();
        assert!(damaged.content(name).is_none());
        let storage = open(&damaged).expect("it opens again");
        let left = read_all(&storage, kept);
        let kept_bodies = left.iter().map(|body| body.trim()).collect::<Vec<_>>();
        assert!(kept_bodies.ends_with(&["kept two", "kept three"]), "{kept_bodies:?}");
    }
}
