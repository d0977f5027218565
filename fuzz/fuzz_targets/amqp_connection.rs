//! Arbitrary bytes, arbitrarily split, with a broker that answers this way and that. Checked: no panic, no spinning,
//! everything written is whole frames, and nothing is written after the end.
#![no_main]

use amqp::{AmqpSettings, Connection};
use libfuzzer_sys::fuzz_target;
use model::{
    ChannelId, ConsumerId, Envelope, Message, MessageArena, Mono, NameSource, Now, Origin,
    PublishSeq, QueueId, Seq, Wall,
};
use protocol::{
    Confirmed, Connection as _, Event, Outgoing, Receipt, Refusal, RefusalKind, Request, Returned,
    Status,
};
use std::io::IoSlice;
use std::sync::Arc;

const HANDSHAKE: &[u8] = b"AMQP\x00\x00\x09\x01\
    \x01\x00\x00\x00\x00\x00\x24\x00\x0a\x00\x0b\x00\x00\x00\x00\x05PLAIN\
    \x00\x00\x00\x0c\x00guest\x00guest\x05en_US\xce\
    \x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x1f\x07\xff\x00\x02\x00\x00\x00\x3c\xce\
    \x01\x00\x00\x00\x00\x00\x08\x00\x0a\x00\x28\x01/\x00\x00\xce\
    \x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x0a\x00\xce";

/// Decides what the broker does, from a seed in the input.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % sides
    }
}

struct Peer {
    connection: Connection,
    out: Outgoing,
    written: Vec<u8>,
    now: Now,
    dice: Dice,
    seq: u64,
    consumers: Vec<(ChannelId, ConsumerId)>,
    confirms: Vec<(ChannelId, PublishSeq)>,
    held: Option<Event>,
}

impl Peer {
    fn receipt(&mut self, consumer: Option<ConsumerId>) -> Receipt {
        self.seq += 1;
        Receipt { queue: QueueId(1), seq: Seq(self.seq), consumer }
    }

    fn message(&mut self) -> Message {
        let body = vec![b'x'; [0, 5, 5000, 200_000][self.dice.roll(4) as usize]];
        let envelope = Envelope {
            origin: Origin::Amqp091,
            persistent: false,
            priority: 0,
            ttl_ms: None,
            received_at: Wall(0),
            has_headers: false,
            producer: 0,
        };
        let mut draft = MessageArena::new().draft(b"e", b"k", &[0, 0], body.len());
        draft.push(&body);
        draft.finish(envelope)
    }

    fn refusal(&mut self) -> Refusal {
        let kinds = [
            RefusalKind::AccessRefused,
            RefusalKind::NotFound,
            RefusalKind::ResourceLocked,
            RefusalKind::PreconditionFailed,
            RefusalKind::NotAllowed,
            RefusalKind::LoginRefused,
        ];
        let kind = kinds[self.dice.roll(kinds.len() as u32) as usize];
        Refusal::new(kind, "é".repeat(self.dice.roll(300) as usize))
    }

    fn event(&mut self, event: Event) {
        self.connection.handle_event(event, self.now, &mut self.out);
        self.drain();
    }

