//! The consuming side of a lane: checks every delivery, acknowledges in batches, and leaves empty queues.
//!
//! A consumer has one connection and one channel, and consumes each of its queues. The consumer tag of a queue is its
//! number, so that a delivery that comes from a queue its message was not published to is noticed.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::checker::{Checker, Verdict};
use super::connection::{Arrival, Connection, unexpected};
use super::content::Content;
use super::lane::{Control, Lane, Queues, SendTimes, Subscriber};
use super::load::{Acks, Load};
use super::wire::{CHANNEL, Fields, Frame, FrameKind, Method, Output, WireError, method, request};
use crate::error::{Context, Error, Result};
use crate::histogram::Histogram;

/// How often a consumer that shall not read looks whether it shall again.
const PAUSE_TICK: Duration = Duration::from_millis(10);

/// A consumer that has subscribed; deliveries may have arrived.
pub(crate) struct Consumer<'a> {
    connection: Connection,
    load: &'a Load,
    lane: &'a Lane,
    subscriber: &'a Subscriber,
    deliveries: Deliveries<'a>,
    /// The delivery tag up to which all is acknowledged.
    acknowledged: u64,
}

/// What the consumer saw.
pub(crate) struct Consumed {
    /// What became of every message it should have got.
    pub(crate) verdict: Verdict,
    /// Publish to delivery, of deliveries that arrived in the measured window; empty if nobody noted when they were sent.
    pub(crate) latencies: Histogram,
}

/// Where the parser is within a delivery.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Deliver,
    Header { queue: u64, redelivered: bool },
    Body { queue: u64, redelivered: bool },
}

/// Parses deliveries and feeds the checkers.
struct Deliveries<'a> {
    content: &'a Content,
    queues: &'a Queues,
    /// One for each queue.
    checkers: Vec<Checker>,
    received: u64,
    expect: Expect,
    tag: u64,
    send_times: Option<&'a SendTimes>,
    /// When the octets being parsed arrived, in nanoseconds of the run, while latencies are measured.
    arrived: Option<u64>,
    latencies: Histogram,
}

impl<'a> Consumer<'a> {
    /// Subscribes to the queues of `subscriber`; deliveries may arrive from here on.
    pub(crate) fn subscribe(
        mut connection: Connection,
        load: &'a Load,
        lane: &'a Lane,
        subscriber: &'a Subscriber,
    ) -> Result<Self> {
        if let Acks::Manual { prefetch, .. } = load.acks {
            let qos = request(CHANNEL, method::BASIC_QOS, |out| {
                out.long(0).short(prefetch).octet(0);
            });
            connection.call(&qos, method::BASIC_QOS_OK)?;
        }
        let queues = &subscriber.queues;
        let no_ack = u8::from(load.acks == Acks::Auto) << 1;
        let consume = for_each(queues, method::BASIC_CONSUME, |out, queue| {
            out.short(0).short_string(&queues.name(queue)).short_string(&queue.to_string());
            out.octet(no_ack).empty_table();
        });
        let mut deliveries = Deliveries::new(&lane.content, queues, lane.send_times.as_ref());
        let count = queues.count() as usize;
        connection.call_amid(&consume, method::BASIC_CONSUME_OK, count, |_| Ok(()), |frame| deliveries.frame(frame))?;
        Ok(Self { connection, load, lane, subscriber, deliveries, acknowledged: 0 })
    }

    /// Consumes until all that was published has arrived or nothing more does; all of it is acknowledged then.
    pub(crate) fn receive(&mut self, control: &Control) -> Result<()> {
        let mut heard = Instant::now();
        let mut arrival = Arrival::Nothing;
        loop {
            if self.subscriber.paused.load(Ordering::Relaxed) {
                thread::sleep(PAUSE_TICK);
                heard = Instant::now();
                continue;
            }
            if let Some(gather) = self.load.gather {
                gather.wait(heard, arrival);
            }
            arrival = self.connection.read()?;
            if arrival != Arrival::Nothing {
                heard = Instant::now();
            }
            let deliveries = &mut self.deliveries;
            deliveries.arrived = control.is_measuring().then(|| control.nanos());
            self.connection.parse(|frame| deliveries.frame(frame).map(ControlFlow::Continue))?;
            self.subscriber.delivered.store(self.deliveries.received, Ordering::Relaxed);
            if let Acks::Manual { batch, .. } = self.load.acks {
                self.acknowledge(batch)?;
            }
            let total = self.lane.total.load(Ordering::Acquire);
            if self.deliveries.received >= total || (total != Lane::UNKNOWN && heard.elapsed() > control.patience) {
                break;
            }
        }
        if self.load.acks == Acks::Auto { Ok(()) } else { self.acknowledge(1) }
    }

