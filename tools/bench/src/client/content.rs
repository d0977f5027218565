//! The messages of a run: how they are rendered, and what a body must look like when it comes back.
//!
//! Body: sequence number (8 octets), run number (8 octets), then a filler that is the same in every message.

use super::lane::{Destination, QUEUE_DIGITS};
use super::wire::{CHANNEL, FrameKind, Output, method};

/// Smallest body: sequence and run number.
pub(crate) const BODY_SIZE_MIN: usize = 16;
/// Every how many messages the whole body is compared, not only its first 16 octets; keeps the check cheap.
const FULL_COMPARE_EVERY: u64 = 64;
const CLASS_BASIC: u16 = 60;
/// delivery-mode is the fourth property of class basic (bits count from the top).
const FLAG_DELIVERY_MODE: u16 = 1 << 12;
const DELIVERY_MODE_PERSISTENT: u8 = 2;

/// What all messages of one run have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    body: Vec<u8>,
    persistent: bool,
}

/// A body is not one this run has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignBody;

impl Content {
    /// Messages of `body_size` octets (at least 16) that belong to `run`.
    pub(crate) fn new(run: u64, body_size: usize, persistent: bool) -> Self {
        assert!(body_size >= BODY_SIZE_MIN, "a body holds at least its two numbers");
        let mut body = vec![0; 8];
        body.extend_from_slice(&run.to_be_bytes());
        body.extend((BODY_SIZE_MIN..body_size).map(|at| (at * 31 % 251) as u8));
        Self { body, persistent }
    }

    /// Octets of each body.
    pub(crate) fn body_size(&self) -> usize {
        self.body.len()
    }

    /// The sequence number of a delivered body, if it is one of this run's.
    #[inline]
    pub(crate) fn sequence_of(&self, body: &[u8]) -> Result<u64, ForeignBody> {
        if body.len() != self.body.len() || body[8..16] != self.body[8..16] {
            return Err(ForeignBody);
        }
        let mut number = [0; 8];
        number.copy_from_slice(&body[..8]);
        let sequence = u64::from_be_bytes(number);
        if sequence.is_multiple_of(FULL_COMPARE_EVERY) && body[16..] != self.body[16..] {
            return Err(ForeignBody);
        }
        Ok(sequence)
    }
}

/// Publish frames of `capacity` messages, rendered once; sending only patches what differs: the sequence number, and the
/// queue's number if there are many.
pub(crate) struct Rendered {
    bytes: Vec<u8>,
    message_size: usize,
    sequence_at: usize,
    /// Where the queue's digits are, and how many queues there are.
    queues: Option<(usize, u64)>,
    capacity: usize,
}

impl Rendered {
    /// Renders as many messages to `destination` as fit in `size` octets, at least one.
    pub(crate) fn new(content: &Content, destination: &Destination, size: usize) -> Self {
        let (exchange, key) = match destination {
            Destination::Queues(queues) => ("", queues.name(0)),
            Destination::Exchange(exchange) => (exchange.as_str(), String::new()),
        };
        let mut one = Output::default();
        let mut key_end = 0;
        one.method(CHANNEL, method::BASIC_PUBLISH, |out| {
            out.short(0).short_string(exchange).short_string(&key);
            key_end = out.0.len();
            out.octet(0);
        });
        one.frame(FrameKind::Header, CHANNEL, |out| {
            out.short(CLASS_BASIC).short(0).long_long(content.body.len() as u64);
            if content.persistent {
                out.short(FLAG_DELIVERY_MODE).octet(DELIVERY_MODE_PERSISTENT);
            } else {
                out.short(0);
            }
        });
        one.frame(FrameKind::Body, CHANNEL, |out| out.0.extend_from_slice(&content.body));
        let queues = match destination {
            Destination::Queues(queues) if queues.count() > 1 => Some((key_end - QUEUE_DIGITS, queues.count())),
            _ => None,
        };
        let message_size = one.0.len();
        let sequence_at = message_size - 1 - content.body.len();
        let capacity = (size / message_size).max(1);
        Self { bytes: one.0.repeat(capacity), message_size, sequence_at, queues, capacity }
    }

