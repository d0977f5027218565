//! From `basic.publish`, content header and body frames to one message (§4.2.6).
//!
//! The names wait in a small buffer of the channel until the header tells how large the message is; then all of it is
//! written once, into the connection's arena. A body that is too large for that is handed on as it comes, and its message
//! follows when all of it has come.

use super::step::{Reply, Step, Then};
use crate::error::{Code, Violation};
use crate::wire::MethodId;
use crate::wire::frame::{BODY, Frame, HEADER};
use crate::wire::properties::{self, Scan};
use crate::wire::reader::{Malformed, Reader};
use crate::wire::table;
use bytes::Bytes;
use model::limits::{AMQP_ANNOUNCED_BYTES_MAX, AMQP_PIECE_BYTES, TTL_MS_MAX};
use model::{ChannelId, Envelope, Message, MessageArena, MessageDraft, Origin, PublishSeq, Wall};
use protocol::{Publish, Request};
use std::collections::VecDeque;

/// The content a channel is receiving.
#[derive(Debug, Default)]
pub(super) struct Content {
    part: Part,
    /// Exchange and routing key, back to back, until the header comes. Its memory is kept.
    names: Vec<u8>,
    exchange_len: usize,
    mandatory: bool,
}

#[derive(Debug, Default)]
enum Part {
    /// A method comes next.
    #[default]
    Method,
    /// `basic.publish` was read; the header comes next.
    Header,
    /// The body comes next.
    Body(Box<Pending>),
    /// The body comes next, of a message like almost all.
    PlainBody(MessageDraft, Envelope, usize),
}

/// A body that is too large for memory, and goes on to the broker in parts.
#[derive(Debug)]
struct Large {
    /// What has come and was not handed on.
    part: Vec<u8>,
    /// Bytes still to come.
    missing: usize,
}

/// A message with something unusual, waiting for its body.
#[derive(Debug)]
struct Pending {
    draft: MessageDraft,
    envelope: Envelope,
    body_len: usize,
    extra_keys: Vec<Bytes>,
    user_id: Option<Bytes>,
    /// Then the draft has no body.
    large: Option<Large>,
}

/// What the connection lends for a content.
pub(super) struct Lent<'a> {
    pub(super) arena: &'a mut MessageArena,
    /// Bytes announced and not yet complete, on all channels.
    pub(super) announced: &'a mut usize,
    pub(super) message_bytes_max: usize,
    pub(super) large_body_bytes_min: usize,
    pub(super) now: Wall,
    /// Where the publish goes.
    pub(super) steps: &'a mut VecDeque<Step>,
}

