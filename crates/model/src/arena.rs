//! Where the one copy of a payload goes: large chunks that messages are carved from.
//!
//! Invariants: nothing is allocated per message while a chunk lasts. A message never shares memory with a read
//! buffer, so a small message never pins one. A chunk is freed when the last message in it is dropped.
//! A body larger than a quarter of a chunk gets a buffer of its own, so it pins nothing but itself.

use crate::message::{Envelope, Message};
use bytes::{BufMut, BytesMut};

/// Bytes of a chunk. Small enough that a writer's messages stay in the second-level cache, and that the allocator, which
/// keeps several of a size for each thread, keeps little.
const CHUNK_BYTES: usize = 64 * 1024;

/// Carves messages out of large chunks. One per connection.
#[derive(Debug, Default)]
pub struct MessageArena {
    chunk: BytesMut,
}

/// A message whose body is still arriving.
#[derive(Debug)]
pub struct MessageDraft {
    buffer: BytesMut,
    exchange_len: u8,
    key_len: u8,
    header_len: u32,
    body_len: usize,
}

impl MessageArena {
    /// An arena that owns nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a message with a body of `body_len` bytes in all. Short strings are cut at 255 bytes by their type in
    /// every protocol, so longer ones are a caller's bug.
    ///
    /// `body_len` is the caller's to bound before it gets here. Memory is taken as the body arrives, not before.
    pub fn draft(&mut self, exchange: &[u8], routing_key: &[u8], header: &[u8], body_len: usize) -> MessageDraft {
        let exchange_len = u8::try_from(exchange.len()).expect("a short string");
        let key_len = u8::try_from(routing_key.len()).expect("a short string");
        let header_len = u32::try_from(header.len()).expect("a header within the frame limit");
        let head = exchange.len() + routing_key.len() + header.len();
        let total = head + body_len;
        let mut buffer = if total > CHUNK_BYTES / 4 {
            BytesMut::with_capacity(head + body_len.min(CHUNK_BYTES))
        } else {
            if self.chunk.capacity() < total {
                self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
            }
            let rest = self.chunk.split_off(total);
            std::mem::replace(&mut self.chunk, rest)
        };
        buffer.put_slice(exchange);
        buffer.put_slice(routing_key);
        buffer.put_slice(header);
        MessageDraft { buffer, exchange_len, key_len, header_len, body_len }
    }
}

impl MessageDraft {
    /// Adds body bytes; returns how many of `bytes` belonged to the body.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.missing());
        self.buffer.extend_from_slice(&bytes[..n]);
        n
    }

    /// Body bytes still to come.
    #[must_use]
    pub fn missing(&self) -> usize {
        let head = usize::from(self.exchange_len) + usize::from(self.key_len) + self.header_len as usize;
        self.body_len - (self.buffer.len() - head)
    }

    /// The message, once no body byte is missing.
    #[must_use]
    pub fn finish(self, envelope: Envelope) -> Message {
        assert_eq!(self.missing(), 0, "finished before its body was complete");
        Message::from_parts(envelope, self.exchange_len, self.key_len, self.header_len, self.buffer.freeze())
            .expect("the lengths are those of the parts just written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Origin;
    use crate::time::Wall;

    fn envelope() -> Envelope {
        Envelope {
            origin: Origin::Amqp091,
            persistent: false,
            priority: 0,
            ttl_ms: None,
            received_at: Wall(0),
            has_headers: false,
            producer: 0,
        }
    }

    #[test]
    fn parts_come_back_as_they_went_in() {
        let mut arena = MessageArena::new();
        for body_len in [0, 1, 100, CHUNK_BYTES / 4, CHUNK_BYTES, 3 * CHUNK_BYTES] {
            let body = vec![7u8; body_len];
            let mut draft = arena.draft(b"ex", b"key", b"hdr", body_len);
            for piece in body.chunks(1000) {
                assert_eq!(draft.push(piece), piece.len());
            }
            assert_eq!(draft.push(b"next frame"), 0);
            let message = draft.finish(envelope());
            assert_eq!(message.exchange(), b"ex");
            assert_eq!(message.routing_key(), b"key");
            assert_eq!(message.header(), b"hdr");
            assert_eq!(message.body(), &body[..]);
            assert_eq!(message.body_len(), body_len);
        }
    }

    #[test]
    fn small_messages_share_a_chunk() {
        let mut arena = MessageArena::new();
        let first = arena.draft(b"", b"q", b"", 0).finish(envelope());
        let second = arena.draft(b"", b"q", b"", 0).finish(envelope());
        assert_eq!(first.bytes().as_ptr() as usize + 1, second.bytes().as_ptr() as usize);
    }
}
