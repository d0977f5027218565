//! Large bodies on their way to the client: sent a piece at a time, as the socket takes them.
//!
//! Invariants: between the header and the last body frame of a content no other frame of its channel goes out (§4.2.6);
//! what the channel is told meanwhile waits behind it. Frames of other channels, and heartbeats, go in between. Bodies are
//! sent one after the other, so one piece at most is asked for and not yet here.

use crate::wire::encode;
use bytes::Bytes;
use model::{ChannelId, LargeBody};
use protocol::{BodyRead, Outgoing};
use std::collections::VecDeque;
use std::sync::Arc;

/// Memory of a body that waits, as far as a client that asks for many is to be held up.
const STREAM_BYTES: usize = 256;

#[derive(Debug)]
struct Stream {
    channel: ChannelId,
    body: Arc<LargeBody>,
    sent: u64,
    /// What the channel is told meanwhile.
    behind: Outgoing,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Streams {
    queue: VecDeque<Stream>,
    asked: bool,
}

impl Streams {
    /// Where the next frame of a channel goes: out, or behind the body that the channel is sending.
    pub(super) fn lane<'a>(&'a mut self, channel: ChannelId, out: &'a mut Outgoing) -> &'a mut Outgoing {
        if self.queue.is_empty() {
            return out;
        }
        match self.queue.iter_mut().rfind(|stream| stream.channel == channel) {
            Some(stream) => &mut stream.behind,
            None => out,
        }
    }

    /// The header of this body was written; the body follows.
    pub(super) fn start(&mut self, channel: ChannelId, body: Arc<LargeBody>) {
        self.queue.push_back(Stream { channel, body, sent: 0, behind: Outgoing::new() });
    }

    /// The next piece to ask for.
    pub(super) fn next_read(&mut self) -> Option<BodyRead> {
        let stream = self.queue.front().filter(|_| !self.asked)?;
        self.asked = true;
        Some(BodyRead { body: stream.body.clone(), at: stream.sent })
    }

    /// Sends the piece that was asked for; behind the last one, what has waited.
    pub(super) fn piece(&mut self, piece: &Bytes, frame_size_max: u32, out: &mut Outgoing) {
        if !std::mem::replace(&mut self.asked, false) {
            return;
        }
        let Some(stream) = self.queue.front_mut() else { return };
        encode::body(out, stream.channel.0, piece, frame_size_max);
        stream.sent += piece.len() as u64;
        if stream.sent >= stream.body.len()
            && let Some(done) = self.queue.pop_front()
        {
            out.append(done.behind);
        }
    }

    /// Whether a body is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Bytes that wait behind bodies.
    pub(super) fn bytes_behind(&self) -> usize {
        self.queue.iter().map(|stream| STREAM_BYTES + stream.behind.len()).sum()
    }

    /// Sends nothing more: the connection ends.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.asked = false;
    }
}
