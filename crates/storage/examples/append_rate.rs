//! How fast one thread appends with true syncs, and how long a single confirm takes.
//!
//! `cargo run --release -p sluicegate-storage --example append_rate -- DIR [MESSAGES]`

use engine::{Batch, Credit, Engine, EngineEvents, Outcome, Pressure, QueueSpec, Ticket};
use model::{Envelope, HolderId, MessageArena, Mono, Now, Origin, QueueId, Seq, Wall};
use parking_lot::{Condvar, Mutex};
use sluicegate_storage::{Options, Storage};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: usize = 64;
const BODY_BYTES: usize = 1024;
/// Batches that wait for their confirm, as 16 connections with 256 unconfirmed messages each would have.
const WINDOW: usize = 64;

#[derive(Default)]
struct Durable {
    at: Mutex<Ticket>,
    changed: Condvar,
}

impl Durable {
    fn wait(&self, ticket: Ticket) {
        let mut at = self.at.lock();
        while *at < ticket {
            self.changed.wait(&mut at);
        }
    }
}

impl EngineEvents for Durable {
    fn durable(&self, ticket: Ticket) {
        *self.at.lock() = ticket;
        self.changed.notify_all();
    }
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, _: &str) {}
}

fn now(started: Instant) -> Now {
    Now { mono: Mono(started.elapsed().as_micros() as u64), wall: Wall(1_700_000_000_000) }
}

fn fill(batch: &mut Batch, arena: &mut MessageArena, body: &[u8], queue: QueueId, count: usize) {
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent: true,
        priority: 0,
        ttl_ms: None,
        received_at: Wall(1_700_000_000_000),
        has_headers: false,
        producer: 0,
    };
    for _ in 0..count {
        let mut draft = arena.draft(b"", b"q", &[0x10, 0, 2], body.len());
        draft.push(body);
        batch.push(draft.finish(envelope), &[queue]);
    }
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let mut total: u64 = 0;
    if let Ok(tasks) = std::fs::read_dir("/proc/self/task") {
        for task in tasks.flatten() {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let first = stat.split(' ').next().and_then(|n| n.parse::<u64>().ok());
            total += first.unwrap_or(0);
        }
    }
    let _ = stat;
    Duration::from_nanos(total)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which directory?")?;
    let messages: usize = arguments.next().map_or(Ok(500_000), |n| n.parse())?;
    let durable = Arc::new(Durable::default());
    let storage = Storage::open(Path::new(&dir), Options::default(), durable.clone())?;
    let spec = QueueSpec { durable: true, ..QueueSpec::default() };
    let (queue, ticket) = storage.create_queue(spec)?;
    durable.wait(ticket);
    let started = Instant::now();
    let mut out = std::io::stdout();
    latency(&storage, &durable, queue, started, &mut out)?;
    rate(&storage, &durable, queue, started, messages, &mut out)?;
    storage.close()?;
    Ok(())
}

fn latency(
    storage: &Storage,
    durable: &Durable,
    queue: QueueId,
    started: Instant,
    out: &mut impl Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut batch, mut arena, body) = (Batch::new(), MessageArena::new(), [7; BODY_BYTES]);
    let mut took = Vec::new();
    let before = storage.metrics();
    for _ in 0..2000 {
        fill(&mut batch, &mut arena, &body, queue, 1);
        let from = Instant::now();
        let ticket = storage.append(&mut batch, now(started))?;
        durable.wait(ticket);
        took.push(from.elapsed().as_micros());
        drain(storage, queue, started);
    }
    let after = storage.metrics();
    let syncs = after.syncs - before.syncs;
    took.sort_unstable();
    writeln!(
        out,
        "window 1: p50 {} us, p99 {} us; a sync took {} us on average ({syncs} syncs)",
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        (after.sync_us - before.sync_us) / syncs.max(1)
    )?;
    Ok(())
}

fn drain(storage: &Storage, queue: QueueId, started: Instant) {
    let credit = Credit { messages: 4096, bytes: usize::MAX };
    let mut seqs: Vec<Seq> = Vec::new();
    storage.deliver(queue, credit, now(started), &mut |delivery| {
        seqs.push(delivery.seq);
        HolderId(1)
    });
    storage.settle(queue, &seqs, Outcome::Ack, now(started));
}

fn rate(
    storage: &Storage,
    durable: &Durable,
    queue: QueueId,
    started: Instant,
    messages: usize,
    out: &mut impl Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut batch, mut arena, body) = (Batch::new(), MessageArena::new(), [7; BODY_BYTES]);
    let before = storage.metrics();
    let (from, cpu_before) = (Instant::now(), cpu());
    let mut tickets = std::collections::VecDeque::new();
    let mut files_max = 0;
    for n in 0..messages / BATCH {
        fill(&mut batch, &mut arena, &body, queue, BATCH);
        tickets.push_back(storage.append(&mut batch, now(started))?);
        if tickets.len() > WINDOW
            && let Some(ticket) = tickets.pop_front()
        {
            durable.wait(ticket);
        }
        drain(storage, queue, started);
        if n % 64 == 0 {
            files_max = files_max.max(storage.metrics().files);
        }
    }
    while let Some(ticket) = tickets.pop_front() {
        durable.wait(ticket);
    }
    let (took, cpu_took) = (from.elapsed(), cpu() - cpu_before);
    let after = storage.metrics();
    writeln!(
        out,
        "{messages} x {BODY_BYTES} B in batches of {BATCH}, delivered and acked: {:.0}/s, {:.2} us CPU a message, \
         {} syncs, at most {files_max} files, {:.2} bytes written a byte",
        messages as f64 / took.as_secs_f64(),
        cpu_took.as_secs_f64() * 1e6 / messages as f64,
        after.syncs - before.syncs,
        (after.written_bytes - before.written_bytes) as f64 / (messages * BODY_BYTES) as f64,
    )?;
    Ok(())
}
