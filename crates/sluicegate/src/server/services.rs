//! The services that plugins and the bridge use, made of the broker.
//!
//! HTTP may be served before there is a broker, while the process before still has the data directory. Then a publish
//! waits, with few others and not for long.
//!
//! Invariants: a publish resolves only when its ticket is durable, so a 202 is a promise. A feed is a broker link like
//! that of any client: nothing is special about a subscription.

use super::feed::BrokerFeed;
use super::sender::Sender;
use broker::{Broker, ConnectionMeta};
use bytes::Bytes;
use engine::{Engine, MetaSpace, Ticket};
use http::{Request, Response};
use model::limits::{TAKE_OVER_WAIT_MS, TAKE_OVER_WAITING_MAX};
use model::{Envelope, MessageArena, Origin, Principal, Properties};
use net::{AbortOnPanic, Bell, Clock};
use parking_lot::Mutex;
use plugin::{BoxFuture, Feed, Publish, PublishError, Published, PushServices, SendError, Services as PluginServices};
use protocol::{Formats, Refusal, RefusalKind};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SetOnce};

/// What plugins may use.
#[derive(Clone)]
pub(crate) struct Services(Arc<Opening>);

struct Opening {
    /// Set when there is a broker.
    stored: SetOnce<Arc<Stored>>,
    /// For those who wait until there is.
    places: Semaphore,
}

impl Services {
    /// Without a broker yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Opening { stored: SetOnce::new(), places: Semaphore::new(TAKE_OVER_WAITING_MAX) }))
    }

    /// Now there is one.
    pub(crate) fn open(&self, stored: Arc<Stored>) {
        assert!(self.0.stored.set(stored).is_ok(), "a process opens one data directory");
    }
}

impl Opening {
    /// What there is to publish with, as soon as there is.
    async fn opened(&self) -> Result<Arc<Stored>, PublishError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(unavailable("too many requests wait for the data directory"));
        };
        match tokio::time::timeout(Duration::from_millis(TAKE_OVER_WAIT_MS), self.stored.wait()).await {
            Ok(stored) => Ok(Arc::clone(stored)),
            Err(_) => Err(unavailable("the data directory is not open yet")),
        }
    }
}

impl PluginServices for Services {
    fn publish(&self, publish: Publish) -> BoxFuture<Result<Published, PublishError>> {
        match self.0.stored.get() {
            Some(stored) => stored.publish(publish),
            None => {
                let opening = Arc::clone(&self.0);
                Box::pin(async move { opening.opened().await?.publish(publish).await })
            }
        }
    }
}

/// What publishes, feeds and sends: made of the broker, for plugins and the bridge.
pub(crate) struct Stored {
    pub(crate) broker: Arc<Broker>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) formats: Arc<Formats>,
    pub(crate) sender: Sender,
    pub(crate) clock: Clock,
    pub(crate) message_bytes_max: usize,
    pub(crate) arena: Mutex<MessageArena>,
}

impl Stored {
    /// Routes and appends; what is left is to wait for the ticket.
    fn append(&self, publish: &Publish) -> Result<(Published, Ticket), PublishError> {
        if publish.body.len() > self.message_bytes_max {
            return Err(PublishError::TooLarge { bytes_max: self.message_bytes_max as u64 });
        }
        let now = self.clock.now();
        let format = self.formats.of(Origin::Amqp091).ok_or_else(|| unavailable("no format for messages"))?;
        let mut header = Vec::with_capacity(256);
        format.encode(&publish.properties, &mut header);
        let (exchange, key) = (publish.exchange.as_bytes(), publish.routing_key.as_bytes());
        if exchange.len() > model::limits::NAME_BYTES_MAX || key.len() > model::limits::NAME_BYTES_MAX {
            return Err(PublishError::NotFound("names are at most 255 bytes".to_owned()));
        }
        let mut draft = self.arena.lock().draft(exchange, key, &header, publish.body.len());
        draft.push(&publish.body);
        let message = draft.finish(envelope(&publish.properties, now.wall));
        let guard = AbortOnPanic;
        let published = self.broker.publish(&publish.principal, message, now).map_err(refused);
        drop(guard);
        let published = published?;
        if !published.routed && publish.mandatory {
            return Err(PublishError::NotRouted);
        }
        Ok((Published { n_queues: u32::from(published.routed) }, published.ticket))
    }
}

fn envelope(properties: &Properties, received_at: model::Wall) -> Envelope {
    Envelope {
        origin: Origin::Amqp091,
        persistent: properties.is_persistent(),
        priority: properties.priority.unwrap_or(0),
        ttl_ms: properties.expiration.as_deref().and_then(|text| text.parse().ok()),
        received_at,
        has_headers: properties.headers.is_some(),
        producer: 0,
    }
}

