//! The publishing side of a lane: keeps the window full, or a pace, until told to stop, and checks every confirm.

use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::confirms::Confirms;
use super::connection::{Arrival, Connection, unexpected};
use super::content::Rendered;
use super::lane::{Control, Lane};
use super::load::{Flow, Gather, Load};
use super::pace::Pace;
use super::wire::{CHANNEL, Fields, Frame, FrameKind, WireError, method, request};
use crate::error::{Context, Error, Result};
use crate::histogram::Histogram;

/// Octets of publishes in one write at most.
const WRITE_SIZE: usize = 64 * 1024;
/// How long a publisher without confirms waits for the consumers to catch up before it looks again.
const CATCH_UP_PAUSE: Duration = Duration::from_micros(200);
/// How long a server may leave the publisher without any confirm.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);
/// How long a paced publisher that has nothing to send sleeps before it looks whether to stop.
const IDLE_TICK: Duration = Duration::from_millis(100);
/// Publishes a paced publisher has unconfirmed at most; then it falls behind, which the rate shows.
const PACED_WINDOW: u64 = 1 << 16;

/// What the publisher did.
pub(crate) struct Published {
    /// Messages sent, all of them confirmed if confirms were asked for.
    pub(crate) count: u64,
    /// Publish to confirm, of confirms that arrived in the measured window.
    pub(crate) latencies: Histogram,
}

/// A publisher at work.
struct Publisher<'a> {
    connection: Connection,
    rendered: Rendered,
    lane: &'a Lane,
    control: &'a Control,
    /// The number of the next message.
    next: u64,
    latencies: Histogram,
}

/// Publishes what `lane` says until `control` says stop, then waits for outstanding confirms and closes.
pub(crate) fn run(connection: Connection, load: &Load, lane: &Lane, control: &Control) -> Result<Published> {
    let rendered = Rendered::new(&lane.content, &lane.destination, WRITE_SIZE);
    let mut publisher = Publisher { connection, rendered, lane, control, next: 0, latencies: Histogram::new() };
    match load.flow {
        Flow::Unconfirmed { in_flight_max } => publisher.unconfirmed(in_flight_max)?,
        Flow::Confirmed { window } => {
            publisher.select_confirms()?;
            publisher.confirmed(window, load.gather)?;
        }
        Flow::Paced { pace, confirms: false } => publisher.paced(pace, None)?,
        Flow::Paced { pace, confirms: true } => {
            publisher.select_confirms()?;
            publisher.paced(pace, Some(Confirms::new(PACED_WINDOW)))?;
        }
    }
    publisher.connection.close()?;
    Ok(Published { count: publisher.next, latencies: publisher.latencies })
}