impl Content {
    /// Whether a method may come.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.part, Part::Method)
    }

    /// Takes in `basic.publish`.
    pub(super) fn start(&mut self, exchange: &[u8], routing_key: &[u8], mandatory: bool) {
        self.names.clear();
        self.names.extend_from_slice(exchange);
        self.names.extend_from_slice(routing_key);
        self.exchange_len = exchange.len();
        self.mandatory = mandatory;
        self.part = Part::Header;
    }

    /// Drops what has come so far and returns how many bytes were announced for it.
    pub(super) fn abandon(&mut self) -> usize {
        match std::mem::take(&mut self.part) {
            Part::Method | Part::Header => 0,
            Part::Body(pending) => pending.body_len,
            Part::PlainBody(_, _, body_len) => body_len,
        }
    }

    /// The error of a method frame while a content is not complete; in RabbitMQ's words.
    pub(super) fn method_instead(&self) -> Violation {
        unexpected(match self.part {
            Part::Method | Part::Header => "expected content header for class 60, got non content header frame instead",
            Part::Body(_) | Part::PlainBody(..) => "expected content body, got non content body frame instead",
        })
    }

    /// Takes in a header or body frame; what that completes is asked of the broker, by the next number of `confirms`.
    pub(super) fn frame(
        &mut self,
        channel: ChannelId,
        confirms: &mut Option<PublishSeq>,
        frame: &Frame<'_>,
        lent: &mut Lent<'_>,
    ) -> Result<(), Violation> {
        match (frame.kind, &self.part) {
            (_, Part::Method) => Err(Violation::new(
                Code::UnexpectedFrame,
                MethodId::NONE,
                "expected method frame, got non method frame instead",
            )),
            (HEADER, Part::Header) => {
                self.header(channel, frame.payload, lent)?;
                self.complete(channel, confirms, lent);
                Ok(())
            }
            (BODY, Part::Body(_) | Part::PlainBody(..)) => {
                self.body(channel, frame.payload, lent)?;
                self.complete(channel, confirms, lent);
                Ok(())
            }
            _ => Err(self.method_instead()),
        }
    }

    fn header(&mut self, channel: ChannelId, payload: &[u8], lent: &mut Lent<'_>) -> Result<(), Violation> {
        let malformed = |why| Violation::malformed(MethodId::BASIC_PUBLISH, why);
        let mut reader = Reader::new(payload);
        let (class, body_len) = head(&mut reader).map_err(malformed)?;
        if class != 60 {
            return Err(Violation::new(
                Code::UnexpectedFrame,
                MethodId::BASIC_PUBLISH,
                format!("expected content header for class 60, got one for class {class} instead"),
            ));
        }
        let header = reader.take(reader.remaining()).map_err(malformed)?;
        let scan = properties::scan(header).map_err(malformed)?;
        let body_len = Self::body_len(body_len, lent.message_bytes_max)?;
        let envelope = Envelope {
            origin: Origin::Amqp091,
            persistent: scan.persistent,
            priority: scan.priority,
            ttl_ms: scan.expiration.map(ttl_ms).transpose()?,
            received_at: lent.now,
            has_headers: scan.headers.is_some(),
            producer: 0,
        };
        let (exchange, routing_key) = self.names.split_at(self.exchange_len);
        let large = body_len >= lent.large_body_bytes_min || body_len + *lent.announced > AMQP_ANNOUNCED_BYTES_MAX;
        let missing = if large { body_len } else { 0 };
        let body_len = body_len - missing;
        *lent.announced += body_len;
        if !large && scan.cc.is_none() && scan.bcc.is_none() && scan.user_id.is_none() {
            let draft = lent.arena.draft(exchange, routing_key, header, body_len);
            self.part = Part::PlainBody(draft, envelope, body_len);
            return Ok(());
        }
        let extra_keys = extra_keys(&scan).inspect_err(|_| *lent.announced -= body_len)?;
        let stripped = without_bcc(header, &scan);
        let header = stripped.as_deref().unwrap_or(header);
        self.part = Part::Body(Box::new(Pending {
            draft: lent.arena.draft(exchange, routing_key, header, body_len),
            envelope,
            body_len,
            extra_keys,
            user_id: scan.user_id.map(Bytes::copy_from_slice),
            large: large.then(|| Large { part: Vec::new(), missing }),
        }));
        if large {
            ask(lent.steps, channel, Request::BeginBody { channel, len: missing as u64 });
        }
        Ok(())
    }

    fn body_len(announced: u64, max: usize) -> Result<usize, Violation> {
        usize::try_from(announced).ok().filter(|len| *len <= max).ok_or_else(|| {
            Violation::new(
                Code::PreconditionFailed,
                MethodId::BASIC_PUBLISH,
                format!("message size {announced} is larger than configured max size {max}"),
            )
        })
    }

    fn body(&mut self, channel: ChannelId, payload: &[u8], lent: &mut Lent<'_>) -> Result<(), Violation> {
        let draft = match &mut self.part {
            Part::PlainBody(draft, ..) => draft,
            Part::Body(pending) => match &mut pending.large {
                None => &mut pending.draft,
                Some(large) => return large.take(channel, payload, lent.steps),
            },
            Part::Method | Part::Header => return Ok(()),
        };
        if draft.push(payload) == payload.len() {
            Ok(())
        } else {
            Err(unexpected("content body is longer than its header said"))
        }
    }

    /// Asks the broker to route the message once no byte is missing.
    fn complete(&mut self, channel: ChannelId, confirms: &mut Option<PublishSeq>, lent: &mut Lent<'_>) {
        let (missing, body_len) = match &self.part {
            Part::PlainBody(draft, _, body_len) => (draft.missing(), *body_len),
            Part::Body(pending) => {
                let missing = pending.large.as_ref().map_or(pending.draft.missing(), |large| large.missing);
                (missing, pending.body_len)
            }
            Part::Method | Part::Header => return,
        };
        if missing > 0 {
            return;
        }
        *lent.announced -= body_len;
        let confirm = confirms.as_mut().map(|last| {
            *last = PublishSeq(last.0 + 1);
            *last
        });
        let mandatory = self.mandatory;
        // Built where it stays: a request is large, and moving it about is most of what a small publish costs.
        let mut ask = |message: Message, extra_keys, user_id| {
            let publish = Publish { channel, message, extra_keys, mandatory, confirm, user_id };
            let reply = Reply { channel, method: MethodId::BASIC_PUBLISH, then: Then::NoReply };
            lent.steps.push_back(Step::Ask(Request::Publish(publish), reply));
        };
        match std::mem::take(&mut self.part) {
            Part::PlainBody(draft, envelope, _) => ask(draft.finish(envelope), Vec::new(), None),
            Part::Body(p) if p.large.is_none() => ask(p.draft.finish(p.envelope), p.extra_keys, p.user_id),
            Part::Body(p) => {
                let Pending { draft, envelope, extra_keys, user_id, .. } = *p;
                let message = draft.finish(envelope);
                let publish = Publish { channel, message, extra_keys, mandatory, confirm, user_id };
                self::ask(lent.steps, channel, Request::PublishLarge(Box::new(publish)));
            }
            Part::Method | Part::Header => {}
        }
    }
}

