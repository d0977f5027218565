//! The methods a server sends, written straight behind what is outgoing.

use super::frame::{BODY, END, HEADER, HEARTBEAT, METHOD, OVERHEAD};
use super::{MethodId, table};
use bytes::Bytes;
use model::limits::NAME_BYTES_MAX;
use model::{Message, Table, Value};
use protocol::Outgoing;

/// Writes a method frame whose arguments `arguments` writes.
pub(crate) fn method(out: &mut Outgoing, channel: u16, id: MethodId, arguments: impl FnOnce(&mut Vec<u8>)) {
    let buffer = out.buffer();
    buffer.push(METHOD);
    buffer.extend_from_slice(&channel.to_be_bytes());
    table::with_length(buffer, |buffer| {
        buffer.extend_from_slice(&id.0.to_be_bytes());
        buffer.extend_from_slice(&id.1.to_be_bytes());
        arguments(buffer);
    });
    buffer.push(END);
}

/// A method without arguments.
pub(crate) fn bare(out: &mut Outgoing, channel: u16, id: MethodId) {
    method(out, channel, id, |_| {});
}

/// `connection.start`
pub(crate) fn start(out: &mut Outgoing, properties: &Table, mechanisms: &str) {
    method(out, 0, MethodId(10, 10), |b| {
        b.extend_from_slice(&[0, 9]);
        table::encode(properties, b);
        for text in [mechanisms, "en_US"] {
            table::with_length(b, |b| b.extend_from_slice(text.as_bytes()));
        }
    });
}

/// `connection.tune`
pub(crate) fn tune(out: &mut Outgoing, channels_max: u16, frame_size_max: u32, heartbeat: u16) {
    method(out, 0, MethodId(10, 30), |b| {
        b.extend_from_slice(&channels_max.to_be_bytes());
        b.extend_from_slice(&frame_size_max.to_be_bytes());
        b.extend_from_slice(&heartbeat.to_be_bytes());
    });
}

/// `connection.close` on channel 0, `channel.close` on any other.
pub(crate) fn close(out: &mut Outgoing, channel: u16, code: u16, text: &str, failing: MethodId) {
    let id = if channel == 0 { MethodId(10, 50) } else { MethodId(20, 40) };
    method(out, channel, id, |b| {
        b.extend_from_slice(&code.to_be_bytes());
        table::encode_short(text, b);
        b.extend_from_slice(&failing.0.to_be_bytes());
        b.extend_from_slice(&failing.1.to_be_bytes());
    });
}

/// A method whose only argument is a short string: `connection.blocked`, `basic.consume-ok`, `basic.cancel-ok`.
pub(crate) fn with_short(out: &mut Outgoing, channel: u16, id: MethodId, text: &str) {
    method(out, channel, id, |b| table::encode_short(text, b));
}

/// `queue.declare-ok`
pub(crate) fn queue_declared(out: &mut Outgoing, channel: u16, queue: &str, messages: u64, consumers: u32) {
    method(out, channel, MethodId(50, 11), |b| {
        table::encode_short(queue, b);
        b.extend_from_slice(&count(messages).to_be_bytes());
        b.extend_from_slice(&consumers.to_be_bytes());
    });
}

/// A method whose only argument is a count: `queue.purge-ok`, `queue.delete-ok`.
pub(crate) fn with_count(out: &mut Outgoing, channel: u16, id: MethodId, messages: u64) {
    method(out, channel, id, |b| {
        b.extend_from_slice(&count(messages).to_be_bytes());
    });
}

/// Counts of messages have 32 bits in AMQP; larger ones stop there.
fn count(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}

/// `basic.ack`
pub(crate) fn ack(out: &mut Outgoing, channel: u16, tag: u64, multiple: bool) {
    settle(out, channel, 80, tag, multiple);
}

/// `basic.nack`
pub(crate) fn nack(out: &mut Outgoing, channel: u16, tag: u64, multiple: bool) {
    settle(out, channel, 120, tag, multiple);
}

/// Both have the same shape: a tag and bits of which the first is `multiple`.
fn settle(out: &mut Outgoing, channel: u16, method: u8, tag: u64, multiple: bool) {
    let mut frame = [0; 21];
    frame[0] = METHOD;
    frame[1..3].copy_from_slice(&channel.to_be_bytes());
    frame[6] = 13;
    frame[8] = 60;
    frame[10] = method;
    frame[11..19].copy_from_slice(&tag.to_be_bytes());
    frame[19] = u8::from(multiple);
    frame[20] = END;
    out.buffer().extend_from_slice(&frame);
}

/// A heartbeat.
pub(crate) fn heartbeat(out: &mut Outgoing) {
    out.buffer().extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, END]);
}

/// `basic.cancel` from the server: the consumer is no more.
pub(crate) fn cancel(out: &mut Outgoing, channel: u16, consumer_tag: &str) {
    method(out, channel, MethodId(60, 30), |b| {
        table::encode_short(consumer_tag, b);
        b.push(1);
    });
}

