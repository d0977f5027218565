//! A queue's messages for a push: a broker link with one consumer, read by the push's own task.

use broker::{Broker, ConnectionMeta, Link, Reply, Wake};
use model::{ChannelId, ConsumerId, Message, Principal, Table};
use net::{AbortOnPanic, Bell, Clock};
use plugin::{Fed, FedId, Feed, Verdict};
use protocol::{ConsumeRequest, Event, Formats, Receipt, Request, Settle, Settlement};
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
        let mut feed = Self { link, bell, clock, formats, fed: HashMap::new(), next: 0, lost: false };
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

    fn feed(&mut self, receipt: Receipt, message: &Message, redelivered: bool) -> Fed {
        let id = FedId(self.next);
        self.next += 1;
        self.fed.insert(id, receipt);
        // A header that cannot be read was checked when it was published; push the body all the same.
        let properties = self.formats.properties(message).unwrap_or_default();
        Fed {
            id,
            place: format!("{}-{}", receipt.queue, receipt.seq),
            properties,
            body: message.body_shared(),
            redelivered,
        }
    }
}

impl Feed for BrokerFeed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Fed>> {
        let _guard = AbortOnPanic;
        loop {
            if self.lost {
                return Poll::Ready(None);
            }
            match self.link.poll_event(self.clock.now()) {
                Some(Event::Deliver { receipt, message, redelivered, .. }) => {
                    return Poll::Ready(Some(self.feed(receipt, &message, redelivered)));
                }
                Some(Event::ConsumerLost { .. }) => self.lost = true,
                Some(_) => {}
                None => {
                    self.link.written(0, self.clock.now());
                    ready!(self.bell.poll_rung(cx));
                }
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
        let now = self.clock.now();
        self.link.handle(Request::Settle(Settle { channel: CHANNEL, settlement, receipts: vec![receipt] }), now);
        self.link.flush(now);
    }
}

impl Drop for BrokerFeed {
    fn drop(&mut self) {
        let _guard = AbortOnPanic;
        self.link.close(self.clock.now());
    }
}
