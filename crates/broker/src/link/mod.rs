//! One connection's side of the broker.
//!
//! A link collects publishes and acknowledgements and gives them to the engine once per [`Link::flush`]; every other
//! request flushes first, so order holds. `publisher` is the way in, `receiver` the way out, `tx` what of both
//! belongs to a transaction, `bodies` what is too large for memory, `requests` the rest.

mod bodies;
mod kept;
mod publisher;
mod quota;
mod receiver;
mod requests;
mod tx;

use crate::api::Reply;
use crate::broker::Broker;
use crate::counters::Totals;
use crate::mailbox::Mailbox;
use crate::queue::Queue;
use crate::users::Access;
use bodies::LinkBodies;
use model::limits::PUBLISH_IN_FLIGHT_MAX;
use model::{ChannelId, ConnectionId, Now};
use protocol::{ConnectionInfo, Event, Refusal, Request, Settlement};
use publisher::Publisher;
use receiver::Receiver;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tx::Transactions;

/// A connection to the broker, of a client or of a part of this process. Owned by the task that drives it.
///
/// Dropping it closes it.
pub struct Link {
    broker: Arc<Broker>,
    mailbox: Arc<Mailbox>,
    stage: Stage,
    publisher: Publisher,
    receiver: Receiver,
    transactions: Transactions,
    bodies: LinkBodies,
    /// Exclusive queues this connection has declared.
    owned: Vec<Arc<Queue>>,
    counted: Totals,
    told_blocked: bool,
    closed: bool,
    /// The last time it was told.
    now: Now,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.mailbox.id)
    }
}

/// How far the client has come.
enum Stage {
    /// It has not said who it is.
    New,
    /// It has proved who it is.
    Authenticated(Arc<str>),
    /// It is in a vhost. The access is that of the epoch.
    Open { access: Arc<Access>, epoch: u64 },
}