/// The method in front of a content.
pub(crate) enum ContentMethod<'a> {
    /// `basic.deliver`
    Deliver { consumer_tag: &'a str, tag: u64, redelivered: bool },
    /// `basic.get-ok`
    GetOk { tag: u64, redelivered: bool, remaining: u64 },
    /// `basic.return` of a message that reached no queue.
    Return,
}

const NO_ROUTE: &str = "NO_ROUTE";

impl ContentMethod<'_> {
    fn id(&self) -> u16 {
        match self {
            Self::Deliver { .. } => 60,
            Self::GetOk { .. } => 71,
            Self::Return => 50,
        }
    }

    /// Bytes of the arguments besides exchange and routing key.
    fn arguments_len(&self) -> usize {
        match self {
            Self::Deliver { consumer_tag, .. } => 1 + consumer_tag.len() + 9,
            Self::GetOk { .. } => 9 + 4,
            Self::Return => 2 + 1 + NO_ROUTE.len(),
        }
    }
}

/// Writes a method with the content of `message`, in frames of at most `frame_size_max` bytes. A large body is left to
/// [`body`].
///
/// All lengths are known, so each is written once and in order: this is the path of every delivery.
pub(crate) fn content(
    out: &mut Outgoing,
    channel: u16,
    method: &ContentMethod<'_>,
    message: &Message,
    frame_size_max: u32,
) {
    let channel = channel.to_be_bytes();
    let (exchange, routing_key) = (message.exchange(), message.routing_key());
    let (header, body) = (message.header(), message.body());
    let method_len = 4 + method.arguments_len() + 1 + exchange.len() + 1 + routing_key.len();
    let header_len = 12 + header.len();
    let b = out.buffer();
    b.reserve(method_len + header_len + 3 * OVERHEAD + body.len().min(4096));

    frame_start(b, METHOD, channel, method_len);
    b.extend_from_slice(&[0, 60]);
    b.extend_from_slice(&method.id().to_be_bytes());
    match *method {
        ContentMethod::Deliver { consumer_tag, tag, redelivered } => {
            short(b, consumer_tag.as_bytes());
            b.extend_from_slice(&tag.to_be_bytes());
            b.push(u8::from(redelivered));
        }
        ContentMethod::GetOk { tag, redelivered, .. } => {
            b.extend_from_slice(&tag.to_be_bytes());
            b.push(u8::from(redelivered));
        }
        ContentMethod::Return => {
            b.extend_from_slice(&312u16.to_be_bytes());
            short(b, NO_ROUTE.as_bytes());
        }
    }
    short(b, exchange);
    short(b, routing_key);
    if let ContentMethod::GetOk { remaining, .. } = method {
        b.extend_from_slice(&count(*remaining).to_be_bytes());
    }
    b.push(END);

    frame_start(b, HEADER, channel, header_len);
    b.extend_from_slice(&[0, 60, 0, 0]);
    b.extend_from_slice(&(message.body_len() as u64).to_be_bytes());
    b.extend_from_slice(header);
    b.push(END);

    let part_max = frame_size_max as usize - OVERHEAD;
    if body.len() <= part_max {
        if !body.is_empty() {
            frame_start(b, BODY, channel, body.len());
            out.put_payload(body, || message.body_shared());
            out.buffer().push(END);
        }
        return;
    }
    body_frames(out, channel, &message.body_shared(), part_max);
}

/// Writes a part of a body in frames of at most `frame_size_max` bytes.
pub(crate) fn body(out: &mut Outgoing, channel: u16, part: &Bytes, frame_size_max: u32) {
    body_frames(out, channel.to_be_bytes(), part, frame_size_max as usize - OVERHEAD);
}

fn body_frames(out: &mut Outgoing, channel: [u8; 2], shared: &Bytes, part_max: usize) {
    let mut at = 0;
    while at < shared.len() {
        let part = at..shared.len().min(at + part_max);
        at = part.end;
        frame_start(out.buffer(), BODY, channel, part.len());
        out.put_payload(&shared[part.clone()], || shared.slice(part));
        out.buffer().push(END);
    }
}

fn frame_start(b: &mut Vec<u8>, kind: u8, [c0, c1]: [u8; 2], len: usize) {
    let len = u32::try_from(len).expect("parts of a message that came in frames");
    let [s0, s1, s2, s3] = len.to_be_bytes();
    b.extend_from_slice(&[kind, c0, c1, s0, s1, s2, s3]);
}

/// A short string that is known to be one.
fn short(b: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= NAME_BYTES_MAX);
    b.push(u8::try_from(bytes.len()).expect("a short string"));
    b.extend_from_slice(bytes);
}

/// The table of `connection.start`.
pub(crate) fn server_properties(pairs: &[(&str, String)], capabilities: &[&str]) -> Table {
    let mut table = Table::new();
    let list = capabilities.iter().map(|c| ((*c).to_owned(), Value::Bool(true)));
    table.set("capabilities", Value::Table(Table(list.collect())));
    for (name, text) in pairs {
        table.set(name, Value::text(text));
    }
    table
}
