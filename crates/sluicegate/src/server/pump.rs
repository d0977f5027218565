//! Between the engine's threads and the broker: what the engine announces, one task of the runtime carries out.
//!
//! Invariants: announcing costs the log's threads one lock and one wake-up a batch, never the broker's work. Nothing
//! announced is lost. A failed log ends the process: nothing may be promised after it. So does a panic of the broker in
//! here: without the pump everybody would wait for ever.

use broker::Broker;
use engine::{EngineEvents, Pressure, Ticket};
use model::QueueId;
use net::{AbortOnPanic, Bell, Clock};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// What the engine announced and the broker has not been told yet.
#[derive(Default)]
pub(crate) struct Announcements {
    durable: AtomicU64,
    readable: Mutex<Vec<QueueId>>,
    pressure: Mutex<Option<Pressure>>,
    bell: Bell,
}

impl EngineEvents for Announcements {
    fn durable(&self, ticket: Ticket) {
        self.durable.fetch_max(ticket.0, Ordering::AcqRel);
        self.bell.ring();
    }

    fn readable(&self, queue: QueueId) {
        self.readable.lock().push(queue);
        self.bell.ring();
    }

    fn pressure(&self, pressure: Pressure) {
        *self.pressure.lock() = Some(pressure);
        self.bell.ring();
    }

    fn damaged(&self, what: &str) {
        tracing::error!(what, "damaged on the disk: kept aside, neither delivered nor dropped");
    }

    fn failed(&self, error: &str) {
        tracing::error!(error, "the log failed; stopping, because nothing can be promised any more");
        std::process::abort();
    }
}

impl broker::Wake for Announcements {
    /// The broker's timer became earlier.
    fn wake(&self) {
        self.bell.ring();
    }
}

/// Tells the broker what the engine announces, and when its time comes, until the process ends.
pub(crate) async fn pump(announcements: Arc<Announcements>, broker: Arc<Broker>, clock: Clock) {
    let _end = AbortOnPanic;
    let mut told = Ticket::NONE;
    loop {
        let timeout = broker.poll_timeout();
        tokio::select! {
            () = poll_fn(|cx| announcements.bell.poll_rung(cx)) => {}
            () = sleep_until(timeout.map(|at| clock.instant(at))) => broker.handle_timeout(clock.now()),
        }
        let durable = Ticket(announcements.durable.load(Ordering::Acquire));
        if durable > told {
            told = durable;
            broker.on_durable(durable, clock.now());
        }
        let pressure = announcements.pressure.lock().take();
        if let Some(pressure) = pressure {
            broker.on_pressure(pressure, clock.now());
        }
        let readable = std::mem::take(&mut *announcements.readable.lock());
        for queue in readable {
            broker.on_readable(queue, clock.now());
        }
    }
}

async fn sleep_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}