fn unavailable(why: &str) -> PublishError {
    PublishError::Unavailable(why.to_owned())
}

fn refused(refusal: Refusal) -> PublishError {
    match refusal.kind {
        RefusalKind::NotFound => PublishError::NotFound(refusal.text),
        RefusalKind::AccessRefused
        | RefusalKind::LoginRefused
        | RefusalKind::NotAllowed
        | RefusalKind::ResourceLocked => PublishError::AccessRefused(refusal.text),
        RefusalKind::ResourceError => PublishError::Busy,
        RefusalKind::PreconditionFailed
        | RefusalKind::CommandInvalid
        | RefusalKind::NotImplemented
        | RefusalKind::InternalError => PublishError::Unavailable(refusal.text),
    }
}

impl PluginServices for Stored {
    fn publish(&self, publish: Publish) -> BoxFuture<Result<Published, PublishError>> {
        let appended = self.append(&publish);
        let broker = Arc::clone(&self.broker);
        let timeout = Duration::from_millis(publish.timeout_ms.into());
        Box::pin(async move {
            let (published, ticket) = appended?;
            match tokio::time::timeout(timeout, durable(&broker, ticket)).await {
                Ok(()) => Ok(published),
                Err(_) => Err(PublishError::Timeout),
            }
        })
    }
}

/// Waits until a ticket is durable.
pub(crate) async fn durable(broker: &Arc<Broker>, ticket: Ticket) {
    if ticket <= broker.durable() {
        return;
    }
    let bell = Arc::new(Bell::new());
    while ticket > broker.durable() {
        let wake: Arc<dyn broker::Wake> = Arc::clone(&bell) as _;
        broker.when_durable(ticket, wake);
        poll_fn(|cx| bell.poll_rung(cx)).await;
    }
}

impl PushServices for Stored {
    fn subscribe(&self, principal: &Principal, queue: &str, prefetch: u16) -> Result<Box<dyn Feed>, String> {
        let meta = ConnectionMeta { peer: "subscription".to_owned(), loopback: true, protocol: "push" };
        let feed = BrokerFeed::open(&self.broker, &self.formats, self.clock, meta, principal, queue, prefetch)?;
        Ok(Box::new(feed))
    }

    fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_bytes_max: usize,
    ) -> BoxFuture<Result<Response<Bytes>, SendError>> {
        self.sender.send(request, timeout, body_bytes_max)
    }

    fn remember(&self, key: &str, value: &[u8]) {
        if let Err(error) = self.engine.put_meta(&MetaSpace::Bridge.key(key.as_bytes()), value) {
            tracing::warn!(key, %error, "cannot remember");
        }
    }

    fn recall(&self, key: &str) -> Option<Vec<u8>> {
        self.engine.get_meta(&MetaSpace::Bridge.key(key.as_bytes()))
    }

    fn forget(&self, key: &str) {
        if let Err(error) = self.engine.delete_meta(&MetaSpace::Bridge.key(key.as_bytes())) {
            tracing::warn!(key, %error, "cannot forget");
        }
    }

    fn wall_ms(&self) -> u64 {
        self.clock.now().wall.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Principal;

    fn publish() -> Publish {
        Publish {
            principal: Principal { user: "guest".into(), vhost: "/".into() },
            exchange: String::new(),
            routing_key: "orders".to_owned(),
            properties: Properties::default(),
            body: Bytes::new(),
            mandatory: true,
            timeout_ms: 1_000,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_another_process_has_the_data_a_publish_waits_for_two_seconds() {
        let services = Services::new();
        let began = tokio::time::Instant::now();
        let refused = services.publish(publish()).await;
        assert_eq!(refused, Err(unavailable("the data directory is not open yet")));
        assert_eq!(began.elapsed(), Duration::from_millis(TAKE_OVER_WAIT_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_no_more() {
        let services = Services::new();
        let mut waiting: Vec<_> = (0..TAKE_OVER_WAITING_MAX).map(|_| services.publish(publish())).collect();
        let all_wait =
            poll_fn(|cx| std::task::Poll::Ready(waiting.iter_mut().all(|one| one.as_mut().poll(cx).is_pending())));
        assert!(all_wait.await);
        let refused = services.publish(publish()).await;
        assert_eq!(refused, Err(unavailable("too many requests wait for the data directory")));
        waiting.pop();
        let mut one_more = services.publish(publish());
        assert!(poll_fn(|cx| std::task::Poll::Ready(one_more.as_mut().poll(cx).is_pending())).await);
    }
}
