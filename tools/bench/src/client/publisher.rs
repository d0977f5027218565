//! The publishing side of a run: keeps the window full until told to stop, and checks every confirm.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::confirms::Confirms;
use super::connection::{Arrival, Connection, unexpected};
use super::content::{Content, Rendered};
use super::load::{Flow, Gather, Load, Shared};
use super::wire::{CHANNEL, Fields, Frame, FrameKind, WireError, method, request};
use crate::error::{Context, Error, Result};
use crate::histogram::Histogram;

/// Octets of publishes in one write at most.
const WRITE_SIZE: usize = 64 * 1024;
/// How long a publisher without confirms waits for the consumer to catch up before it looks again.
const CATCH_UP_PAUSE: Duration = Duration::from_micros(200);
/// How long a server may leave the publisher without any confirm.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);

/// What the publisher did.
pub(crate) struct Published {
    /// Messages sent, all of them confirmed if confirms were asked for.
    pub(crate) count: u64,
    /// Publish to confirm, of confirms that arrived in the measured window.
    pub(crate) latencies: Histogram,
}

/// Publishes to `queue` until `shared.stop`, then waits for outstanding confirms and closes.
pub(crate) fn run(
    mut connection: Connection,
    load: &Load,
    content: &Content,
    queue: &str,
    shared: &Shared,
) -> Result<Published> {
    let mut rendered = Rendered::new(content, queue, WRITE_SIZE);
    let published = match load.flow {
        Flow::Unconfirmed { in_flight_max } => unconfirmed(&mut connection, &mut rendered, in_flight_max, shared)?,
        Flow::Confirmed { window } => {
            let select = request(CHANNEL, method::CONFIRM_SELECT, |out| {
                out.octet(0);
            });
            connection.call(&select, method::CONFIRM_SELECT_OK)?;
            confirmed(&mut connection, &mut rendered, window, load.gather, shared)?
        }
    };
    connection.close()?;
    Ok(published)
}

fn unconfirmed(
    connection: &mut Connection,
    rendered: &mut Rendered,
    in_flight_max: u64,
    shared: &Shared,
) -> Result<Published> {
    let mut next = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let room = in_flight_max.saturating_sub(next - shared.delivered.load(Ordering::Relaxed));
        let count = room.min(rendered.capacity() as u64);
        if count < (rendered.capacity() as u64).min(in_flight_max) {
            thread::sleep(CATCH_UP_PAUSE);
            continue;
        }
        connection.send(rendered.patch(next, count as usize))?;
        next += count;
    }
    Ok(Published { count: next, latencies: Histogram::new() })
}

fn confirmed(
    connection: &mut Connection,
    rendered: &mut Rendered,
    window: u64,
    gather: Option<Gather>,
    shared: &Shared,
) -> Result<Published> {
    let mut confirms = Confirms::new(window);
    let mut latencies = Histogram::new();
    let epoch = Instant::now();
    let nanos = || epoch.elapsed().as_nanos() as u64;
    let mut next = 0;
    let mut heard = Instant::now();
    let mut arrival = Arrival::Nothing;
    loop {
        let stopping = shared.stop.load(Ordering::Relaxed);
        while !stopping && confirms.outstanding() < window {
            let count = (window - confirms.outstanding()).min(rendered.capacity() as u64);
            confirms.published(count, nanos());
            connection.send(rendered.patch(next, count as usize))?;
            next += count;
        }
        if stopping && confirms.outstanding() == 0 {
            return Ok(Published { count: next, latencies });
        }
        if let Some(gather) = gather {
            gather.wait(heard, arrival);
        }
        arrival = connection.read()?;
        match arrival {
            Arrival::Octets(_) => heard = Instant::now(),
            Arrival::Nothing if heard.elapsed() > CONFIRM_PATIENCE => {
                return Err(Error::new(format!(
                    "no confirm for {CONFIRM_PATIENCE:?}, {} open",
                    confirms.outstanding()
                )));
            }
            Arrival::Nothing => {}
        }
        let now = nanos();
        let measured = shared.measuring.load(Ordering::Relaxed);
        let mut count = 0;
        connection.parse(|frame| {
            let (tag, multiple) = confirm_of(&frame)?;
            let record = measured.then_some(&mut latencies);
            count += confirms
                .confirmed(tag, multiple, now, record)
                .map_err(|error| Error::new(format!("confirm for tag {}, which is not outstanding", error.0)))?;
            Ok(ControlFlow::Continue(()))
        })?;
        shared.confirmed.fetch_add(count, Ordering::Relaxed);
    }
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