    /// Acknowledges all that has arrived, if that is at least `batch`.
    fn acknowledge(&mut self, batch: u64) -> Result<()> {
        let tag = self.deliveries.tag;
        if tag - self.acknowledged < batch {
            return Ok(());
        }
        self.acknowledged = tag;
        self.connection.send(&request(CHANNEL, method::BASIC_ACK, |out| {
            out.long_long(tag).octet(1);
        }))
    }

    /// Cancels (what still arrives is checked too), deletes the queues and verifies that they were empty.
    pub(crate) fn leave(mut self) -> Result<Consumed> {
        let (queues, deliveries) = (&self.subscriber.queues, &mut self.deliveries);
        let count = queues.count() as usize;
        let cancel = for_each(queues, method::BASIC_CANCEL, |out, queue| {
            out.short_string(&queue.to_string()).octet(0);
        });
        self.connection.call_amid(
            &cancel,
            method::BASIC_CANCEL_OK,
            count,
            |_| Ok(()),
            |frame| deliveries.frame(frame),
        )?;
        let delete = for_each(queues, method::QUEUE_DELETE, |out, queue| {
            out.short(0).short_string(&queues.name(queue)).octet(0);
        });
        let mut left = 0;
        self.connection.call_all(&delete, method::QUEUE_DELETE_OK, count, |mut fields| {
            left += fields.long().context("queue.delete-ok")?;
            Ok(())
        })?;
        if left != 0 {
            return Err(Error::new(format!("{left} messages were left in the queue after all had been settled")));
        }
        self.connection.close()?;
        let verdict = self.deliveries.verdict(self.lane.total.load(Ordering::Acquire));
        Ok(Consumed { verdict, latencies: self.deliveries.latencies })
    }
}

/// One request for each queue.
fn for_each(queues: &Queues, method: Method, fields: impl Fn(&mut Output, u64)) -> Vec<u8> {
    let mut out = Output::default();
    for queue in 0..queues.count() {
        out.method(CHANNEL, method, |out| fields(out, queue));
    }
    out.0
}

impl<'a> Deliveries<'a> {
    fn new(content: &'a Content, queues: &'a Queues, send_times: Option<&'a SendTimes>) -> Self {
        Self {
            content,
            queues,
            checkers: (0..queues.count()).map(|_| Checker::default()).collect(),
            received: 0,
            expect: Expect::Deliver,
            tag: 0,
            send_times,
            arrived: None,
            latencies: Histogram::new(),
        }
    }

    #[inline]
    fn frame(&mut self, frame: Frame<'_>) -> Result<()> {
        self.expect = match (self.expect, frame.kind) {
            (Expect::Deliver, FrameKind::Method) => self.deliver(&frame)?,
            (Expect::Header { queue, redelivered }, FrameKind::Header) => {
                let size = header_body_size(frame.payload).context("content header")?;
                if size != self.content.body_size() as u64 {
                    return Err(Error::new(format!("a body of {size} octets was announced")));
                }
                Expect::Body { queue, redelivered }
            }
            (Expect::Body { queue, redelivered }, FrameKind::Body) => {
                self.body(frame.payload, queue, redelivered)?;
                Expect::Deliver
            }
            _ => return Err(unexpected(&frame)),
        };
        Ok(())
    }

    /// Checks the delivery tag and notes from which queue the message is and whether it is redelivered.
    #[inline]
    fn deliver(&mut self, frame: &Frame<'_>) -> Result<Expect> {
        let mut fields = Fields(frame.payload);
        if fields.method() != Ok(method::BASIC_DELIVER) {
            return Err(unexpected(frame));
        }
        let mut read = || -> std::result::Result<_, WireError> {
            Ok((fields.short_string()?, fields.long_long()?, fields.octet()? & 1 == 1))
        };
        let (consumer_tag, tag, redelivered) = read().context("basic.deliver")?;
        if tag != self.tag + 1 {
            return Err(Error::new(format!("delivery tag {tag} after {}", self.tag)));
        }
        self.tag = tag;
        let queue = number(consumer_tag).filter(|queue| *queue < self.queues.count());
        let queue = queue.ok_or_else(|| Error::new("a delivery for a consumer that there is not"))?;
        Ok(Expect::Header { queue, redelivered })
    }

