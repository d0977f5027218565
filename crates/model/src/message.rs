//! A message: the bytes of the protocol it came by, and the small envelope the broker needs.
//!
//! ```text
//! bytes   | exchange | routing key | header (native) | body |
//! lengths   u8         u8            u32               rest
//! ```
//!
//! Invariants: the four parts lie in one buffer, in this order, so a message is cloned by one reference count and
//! written by one slice. The header is opaque outside the protocol named by [`Origin`]. A body that is too large for
//! memory is not in the buffer: the engine keeps it, and the message has a [`LargeBody`] in its place.

use crate::arena::MessageArena;
use crate::large_body::LargeBody;
use crate::time::Wall;
use bytes::Bytes;
use std::sync::Arc;

/// Which protocol's encoding the header is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Origin {
    /// Property flags and property list of an AMQP 0-9-1 content header. Also what the HTTP bridge writes.
    Amqp091 = 1,
}

impl Origin {
    /// The origin stored as `code`, if known.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Amqp091),
            _ => None,
        }
    }
}

/// What the broker and the engine need to know of a message without reading its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Encoding of the header.
    pub origin: Origin,
    /// Asked to survive a restart (`delivery-mode` 2).
    pub persistent: bool,
    /// 0 to 255.
    pub priority: u8,
    /// Time to live from its publication, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// When the broker received it.
    pub received_at: Wall,
    /// The header has a headers table, so header-driven features must look at it.
    pub has_headers: bool,
    /// Who published it, as far as this process tells producers apart; 0 is nobody in particular. Not kept on the disk.
    pub producer: u32,
}

/// A published message. Cloning it copies no payload.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// What the broker needs to know of it.
    pub envelope: Envelope,
    exchange_len: u8,
    key_len: u8,
    header_len: u32,
    bytes: Bytes,
    large: Option<Arc<LargeBody>>,
}

impl Message {
    /// A message of parts that already lie in one buffer.
    ///
    /// Returns `None` if the lengths do not fit the buffer.
    #[must_use]
    pub fn from_parts(
        envelope: Envelope,
        exchange_len: u8,
        key_len: u8,
        header_len: u32,
        bytes: Bytes,
    ) -> Option<Self> {
        let head = usize::from(exchange_len) + usize::from(key_len) + usize::try_from(header_len).ok()?;
        (head <= bytes.len()).then_some(Self { envelope, exchange_len, key_len, header_len, bytes, large: None })
    }

    /// The same message, which has no body yet, with one that the engine keeps.
    #[must_use]
    pub fn with_large_body(self, body: Arc<LargeBody>) -> Self {
        debug_assert_eq!(self.bytes.len(), self.body_start(), "a message has one body");
        Self { large: Some(body), ..self }
    }

    /// A message with the same body, published to `exchange` with other properties.
    #[must_use]
    pub fn rewritten(&self, envelope: Envelope, exchange: &[u8], routing_key: &[u8], header: &[u8]) -> Self {
        let body = self.body();
        let mut draft = MessageArena::new().draft(exchange, routing_key, header, body.len());
        draft.push(body);
        Self { large: self.large.clone(), ..draft.finish(envelope) }
    }

    /// The exchange it was published to.
    #[must_use]
    pub fn exchange(&self) -> &[u8] {
        &self.bytes[..usize::from(self.exchange_len)]
    }

    /// The routing key it was published with.
    #[must_use]
    pub fn routing_key(&self) -> &[u8] {
        let start = usize::from(self.exchange_len);
        &self.bytes[start..start + usize::from(self.key_len)]
    }

    /// The header in the encoding of [`Envelope::origin`].
    #[must_use]
    pub fn header(&self) -> &[u8] {
        let start = usize::from(self.exchange_len) + usize::from(self.key_len);
        &self.bytes[start..start + self.header_len as usize]
    }

    /// The body; nothing if it is a [large one](Message::large_body).
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_start()..]
    }

    /// The body, if the engine keeps it because it is too large for memory.
    #[must_use]
    pub fn large_body(&self) -> Option<&Arc<LargeBody>> {
        self.large.as_ref()
    }

    /// The body as a slice that shares the message's buffer; nothing if it is a large one.
    #[must_use]
    pub fn body_shared(&self) -> Bytes {
        self.bytes.slice(self.body_start()..)
    }

    /// Bytes of the body, wherever it is.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match &self.large {
            None => self.bytes.len() - self.body_start(),
            Some(body) => usize::try_from(body.len()).unwrap_or(usize::MAX),
        }
    }

    /// The lengths of exchange, routing key and header, for those who store a message.
    #[must_use]
    pub fn lengths(&self) -> (u8, u8, u32) {
        (self.exchange_len, self.key_len, self.header_len)
    }

    /// All parts that are in memory in one slice, in order.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn body_start(&self) -> usize {
        usize::from(self.exchange_len) + usize::from(self.key_len) + self.header_len as usize
    }
}
