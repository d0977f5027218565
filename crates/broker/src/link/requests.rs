//! The requests that are neither publishes nor settles.

use super::receiver::ChannelSide;
use super::tx::Progress;
use super::{Link, Stage};
use crate::api::Reply;
use crate::arguments;
use crate::consumer::{Channel, Consumer};
use crate::dead_letter::Burial;
use crate::kind::QueueKind;
use crate::queue::Queue;
use crate::refuse::{self, Resource};
use crate::topology::Asker;
use crate::users::{Access, Verb};
use crate::waiters::Waiter;
use arc_swap::ArcSwapOption;
use engine::{Credit, Outcome, Ticket};
use model::limits::CONSUMERS_PER_CHANNEL_MAX;
use model::{ChannelId, ConsumerId, Now};
use protocol::{
    ConsumeRequest, Event, ExchangeDeclaration, Login, QueueDeclaration, Receipt, Refusal, RefusalKind, Request, Tx,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Name of RabbitMQ's pseudo queue for direct replies.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// What an operation ends in.
type Answer = Result<(Event, Ticket), Refusal>;

pub(super) fn not_open() -> Refusal {
    Refusal::new(RefusalKind::NotAllowed, "no vhost is open")
}

fn now(event: Event) -> Answer {
    Ok((event, Ticket::NONE))
}

impl Link {
    /// Does what is asked; everything before it is flushed.
    pub(super) fn request(&mut self, request: Request, now: Now) -> Reply {
        let channel = channel_of(&request);
        let answer = match request {
            Request::Get { channel, queue, no_ack } => match self.get(channel, &queue, no_ack, now) {
                Ok(Some(event)) => Ok((event, Ticket::NONE)),
                Ok(None) => {
                    return Reply::Wait(Request::Get { channel, queue, no_ack });
                }
                Err(refusal) => Err(refusal),
            },
            Request::Tx(channel, step) => match self.tx(channel, step, now) {
                Ok(Progress::Done(ticket)) => Ok((Event::TxDone(channel), ticket)),
                // What it did take must be safe before it is told of the rest.
                Ok(Progress::Partial(ticket)) => {
                    Ok((Event::Refused { channel, refusal: refuse::partial_tx() }, ticket))
                }
                Ok(Progress::Waits) => return Reply::Wait(Request::Tx(channel, Tx::Commit(Vec::new()))),
                Err(refusal) => Err(refusal),
            },
            request => self.answer(request, now),
        };
        self.broker.counters.add(&mut self.counted);
        match answer {
            Err(refusal) => Reply::Now(Event::Refused { channel, refusal }),
            Ok((event, ticket)) if ticket <= self.broker.engine.durable() => Reply::Now(event),
            Ok((event, ticket)) => {
                let waiter = Waiter::Mailbox(self.mailbox.clone());
                self.broker.wait_for(ticket, waiter, now);
                Reply::After(ticket, event)
            }
        }
    }

    fn answer(&mut self, request: Request, now: Now) -> Answer {
        match request {
            Request::Authenticate(login) => self.authenticate(&login),
            Request::OpenVhost(vhost) => self.open_vhost(&vhost),
            Request::OpenChannel(channel) => self.open_channel(channel),
            Request::CloseChannel(channel) => {
                self.close_channel(channel, now);
                self::now(Event::ChannelClosed(channel))
            }
            Request::DeclareExchange(channel, request) => self.declare_exchange(channel, &request, now),
            Request::DeclareQueue(channel, request) => self.declare_queue(channel, &request, now),
            Request::Bind(channel, request) => {
                let ticket = self.ask(now, |broker, asker| broker.bind(asker, &request))?;
                Ok((Event::Bound(channel), ticket))
            }
            Request::Unbind(channel, request) => {
                let ticket = self.ask(now, |broker, asker| broker.unbind(asker, &request))?;
                Ok((Event::Unbound(channel), ticket))
            }
            Request::DeleteExchange { channel, exchange, if_unused } => {
                let ticket = self.ask(now, |broker, asker| broker.delete_exchange(asker, &exchange, if_unused))?;
                Ok((Event::ExchangeDeleted(channel), ticket))
            }
            Request::DeleteQueue { channel, queue, if_unused, if_empty } => {
                let (messages, ticket) =
                    self.ask(now, |broker, asker| broker.delete_queue(asker, &queue, if_unused, if_empty))?;
                self.owned.retain(|q| !q.state.lock().deleted);
                Ok((Event::QueueDeleted { channel, messages }, ticket))
            }
            Request::PurgeQueue { channel, queue } => self.purge(channel, &queue, now),
            Request::Qos { channel, prefetch, global } => self.qos(channel, prefetch, global, now),
            Request::Consume(channel, request) => self.consume(channel, request, now),
            Request::Cancel { channel, consumer } => self.cancel(channel, consumer, now),
            Request::Recover(channel) => {
                self.recover(channel, now);
                self::now(Event::Recovered(channel))
            }
            Request::Publish(_)
            | Request::Settle(_)
            | Request::BeginBody { .. }
            | Request::AppendBody { .. }
            | Request::PublishLarge(_)
            | Request::Get { .. }
            | Request::Tx(..) => {
                unreachable!("handled before")
            }
        }
    }

    fn ask<T>(
        &mut self,
        now: Now,
        operation: impl FnOnce(&crate::Broker, Asker<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let access = self.access()?;
        operation(&self.broker, self.asker(&access, now))
    }

    fn asker<'a>(&self, access: &'a Access, now: Now) -> Asker<'a> {
        Asker { vhost: &access.vhost, access: Some(access), connection: Some(self.mailbox.id), now }
    }

    fn authenticate(&mut self, login: &Login) -> Answer {
        let registry = self.broker.registry.read();
        let user = registry.users.authenticate(&login.user, login.password.reveal());
        let Some(user) = user else {
            return Err(Refusal::new(
                RefusalKind::LoginRefused,
                format!("user '{}' - invalid credentials", login.user),
            ));
        };
        if &*user == "guest" && !self.mailbox.meta.loopback {
            return Err(Refusal::new(RefusalKind::LoginRefused, "user 'guest' can only connect via localhost"));
        }
        drop(registry);
        self.stage = Stage::Authenticated(user);
        now(Event::Authenticated)
    }

    fn open_vhost(&mut self, vhost: &str) -> Answer {
        let Stage::Authenticated(user) = &self.stage else {
            return Err(Refusal::new(RefusalKind::NotAllowed, "a vhost is opened once, after authentication"));
        };
        let epoch = self.broker.epoch.load(SeqCst);
        let registry = self.broker.registry.read();
        if !registry.vhosts.contains_key(vhost) {
            return Err(refuse::no_vhost(vhost));
        }
        let Some(access) = registry.users.access(user, vhost) else {
            return Err(refuse::vhost_access(vhost, user));
        };
        drop(registry);
        self.stage = Stage::Open { access, epoch };
        now(Event::VhostOpened)
    }

    fn open_channel(&mut self, channel: ChannelId) -> Answer {
        self.access()?;
        let shared = Arc::new(Channel {
            id: channel,
            holder: self.broker.new_holder(),
            prefetch: 0.into(),
            unsettled: 0.into(),
        });
        let side = ChannelSide { shared, prefetch: 0, orphaned: 0, queues: Vec::new() };
        if self.receiver.channels.contains_key(&channel) {
            return Err(Refusal::new(RefusalKind::NotAllowed, format!("channel {channel} is open already")));
        }
        self.receiver.channels.insert(channel, side);
        self.counted.channels_opened += 1;
        now(Event::ChannelOpened(channel))
    }

    pub(super) fn side(&mut self, channel: ChannelId) -> Result<&mut ChannelSide, Refusal> {
        self.receiver
            .channels
            .get_mut(&channel)
            .ok_or_else(|| Refusal::new(RefusalKind::NotAllowed, format!("channel {channel} is not open")))
    }

    fn declare_exchange(&mut self, channel: ChannelId, request: &ExchangeDeclaration, now: Now) -> Answer {
        let ticket = self.ask(now, |broker, asker| broker.declare_exchange(asker, request))?;
        Ok((Event::ExchangeDeclared(channel), ticket))
    }

    fn declare_queue(&mut self, channel: ChannelId, request: &QueueDeclaration, now: Now) -> Answer {
        refuse_direct_reply_to(&request.queue)?;
        let (queue, ticket) = self.ask(now, |broker, asker| broker.declare_queue(asker, request))?;
        if queue.owner().is_some() && !self.owned.iter().any(|q| q.id == queue.id) {
            self.owned.retain(|q| !q.state.lock().deleted);
            self.owned.push(queue.clone());
        }
        let consumers = queue.consumer_count.load(SeqCst);
        let declared = Event::QueueDeclared {
            channel,
            queue: queue.name.to_string(),
            messages: self.broker.engine.stats(queue.id).ready,
            consumers,
        };
        Ok((declared, ticket))
    }

    fn purge(&mut self, channel: ChannelId, name: &str, now: Now) -> Answer {
        let queue = self.readable(name, now)?;
        let messages = self.broker.engine.purge(queue.id, now);
        self::now(Event::QueuePurged { channel, messages })
    }

    /// A queue this user may read and this connection may use.
    fn readable(&mut self, name: &str, now: Now) -> Result<Arc<Queue>, Refusal> {
        refuse_direct_reply_to(name)?;
        let access = self.access()?;
        let asker = self.asker(&access, now);
        asker.check(Verb::Read, Resource::Queue(&access.vhost, name))?;
        let registry = self.broker.registry.read();
        let queue = registry.queue_named(&access.vhost, name)?.clone();
        asker.check_owner(&queue)?;
        Ok(queue)
    }

    fn qos(&mut self, channel: ChannelId, prefetch: u16, global: bool, now: Now) -> Answer {
        let side = self.side(channel)?;
        if global {
            side.shared.prefetch.store(prefetch.into(), SeqCst);
            self.broker.feed(&self.mailbox, now);
        } else {
            side.prefetch = prefetch.into();
        }
        self::now(Event::QosSet(channel))
    }

    fn consume(&mut self, channel: ChannelId, request: ConsumeRequest, now: Now) -> Answer {
        let queue = self.readable(&request.queue, now)?;
        let what = Resource::Queue(&queue.vhost, &queue.name);
        let priority = arguments::consumer_priority(&request.arguments, what)?;
        if queue.arguments.kind == QueueKind::Quorum && self.side(channel)?.shared.prefetch.load(SeqCst) > 0 {
            return Err(refuse::no_global_qos(what));
        }
        let consumers = &self.receiver.consumers;
        if consumers.contains_key(&request.consumer) {
            return Err(Refusal::new(
                RefusalKind::NotAllowed,
                format!("attempt to reuse consumer tag '{}'", request.tag),
            ));
        }
        if consumers.values().filter(|c| c.channel.id == channel).count() >= CONSUMERS_PER_CHANNEL_MAX {
            return Err(refuse::too_many("consumers", CONSUMERS_PER_CHANNEL_MAX));
        }
        let (mailbox, broker) = (self.mailbox.clone(), self.broker.clone());
        let user = self.access()?.user.clone();
        let side = self.side(channel)?;
        let consumer = Arc::new(Consumer {
            id: request.consumer,
            queue_id: queue.id,
            tag: request.tag.into(),
            channel: side.shared.clone(),
            mailbox,
            user,
            queue: queue.clone(),
            no_ack: request.no_ack,
            exclusive: request.exclusive,
            priority,
            prefetch: side.prefetch,
            limited: false.into(),
            rates: ArcSwapOption::empty(),
            unsettled: 0.into(),
            starved: false.into(),
            gone: false.into(),
        });
        {
            let mut state = queue.state.lock();
            if state.deleted {
                return Err(refuse::missing(what));
            }
            let taken = state.consumers().iter().any(|c| c.exclusive);
            if taken || (request.exclusive && (queue.arguments.single_active || !state.consumers().is_empty())) {
                return Err(refuse::in_exclusive_use(what));
            }
            state.used_at = now.mono;
            broker.quotas.load().limit(&consumer, now.mono);
            state.join(&queue, consumer.clone());
        }
        side.uses(&queue);
        self.receiver.consumers.insert(consumer.id, consumer.clone());
        // Deliveries lie in the mailbox until the reply is given, since the driver gives it first.
        self.broker.dispatch(&queue, now);
        self::now(Event::Consuming { channel, consumer: consumer.id })
    }

    fn cancel(&mut self, channel: ChannelId, id: ConsumerId, now: Now) -> Answer {
        if let Some(consumer) = self.receiver.consumers.get(&id).cloned() {
            self.end_consumer(&consumer, now);
            self.receiver.forget(&consumer);
        }
        self::now(Event::Cancelled { channel, consumer: id })
    }

    /// Takes one message. `None` if it has to wait, for its quotas or because the head is not readable yet; the link is
    /// woken when it is worth trying again.
    fn get(&mut self, channel: ChannelId, name: &str, no_ack: bool, now: Now) -> Result<Option<Event>, Refusal> {
        let queue = self.readable(name, now)?;
        let Some(rates) = self.rates_to_get(&queue, now)? else {
            return self.get_now(channel, queue, no_ack, now);
        };
        if let Err(later) = rates.pay(now.mono) {
            self.broker.schedule_wake(self.mailbox.id, later);
            return Ok(None);
        }
        let got = self.get_now(channel, queue, no_ack, now);
        if !matches!(got, Ok(Some(Event::Got { .. }))) {
            rates.give_back(1);
        }
        got
    }

    fn get_now(
        &mut self,
        channel: ChannelId,
        queue: Arc<Queue>,
        no_ack: bool,
        now: Now,
    ) -> Result<Option<Event>, Refusal> {
        let side = self.side(channel)?;
        side.uses(&queue);
        let holder = side.shared.holder;
        queue.state.lock().used_at = now.mono;
        let credit = Credit { messages: 1, bytes: usize::MAX };
        let mut waits = false;
        loop {
            let mut taken = None;
            let engine = &self.broker.engine;
            let left = engine.deliver(queue.id, credit, now, &mut |delivery| {
                taken = Some(delivery);
                holder
            });
            if let Some(delivery) = taken {
                return Ok(Some(self.got(channel, &queue, delivery, no_ack, now)));
            }
            if left.head_dead {
                match self.broker.bury(&queue, now) {
                    Burial::Done => self.broker.handle_timeout(now),
                    Burial::Refused => return Ok(Some(Event::GetEmpty(channel))),
                    Burial::Later if waits => return Ok(None),
                    Burial::Later => {
                        waits = true;
                        self.wait_to_get(&queue);
                    }
                }
            } else if left.pending && !waits {
                // Look once more after asking to be woken, or the wake could be missed.
                waits = true;
                self.wait_to_get(&queue);
            } else if left.pending {
                return Ok(None);
            } else {
                self.counted.got_empty += 1;
                return Ok(Some(Event::GetEmpty(channel)));
            }
        }
    }

    /// Has this connection woken when there may be something to get.
    fn wait_to_get(&self, queue: &Queue) {
        queue.state.lock().add_getter(&self.mailbox);
    }

    fn got(
        &mut self,
        channel: ChannelId,
        queue: &Arc<Queue>,
        delivery: engine::Delivery,
        no_ack: bool,
        now: Now,
    ) -> Event {
        let engine = &self.broker.engine;
        self.counted.got += 1;
        self.counted.redelivered += u64::from(delivery.redelivered);
        if no_ack {
            engine.settle(queue.id, &[delivery.seq], Outcome::Ack, now);
            self.counted.acknowledged += 1;
        }
        let remaining = engine.stats(queue.id).ready;
        self.broker.watch(queue, now);
        if !no_ack && queue.has_dead_letter() {
            self.transactions.keep(channel, queue.id, delivery.seq, &delivery.message);
        }
        let message = if delivery.attempts > 0 && queue.counts_attempts() {
            self.broker.with_delivery_count(delivery.message, delivery.attempts)
        } else {
            delivery.message
        };
        Event::Got {
            channel,
            receipt: Receipt { queue: queue.id, seq: delivery.seq, consumer: None },
            message,
            redelivered: delivery.redelivered,
            remaining,
        }
    }
}

