//! The driver and peers that do not take what they are sent.

// A test that cannot set up its world has failed.
#![allow(clippy::unwrap_used)]

#[path = "../../broker/tests/support/engine.rs"]
#[allow(dead_code)]
mod memory;

use broker::{Broker, ConnectionMeta, Settings};
use memory::MemoryEngine;
use model::definitions::Definitions;
use model::{Mono, Now};
use protocol::{Connection, ConnectionInfo, Event, Formats, Outgoing, Request, Status};
use sluicegate_net::{Clock, Drain, DriverSettings, Shutdown, drive};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// More than a driver lets be outgoing before it stops reading.
const MUCH: usize = 3 * 1024 * 1024;

/// Answers the first input with much, and goes by its script from there.
struct Loud {
    /// Over with the answer.
    closes: bool,
    status: Status,
    /// Bytes heard, and how many had been when the deadline came.
    heard: Arc<AtomicUsize>,
    heard_in_time: Arc<AtomicUsize>,
    /// When it gives up, so long after the first input.
    patience: Duration,
    deadline: Option<Mono>,
    /// What was kept for the outgoing when the deadline came.
    kept: Arc<AtomicUsize>,
}

impl Loud {
    fn new(closes: bool) -> Self {
        Self {
            closes,
            status: Status::Open,
            heard: Arc::default(),
            heard_in_time: Arc::default(),
            patience: Duration::from_millis(200),
            deadline: None,
            kept: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }
}

impl Connection for Loud {
    fn handle_input(&mut self, input: &[u8], now: Now, out: &mut Outgoing) -> usize {
        if self.heard.fetch_add(input.len(), Ordering::SeqCst) == 0 {
            out.buffer().resize(MUCH, b'.');
            self.deadline = Some(now.mono.after(self.patience));
            if self.closes {
                self.status = Status::Closed;
                self.deadline = None;
            }
        }
        input.len()
    }

    fn poll_request(&mut self) -> Option<Request> {
        None
    }

    fn handle_event(&mut self, _: Event, _: Now, _: &mut Outgoing) {}

    fn handle_timeout(&mut self, _: Now, out: &mut Outgoing) {
        self.kept.store(out.capacity(), Ordering::SeqCst);
        self.heard_in_time.store(self.heard.load(Ordering::SeqCst), Ordering::SeqCst);
        self.deadline = None;
        self.status = Status::Closed;
    }

    fn note_unread(&mut self, _: Now) {}

    fn poll_timeout(&self) -> Option<Mono> {
        self.deadline
    }

    fn shut_down(&mut self, _: &str, _: Now, _: &mut Outgoing) {}

    fn status(&self) -> Status {
        self.status
    }

    fn failure(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn info(&self) -> ConnectionInfo {
        ConnectionInfo::default()
    }
}

fn start(
    connection: Loud,
    broker: &Arc<Broker>,
    clock: Clock,
    drain: Drain,
) -> (DuplexStream, impl Future<Output = ()> + use<>) {
    let (ours, theirs) = tokio::io::duplex(1024);
    let meta = ConnectionMeta { peer: "test".to_owned(), loopback: true, protocol: "test" };
    let settings = DriverSettings { drain_patience: Duration::from_secs(60) };
    (theirs, drive(ours, Box::new(connection), Arc::clone(broker), meta, clock, drain, settings))
}

fn broker(clock: Clock) -> Arc<Broker> {
    let engine = Arc::new(MemoryEngine::instant());
    let formats = Formats::new(Vec::new());
    Broker::open(engine, formats, &Definitions::default(), Settings::default(), clock.now()).unwrap()
}

#[tokio::test]
async fn a_connection_that_is_over_does_not_wait_for_ever_for_a_peer_that_does_not_read() {
    let clock = Clock::start();
    let broker = broker(clock);
    let (_shutdown, drain) = Shutdown::new();
    let (mut theirs, driver) = start(Loud::new(true), &broker, clock, drain);
    theirs.write_all(b"hello").await.unwrap();
    let driver = tokio::spawn(driver);
    // It gets some seconds; the connection at the broker goes at once, so nothing stays with it.
    let ended = tokio::time::timeout(Duration::from_secs(30), driver).await;
    assert!(ended.is_ok(), "it waits for ever");
    assert_eq!(broker.totals().connections_closed, 1);
}

#[tokio::test]
async fn a_peer_that_is_slow_to_read_is_heard_before_its_silence_is_judged() {
    let clock = Clock::start();
    let broker = broker(clock);
    let (_shutdown, drain) = Shutdown::new();
    let connection = Loud::new(false);
    let (heard, in_time) = (Arc::clone(&connection.heard), Arc::clone(&connection.heard_in_time));
    let (mut theirs, driver) = start(connection, &broker, clock, drain);
    theirs.write_all(b"hello").await.unwrap();
    let driver = tokio::spawn(driver);
    while heard.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // Too much is outgoing now, so nobody reads this until the deadline.
    theirs.write_all(b"still here").await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), driver).await.unwrap().unwrap();
    assert_eq!(in_time.load(Ordering::SeqCst), b"hellostill here".len());
}

#[tokio::test]
async fn a_connection_that_is_idle_keeps_no_large_buffer() {
    let clock = Clock::start();
    let broker = broker(clock);
    let (_shutdown, drain) = Shutdown::new();
    let connection = Loud { patience: Duration::from_millis(1_500), ..Loud::new(false) };
    let kept = Arc::clone(&connection.kept);
    let (mut theirs, driver) = start(connection, &broker, clock, drain);
    theirs.write_all(b"hello").await.unwrap();
    let driver = tokio::spawn(driver);
    theirs.read_exact(&mut vec![0; MUCH]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), driver).await.unwrap().unwrap();
    assert!(kept.load(Ordering::SeqCst) < 64 * 1024);
}
