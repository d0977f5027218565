//! A backlog: durable messages published to one queue while nobody consumes, and drained later, by the same server or by
//! the one that recovered its data.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::connection::Connection;
use super::consumer::Consumer;
use super::lane::{Control, Lane};
use super::load::{Acks, Flow, Gather, Load, Shape};
use super::{publisher, run};
use crate::error::{Error, Result};
use crate::proc::{Meter, Reading};

/// Octets of each body.
pub(crate) const BODY_SIZE: usize = 1024;
/// Unconfirmed publishes while the backlog grows; more than in a rate cell, because how fast it grows is not measured.
const WINDOW: u64 = 5_000;
/// Between two looks whether the backlog is complete.
const POLL: Duration = Duration::from_millis(1);

/// Messages that lie in a queue.
pub(crate) struct Backlog {
    load: Load,
    lanes: Vec<Lane>,
    patience: Duration,
}

/// What draining a backlog took.
pub(crate) struct Drained {
    /// Messages, every one of which arrived once and in order.
    pub(crate) messages: u64,
    /// CPU times from the subscription to the last delivery, and how long that was.
    pub(crate) used: Reading,
}

impl Backlog {
    /// Publishes at least `messages` messages to the server at `address`, all confirmed, and verifies that they lie there.
    pub(crate) fn publish(address: SocketAddr, messages: u64, acks: Acks, patience: Duration) -> Result<Self> {
        let gather = Some(Gather(Duration::from_micros(200)));
        let flow = Flow::Confirmed { window: WINDOW };
        let load = Load { shape: Shape::SINGLE, body_size: BODY_SIZE, durable: true, flow, acks, gather };
        let backlog = Self { load, lanes: Lane::all(&load, run::run_number()), patience };
        backlog.fill(address, messages)?;
        backlog.verify(address)?;
        Ok(backlog)
    }

    fn fill(&self, address: SocketAddr, messages: u64) -> Result<()> {
        run::declare(address, &self.load, &self.lanes)?;
        let connection = Connection::open(address)?;
        let (load, lane, control) = (&self.load, self.lane(), &Control::new(self.patience));
        thread::scope(|scope| {
            let publisher = scope.spawn(move || publisher::run(connection, load, lane, control));
            while lane.confirmed.load(Ordering::Relaxed) < messages && !publisher.is_finished() {
                thread::sleep(POLL);
            }
            run::stop(control, &self.lanes, vec![publisher]).map(drop)
        })
    }

    /// Fails unless the server says that exactly what was published is ready.
    pub(crate) fn verify(&self, address: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(address)?;
        let queue = self.lane().subscribers[0].queues.name(0);
        let (ready, published) = (connection.ready_messages(&queue)?, self.messages());
        connection.close()?;
        if ready != published {
            return Err(Error::new(format!("{published} messages were confirmed, {ready} lie in the queue")));
        }
        Ok(())
    }

    /// How many messages it has.
    pub(crate) fn messages(&self) -> u64 {
        self.lane().total.load(Ordering::Relaxed)
    }

    fn lane(&self) -> &Lane {
        &self.lanes[0]
    }

    /// Consumes all of it from the server at `address` with root process `pid`, checks every message and deletes the queue.
    pub(crate) fn drain(&self, address: SocketAddr, pid: u32) -> Result<Drained> {
        let lane = self.lane();
        let control = Control::new(self.patience);
        let connection = Connection::open(address)?;
        let meter = Meter::start(pid, None)?;
        let mut consumer = Consumer::subscribe(connection, &self.load, lane, &lane.subscribers[0])?;
        consumer.receive(&control)?;
        let used = meter.finish()?;
        run::check(consumer.leave()?.verdict)?;
        Ok(Drained { messages: self.messages(), used })
    }
}