fn refuse_direct_reply_to(queue: &str) -> Result<(), Refusal> {
    if queue == DIRECT_REPLY_TO || queue.starts_with("amq.rabbitmq.reply-to.") {
        return Err(Refusal::new(
            RefusalKind::NotImplemented,
            format!("the pseudo queue '{DIRECT_REPLY_TO}' is not supported yet"),
        ));
    }
    Ok(())
}

fn channel_of(request: &Request) -> ChannelId {
    match request {
        Request::Authenticate(_) | Request::OpenVhost(_) => ChannelId::CONNECTION,
        Request::OpenChannel(channel)
        | Request::CloseChannel(channel)
        | Request::DeclareExchange(channel, _)
        | Request::DeleteExchange { channel, .. }
        | Request::Bind(channel, _)
        | Request::Unbind(channel, _)
        | Request::DeclareQueue(channel, _)
        | Request::DeleteQueue { channel, .. }
        | Request::PurgeQueue { channel, .. }
        | Request::Qos { channel, .. }
        | Request::Consume(channel, _)
        | Request::Cancel { channel, .. }
        | Request::Get { channel, .. }
        | Request::Recover(channel)
        | Request::Tx(channel, _) => *channel,
        Request::BeginBody { channel, .. } | Request::AppendBody { channel, .. } => *channel,
        Request::PublishLarge(publish) => publish.channel,
        Request::Publish(publish) => publish.channel,
        Request::Settle(settle) => settle.channel,
    }
}