impl Link {
    pub(crate) fn new(broker: Arc<Broker>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            broker,
            mailbox,
            stage: Stage::New,
            publisher: Publisher::default(),
            receiver: Receiver::default(),
            transactions: Transactions::default(),
            bodies: LinkBodies::default(),
            owned: Vec::new(),
            counted: Totals::default(),
            told_blocked: false,
            closed: false,
            now: Now::default(),
        }
    }

    pub(crate) fn open(broker: Arc<Broker>, mailbox: Arc<Mailbox>, access: Arc<Access>) -> Self {
        let mut link = Self::new(broker, mailbox);
        link.stage = Stage::Open { access, epoch: 0 };
        link
    }

    /// Its id, unique in the process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.mailbox.id
    }

    /// Takes in a request. Publishes and acknowledgements are collected until [`Link::flush`].
    pub fn handle(&mut self, request: Request, now: Now) -> Reply {
        self.now = now;
        if let Request::Publish(publish) = &request
            && !self.may_publish(publish, now)
        {
            return Reply::Wait(request);
        }
        match request {
            Request::Publish(publish) => {
                let channel = publish.channel;
                match self.publish(publish, now) {
                    Ok(Some(publish)) => Reply::Wait(Request::Publish(publish)),
                    published => refused(channel, published.map(|_| ())),
                }
            }
            Request::Settle(settle) => {
                if settle.settlement == Settlement::Ack {
                    self.acknowledge(&settle);
                } else {
                    self.give_back(&settle, now);
                }
                Reply::None
            }
            Request::BeginBody { channel, len } => replied(channel, self.begin_body(channel, len)),
            Request::AppendBody { channel, part } => replied(channel, self.append_body(channel, part)),
            Request::PublishLarge(publish) => replied(publish.channel, self.publish_large(publish, now)),
            request => {
                self.flush(now);
                if self.publisher.is_stalled() {
                    return Reply::Wait(request);
                }
                self.request(request, now)
            }
        }
    }

    /// Gives what was collected to the engine. To be called when there is no further request for now.
    pub fn flush(&mut self, now: Now) {
        self.now = now;
        self.flush_acknowledged(now);
        self.flush_published(now);
        self.broker.counters.add(&mut self.counted);
    }

    /// The next thing to tell: returns, confirms, pieces of bodies, deliveries, lost consumers, blocked and unblocked.
    pub fn poll_event(&mut self, now: Now) -> Option<Event> {
        self.poll_notice(now).or_else(|| self.next_delivery(now))
    }

    /// The same without deliveries and lost consumers, for a connection that is sending a large body.
    #[inline]
    pub fn poll_notice(&mut self, now: Now) -> Option<Event> {
        self.now = now;
        if self.mailbox.look() {
            self.broker.feed(&self.mailbox, now);
            if self.publisher.is_stalled() {
                self.flush(now);
            }
        }
        if let Some(returned) = self.publisher.returned.pop_front() {
            return Some(Event::Returned(returned));
        }
        if let Some(confirmed) = self.next_confirmed() {
            return Some(Event::Confirmed(confirmed));
        }
        if let Some(event) = self.bodies.next_piece() {
            return Some(event);
        }
        self.next_blocked()
    }

    fn next_blocked(&mut self) -> Option<Event> {
        if !self.publisher.has_published {
            return None;
        }
        match self.broker.blocked() {
            Some(why) if !self.told_blocked => {
                self.told_blocked = true;
                Some(Event::Blocked(why))
            }
            None if self.told_blocked => {
                self.told_blocked = false;
                Some(Event::Unblocked)
            }
            _ => None,
        }
    }

    /// Whether the driver should read more from the peer. If not, the link is woken when it changes.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !(self.publisher.is_stalled()
            || self.publisher.in_flight_count >= PUBLISH_IN_FLIGHT_MAX
            || (self.publisher.has_published && self.broker.blocked().is_some()))
    }

    /// Whether messages of this connection were taken and not confirmed yet.
    #[must_use]
    pub fn owes_confirms(&self) -> bool {
        self.publisher.in_flight_count > 0
    }

    /// To be called after each write: `outgoing` bytes are still to be written. What was written makes room for
    /// deliveries.
    pub fn written(&mut self, outgoing: usize, now: Now) {
        self.now = now;
        self.make_room();
        let written = self.receiver.unwritten.saturating_sub(outgoing);
        if written > 0 {
            self.receiver.unwritten -= written;
            self.mailbox.written(written);
        }
        self.broker.feed(&self.mailbox, now);
    }

    /// What is shown to people of this connection.
    pub fn set_info(&mut self, info: ConnectionInfo) {
        *self.mailbox.info.lock() = info;
    }

    /// Ends it: consumers go, unsettled deliveries are requeued, exclusive queues are deleted.
    pub fn close(&mut self, now: Now) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.flush(now);
        let channels: Vec<ChannelId> = self.receiver.channels.keys().copied().collect();
        for channel in channels {
            self.close_channel(channel, now);
        }
        for queue in std::mem::take(&mut self.owned) {
            // The engine can only have failed for good, and then the process stops.
            let _ = self.broker.delete_queue_if(&queue, |_| true);
        }
        self.mailbox.clear();
        self.broker.mailboxes.lock().remove(&self.mailbox.id);
        self.broker.counters.connections_closed.add(1);
        self.broker.counters.add(&mut self.counted);
    }

    /// What the user may do now; refreshed when anything changed.
    fn access(&mut self) -> Result<Arc<Access>, Refusal> {
        let current = self.broker.epoch.load(SeqCst);
        let Stage::Open { access, epoch } = &mut self.stage else {
            return Err(requests::not_open());
        };
        if *epoch != current {
            let registry = self.broker.registry.read();
            *access = registry
                .users
                .access(&access.user, &access.vhost)
                .ok_or_else(|| crate::refuse::vhost_access(&access.vhost, &access.user))?;
            *epoch = current;
        }
        Ok(access.clone())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close(self.now);
    }
}

fn refused(channel: ChannelId, result: Result<(), Refusal>) -> Reply {
    replied(channel, result.map(|()| Reply::None))
}

fn replied(channel: ChannelId, result: Result<Reply, Refusal>) -> Reply {
    result.unwrap_or_else(|refusal| Reply::Now(Event::Refused { channel, refusal }))
}