impl Publisher<'_> {
    fn select_confirms(&mut self) -> Result<()> {
        let select = request(CHANNEL, method::CONFIRM_SELECT, |out| {
            out.octet(0);
        });
        self.connection.call(&select, method::CONFIRM_SELECT_OK).map(drop)
    }

    /// Sends the next `count` messages, at most as many as were rendered.
    fn send(&mut self, count: u64) -> Result<()> {
        self.connection.send(self.rendered.patch(self.next, count as usize))?;
        self.next += count;
        Ok(())
    }

    fn unconfirmed(&mut self, in_flight_max: u64) -> Result<()> {
        let capacity = self.rendered.capacity() as u64;
        while !self.control.is_stopping() {
            let room = in_flight_max.saturating_sub(self.next - self.lane.delivered_to_all());
            let count = room.min(capacity);
            if count < capacity.min(in_flight_max) {
                thread::sleep(CATCH_UP_PAUSE);
                continue;
            }
            self.send(count)?;
        }
        Ok(())
    }

    fn confirmed(&mut self, window: u64, gather: Option<Gather>) -> Result<()> {
        let mut confirms = Confirms::new(window);
        let mut heard = Instant::now();
        let mut arrival = Arrival::Nothing;
        loop {
            let stopping = self.control.is_stopping();
            while !stopping && confirms.outstanding() < window {
                let count = (window - confirms.outstanding()).min(self.rendered.capacity() as u64);
                confirms.published(count, self.control.nanos());
                self.send(count)?;
            }
            if stopping && confirms.outstanding() == 0 {
                return Ok(());
            }
            if let Some(gather) = gather {
                gather.wait(heard, arrival);
            }
            arrival = self.connection.read()?;
            match arrival {
                Arrival::Octets(_) => heard = Instant::now(),
                Arrival::Nothing => check_patience(heard, &confirms)?,
            }
            self.take_confirms(Some(&mut confirms))?;
        }
    }

    fn paced(&mut self, pace: Pace, mut confirms: Option<Confirms>) -> Result<()> {
        let start = Instant::now();
        let mut heard = start;
        loop {
            let outstanding = confirms.as_ref().map_or(0, Confirms::outstanding);
            let deadline = if self.control.is_stopping() {
                if outstanding == 0 {
                    return Ok(());
                }
                Instant::now() + IDLE_TICK
            } else {
                let due = pace.due(start.elapsed());
                self.send_due(due, confirms.as_mut())?;
                if self.next < due { Instant::now() + IDLE_TICK } else { start + pace.next(self.next) }
            };
            if self.connection.wait_readable(deadline)? {
                self.connection.read()?;
                self.take_confirms(confirms.as_mut())?;
                heard = Instant::now();
            } else if let Some(confirms) = &confirms
                && confirms.outstanding() > 0
            {
                check_patience(heard, confirms)?;
            } else {
                heard = Instant::now();
            }
        }
    }

    /// Sends what is due and not yet sent, as far as the window allows.
    fn send_due(&mut self, due: u64, mut confirms: Option<&mut Confirms>) -> Result<()> {
        while self.next < due {
            let room = confirms.as_ref().map_or(u64::MAX, |confirms| PACED_WINDOW - confirms.outstanding());
            let count = (due - self.next).min(self.rendered.capacity() as u64).min(room);
            if count == 0 {
                return Ok(());
            }
            let now = self.control.nanos();
            if let Some(confirms) = confirms.as_deref_mut() {
                confirms.published(count, now);
            }
            if let Some(send_times) = &self.lane.send_times {
                send_times.sent(self.next, count, now);
            }
            self.send(count)?;
        }
        Ok(())
    }

    /// Takes the confirms that have arrived; without `confirms` nothing may.
    fn take_confirms(&mut self, mut confirms: Option<&mut Confirms>) -> Result<()> {
        let now = self.control.nanos();
        let measured = self.control.is_measuring();
        let mut sampled =
            self.lane.sampled.as_ref().map(|sampled| sampled.lock().unwrap_or_else(PoisonError::into_inner));
        let latencies = sampled.as_deref_mut().unwrap_or(&mut self.latencies);
        let mut count = 0;
        self.connection.parse(|frame| {
            let Some(confirms) = confirms.as_deref_mut() else { return Err(unexpected(&frame)) };
            let (tag, multiple) = confirm_of(&frame)?;
            let record = measured.then_some(&mut *latencies);
            count += confirms
                .confirmed(tag, multiple, now, record)
                .map_err(|error| Error::new(format!("confirm for tag {}, which is not outstanding", error.0)))?;
            Ok(ControlFlow::Continue(()))
        })?;
        self.lane.confirmed.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

fn check_patience(heard: Instant, confirms: &Confirms) -> Result<()> {
    if heard.elapsed() > CONFIRM_PATIENCE {
        let open = confirms.outstanding();
        return Err(Error::new(format!("no confirm for {CONFIRM_PATIENCE:?}, {open} open")));
    }
    Ok(())
}

/// Tag and multiple of a confirm; anything else is an error.
fn confirm_of(frame: &Frame<'_>) -> Result<(u64, bool)> {
    let mut fields = Fields(frame.payload);
    match (frame.kind, fields.method()) {
        (FrameKind::Method, Ok(method::BASIC_ACK)) => {
            let mut read =
                || -> std::result::Result<_, WireError> { Ok((fields.long_long()?, fields.octet()? & 1 == 1)) };
            read().context("basic.ack")
        }
        (FrameKind::Method, Ok(method::BASIC_NACK)) => Err(Error::new("the server nacked a publish")),
        _ => Err(unexpected(frame)),
    }
}
