//! The engine on the operating system's disk: what a process does, and its restart.

use engine::{Batch, Credit, Engine, EngineEvents, Outcome, Pressure, QueueSpec, Ticket};
use model::{Envelope, HolderId, Message, Mono, Now, Origin, QueueId, Seq, Wall};
use parking_lot::{Condvar, Mutex};
use sluicegate_storage::{Options, Storage};
use std::sync::Arc;
struct Nothing;

impl EngineEvents for Nothing {
    fn durable(&self, _: Ticket) {}
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, _: &str) {}
}
#[test]
fn smoke() {
    let dir = std::env::temp_dir().join(format!("sg-smoke-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let now = Now { mono: Mono(1), wall: Wall(1000) };
    let (id, seqs);
    {
        let s = Storage::open(&dir, Options::default(), Arc::new(Nothing)).unwrap();
        let (q, _) = s.create_queue(QueueSpec { durable: true, ..Default::default() }).unwrap();
        id = q;
        let mut b = Batch::new();
        for i in 0..100u8 {
            let e = Envelope {
                origin: Origin::Amqp091,
                persistent: true,
                priority: 0,
                ttl_ms: None,
                received_at: Wall(999),
                has_headers: false,
            };
            let m = Message::from_parts(e, 0, 1, 0, vec![i; 100 * (1 + i as usize)].into()).unwrap();
            b.push(m, &[q]);
        }
        let t = s.append(&mut b, now).unwrap();
        while s.durable() < t {
            std::thread::yield_now();
        }
        let mut got = vec![];
        s.deliver(q, Credit { messages: 10, bytes: usize::MAX }, now, &mut |d| {
            got.push(d.seq);
            HolderId(1)
        });
        assert_eq!(got.len(), 10);
        s.settle(q, &got[..5], Outcome::Ack, now);
        seqs = got;
        s.close().unwrap();
    }
    let s = Storage::open(&dir, Options::default(), Arc::new(Nothing)).unwrap();
    assert_eq!(s.stats(id).ready, 95);
    let mut got: Vec<(Seq, bool)> = vec![];
    while got.len() < 95 {
        s.deliver(id, Credit { messages: 1000, bytes: usize::MAX }, now, &mut |d| {
            assert_eq!(d.message.bytes().len(), 100 * (1 + d.message.bytes()[0] as usize));
            got.push((d.seq, d.redelivered));
            HolderId(1)
        });
        std::thread::yield_now();
    }
    assert_eq!(got[0], (seqs[5], true));
    assert!(!got[5].1);
    let _ = std::fs::remove_dir_all(&dir);
    let _ = (Mutex::new(()), Condvar::new());
}
