//! How long one message takes through the connection, in and out: `cargo run --release -p sluicegate-amqp --example speed`.
//!
//! A publish is three frames parsed, one copy into the arena and one request; a delivery is three frames written; a
//! settled delivery adds its bookkeeping and the client's ack. Prints the best of many rounds.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use model::limits::READ_AHEAD_BYTES;
use model::{ChannelId, ConsumerId, Message, MessageArena, NameSource, Now, QueueId, Seq};
use protocol::{Connection as _, Event, Outgoing, Receipt, Request};
use sluicegate_amqp::{AmqpSettings, Connection};
use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

const BATCH: usize = 1_000;
const ROUNDS: usize = 300;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(0xCE);
    bytes
}

fn method(channel: u16, class: u8, method: u8, arguments: &[u8]) -> Vec<u8> {
    frame(1, channel, &[&[0, class, 0, method], arguments].concat())
}

struct Run {
    connection: Connection,
    out: Outgoing,
    now: Now,
}

impl Run {
    fn input(&mut self, bytes: &[u8]) -> usize {
        let used = self.connection.handle_input(bytes, self.now, &mut self.out);
        assert_eq!(used, bytes.len());
        let mut taken = 0;
        while let Some(request) = self.connection.poll_request() {
            let reply = match &request {
                Request::Authenticate(_) => Event::Authenticated,
                Request::OpenVhost(_) => Event::VhostOpened,
                Request::OpenChannel(c) => Event::ChannelOpened(*c),
                Request::Consume(c, r) => Event::Consuming { channel: *c, consumer: r.consumer },
                Request::Settle(s) => {
                    taken += s.receipts.len();
                    continue;
                }
                _ => {
                    taken += 1;
                    black_box(&request);
                    continue;
                }
            };
            self.connection.handle_event(reply, self.now, &mut self.out);
        }
        self.written();
        taken
    }

    fn written(&mut self) {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 64];
            let n = self.out.slices(&mut slices);
            let len = slices[..n].iter().map(|s| s.len()).sum();
            black_box(&slices);
            self.out.advance(len);
        }
    }

    fn deliver(&mut self, seq: u64, consumer: u32, message: Message) {
        let consumer = ConsumerId(consumer);
        let receipt = Receipt { queue: QueueId(1), seq: Seq(seq), consumer: Some(consumer) };
        let deliver = Event::Deliver { channel: ChannelId(1), consumer, receipt, message, redelivered: false };
        self.connection.handle_event(deliver, self.now, &mut self.out);
    }
}

fn best(name: &str, mut round: impl FnMut()) {
    let mut best = u128::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_nanos());
    }
    println!("{name:<40} {:>6} ns a message", best / BATCH as u128);
}

fn main() {
    let now = Now::default();
    let settings = Arc::new(AmqpSettings::default());
    let mut run = Run { connection: Connection::new(settings, NameSource::new(1), now), out: Outgoing::new(), now };
    run.input(b"AMQP\x00\x00\x09\x01");
    run.input(&method(0, 10, 11, b"\0\0\0\0\x05PLAIN\0\0\0\x04\0a\0b\x05en_US"));
    run.input(&method(0, 10, 31, &[0x07, 0xff, 0, 2, 0, 0, 0, 0]));
    run.input(&method(0, 10, 40, b"\x01/\0\0"));
    run.input(&method(1, 20, 10, b"\0"));
    for (tag, bits) in [(b"\x01a", 0), (b"\x01b", 0b10)] {
        run.input(&method(1, 60, 20, &[&b"\0\0\x05queue"[..], tag, &[bits, 0, 0, 0, 0]].concat()));
    }
    for body_len in [16usize, 1024, 8192] {
        let body = vec![7u8; body_len];
        let mut publish = method(1, 60, 40, b"\0\0\x00\x05queue\0");
        let header = [&[0, 60, 0, 0][..], &(body_len as u64).to_be_bytes(), &[0x10, 0, 2]].concat();
        publish.extend(frame(2, 1, &header));
        publish.extend(frame(3, 1, &body));
        let publishes = publish.repeat(BATCH);
        // As a driver reads: so much at once, here cut at messages.
        let piece = publish.len() * (READ_AHEAD_BYTES / publish.len()).max(1);
        best(&format!("publish of {body_len} bytes"), || {
            let taken: usize = publishes.chunks(piece).map(|piece| run.input(piece)).sum();
            assert_eq!(taken, BATCH);
        });
        let mut draft = MessageArena::new().draft(b"", b"queue", &[0x10, 0, 2], body_len);
        draft.push(&body);
        let message = draft.finish(model::Envelope {
            origin: model::Origin::Amqp091,
            persistent: true,
            priority: 0,
            ttl_ms: None,
            received_at: now.wall,
            has_headers: false,
            producer: 0,
        });
        best(&format!("delivery of {body_len} bytes, no ack"), || {
            for seq in 0..BATCH {
                run.deliver(seq as u64, 1, message.clone());
                if seq % 64 == 63 {
                    run.written();
                }
            }
            run.written();
        });
    }
    let message = MessageArena::new().draft(b"", b"queue", &[0x10, 0, 2], 0).finish(model::Envelope {
        origin: model::Origin::Amqp091,
        persistent: true,
        priority: 0,
        ttl_ms: None,
        received_at: now.wall,
        has_headers: false,
        producer: 0,
    });
    // Tags go on counting over rounds and over the deliveries without ack before.
    let mut last_tag = 3 * (ROUNDS * BATCH) as u64;
    best("delivery and ack, one by one", || {
        let mut acks = Vec::with_capacity(BATCH * 21);
        for seq in 0..BATCH as u64 {
            run.deliver(seq, 0, message.clone());
            last_tag += 1;
            let mut ack = [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xCE];
            ack[11..19].copy_from_slice(&last_tag.to_be_bytes());
            acks.extend_from_slice(&ack);
        }
        run.written();
        assert_eq!(run.input(&acks), BATCH);
    });
}
