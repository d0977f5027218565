//! The consuming side of a run: checks every delivery, acknowledges in batches, and leaves an empty queue.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::checker::{Checker, Verdict};
use super::connection::{Arrival, Connection, unexpected};
use super::content::Content;
use super::load::{Acks, Load, Shared};
use super::wire::{CHANNEL, Fields, Frame, FrameKind, WireError, method, request};
use crate::error::{Context, Error, Result};

const CONSUMER_TAG: &str = "bench";

/// Where the parser is within a delivery.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Deliver,
    Header { redelivered: bool },
    Body { redelivered: bool },
}

/// Parses deliveries and feeds the checker.
struct Deliveries<'a> {
    content: &'a Content,
    checker: Checker,
    expect: Expect,
    tag: u64,
}

/// Subscribes; deliveries may arrive from here on.
pub(crate) fn subscribe(connection: &mut Connection, load: &Load, queue: &str) -> Result<()> {
    if let Acks::Manual { prefetch, .. } = load.acks {
        let qos = request(CHANNEL, method::BASIC_QOS, |out| {
            out.long(0).short(prefetch).octet(0);
        });
        connection.call(&qos, method::BASIC_QOS_OK)?;
    }
    let no_ack = u8::from(load.acks == Acks::Auto) << 1;
    let consume = request(CHANNEL, method::BASIC_CONSUME, |out| {
        out.short(0).short_string(queue).short_string(CONSUMER_TAG).octet(no_ack).empty_table();
    });
    connection.call(&consume, method::BASIC_CONSUME_OK)?;
    Ok(())
}

/// Consumes until all that was published has arrived or nothing more does, then cancels and deletes the queue.
pub(crate) fn run(
    mut connection: Connection,
    load: &Load,
    content: &Content,
    queue: &str,
    patience: Duration,
    shared: &Shared,
) -> Result<Verdict> {
    let mut deliveries = Deliveries { content, checker: Checker::default(), expect: Expect::Deliver, tag: 0 };
    let mut acknowledged = 0;
    let mut heard = Instant::now();
    let mut arrival = Arrival::Nothing;
    loop {
        if let Some(gather) = load.gather {
            gather.wait(heard, arrival);
        }
        arrival = connection.read()?;
        if arrival != Arrival::Nothing {
            heard = Instant::now();
        }
        connection.parse(|frame| deliveries.frame(frame).map(ControlFlow::Continue))?;
        let received = deliveries.checker.received();
        shared.delivered.store(received, Ordering::Relaxed);
        if let Acks::Manual { batch, .. } = load.acks
            && deliveries.tag - acknowledged >= batch
        {
            acknowledged = deliveries.tag;
            connection.send(&ack(acknowledged))?;
        }
        let total = shared.total.load(Ordering::Acquire);
        if received >= total || (total != Shared::UNKNOWN && heard.elapsed() > patience) {
            break;
        }
    }
    if load.acks != Acks::Auto && deliveries.tag > acknowledged {
        connection.send(&ack(deliveries.tag))?;
    }
    leave(connection, &mut deliveries, queue)?;
    Ok(deliveries.checker.verdict(shared.total.load(Ordering::Acquire)))
}

/// Cancels (what still arrives is checked too), deletes the queue and verifies that it was empty.
fn leave(mut connection: Connection, deliveries: &mut Deliveries<'_>, queue: &str) -> Result<()> {
    let cancel = request(CHANNEL, method::BASIC_CANCEL, |out| {
        out.short_string(CONSUMER_TAG).octet(0);
    });
    connection.call_amid(&cancel, method::BASIC_CANCEL_OK, |frame| deliveries.frame(frame))?;
    let delete = request(CHANNEL, method::QUEUE_DELETE, |out| {
        out.short(0).short_string(queue).octet(0);
    });
    let answer = connection.call(&delete, method::QUEUE_DELETE_OK)?;
    let left = Fields(&answer).long().context("queue.delete-ok")?;
    if left != 0 {
        return Err(Error::new(format!("{left} messages were left in the queue after all had been settled")));
    }
    connection.close()
}

fn ack(tag: u64) -> Vec<u8> {
    request(CHANNEL, method::BASIC_ACK, |out| {
        out.long_long(tag).octet(1);
    })
}

