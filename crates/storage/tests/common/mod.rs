//! What the engine's tests share: events that can be waited for, directories that go away.

#![allow(dead_code, unreachable_pub)]

pub mod counting;

use bytes::Bytes;
use engine::{EngineEvents, Pressure, Ticket};
use model::{Envelope, Message, Mono, Now, Origin, QueueId, Wall};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longer than anything takes, so a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Said {
    durable: Ticket,
    readable: BTreeSet<QueueId>,
    pressure: Vec<Pressure>,
    failed: Option<String>,
    damaged: Vec<String>,
}

/// Remembers what the engine said.
#[derive(Default)]
pub struct Recorder {
    said: Mutex<Said>,
    changed: Condvar,
}

impl Recorder {
    fn wait(&self, mut done: impl FnMut(&mut Said) -> bool) {
        let mut said = self.said.lock();
        while !done(&mut said) {
            let late = self.changed.wait_for(&mut said, PATIENCE).timed_out();
            assert!(!late, "the engine said nothing");
        }
    }

    pub fn wait_durable(&self, ticket: Ticket) {
        self.wait(|said| said.durable >= ticket);
    }

    pub fn wait_readable(&self, queue: QueueId) {
        self.wait(|said| said.readable.remove(&queue));
    }

    pub fn wait_failed(&self) -> String {
        self.wait(|said| said.failed.is_some());
        self.said.lock().failed.clone().expect("just seen")
    }

    /// Waits until this is the last it said of pressure.
    pub fn wait_pressure(&self, pressure: Pressure) {
        self.wait(|said| said.pressure.last() == Some(&pressure));
    }

    pub fn take_readable(&self, queue: QueueId) -> bool {
        self.said.lock().readable.remove(&queue)
    }

    pub fn pressures(&self) -> Vec<Pressure> {
        self.said.lock().pressure.clone()
    }

    pub fn damaged(&self) -> Vec<String> {
        self.said.lock().damaged.clone()
    }

    pub fn failed(&self) -> Option<String> {
        self.said.lock().failed.clone()
    }
}

impl EngineEvents for Recorder {
    fn durable(&self, ticket: Ticket) {
        let mut said = self.said.lock();
        said.durable = said.durable.max(ticket);
        self.changed.notify_all();
    }

    fn readable(&self, queue: QueueId) {
        self.said.lock().readable.insert(queue);
        self.changed.notify_all();
    }

    fn pressure(&self, pressure: Pressure) {
        self.said.lock().pressure.push(pressure);
        self.changed.notify_all();
    }

    fn damaged(&self, what: &str) {
        self.said.lock().damaged.push(what.to_owned());
    }

    fn failed(&self, error: &str) {
        self.said.lock().failed = Some(error.to_owned());
        self.changed.notify_all();
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory of its own that goes away with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("storage-{}-{n}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A moment `ms` after an arbitrary start.
pub fn at(ms: u64) -> Now {
    Now { mono: Mono(1 + ms * 1000), wall: Wall(1_700_000_000_000 + ms) }
}

/// A message of these bytes.
pub fn message(persistent: bool, body: Vec<u8>) -> Message {
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent,
        priority: 0,
        ttl_ms: None,
        received_at: at(0).wall,
        has_headers: false,
        producer: 0,
    };
    Message::from_parts(envelope, 0, 0, 0, Bytes::from(body)).expect("no parts but the body")
}
