//! One channel (§2.2.3), and the channels of a connection.
//!
//! A channel's life: open; then either the client closes it (`Leaving` until the broker has let go), or a rule was
//! broken (`Failing` until the error's turn comes, then `Closing` until the client's close-ok).

use super::content::Content;
use super::tx::Transaction;
use super::unsettled::Unsettled;
use model::{ChannelId, ConsumerId, PublishSeq};
use std::collections::HashMap;

/// Where a channel is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Frames are obeyed.
    Open,
    /// The client closed it; the broker has not answered yet. Frames are ignored.
    Leaving,
    /// It broke a rule; the error waits behind what came before. Frames are ignored.
    Failing,
    /// `channel.close` was sent. Frames are ignored, except close and close-ok.
    Closing,
}

/// A consumer of a channel.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) tag: String,
    pub(super) no_ack: bool,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) state: State,
    pub(super) content: Content,
    /// The queue declared last, which an empty name means.
    pub(super) last_queue: Option<String>,
    /// In confirm mode, the number of the last publish.
    pub(super) confirms: Option<PublishSeq>,
    /// What was settled since the last commit, if the channel is transactional.
    pub(super) tx: Option<Transaction>,
    /// The tag of the last delivery.
    pub(super) last_tag: u64,
    pub(super) unsettled: Unsettled,
    /// By id, rising. A cancelled consumer stays until the broker says it has ended.
    consumers: Vec<Consumer>,
    /// The tags in use.
    tags: HashMap<String, ConsumerId>,
}

impl Channel {
    pub(super) fn new(id: ChannelId, state: State) -> Self {
        Self {
            id,
            state,
            content: Content::default(),
            last_queue: None,
            confirms: None,
            tx: None,
            last_tag: 0,
            unsettled: Unsettled::default(),
            consumers: Vec::new(),
            tags: HashMap::new(),
        }
    }

    /// The tag of the next delivery.
    pub(super) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    pub(super) fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        Some(&self.consumers[self.place_of(id)?])
    }

    /// Where a consumer is. Ids of one channel mostly follow each other, so it is looked for where it is then.
    fn place_of(&self, id: ConsumerId) -> Option<usize> {
        let first = self.consumers.first()?.id.0;
        let guess = usize::try_from(id.0.checked_sub(first)?).ok()?;
        if self.consumers.get(guess).is_some_and(|consumer| consumer.id == id) {
            return Some(guess);
        }
        self.consumers.binary_search_by_key(&id, |consumer| consumer.id).ok()
    }

    pub(super) fn consumers_len(&self) -> usize {
        self.consumers.len()
    }

    pub(super) fn has_tag(&self, tag: &str) -> bool {
        self.tags.contains_key(tag)
    }

    /// Adds a consumer; its id is higher than all before.
    pub(super) fn add_consumer(&mut self, consumer: Consumer) {
        self.tags.insert(consumer.tag.clone(), consumer.id);
        self.consumers.push(consumer);
    }

    /// Frees a tag; the consumer stays known by its id.
    pub(super) fn free_tag(&mut self, tag: &str) -> Option<ConsumerId> {
        self.tags.remove(tag)
    }

    /// The consumer has ended.
    pub(super) fn remove_consumer(&mut self, id: ConsumerId) -> Option<Consumer> {
        let at = self.place_of(id)?;
        let consumer = self.consumers.remove(at);
        if self.tags.get(&consumer.tag) == Some(&id) {
            self.tags.remove(&consumer.tag);
        }
        Some(consumer)
    }
}

/// The channels of a connection, by number.
#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: Vec<Channel>,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    fn find(&self, id: ChannelId) -> Result<usize, usize> {
        self.channels.binary_search_by_key(&id, |c| c.id)
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let at = self.find(id).ok()?;
        Some(&mut self.channels[at])
    }

    /// The channel if it is open.
    pub(super) fn open_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.get_mut(id).filter(|c| c.state == State::Open)
    }

    /// Whether the client still expects answers on the channel.
    pub(super) fn hears(&self, id: ChannelId) -> bool {
        self.find(id).is_ok_and(|at| self.channels[at].state != State::Closing)
    }

    /// Adds a channel or puts it in the place of the one there.
    pub(super) fn put(&mut self, channel: Channel) {
        match self.find(channel.id) {
            Ok(at) => self.channels[at] = channel,
            Err(at) => self.channels.insert(at, channel),
        }
    }

    pub(super) fn remove(&mut self, id: ChannelId) {
        if let Ok(at) = self.find(id) {
            self.channels.remove(at);
        }
    }

    pub(super) fn clear(&mut self) {
        self.channels = Vec::new();
    }
}
