//! A broker that says yes, unless its script says otherwise.

use super::text::Words;
use bytes::Bytes;
use model::{
    ChannelId, ConsumerId, Envelope, LargeBody, Message, MessageArena, Origin, PublishSeq, QueueId, Seq, Wall,
};
use protocol::{Confirmed, Destination, Event, Receipt, Refusal, RefusalKind, Request, Returned, Settle};
use std::collections::VecDeque;
use std::sync::Arc;

/// How the next request is answered.
enum Answer {
    Refuse(Refusal),
    Hold,
    Got(Message),
    Empty,
}

#[derive(Default)]
pub(crate) struct Broker {
    answers: VecDeque<Answer>,
    held: Option<Event>,
    last_seq: u64,
}

impl Broker {
    /// The request as a line, and the reply.
    pub(crate) fn take(&mut self, request: Request) -> (String, Option<Event>) {
        let line = describe(&request);
        let channel = channel_of(&request);
        if !gets_reply(&request) {
            // The same rule as for the rest, but silence is a yes.
            let refused = match self.answers.front() {
                Some(Answer::Refuse(_)) => self.answers.pop_front(),
                _ => None,
            };
            let reply = refused.map(|answer| match answer {
                Answer::Refuse(refusal) => Event::Refused { channel, refusal },
                _ => unreachable!("only refusals were taken"),
            });
            return (line, reply);
        }
        let reply = match self.answers.pop_front() {
            Some(Answer::Refuse(refusal)) => Event::Refused { channel, refusal },
            Some(Answer::Hold) => {
                self.held = Some(yes(&request));
                return (line, None);
            }
            Some(Answer::Got(message)) => {
                Event::Got { channel, receipt: self.receipt(None), message, redelivered: false, remaining: 7 }
            }
            Some(Answer::Empty) => Event::GetEmpty(channel),
            None => yes(&request),
        };
        (line, Some(reply))
    }

    fn receipt(&mut self, consumer: Option<ConsumerId>) -> Receipt {
        self.last_seq += 1;
        Receipt { queue: QueueId(1), seq: Seq(self.last_seq), consumer }
    }

    /// A line of `R>`; `release` gives the reply that was held.
    pub(crate) fn instruct(&mut self, line: &str) -> Option<Event> {
        let mut words = Words(line);
        let answer = match words.word().as_str() {
            "release" => return self.held.take(),
            "hold" => Answer::Hold,
            "empty" => Answer::Empty,
            "refuse" => {
                let kind = kind(&words.word());
                let text = String::from_utf8(words.text()).unwrap();
                Answer::Refuse(Refusal::new(kind, text))
            }
            "got" => Answer::Got(message(&mut words)),
            "got-large" => Answer::Got(large_message(&mut words)),
            other => panic!("R> {other}"),
        };
        self.answers.push_back(answer);
        None
    }

    /// A line of `E>`.
    pub(crate) fn event(&mut self, line: &str) -> Event {
        let mut words = Words(line);
        let what = words.word();
        match what.as_str() {
            "blocked" => return Event::Blocked("low on memory"),
            "unblocked" => return Event::Unblocked,
            "piece" => return Event::BodyPiece(Some(words.text().into())),
            "lost-piece" => return Event::BodyPiece(None),
            _ => {}
        }
        let channel = ChannelId(words.number() as u16);
        match what.as_str() {
            "deliver-large" => {
                let consumer = ConsumerId(words.number() as u32);
                Event::Deliver {
                    channel,
                    consumer,
                    receipt: self.receipt(Some(consumer)),
                    message: large_message(&mut words),
                    redelivered: false,
                }
            }
            "deliver" | "redeliver" => {
                let consumer = ConsumerId(words.number() as u32);
                Event::Deliver {
                    channel,
                    consumer,
                    receipt: self.receipt(Some(consumer)),
                    message: message(&mut words),
                    redelivered: what == "redeliver",
                }
            }
            "lost" => Event::ConsumerLost { channel, consumer: ConsumerId(words.number() as u32) },
            "returned" => Event::Returned(Returned { channel, message: message(&mut words) }),
            "confirmed" | "denied" => Event::Confirmed(Confirmed {
                channel,
                first: PublishSeq(words.number()),
                last: PublishSeq(words.number()),
                accepted: what == "confirmed",
            }),
            "refused" => Event::Refused {
                channel,
                refusal: Refusal::new(kind(&words.word()), String::from_utf8(words.text()).unwrap()),
            },
            other => panic!("E> {other}"),
        }
    }
}