impl Large {
    /// Takes in a body frame, and hands on what is enough for a part.
    fn take(&mut self, channel: ChannelId, payload: &[u8], steps: &mut VecDeque<Step>) -> Result<(), Violation> {
        if payload.len() > self.missing {
            return Err(unexpected("content body is longer than its header said"));
        }
        self.missing -= payload.len();
        self.part.extend_from_slice(payload);
        if self.part.len() >= AMQP_PIECE_BYTES || (self.missing == 0 && !self.part.is_empty()) {
            let part = Bytes::from(std::mem::take(&mut self.part));
            ask(steps, channel, Request::AppendBody { channel, part });
        }
        Ok(())
    }
}

/// Asks the broker for something that belongs to a large body.
fn ask(steps: &mut VecDeque<Step>, channel: ChannelId, request: Request) {
    let reply = Reply { channel, method: MethodId::BASIC_PUBLISH, then: Then::NoReply };
    steps.push_back(Step::Ask(request, reply));
}

/// Class and body size. The weight between them has no meaning (§4.2.6.1).
fn head(reader: &mut Reader<'_>) -> Result<(u16, u64), Malformed> {
    let class = reader.u16()?;
    reader.u16()?;
    Ok((class, reader.u64()?))
}

fn unexpected(text: &'static str) -> Violation {
    Violation::new(Code::UnexpectedFrame, MethodId::BASIC_PUBLISH, text)
}

/// Milliseconds of an `expiration`; errors as RabbitMQ prints them.
fn ttl_ms(expiration: &[u8]) -> Result<u64, Violation> {
    let text = String::from_utf8_lossy(expiration);
    let digits_at = usize::from(text.starts_with(['-', '+']));
    let digits = text[digits_at..].bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits_at + digits);
    let why = if digits == 0 {
        "no_integer".into()
    } else if !rest.is_empty() {
        format!("{{leftover_string,\"{rest}\"}}")
    } else {
        match number.trim_start_matches('+').parse::<u64>() {
            Ok(ttl_ms) if ttl_ms <= TTL_MS_MAX => return Ok(ttl_ms),
            Err(_) if number.starts_with('-') => format!("{{value_negative,{number}}}"),
            _ => format!("{{value_too_large,{number}}}"),
        }
    };
    Err(Violation::new(
        Code::PreconditionFailed,
        MethodId::BASIC_PUBLISH,
        format!("invalid expiration '{text}': {why}"),
    ))
}

/// The keys of `CC` and `BCC`.
fn extra_keys(scan: &Scan<'_>) -> Result<Vec<Bytes>, Violation> {
    let mut keys = Vec::new();
    for field in [scan.cc, scan.bcc].into_iter().flatten() {
        if field.letter != b'A' {
            let name = String::from_utf8_lossy(field.name);
            let kind = table::type_name(field.letter);
            return Err(Violation::new(
                Code::PreconditionFailed,
                MethodId::BASIC_PUBLISH,
                format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}"),
            ));
        }
        keys.extend(table::texts(field.content).map(Bytes::copy_from_slice));
    }
    Ok(keys)
}

/// The header without `BCC`, however often it is there; `None` if it is not.
fn without_bcc(header: &[u8], scan: &Scan<'_>) -> Option<Vec<u8>> {
    let mut stripped = properties::without_field(header, scan.headers?, scan.bcc?);
    loop {
        let next = match properties::scan(&stripped) {
            Ok(Scan { headers: Some(headers), bcc: Some(bcc), .. }) => {
                properties::without_field(&stripped, headers, bcc)
            }
            _ => return Some(stripped),
        };
        stripped = next;
    }
}
