//! A log whose checksums are right and whose records are anything. Checked: opening, reading back and housekeeping
//! never panic; what is recovered can be read to its end.
#![no_main]

use engine::{Credit, Engine, EngineEvents, Pressure, Ticket};
use libfuzzer_sys::fuzz_target;
use model::{HolderId, Now, QueueId};
use std::sync::Arc;
use storage::sim::{SimDisk, log_file_of};
use storage::{Options, Storage};

struct Nothing;

impl EngineEvents for Nothing {
    fn durable(&self, _: Ticket) {}
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, _: &str) {}
}

fuzz_target!(|input: &[u8]| {
    let mut records = Vec::new();
    let mut rest = input;
    while let [kind, len, tail @ ..] = rest {
        let (payload, after) = tail.split_at(usize::from(*len).min(tail.len()));
        records.push((*kind, payload));
        rest = after;
    }
    let disk = SimDisk::new();
    disk.set_content("wal-000000000001.log", &log_file_of(&records));
    let options = Options { first_file_bytes: 4096, file_bytes: 8192, ..Options::default() };
    let Ok(storage) = Storage::open_by_hand(Arc::new(disk), options, Arc::new(Nothing)) else {
        return;
    };
    let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
    for (queue, _) in storage.queues() {
        let mut taken = 0;
        while storage.deliver(queue, credit, Now::default(), &mut |_| HolderId(1)).pending {
            storage.read_step();
            taken += 1;
            assert!(taken < 10_000, "never read to its end");
        }
    }
    storage.keep_step();
    storage.sync_step(true);
});