fn kind(word: &str) -> RefusalKind {
    match word {
        "LoginRefused" => RefusalKind::LoginRefused,
        "AccessRefused" => RefusalKind::AccessRefused,
        "NotFound" => RefusalKind::NotFound,
        "ResourceLocked" => RefusalKind::ResourceLocked,
        "PreconditionFailed" => RefusalKind::PreconditionFailed,
        "NotAllowed" => RefusalKind::NotAllowed,
        "CommandInvalid" => RefusalKind::CommandInvalid,
        "NotImplemented" => RefusalKind::NotImplemented,
        "ResourceError" => RefusalKind::ResourceError,
        "InternalError" => RefusalKind::InternalError,
        other => panic!("no refusal {other}"),
    }
}

/// `"exchange" "key" "body"`, persistent and without other properties.
fn message(words: &mut Words<'_>) -> Message {
    let (exchange, key, body) = (words.text(), words.text(), words.text());
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent: true,
        priority: 0,
        ttl_ms: None,
        received_at: Wall(0),
        has_headers: false,
        producer: 0,
    };
    let header = [0x10, 0, 2];
    let mut draft = MessageArena::new().draft(&exchange, &key, &header, body.len());
    draft.push(&body);
    draft.finish(envelope)
}

/// `"exchange" "key" bytes`: the same with a large body.
fn large_message(words: &mut Words<'_>) -> Message {
    let (exchange, key) = (words.text(), words.text());
    let message = message(&mut Words(&format!("{:?} {:?} \"\"", text(&exchange), text(&key))));
    message.with_large_body(Arc::new(LargeBody::new(1, words.number(), Box::new(()))))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn gets_reply(request: &Request) -> bool {
    !matches!(
        request,
        Request::Publish(_)
            | Request::Settle(_)
            | Request::BeginBody { .. }
            | Request::AppendBody { .. }
            | Request::PublishLarge(_)
    )
}

fn yes(request: &Request) -> Event {
    let channel = channel_of(request);
    match request {
        Request::Authenticate(_) => Event::Authenticated,
        Request::OpenVhost(_) => Event::VhostOpened,
        Request::OpenChannel(_) => Event::ChannelOpened(channel),
        Request::CloseChannel(_) => Event::ChannelClosed(channel),
        Request::DeclareExchange(..) => Event::ExchangeDeclared(channel),
        Request::DeleteExchange { .. } => Event::ExchangeDeleted(channel),
        Request::Bind(..) => Event::Bound(channel),
        Request::Unbind(..) => Event::Unbound(channel),
        Request::DeclareQueue(_, d) => Event::QueueDeclared {
            channel,
            queue: d.generated.clone().unwrap_or_else(|| d.queue.clone()),
            messages: 5,
            consumers: 2,
        },
        Request::DeleteQueue { .. } => Event::QueueDeleted { channel, messages: 3 },
        Request::PurgeQueue { .. } => Event::QueuePurged { channel, messages: 4 },
        Request::Qos { .. } => Event::QosSet(channel),
        Request::Consume(_, c) => Event::Consuming { channel, consumer: c.consumer },
        Request::Cancel { consumer, .. } => Event::Cancelled { channel, consumer: *consumer },
        Request::Get { .. } => Event::GetEmpty(channel),
        Request::Recover(_) => Event::Recovered(channel),
        Request::Tx(..) => Event::TxDone(channel),
        Request::Publish(_)
        | Request::Settle(_)
        | Request::BeginBody { .. }
        | Request::AppendBody { .. }
        | Request::PublishLarge(_) => unreachable!("these get no reply"),
    }
}

fn channel_of(request: &Request) -> ChannelId {
    match request {
        Request::Authenticate(_) | Request::OpenVhost(_) => ChannelId::CONNECTION,
        Request::OpenChannel(channel)
        | Request::CloseChannel(channel)
        | Request::DeclareExchange(channel, _)
        | Request::Bind(channel, _)
        | Request::Unbind(channel, _)
        | Request::DeclareQueue(channel, _)
        | Request::Consume(channel, _)
        | Request::Recover(channel)
        | Request::Tx(channel, _)
        | Request::DeleteExchange { channel, .. }
        | Request::DeleteQueue { channel, .. }
        | Request::PurgeQueue { channel, .. }
        | Request::Qos { channel, .. }
        | Request::Cancel { channel, .. }
        | Request::Get { channel, .. } => *channel,
        Request::BeginBody { channel, .. } | Request::AppendBody { channel, .. } => *channel,
        Request::PublishLarge(publish) => publish.channel,
        Request::Publish(publish) => publish.channel,
        Request::Settle(settle) => settle.channel,
    }
}

fn describe(request: &Request) -> String {
    match request {
        Request::Authenticate(login) => {
            format!("Authenticate {} {}", login.user, login.password.reveal())
        }
        Request::BeginBody { channel, len } => format!("{channel} BeginBody {len} bytes"),
        Request::AppendBody { channel, part } => format!("{channel} AppendBody {:?}", text(part)),
        Request::PublishLarge(p) => format!("{} PublishLarge {:?}", p.channel, text(p.message.routing_key())),
        Request::Publish(p) => {
            let m = &p.message;
            let mut line = format!(
                "{} Publish {:?} {:?} {} bytes",
                p.channel,
                text(m.exchange()),
                text(m.routing_key()),
                m.body_len()
            );
            let e = &m.envelope;
            let mut more = |shown: bool, text: String| {
                if shown {
                    line.push(' ');
                    line.push_str(&text);
                }
            };
            more(e.persistent, "persistent".into());
            more(e.priority != 0, format!("priority={}", e.priority));
            more(e.ttl_ms.is_some(), format!("ttl_ms={}", e.ttl_ms.unwrap_or(0)));
            more(e.has_headers, "headers".into());
            more(p.mandatory, "mandatory".into());
            more(p.confirm.is_some(), format!("confirm={}", p.confirm.map_or(0, |s| s.0)));
            let keys: Vec<String> = p.extra_keys.iter().map(|k: &Bytes| text(k)).collect();
            more(!keys.is_empty(), format!("keys={keys:?}"));
            more(p.user_id.is_some(), format!("user={}", text(p.user_id.as_deref().unwrap_or(b""))));
            line
        }
        Request::Settle(Settle { channel, settlement, receipts }) => {
            let seqs: Vec<u64> = receipts.iter().map(|r| r.seq.0).collect();
            format!("{channel} {settlement:?} {seqs:?}")
        }
        Request::Bind(channel, b) | Request::Unbind(channel, b) => {
            let what = if matches!(request, Request::Bind(..)) { "Bind" } else { "Unbind" };
            let to = match &b.destination {
                Destination::Queue(q) => format!("queue {q:?}"),
                Destination::Exchange(e) => format!("exchange {e:?}"),
            };
            let arguments = b.arguments.0.len();
            format!("{channel} {what} {:?} {:?} {to} {arguments} arguments", b.source, b.routing_key)
        }
        Request::DeclareExchange(channel, d) => format!("{channel} {d:?}"),
        Request::DeclareQueue(channel, d) => format!("{channel} {d:?}"),
        Request::Consume(channel, c) => format!("{channel} {c:?}"),
        other => format!("{other:?}"),
    }
}
