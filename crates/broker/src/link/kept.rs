//! Copies of what transactional channels were handed from queues with a dead-letter exchange: a reject is then published
//! there in the commit's own record.
//!
//! Invariants: they are bounded by [`TX_KEPT_BYTES_MAX`]. What finds no room is dead-lettered by the engine's way, right
//! after the commit. They are copies, since a message handed out keeps a whole chunk of its arena.

use bytes::Bytes;
use foldhash::fast::RandomState;
use model::limits::TX_KEPT_BYTES_MAX;
use model::{ChannelId, Message, QueueId, Seq};
use protocol::Receipt;
use std::collections::HashMap;

/// Memory that one takes beside the message.
const ENTRY_BYTES: usize = 128;

/// See the module.
#[derive(Default)]
pub(super) struct Kept {
    messages: HashMap<(ChannelId, QueueId, Seq), Message, RandomState>,
    bytes: usize,
}

fn cost(message: &Message) -> usize {
    ENTRY_BYTES + message.bytes().len()
}

impl Kept {
    /// Keeps a copy, if there is room.
    pub(super) fn keep(&mut self, channel: ChannelId, queue: QueueId, seq: Seq, message: &Message) {
        let key = (channel, queue, seq);
        if self.bytes + cost(message) > TX_KEPT_BYTES_MAX || self.messages.contains_key(&key) {
            return;
        }
        let (exchange_len, key_len, header_len) = message.lengths();
        let bytes = Bytes::copy_from_slice(message.bytes());
        if let Some(copy) = Message::from_parts(message.envelope, exchange_len, key_len, header_len, bytes) {
            self.bytes += cost(&copy);
            self.messages.insert(key, copy);
        }
    }

    pub(super) fn get(&self, channel: ChannelId, receipt: &Receipt) -> Option<&Message> {
        self.messages.get(&(channel, receipt.queue, receipt.seq))
    }

    /// These are settled.
    pub(super) fn forget(&mut self, channel: ChannelId, receipts: &[Receipt]) {
        if self.messages.is_empty() {
            return;
        }
        for receipt in receipts {
            if let Some(message) = self.messages.remove(&(channel, receipt.queue, receipt.seq)) {
                self.bytes -= cost(&message);
            }
        }
    }

    /// The channel is closed.
    pub(super) fn forget_channel(&mut self, closed: ChannelId) {
        let bytes = &mut self.bytes;
        self.messages.retain(|(channel, ..), message| {
            let stays = *channel != closed;
            *bytes -= if stays { 0 } else { cost(message) };
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MessageArena;
    use model::{Envelope, Origin, Wall};

    fn message(bytes: usize) -> Message {
        let mut draft = MessageArena::new().draft(b"", b"", b"", bytes);
        draft.push(&vec![b'x'; bytes]);
        draft.finish(Envelope {
            origin: Origin::Amqp091,
            persistent: true,
            priority: 0,
            ttl_ms: None,
            received_at: Wall(0),
            has_headers: false,
            producer: 0,
        })
    }

    fn receipt(seq: u64) -> Receipt {
        Receipt { queue: QueueId(1), seq: Seq(seq), consumer: None }
    }

    #[test]
    fn they_are_bounded() {
        let (one, two) = (ChannelId(1), ChannelId(2));
        let mut kept = Kept::default();
        let half = message(TX_KEPT_BYTES_MAX / 2 - ENTRY_BYTES);
        kept.keep(one, QueueId(1), Seq(1), &half);
        kept.keep(one, QueueId(1), Seq(1), &half);
        kept.keep(two, QueueId(1), Seq(2), &half);
        assert_eq!(kept.bytes, TX_KEPT_BYTES_MAX);
        kept.keep(one, QueueId(1), Seq(3), &message(0));
        assert!(kept.get(one, &receipt(3)).is_none(), "there is no room");
        kept.forget(one, &[receipt(1), receipt(2), receipt(3)]);
        assert!(kept.get(one, &receipt(1)).is_none() && kept.get(two, &receipt(2)).is_some());
        kept.keep(one, QueueId(1), Seq(3), &message(0));
        assert!(kept.get(one, &receipt(3)).is_some());
        kept.forget_channel(two);
        kept.forget_channel(one);
        assert_eq!((kept.bytes, kept.messages.len()), (0, 0));
    }
}
