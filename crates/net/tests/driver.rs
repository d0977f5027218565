//! The driver and the end: a client that does not say goodbye must not hold a stopping server up.

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
use sluicegate_net::{Clock, DriverSettings, Shutdown, drive};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// Says what it is told at the end, and then waits for an answer of any kind.
struct Idle(Status, usize);

impl Connection for Idle {
    fn handle_input(&mut self, input: &[u8], _: Now, _: &mut Outgoing) -> usize {
        if self.0 == Status::Closing {
            self.0 = Status::Closed;
        }
        input.len()
    }

    fn poll_request(&mut self) -> Option<Request> {
        None
    }

    fn handle_event(&mut self, _: Event, _: Now, _: &mut Outgoing) {}

    fn handle_timeout(&mut self, _: Now, _: &mut Outgoing) {}

    fn note_unread(&mut self, _: Now) {}

    fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    fn shut_down(&mut self, _: &str, _: Now, out: &mut Outgoing) {
        out.buffer().resize(self.1, b'.');
        self.0 = Status::Closing;
    }

    fn status(&self) -> Status {
        self.0
    }

    fn failure(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn info(&self) -> ConnectionInfo {
        ConnectionInfo::default()
    }
}

/// Starts to stop with an idle client; returns what it read if it listens, and how long the end took.
async fn stop(goodbye_bytes: usize, listens: bool) -> (usize, Duration) {
    let engine = Arc::new(MemoryEngine::instant());
    let clock = Clock::start();
    let broker =
        Broker::open(engine, Formats::new(Vec::new()), &Definitions::default(), Settings::default(), clock.now())
            .unwrap();
    let (shutdown, drain) = Shutdown::new();
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let meta = ConnectionMeta { peer: "test".to_owned(), loopback: true, protocol: "test" };
    let settings = DriverSettings { drain_patience: Duration::from_secs(60) };
    let driver = drive(ours, Box::new(Idle(Status::Open, goodbye_bytes)), broker, meta, clock, drain, settings);
    let driver = tokio::spawn(driver);
    shutdown.begin();
    let started = Instant::now();
    let mut read = Vec::new();
    if listens {
        theirs.read_to_end(&mut read).await.unwrap();
    }
    driver.await.unwrap();
    (read.len(), started.elapsed())
}

#[tokio::test]
async fn who_does_not_answer_the_goodbye_is_left() {
    let (read, took) = stop(3, true).await;
    assert_eq!(read, 3, "the goodbye is sent");
    assert!(took < Duration::from_secs(10), "{took:?} of a patience of 60 s");
}

#[tokio::test]
async fn who_does_not_even_read_the_goodbye_is_left() {
    let (_, took) = stop(100_000, false).await;
    assert!(took < Duration::from_secs(10), "{took:?} of a patience of 60 s");
}
