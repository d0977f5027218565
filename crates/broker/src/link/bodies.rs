//! Large bodies of a link: on their way in, one a channel, and pieces on their way out.
//!
//! Invariants: a part is handed to the engine only when the one before is written, and until then the request waits, so a
//! connection has one part in the engine's memory for each channel at most. A body whose channel ends before its message
//! is published goes with it.

use super::Link;
use crate::api::Reply;
use crate::mailbox::Mailbox;
use crate::refuse;
use bytes::Bytes;
use engine::{BodyWriter, EngineError};
use foldhash::fast::RandomState;
use model::{ChannelId, Now};
use parking_lot::Mutex;
use protocol::{BodyRead, Event, Publish, Refusal, Request};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// See the module.
#[derive(Default)]
pub(super) struct LinkBodies {
    incoming: HashMap<ChannelId, Box<dyn BodyWriter>, RandomState>,
    /// Put there by the engine's threads; `None` where a piece is damaged.
    read: Arc<Mutex<VecDeque<Option<Bytes>>>>,
    /// Pieces asked for and not yet told.
    awaited: usize,
}

impl LinkBodies {
    /// Takes back what has come on a channel.
    pub(super) fn forget_channel(&mut self, channel: ChannelId) {
        self.incoming.remove(&channel);
    }

    /// The next piece that was read.
    pub(super) fn next_piece(&mut self) -> Option<Event> {
        if self.awaited == 0 {
            return None;
        }
        let piece = self.read.lock().pop_front()?;
        self.awaited -= 1;
        Some(Event::BodyPiece(piece))
    }
}

impl Link {
    /// Begins a body, or has it begun again after the next wake, while the engine takes none.
    pub(super) fn begin_body(&mut self, channel: ChannelId, len: u64) -> Result<Reply, Refusal> {
        self.side(channel)?;
        // Whose body has to wait is told of the pressure, and of its end.
        self.publisher.has_published = true;
        self.mailbox.publishes.store(true, SeqCst);
        let mailbox: Arc<Mailbox> = self.mailbox.clone();
        match self.broker.engine.begin_body(len, Arc::new(move || mailbox.wake())) {
            Ok(writer) => {
                self.bodies.incoming.insert(channel, writer);
                Ok(Reply::None)
            }
            Err(EngineError::Pressed(_)) => Ok(Reply::Wait(Request::BeginBody { channel, len })),
            Err(error) => Err(refuse::engine(&error)),
        }
    }

    /// Hands on a part of a body, once the one before is written.
    pub(super) fn append_body(&mut self, channel: ChannelId, part: Bytes) -> Result<Reply, Refusal> {
        let Some(writer) = self.bodies.incoming.get_mut(&channel) else {
            // It was refused when it was begun.
            return Ok(Reply::None);
        };
        if !writer.is_ready().map_err(|error| refuse::engine(&error))? {
            return Ok(Reply::Wait(Request::AppendBody { channel, part }));
        }
        writer.append(part);
        Ok(Reply::None)
    }

    /// Publishes a message once its body is durable.
    pub(super) fn publish_large(&mut self, mut publish: Box<Publish>, now: Now) -> Result<Reply, Refusal> {
        let channel = publish.channel;
        let Some(writer) = self.bodies.incoming.get_mut(&channel) else {
            return Ok(Reply::None);
        };
        let Some(body) = writer.finish().map_err(|error| refuse::engine(&error))? else {
            return Ok(Reply::Wait(Request::PublishLarge(publish)));
        };
        self.bodies.incoming.remove(&channel);
        publish.message = publish.message.with_large_body(body);
        Ok(self.handle(Request::Publish(*publish), now))
    }

    /// Reads a piece of a large body; it comes as [`Event::BodyPiece`], and the link is woken then.
    pub fn read_body(&mut self, read: &BodyRead) {
        self.bodies.awaited += 1;
        let (pieces, mailbox) = (self.bodies.read.clone(), self.mailbox.clone());
        let put = move |piece: Result<Bytes, engine::BodyLost>| {
            pieces.lock().push_back(piece.ok());
            mailbox.wake();
        };
        self.broker.engine.read_body(&read.body, read.at, Box::new(put));
    }
}
