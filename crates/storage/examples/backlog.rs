//! How much memory a backlog takes, and how fast it is drained and recovered.
//!
//! `backlog DIRECTORY [MESSAGES [QUEUES [BODY_BYTES]]]` publishes persistent messages to durable queues in an empty
//! directory, opens it again as after a kill, and drains it. After each step it prints the time, the resident memory and its peak.

use bytes::Bytes;
use engine::{Batch, Credit, Engine, EngineError, EngineEvents, Outcome, Pressure, QueueSpec, Ticket};
use model::{Envelope, HolderId, Message, Mono, Now, Origin, QueueId, Seq, Wall};
use parking_lot::{Condvar, Mutex};
use sluicegate_storage::{Options, Storage};
use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages of a batch.
const BATCH: usize = 500;

/// Wakes whoever waits for the engine to say anything.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.changed.wait_for(&mut rung, Duration::from_millis(100));
        }
        *rung = false;
    }
}

impl EngineEvents for Bell {
    fn durable(&self, _: Ticket) {
        self.ring();
    }
    fn readable(&self, _: QueueId) {
        self.ring();
    }
    fn pressure(&self, _: Pressure) {
        self.ring();
    }
    fn failed(&self, _: &str) {
        self.ring();
    }
    fn damaged(&self, _: &str) {}
}

fn now() -> Now {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(wall.as_micros()).unwrap_or(0);
    Now { mono: Mono(micros), wall: Wall(micros / 1000) }
}

fn message(bytes: &Bytes) -> Message {
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent: true,
        priority: 0,
        ttl_ms: None,
        received_at: now().wall,
        has_headers: false,
        producer: 0,
    };
    Message::from_parts(envelope, 0, 0, 0, bytes.clone()).expect("nothing but a body")
}

/// A line of `/proc/self/status`, in MiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().find_map(|word| word.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn report(what: &str, since: Instant, count: usize) -> std::io::Result<()> {
    let seconds = since.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    let (rss, peak) = (memory("VmRSS:"), memory("VmHWM:"));
    writeln!(stdout(), "{what}: {seconds:.2} s, {rate:.0}/s, RSS {rss} MiB, peak {peak} MiB")
}

fn publish(
    storage: &Storage,
    bell: &Bell,
    queues: &[QueueId],
    messages: usize,
    body: usize,
) -> Result<(), Box<dyn Error>> {
    let bytes = Bytes::from(vec![7; body]);
    let mut batch = Batch::new();
    let mut last = Ticket::NONE;
    for at in 0..messages.div_ceil(BATCH) {
        for _ in 0..BATCH.min(messages - at * BATCH) {
            batch.push(message(&bytes), &[queues[at % queues.len()]]);
        }
        last = loop {
            match storage.append(&mut batch, now()) {
                Ok(ticket) => break ticket,
                Err(EngineError::Pressed(_)) => bell.wait(),
                Err(error) => return Err(error.into()),
            }
        };
    }
    while storage.durable() < last {
        bell.wait();
    }
    Ok(())
}

fn drain(storage: &Storage, bell: &Bell, queues: &[QueueId]) -> usize {
    let mut got = 0;
    let credit = Credit { messages: BATCH, bytes: usize::MAX };
    let mut seqs: Vec<Seq> = Vec::new();
    for &queue in queues {
        loop {
            seqs.clear();
            let rest = storage.deliver(queue, credit, now(), &mut |delivery| {
                seqs.push(delivery.seq);
                HolderId(1)
            });
            got += storage.settle(queue, &seqs, Outcome::Ack, now());
            match (rest.pending, rest.delivered) {
                (false, 0) => break,
                (true, 0) => bell.wait(),
                _ => {}
            }
        }
    }
    got
}

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, other: usize| given.get(at).map_or(Ok(other), |text| text.parse());
    let directory = Path::new(given.first().ok_or("usage: backlog DIRECTORY [MESSAGES [QUEUES [BODY_BYTES]]]")?);
    let (messages, queues, body) = (number(1, 10_000_000)?, number(2, 1)?, number(3, 100)?);
    let bell = Arc::new(Bell::default());
    let storage = Storage::open(directory, Options::default(), bell.clone())?;
    let spec = QueueSpec { durable: true, ..QueueSpec::default() };
    let ids: Vec<QueueId> =
        (0..queues).map(|_| storage.create_queue(spec).map(|(id, _)| id)).collect::<Result<_, _>>()?;
    let since = Instant::now();
    publish(&storage, &bell, &ids, messages, body)?;
    report("published", since, messages)?;
    drop(storage);
    let since = Instant::now();
    let storage = Storage::open(directory, Options::default(), bell.clone())?;
    report("recovered", since, messages)?;
    let since = Instant::now();
    let got = drain(&storage, &bell, &ids);
    report("drained", since, got)?;
    storage.close()?;
    if got == messages { Ok(()) } else { Err(format!("{got} came of {messages}").into()) }
}
