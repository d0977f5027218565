//! Messages that tell their number and whether all of them came back.

use crate::model::Tag;
use crate::turns::{KEYS, PRODUCERS};
use bytes::Bytes;
use model::{Envelope, Message, Origin, Wall};

/// Bytes in front of the body: the number as its exchange, a key, a header.
const HEAD_BYTES: usize = 12;

/// What only the message of this number begins with.
pub(crate) fn head_of(tag: Tag) -> [u8; HEAD_BYTES] {
    let mut head = [tag as u8; HEAD_BYTES];
    head[..8].copy_from_slice(&tag.to_le_bytes());
    head[8] = KEYS[tag as usize / 3 % KEYS.len()];
    head
}

/// A message that tells its number and is full of it.
pub(crate) fn message_of(tag: Tag, size: usize, persistent: bool, priority: u8, ttl_ms: Option<u64>) -> Message {
    let mut bytes = head_of(tag).to_vec();
    bytes.extend((0..size).map(|i| (tag as usize + i * 7) as u8));
    let envelope = Envelope {
        origin: Origin::Amqp091,
        persistent,
        priority,
        ttl_ms,
        received_at: Wall(1_700_000_000_000 + tag % 50),
        has_headers: tag.is_multiple_of(2),
        producer: PRODUCERS[tag as usize % PRODUCERS.len()],
    };
    Message::from_parts(envelope, 8, 1, 3, Bytes::from(bytes)).expect("a head at least")
}

/// The large body of a message.
pub(crate) fn body_of(tag: Tag, size: usize) -> Vec<u8> {
    (0..size).map(|i| (tag as usize + i * 7 + i / 256) as u8).collect()
}

pub(crate) fn tag_of(message: &Message) -> Tag {
    let bytes: [u8; 8] = message.bytes()[..8].try_into().expect("eight bytes");
    Tag::from_le_bytes(bytes)
}

/// The number of a message that came back, if all of it is as it was; a large body is looked at by `bodies`.
pub(crate) fn checked_tag(message: &Message) -> Result<Tag, String> {
    if message.bytes().len() < HEAD_BYTES {
        return Err("a message came back too short".to_owned());
    }
    let tag = tag_of(message);
    let envelope = message.envelope;
    let size = message.bytes().len() - HEAD_BYTES;
    let mut expected = message_of(tag, size, envelope.persistent, envelope.priority, envelope.ttl_ms);
    if envelope.producer == 0 {
        // It was read from the disk, where it is not kept.
        expected.envelope.producer = 0;
    }
    if let Some(body) = message.large_body() {
        expected = expected.with_large_body(body.clone());
    }
    if *message != expected {
        return Err(format!("message {tag} came back changed"));
    }
    Ok(tag)
}
