//! A log that the engine wrote itself, then damaged. The input says what is written and what is damaged.
//! Checked: opening never panics; a directory that is refused is untouched and opens after a repair; what comes back was
//! published, comes once and in order; looking for damage changes nothing.
#![no_main]

use bytes::Bytes;
use engine::{Batch, Credit, Engine, EngineEvents, Outcome, Pressure, QueueSpec, Ticket};
use libfuzzer_sys::fuzz_target;
use model::{Envelope, HolderId, Message, Now, Origin, QueueId, Wall};
use std::sync::Arc;
use storage::sim::{Dice, SimDisk};
use storage::{OpenError, Options, Storage};

struct Nothing;

impl EngineEvents for Nothing {
    fn durable(&self, _: Ticket) {}
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, _: &str) {}
}

fn open(disk: &SimDisk) -> Result<Storage, OpenError> {
    let options = Options { first_file_bytes: 4096, file_bytes: 8192, ..Options::default() };
    Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Nothing))
}

/// A message that carries its number.
fn message(number: u32, size: usize) -> Message {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(4 + size, number as u8);
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent: true,
        priority: 0,
        ttl_ms: None,
        received_at: Wall(0),
        has_headers: false,
        producer: 0,
    };
    Message::from_parts(envelope, 0, 0, 0, Bytes::from(body)).expect("only a body")
}

/// Hands out up to `count` entries; their numbers, checked against what their bodies say.
fn take(storage: &Storage, queue: QueueId, count: usize) -> Vec<(u32, model::Seq)> {
    let mut taken = Vec::new();
    for _ in 0..10_000 {
        let credit = Credit { messages: count - taken.len(), bytes: usize::MAX };
        let rest = storage.deliver(queue, credit, Now::default(), &mut |delivery| {
            let body = delivery.message.body();
            let number = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
            assert_eq!(body, message(number, body.len() - 4).body(), "not what was published");
            taken.push((number, delivery.seq));
            HolderId(1)
        });
        if !rest.pending || taken.len() == count {
            return taken;
        }
        storage.sync_step(true);
        storage.read_step();
    }
    panic!("never read to its end");
}

/// Writes a log as the input says; returns how many messages there were.
fn write(disk: &SimDisk, script: &[u8]) -> u32 {
    let mut storage = open(disk).expect("an empty disk opens");
    let spec = QueueSpec { durable: true, ..QueueSpec::default() };
    let mut queues = vec![storage.create_queue(spec).expect("a queue").0];
    let (mut batch, mut number) = (Batch::new(), 0);
    for step in script.chunks_exact(2) {
        let queue = queues[usize::from(step[1]) % queues.len()];
        match step[0] % 10 {
            0..=3 => {
                for _ in 0..1 + step[0] / 64 {
                    number += 1;
                    batch.push(
                        message(number, usize::from(step[1]) * 8),
                        &queues[..1 + usize::from(step[1]) % queues.len()],
                    );
                }
                let _ = storage.append(&mut batch, Now::default());
                batch.clear();
            }
            4 => {
                let seqs: Vec<_> = take(&storage, queue, 1 + usize::from(step[1] % 8)).iter().map(|t| t.1).collect();
                let outcome = if step[1] & 16 == 0 { Outcome::Ack } else { Outcome::Requeue };
                storage.settle(queue, &seqs, outcome, Now::default());
            }
            5 => _ = storage.put_meta(&[b'B', step[1] % 4], &vec![step[1]; usize::from(step[1])]),
            6 => queues.push(storage.create_queue(spec).expect("a queue").0),
            7 => storage.keep_step(),
            8 => storage.sync_step(step[1] & 1 == 0),
            _ => {
                storage.sync_step(true);
                drop(storage);
                if step[1] & 1 == 0 {
                    disk.kill()
                } else {
                    disk.crash(&mut Dice::new(step[1].into()))
                }
                storage = open(disk).expect("a crash is not damage");
            }
        }
    }
    storage.sync_step(true);
    drop(storage);
    disk.kill();
    number
}

/// Damages a file as the input says.
fn damage(disk: &SimDisk, how: [u8; 5]) {
    let logs: Vec<String> = disk.files().into_iter().filter(|name| name.starts_with("wal-")).collect();
    let name = &logs[usize::from(how[1]) % logs.len()];
    let mut content = disk.content(name).expect("it is there");
    let at = usize::from(u16::from_le_bytes([how[2], how[3]])) % content.len().max(1);
    match how[0] % 4 {
        0 => _ = content.get_mut(at).map(|byte| *byte ^= 1 << (how[4] % 8)),
        1 => content.truncate(at),
        2 => content.iter_mut().skip(at).take(usize::from(how[4])).for_each(|byte| *byte = how[4]),
        _ => {
            let other = &logs[usize::from(how[4]) % logs.len()];
            let swapped = disk.content(other).expect("it is there");
            disk.set_content(other, &content);
            content = swapped;
        }
    }
    disk.set_content(name, &content);
}

fn content(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|name| (name.clone(), disk.content(&name))).collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((how, script)) = input.split_first_chunk::<5>() else { return };
    let disk = SimDisk::new();
    let numbers = write(&disk, &script[..script.len().min(400)]);
    damage(&disk, *how);
    let before = content(&disk);
    let looked = disk.copy();
    let _ = storage::repair(&looked.clone(), false);
    assert!(content(&looked) == before, "looking changed something");
    let storage = match open(&disk) {
        Ok(storage) => storage,
        Err(OpenError::Newer { .. } | OpenError::Encrypted { .. }) => return,
        Err(_) => {
            assert!(content(&disk) == before, "it was refused and yet changed");
            disk.kill();
            match storage::repair(&disk.clone(), true) {
                Err(OpenError::Newer { .. } | OpenError::Encrypted { .. }) => return,
                other => _ = other.expect("it can be repaired"),
            }
            disk.kill();
            open(&disk).expect("what was repaired opens")
        }
    };
    for (queue, _) in storage.queues() {
        let taken = take(&storage, queue, usize::MAX);
        assert!(taken.windows(2).all(|w| w[0].0 < w[1].0), "twice or out of order");
        assert!(taken.iter().all(|&(number, _)| 1 <= number && number <= numbers), "from nowhere");
    }
    storage.keep_step();
    storage.sync_step(true);
});