    /// Messages that fit in one [`Rendered::patch`].
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The octets of `count` messages (at most the capacity) numbered from `first`.
    #[inline]
    pub(crate) fn patch(&mut self, first: u64, count: usize) -> &[u8] {
        let used = &mut self.bytes[..count * self.message_size];
        for (message, sequence) in used.chunks_exact_mut(self.message_size).zip(first..) {
            message[self.sequence_at..self.sequence_at + 8].copy_from_slice(&sequence.to_be_bytes());
            if let Some((digits_at, queues)) = self.queues {
                write_digits(&mut message[digits_at..digits_at + QUEUE_DIGITS], sequence % queues);
            }
        }
        used
    }
}

/// Writes `number` in decimal, with zeros in front.
fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::lane::Queues;
    use crate::client::wire::{Fields, split_frame};

    #[test]
    fn rendered_messages_come_back_with_their_numbers() {
        let content = Content::new(99, 40, true);
        let destination = Destination::Queues(Queues::new("q", 1));
        let mut rendered = Rendered::new(&content, &destination, 600);
        assert!(rendered.capacity() > 3);
        let mut bytes = rendered.patch(70, 3).to_vec();
        for sequence in 70..73 {
            let (publish, size) = split_frame(&bytes, 4096).unwrap().unwrap();
            let mut fields = Fields(publish.payload);
            assert_eq!(fields.method(), Ok(method::BASIC_PUBLISH));
            assert_eq!(fields.short(), Ok(0));
            assert_eq!(fields.short_string(), Ok(&b""[..]));
            assert_eq!(fields.short_string(), Ok(&b"q-000000"[..]));
            bytes.drain(..size);
            let (header, size) = split_frame(&bytes, 4096).unwrap().unwrap();
            assert_eq!(header.payload[12..], [0x10, 0, 2], "delivery-mode 2 and nothing else");
            bytes.drain(..size);
            let (body, size) = split_frame(&bytes, 4096).unwrap().unwrap();
            assert_eq!(content.sequence_of(body.payload), Ok(sequence));
            bytes.drain(..size);
        }
        assert!(bytes.is_empty());
    }

    /// Exchange and routing key of the first `count` messages from `first` on.
    fn routes(destination: &Destination, first: u64, count: usize) -> Vec<(String, String)> {
        let mut rendered = Rendered::new(&Content::new(1, 16, false), destination, 4096);
        let size = rendered.message_size;
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let route = |message: &[u8]| {
            let mut fields = Fields(&split_frame(message, 4096).unwrap().unwrap().0.payload[6..]);
            (text(fields.short_string().unwrap()), text(fields.short_string().unwrap()))
        };
        rendered.patch(first, count).chunks(size).map(route).collect()
    }

    #[test]
    fn messages_are_routed_to_the_queues_in_turn_or_to_the_exchange() {
        let queue = |name: &str| (String::new(), name.to_owned());
        let queues = Destination::Queues(Queues::new("q", 12));
        assert_eq!(routes(&queues, 22, 3), [queue("q-000010"), queue("q-000011"), queue("q-000000")]);
        let exchange = Destination::Exchange("x".to_owned());
        assert_eq!(routes(&exchange, 0, 2), [("x".to_owned(), String::new()), ("x".to_owned(), String::new())]);
    }

    #[test]
    fn foreign_and_damaged_bodies_are_noticed() {
        let content = Content::new(1, 64, false);
        let mut body = content.body.clone();
        assert_eq!(content.sequence_of(&body), Ok(0));
        assert_eq!(content.sequence_of(&body[..63]), Err(ForeignBody));
        assert_eq!(Content::new(2, 64, false).sequence_of(&body), Err(ForeignBody));
        body[63] ^= 1;
        assert_eq!(content.sequence_of(&body), Err(ForeignBody));
    }
}