    fn drain(&mut self) {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let n = self.out.slices(&mut slices);
            let before = self.written.len();
            for slice in &slices[..n] {
                self.written.extend_from_slice(slice);
            }
            self.out.advance(self.written.len() - before);
        }
        check_frames(&mut self.written);
    }

    fn reply(&mut self, request: &Request) -> Option<Event> {
        let yes = match request {
            Request::Authenticate(_) => Event::Authenticated,
            Request::OpenVhost(_) => Event::VhostOpened,
            Request::OpenChannel(c) => Event::ChannelOpened(*c),
            Request::CloseChannel(c) => {
                self.consumers.retain(|(channel, _)| channel != c);
                self.confirms.retain(|(channel, _)| channel != c);
                return Some(Event::ChannelClosed(*c));
            }
            Request::DeclareExchange(c, _) => Event::ExchangeDeclared(*c),
            Request::DeleteExchange { channel, .. } => Event::ExchangeDeleted(*channel),
            Request::Bind(c, _) => Event::Bound(*c),
            Request::Unbind(c, _) => Event::Unbound(*c),
            Request::DeclareQueue(c, d) => Event::QueueDeclared {
                channel: *c,
                queue: d.generated.clone().unwrap_or_else(|| d.queue.clone()),
                messages: u64::MAX,
                consumers: 1,
            },
            Request::DeleteQueue { channel, .. } => {
                Event::QueueDeleted { channel: *channel, messages: 1 }
            }
            Request::PurgeQueue { channel, .. } => {
                Event::QueuePurged { channel: *channel, messages: 1 }
            }
            Request::Qos { channel, .. } => Event::QosSet(*channel),
            Request::Consume(c, r) => {
                self.consumers.push((*c, r.consumer));
                Event::Consuming { channel: *c, consumer: r.consumer }
            }
            Request::Cancel { channel, consumer } => {
                Event::Cancelled { channel: *channel, consumer: *consumer }
            }
            Request::Get { channel, .. } if self.dice.roll(2) == 0 => Event::GetEmpty(*channel),
            Request::Get { channel, .. } => Event::Got {
                channel: *channel,
                receipt: self.receipt(None),
                message: self.message(),
                redelivered: true,
                remaining: 1,
            },
            Request::Recover(c) => Event::Recovered(*c),
            Request::Tx(c, _) => Event::TxDone(*c),
            Request::Publish(p) => {
                if let Some(seq) = p.confirm {
                    self.confirms.push((p.channel, seq));
                }
                if self.dice.roll(16) != 0 {
                    return None;
                }
                return Some(Event::Refused { channel: p.channel, refusal: self.refusal() });
            }
            Request::Settle(s) => {
                assert!(!s.receipts.is_empty(), "nothing to settle");
                return None;
            }
        };
        let channel = match request {
            Request::Authenticate(_) | Request::OpenVhost(_) => ChannelId::CONNECTION,
            Request::OpenChannel(c)
            | Request::CloseChannel(c)
            | Request::DeclareExchange(c, _)
            | Request::Bind(c, _)
            | Request::Unbind(c, _)
            | Request::DeclareQueue(c, _)
            | Request::Consume(c, _)
            | Request::Recover(c)
            | Request::Tx(c, _) => *c,
            Request::DeleteExchange { channel, .. }
            | Request::DeleteQueue { channel, .. }
            | Request::PurgeQueue { channel, .. }
            | Request::Qos { channel, .. }
            | Request::Cancel { channel, .. }
            | Request::Get { channel, .. } => *channel,
            Request::Publish(p) => p.channel,
            Request::Settle(s) => s.channel,
        };
        match self.dice.roll(16) {
            0 => Some(Event::Refused { channel, refusal: self.refusal() }),
            1 => {
                self.held = Some(yes);
                None
            }
            _ => Some(yes),
        }
    }

    /// What a driver does after each wake-up, and what a broker may do meanwhile.
    fn settle_down(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "spinning");
            self.drain();
            if let Some(request) = self.connection.poll_request() {
                assert!(self.connection.status() != Status::Closed, "asked after the end");
                if let Some(reply) = self.reply(&request) {
                    self.event(reply);
                }
                continue;
            }
            if self.connection.poll_timeout().is_some_and(|due| due <= self.now.mono) {
                self.connection.handle_timeout(self.now, &mut self.out);
                continue;
            }
            break;
        }
        self.happen();
    }

    fn happen(&mut self) {
        if let Some(held) = self.held.take() {
            self.event(held);
        }
        match self.dice.roll(8) {
            0 => {
                for at in 0..self.consumers.len() {
                    let (channel, consumer) = self.consumers[at];
                    let receipt = self.receipt(Some(consumer));
                    let message = self.message();
                    self.event(Event::Deliver {
                        channel,
                        consumer,
                        receipt,
                        message,
                        redelivered: false,
                    });
                }
            }
            1 => {
                for (channel, seq) in std::mem::take(&mut self.confirms) {
                    let accepted = self.dice.roll(4) != 0;
                    if self.dice.roll(4) == 0 {
                        let message = self.message();
                        self.event(Event::Returned(Returned { channel, message }));
                    }
                    let confirmed = Confirmed { channel, first: seq, last: seq, accepted };
                    self.event(Event::Confirmed(confirmed));
                }
            }
            2 => {
                if let Some((channel, consumer)) = self.consumers.pop() {
                    self.event(Event::ConsumerLost { channel, consumer });
                }
            }
            3 => {
                self.event(Event::Blocked("low on memory"));
                self.event(Event::Unblocked);
            }
            4 => self.now.mono = Mono(self.now.mono.0 + u64::from(self.dice.roll(20)) * 1_000_000),
            _ => {}
        }
    }
}

/// Takes whole frames off the front; what was written is always whole frames.
fn check_frames(written: &mut Vec<u8>) {
    let mut rest = &written[..];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b"AMQP\x00\x00\x09\x01") {
            rest = after;
            continue;
        }
        let size = u32::from_be_bytes([rest[3], rest[4], rest[5], rest[6]]) as usize;
        assert!(matches!(rest[0], 1 | 2 | 3 | 8), "frame type");
        assert!(size <= 131_072 - 8, "frame size");
        assert_eq!(rest[7 + size], 0xCE, "frame end");
        rest = &rest[8 + size..];
    }
    written.clear();
}

fuzz_target!(|data: &[u8]| {
    let [choice, d0, d1, piece, input @ ..] = data else {
        return;
    };
    let now = Now { mono: Mono(0), wall: Wall(0) };
    let settings = Arc::new(AmqpSettings::default());
    let mut peer = Peer {
        connection: Connection::new(settings, NameSource::new(1), now),
        out: Outgoing::new(),
        written: Vec::new(),
        now,
        dice: Dice(u32::from_be_bytes([0, 0, *d0, *d1])),
        seq: 0,
        consumers: Vec::new(),
        confirms: Vec::new(),
        held: None,
    };
    let mut all = if choice & 1 == 0 { HANDSHAKE.to_vec() } else { Vec::new() };
    all.extend_from_slice(input);
    let mut kept = Vec::new();
    for piece in all.chunks(usize::from(*piece).max(1)) {
        kept.extend_from_slice(piece);
        let used = peer.connection.handle_input(&kept, peer.now, &mut peer.out);
        kept.drain(..used);
        assert!(kept.len() <= 131_072 + 8, "more than a frame is kept");
        peer.settle_down();
        if peer.connection.status() == Status::Closed {
            let used = peer.connection.handle_input(&[1, 0, 0], peer.now, &mut peer.out);
            assert_eq!(used, 3);
            assert!(peer.out.is_empty(), "written after the end");
            assert!(peer.connection.poll_request().is_none());
            return;
        }
    }
    peer.connection.shut_down("done", peer.now, &mut peer.out);
    assert!(peer.connection.poll_request().is_none());
    peer.drain();
});
