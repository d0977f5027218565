//! A bit that comes wrong once on its way from the disk costs nothing, whatever is read by it.

mod common;

use common::{Recorder, at, message};
use engine::{Batch, Credit, Durability, Engine, Order, QueueSpec};
use model::{HolderId, QueueId};
use sluicegate_storage::sim::{Fault, SimDisk};
use sluicegate_storage::{Options, Storage, repair};
use std::sync::Arc;

const DURABLE: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Sync, priority_max: 0, ttl_ms: None, order: Order::Arrival };
const MESSAGES: usize = 30;
/// Bits of the reads that come wrong: of headers, of records, of what is behind them.
const BITS: [usize; 6] = [3, 130, 701, 9_333, 40_009, 120_001];

fn open(disk: &SimDisk, events: &Arc<Recorder>) -> Storage {
    let options = Options { first_file_bytes: 4096, file_bytes: 16384, body_piece_bytes: 1000, ..Options::default() };
    Storage::open_by_hand(Arc::new(disk.clone()), options, events.clone()).expect("opens")
}

/// Files of the log, with digests and without, the last without a seal; and a large body.
fn filled() -> (SimDisk, QueueId) {
    let (disk, events) = (SimDisk::new(), Arc::new(Recorder::default()));
    let storage = open(&disk, &events);
    let (queue, _) = storage.create_queue(DURABLE).expect("a queue");
    let mut writer = storage.begin_body(2500, Arc::new(|| {})).expect("begun");
    writer.append(vec![7; 2500].into());
    while storage.body_step() {}
    writer.finish().expect("no fault");
    while storage.body_step() {}
    let body = writer.finish().expect("no fault").expect("written");
    for n in 0..MESSAGES {
        let mut batch = Batch::new();
        let mut made = message(true, if n == 0 { Vec::new() } else { vec![n as u8; 2000] });
        if n == 0 {
            made = made.with_large_body(body.clone());
        }
        batch.push(made, &[queue]);
        storage.append(&mut batch, at(0)).expect("taken");
        storage.sync_step(false);
        (0..40).for_each(|_| storage.keep_step());
    }
    drop(storage);
    disk.kill();
    (disk, queue)
}

/// The first byte of the body of each message; 0 stands for the large one.
fn read_all(storage: &Storage, queue: QueueId) -> Vec<u8> {
    let mut all = Vec::new();
    let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
    loop {
        let rest = storage.deliver(queue, credit, at(0), &mut |delivery| {
            all.push(delivery.message.body().first().copied().unwrap_or(0));
            HolderId(1)
        });
        if !rest.pending {
            return all;
        }
        storage.read_step();
    }
}

#[test]
fn recovery_loses_nothing_by_it_and_changes_nothing_for_good() {
    let (disk, queue) = filled();
    assert!(disk.files().iter().any(|name| name.ends_with(".digest")), "{:?}", disk.files());
    let expected: Vec<u8> = (0..MESSAGES as u8).collect();
    let mut reads = 0;
    loop {
        for bit in BITS {
            let (disk, events) = (disk.copy(), Arc::new(Recorder::default()));
            disk.inject(Fault::Flip(reads, bit));
            let storage = open(&disk, &events);
            if disk.take_back() {
                assert!(reads > 10, "{reads} reads are all");
                return;
            }
            assert_eq!(read_all(&storage, queue), expected, "bit {bit} of read {reads}");
            drop(storage);
            disk.kill();
            assert_eq!(read_all(&open(&disk, &events), queue), expected, "after bit {bit} of read {reads}");
            assert!(events.damaged().is_empty(), "bit {bit} of read {reads}: {:?}", events.damaged());
        }
        reads += 1;
    }
}

#[test]
fn repair_takes_it_for_no_damage() {
    let (disk, _) = filled();
    for reads in 0..disk.files().len() {
        for bit in BITS {
            let disk = disk.copy();
            disk.inject(Fault::Flip(reads, bit));
            let report = repair(&disk, false).expect("it can be read");
            assert!(
                report.damages.is_empty() && report.quarantined.is_empty(),
                "bit {bit} of read {reads}: {report:?}"
            );
        }
    }
}
