//! A queue's messages for a push: a broker link with one consumer, read by the push's own task.
//!
//! A large body is collected piece by piece, since a service gets it as one; a message whose body is larger than a push may
//! hold is rejected, so it goes to the queue's dead-letter exchange.

use broker::{Broker, ConnectionMeta, Link, Reply, Wake};
use bytes::Bytes;
use model::limits::PUSH_BODY_BYTES_MAX;
use model::{ChannelId, ConsumerId, LargeBody, Message, Principal, Table};
use net::{AbortOnPanic, Bell, Clock};
use plugin::{Fed, FedId, Feed, Verdict};
use protocol::{BodyRead, ConsumeRequest, Event, Formats, Receipt, Request, Settle, Settlement};
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

const CHANNEL: ChannelId = ChannelId(1);
const CONSUMER: ConsumerId = ConsumerId(1);

/// One consumer on one queue.
pub(crate) struct BrokerFeed {
    link: Link,
    bell: Arc<Bell>,
    clock: Clock,
    formats: Arc<Formats>,
    fed: HashMap<FedId, Receipt>,
    next: u64,
    lost: bool,
    collecting: Option<Collecting>,
}

/// A message whose large body is being read.
struct Collecting {
    receipt: Receipt,
    message: Message,
    redelivered: bool,
    large: Arc<LargeBody>,
    body: Vec<u8>,
}

impl BrokerFeed {
    /// Connects and consumes.
    pub(crate) fn open(
        broker: &Arc<Broker>,
        formats: &Arc<Formats>,
        clock: Clock,
        meta: ConnectionMeta,
        principal: &Principal,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self, String> {
        let bell = Arc::new(Bell::new());
        let wake: Arc<dyn Wake> = Arc::clone(&bell) as _;
        let link = broker.connect_as(meta, principal, wake).map_err(|refusal| refusal.text)?;
        let formats = Arc::clone(formats);
        let mut feed = Self { link, bell, clock, formats, fed: HashMap::new(), next: 0, lost: false, collecting: None };
        feed.ask(Request::OpenChannel(CHANNEL))?;
        feed.ask(Request::Qos { channel: CHANNEL, prefetch, global: false })?;
        let consume = ConsumeRequest {
            queue: queue.to_owned(),
            consumer: CONSUMER,
            tag: "push".to_owned(),
            no_ack: false,
            exclusive: false,
            arguments: Table::new(),
        };
        feed.ask(Request::Consume(CHANNEL, consume))?;
        Ok(feed)
    }

    fn ask(&mut self, request: Request) -> Result<(), String> {
        match self.link.handle(request, self.clock.now()) {
            Reply::Now(Event::Refused { refusal, .. }) => Err(refusal.text),
            Reply::Now(_) | Reply::None => Ok(()),
            Reply::After(..) | Reply::Wait(_) => Err("the broker is busy".to_owned()),
        }
    }

    fn feed(&mut self, receipt: Receipt, message: &Message, body: Bytes, redelivered: bool) -> Fed {
        let id = FedId(self.next);
        self.next += 1;
        self.fed.insert(id, receipt);
        // A header that cannot be read was checked when it was published; push the body all the same.
        let properties = self.formats.properties(message).unwrap_or_default();
        Fed { id, place: format!("{}-{}", receipt.queue, receipt.seq), properties, body, redelivered }
    }

    /// A message was delivered; `None` if its body must be read first, or is more than a push takes.
    fn delivered(&mut self, receipt: Receipt, message: Message, redelivered: bool) -> Option<Fed> {
        let Some(large) = message.large_body().cloned() else {
            let body = message.body_shared();
            return Some(self.feed(receipt, &message, body, redelivered));
        };
        if message.body_len() > PUSH_BODY_BYTES_MAX {
            let (seq, bytes, queue) = (receipt.seq, large.len(), receipt.queue);
            tracing::error!(%queue, %seq, bytes, max = PUSH_BODY_BYTES_MAX, "a message is too large to be pushed: rejected");
            self.say(receipt, Settlement::Reject);
            return None;
        }
        self.link.read_body(&BodyRead { body: large.clone(), at: 0 });
        let body = Vec::with_capacity(message.body_len());
        self.collecting = Some(Collecting { receipt, message, redelivered, large, body });
        None
    }

    /// A piece of the body that is collected; the message if it was the last. One that is damaged goes back, and the
    /// engine keeps it aside.
    fn collected(&mut self, piece: Option<&Bytes>) -> Option<Fed> {
        let mut collecting = self.collecting.take()?;
        let Some(piece) = piece else {
            self.say(collecting.receipt, Settlement::Requeue);
            return None;
        };
        collecting.body.extend_from_slice(piece);
        let at = collecting.body.len() as u64;
        if at < collecting.large.len() {
            self.link.read_body(&BodyRead { body: collecting.large.clone(), at });
            self.collecting = Some(collecting);
            return None;
        }
        let Collecting { receipt, message, redelivered, body, .. } = collecting;
        Some(self.feed(receipt, &message, body.into(), redelivered))
    }

    fn say(&mut self, receipt: Receipt, settlement: Settlement) {
        let now = self.clock.now();
        self.link.handle(Request::Settle(Settle { channel: CHANNEL, settlement, receipts: vec![receipt] }), now);
        self.link.flush(now);
    }
}

impl Feed for BrokerFeed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Fed>> {
        let _guard = AbortOnPanic;
        loop {
            if self.lost {
                return Poll::Ready(None);
            }
            let now = self.clock.now();
            let collects = self.collecting.is_some();
            let fed = match if collects { self.link.poll_notice(now) } else { self.link.poll_event(now) } {
                Some(Event::Deliver { receipt, message, redelivered, .. }) => {
                    self.delivered(receipt, message, redelivered)
                }
                Some(Event::BodyPiece(piece)) => self.collected(piece.as_ref()),
                Some(Event::ConsumerLost { .. }) => {
                    self.lost = true;
                    None
                }
                Some(_) => None,
                None => {
                    self.link.written(0, now);
                    ready!(self.bell.poll_rung(cx));
                    None
                }
            };
            if fed.is_some() {
                return Poll::Ready(fed);
            }
        }
    }

    fn settle(&mut self, id: FedId, verdict: Verdict) {
        let _guard = AbortOnPanic;
        let Some(receipt) = self.fed.remove(&id) else { return };
        let settlement = match verdict {
            Verdict::Ack => Settlement::Ack,
            Verdict::Reject => Settlement::Reject,
        };
        self.say(receipt, settlement);
    }
}

impl Drop for BrokerFeed {
    fn drop(&mut self) {
        let _guard = AbortOnPanic;
        self.link.close(self.clock.now());
    }
}