impl Deliveries<'_> {
    #[inline]
    fn frame(&mut self, frame: Frame<'_>) -> Result<()> {
        self.expect = match (self.expect, frame.kind) {
            (Expect::Deliver, FrameKind::Method) => Expect::Header { redelivered: self.deliver(&frame)? },
            (Expect::Header { redelivered }, FrameKind::Header) => {
                let size = header_body_size(frame.payload).context("content header")?;
                if size != self.content.body_size() as u64 {
                    return Err(Error::new(format!("a body of {size} octets was announced")));
                }
                Expect::Body { redelivered }
            }
            (Expect::Body { redelivered }, FrameKind::Body) => {
                let sequence = self.content.sequence_of(frame.payload);
                let sequence = sequence.map_err(|_| Error::new("a body came back that was never sent"))?;
                self.checker.delivered(sequence, redelivered);
                Expect::Deliver
            }
            _ => return Err(unexpected(&frame)),
        };
        Ok(())
    }

    /// Checks the delivery tag and returns whether the message is redelivered.
    #[inline]
    fn deliver(&mut self, frame: &Frame<'_>) -> Result<bool> {
        let mut fields = Fields(frame.payload);
        if fields.method() != Ok(method::BASIC_DELIVER) {
            return Err(unexpected(frame));
        }
        let mut read = || -> std::result::Result<_, WireError> {
            fields.short_string()?;
            Ok((fields.long_long()?, fields.octet()? & 1 == 1))
        };
        let (tag, redelivered) = read().context("basic.deliver")?;
        if tag != self.tag + 1 {
            return Err(Error::new(format!("delivery tag {tag} after {}", self.tag)));
        }
        self.tag = tag;
        Ok(redelivered)
    }
}

fn header_body_size(payload: &[u8]) -> std::result::Result<u64, WireError> {
    let mut fields = Fields(payload);
    fields.long()?; // class and the unused weight
    fields.long_long()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::wire::Output;

    /// The frames of one delivery, as a server sends them.
    fn delivery(tag: u64, redelivered: bool, body: &[u8]) -> Vec<u8> {
        let mut out = Output::default();
        out.method(CHANNEL, method::BASIC_DELIVER, |out| {
            out.short_string("bench").long_long(tag).octet(u8::from(redelivered)).short_string("").short_string("q");
        });
        out.frame(FrameKind::Header, CHANNEL, |out| {
            out.short(60).short(0).long_long(body.len() as u64).short(0);
        });
        out.frame(FrameKind::Body, CHANNEL, |out| out.0.extend_from_slice(body));
        out.0
    }

    fn feed(deliveries: &mut Deliveries<'_>, mut bytes: &[u8]) -> Result<()> {
        while let Some((frame, size)) = crate::client::wire::split_frame(bytes, 4096).unwrap() {
            deliveries.frame(frame)?;
            bytes = &bytes[size..];
        }
        Ok(())
    }

    fn body(sequence: u64) -> Vec<u8> {
        [sequence.to_be_bytes(), 5u64.to_be_bytes()].concat()
    }

    #[test]
    fn deliveries_reach_the_checker() {
        let content = Content::new(5, 16, false);
        let mut deliveries =
            Deliveries { content: &content, checker: Checker::default(), expect: Expect::Deliver, tag: 0 };
        for sequence in 0..3 {
            feed(&mut deliveries, &delivery(sequence + 1, false, &body(sequence))).unwrap();
        }
        assert!(deliveries.checker.verdict(3).is_clean());
        feed(&mut deliveries, &delivery(4, true, &body(2))).unwrap();
        let verdict = deliveries.checker.verdict(3);
        assert_eq!((verdict.duplicated, verdict.redelivered), (1, 1));
    }

    #[test]
    fn broken_deliveries_are_errors() {
        let content = Content::new(5, 16, false);
        let broken = [delivery(2, false, &body(0)), delivery(1, false, &[0; 15]), delivery(1, false, &[0; 16])];
        for bytes in broken {
            let mut deliveries =
                Deliveries { content: &content, checker: Checker::default(), expect: Expect::Deliver, tag: 0 };
            assert!(feed(&mut deliveries, &bytes).is_err());
        }
    }
}
