//! A large body whose file is not what was written: bits flipped, cut, grown, or with a header that says anything and has
//! a right checksum. Checked: the directory opens; what is read of the body is what was published or is said to be lost;
//! the other messages come; looking for damage tells the same, and changes nothing.
#![no_main]

use bytes::Bytes;
use engine::{Batch, BodyLost, Credit, Engine, EngineEvents, Pressure, QueueSpec, Ticket};
use libfuzzer_sys::fuzz_target;
use model::{Envelope, HolderId, LargeBody, Message, Now, Origin, QueueId, Wall};
use std::sync::{Arc, Mutex};
use storage::sim::{SimDisk, check_body_header};
use storage::{Options, Storage};

/// Bytes of a piece, and of a header.
const PIECE: u64 = 100;
const HEADER: usize = 64;

struct Nothing;

impl EngineEvents for Nothing {
    fn durable(&self, _: Ticket) {}
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, _: &str) {}
}

fn open(disk: &SimDisk) -> Storage {
    let options = Options { first_file_bytes: 4096, file_bytes: 8192, body_piece_bytes: PIECE, ..Options::default() };
    Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::new(Nothing)).expect("the log is whole")
}

fn message(body: &'static [u8]) -> Message {
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent: true,
        priority: 0,
        ttl_ms: None,
        received_at: Wall(0),
        has_headers: false,
        producer: 0,
    };
    Message::from_parts(envelope, 0, 0, 0, Bytes::from_static(body)).expect("only a body")
}

/// Publishes a small message, one with this body, and a small one.
fn write(disk: &SimDisk, content: &Bytes) {
    let storage = open(disk);
    let queue = storage.create_queue(QueueSpec { durable: true, ..QueueSpec::default() }).expect("a queue").0;
    let mut writer = storage.begin_body(content.len() as u64, Arc::new(|| {})).expect("an engine at rest");
    writer.append(content.clone());
    while storage.body_step() {}
    writer.finish().expect("no fault");
    while storage.body_step() {}
    let body = writer.finish().expect("no fault").expect("it is finished");
    let mut batch = Batch::new();
    batch.push(message(b"before"), &[queue]);
    batch.push(message(b"").with_large_body(body), &[queue]);
    batch.push(message(b"behind"), &[queue]);
    storage.append(&mut batch, Now::default()).expect("taken");
    storage.close().expect("written");
    drop(storage);
    disk.kill();
}

/// Changes the file as the input says.
fn damage(file: &mut Vec<u8>, how: u8, edits: &[u8]) {
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        match how % 4 {
            // The header says something else.
            0 => file[at % HEADER] ^= edit[2],
            1 => _ = file.get_mut(at).map(|byte| *byte ^= edit[2]),
            2 => file.truncate(at.max(1)),
            _ => file.resize(file.len() + at % 500, edit[2]),
        }
    }
    if how & 4 == 0 {
        check_body_header(file);
    }
}

fn read(storage: &Storage, body: &Arc<LargeBody>, at: u64) -> Result<Bytes, BodyLost> {
    let slot = Arc::new(Mutex::new(None));
    let to = slot.clone();
    storage.read_body(body, at, Box::new(move |piece| *to.lock().expect("one thread") = Some(piece)));
    while storage.piece_step() {}
    slot.lock().expect("one thread").take().expect("it was read")
}

/// Takes everything out; returns whether the body is all there.
fn take(storage: &Storage, content: &Bytes) -> bool {
    let (queue, _) = storage.queues()[0];
    let (mut small, mut large) = (Vec::new(), None);
    for _ in 0..100 {
        let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
        let rest = storage.deliver(queue, credit, Now::default(), &mut |delivery| {
            match delivery.message.large_body() {
                Some(body) => large = Some(body.clone()),
                None => small.push(delivery.message.body().to_vec()),
            }
            HolderId(1)
        });
        if !rest.pending {
            break;
        }
        storage.read_step();
    }
    assert_eq!(small, [b"before", b"behind"]);
    let Some(body) = large else { return false };
    assert_eq!(body.len(), content.len() as u64);
    let mut at = 0;
    while at < body.len() {
        let Ok(piece) = read(storage, &body, at) else { return false };
        assert_eq!(content.get(at as usize..at as usize + piece.len()), Some(&piece[..]), "not what was published");
        at += piece.len() as u64;
    }
    true
}

fn content(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|name| (name.clone(), disk.content(&name))).collect()
}

fuzz_target!(|input: &[u8]| {
    let Some(([low, high, how], edits)) = input.split_first_chunk::<3>() else { return };
    let len = 1 + usize::from(u16::from_le_bytes([*low, *high])) % 1_000;
    let body: Bytes = (0..len).map(|at| (at * 13 + at / 256) as u8).collect();
    let disk = SimDisk::new();
    write(&disk, &body);
    let name = disk.files().into_iter().find(|name| name.starts_with("body-")).expect("its file");
    let mut file = disk.content(&name).expect("it is there");
    damage(&mut file, *how, &edits[..edits.len().min(60)]);
    disk.set_content(&name, &file);
    let before = content(&disk);
    let report = storage::repair(&disk.clone(), false).expect("it can be looked at");
    disk.kill();
    assert!(content(&disk) == before, "looking changed something");
    assert!(report.damages.is_empty() && report.kept_bodies.is_empty(), "the log is whole");
    let whole = take(&open(&disk), &body);
    assert_eq!(report.damaged_bodies.is_empty(), whole, "looking and reading differ: {:?}", report.damaged_bodies);
});