    /// Checks the body and where it came from.
    #[inline]
    fn body(&mut self, body: &[u8], queue: u64, redelivered: bool) -> Result<()> {
        let sequence = self.content.sequence_of(body);
        let sequence = sequence.map_err(|_| Error::new("a body came back that was never sent"))?;
        let (sent_to, position) = self.queues.place(sequence);
        if sent_to != queue {
            return Err(Error::new(format!("a message for queue {sent_to} came from queue {queue}")));
        }
        self.checkers[queue as usize].delivered(position, redelivered);
        self.received += 1;
        if let (Some(send_times), Some(arrived)) = (self.send_times, self.arrived) {
            self.latencies.record(arrived.saturating_sub(send_times.of(sequence)));
        }
        Ok(())
    }

    /// What was found in all queues together, of `total` messages published to them in turn.
    fn verdict(&self, total: u64) -> Verdict {
        let each = (0..).zip(&self.checkers).map(|(queue, checker)| checker.verdict(self.queues.share(queue, total)));
        each.fold(Verdict::default(), Verdict::and)
    }
}

/// A consumer tag of ours, a number of few digits.
#[inline]
fn number(digits: &[u8]) -> Option<u64> {
    let plausible = (1..=7).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plausible.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn header_body_size(payload: &[u8]) -> std::result::Result<u64, WireError> {
    let mut fields = Fields(payload);
    fields.long()?; // class and the unused weight
    fields.long_long()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of one delivery, as a server sends them.
    fn delivery(consumer_tag: &str, tag: u64, redelivered: bool, body: &[u8]) -> Vec<u8> {
        let mut out = Output::default();
        out.method(CHANNEL, method::BASIC_DELIVER, |out| {
            out.short_string(consumer_tag).long_long(tag).octet(u8::from(redelivered));
            out.short_string("").short_string("q");
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
        let (content, queues) = (Content::new(5, 16, false), Queues::new("q", 1));
        let mut deliveries = Deliveries::new(&content, &queues, None);
        for sequence in 0..3 {
            feed(&mut deliveries, &delivery("0", sequence + 1, false, &body(sequence))).unwrap();
        }
        assert!(deliveries.verdict(3).is_clean());
        feed(&mut deliveries, &delivery("0", 4, true, &body(2))).unwrap();
        let verdict = deliveries.verdict(3);
        assert_eq!((verdict.duplicated, verdict.redelivered), (1, 1));
    }

    #[test]
    fn order_is_checked_within_each_queue() {
        let (content, queues) = (Content::new(5, 16, false), Queues::new("q", 3));
        let mut deliveries = Deliveries::new(&content, &queues, None);
        for (at, sequence) in (1..).zip([2, 0, 3, 1, 5]) {
            let consumer_tag = (sequence % 3).to_string();
            feed(&mut deliveries, &delivery(&consumer_tag, at, false, &body(sequence))).unwrap();
        }
        assert_eq!(deliveries.verdict(6), Verdict { published: 6, lost: 1, ..Verdict::default() });
        feed(&mut deliveries, &delivery("1", 6, false, &body(4))).unwrap();
        assert!(deliveries.verdict(6).is_clean());
        let crossed = feed(&mut deliveries, &delivery("1", 7, false, &body(6)));
        assert!(crossed.unwrap_err().to_string().contains("for queue 0 came from queue 1"));
    }

    #[test]
    fn broken_deliveries_are_errors() {
        let (content, queues) = (Content::new(5, 16, false), Queues::new("q", 1));
        let broken = [
            delivery("0", 2, false, &body(0)),
            delivery("0", 1, false, &[0; 15]),
            delivery("0", 1, false, &[0; 16]),
            delivery("1", 1, false, &body(0)),
            delivery("", 1, false, &body(0)),
            delivery("x", 1, false, &body(0)),
        ];
        for bytes in broken {
            assert!(feed(&mut Deliveries::new(&content, &queues, None), &bytes).is_err());
        }
    }
}
