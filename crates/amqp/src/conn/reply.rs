//! What the broker says, told to the client.

use super::Connection;
use super::channel::State;
use super::step::{Reply, Then};
use crate::error::{Code, Violation};
use crate::wire::MethodId;
use crate::wire::encode::{self, ContentMethod};
use model::limits::UNSETTLED_PER_CHANNEL_MAX;
use model::{ChannelId, ConsumerId, Message, Mono};
use protocol::{Confirmed, Event, Outgoing, Receipt, Refusal, Returned};

/// A message on its way to the client.
struct Delivery {
    receipt: Receipt,
    message: Message,
    redelivered: bool,
}

impl Connection {
    pub(super) fn on_event(&mut self, event: Event, now: Mono, out: &mut Outgoing) {
        match event {
            Event::Deliver { channel, consumer, receipt, message, redelivered } => {
                let delivery = Delivery { receipt, message, redelivered };
                self.on_deliver(channel, consumer, delivery, out);
            }
            Event::Confirmed(confirmed) => self.on_confirmed(confirmed, out),
            Event::Returned(returned) => self.on_returned(&returned, out),
            Event::Refused { channel, refusal } => self.on_refused(channel, refusal, now, out),
            Event::ConsumerLost { channel, consumer } => {
                self.on_consumer_lost(channel, consumer, out);
            }
            Event::Blocked(reason) => {
                self.blocked = true;
                if self.hears_blocked() {
                    encode::with_short(out, 0, MethodId(10, 60), reason);
                }
            }
            Event::Unblocked => {
                self.blocked = false;
                self.heartbeat.note_received(now);
                if self.hears_blocked() {
                    encode::bare(out, 0, MethodId(10, 61));
                }
            }
            Event::BodyPiece(Some(piece)) => self.streams.piece(&piece, self.frame_size_max, out),
            Event::BodyPiece(None) => self.on_body_lost(now, out),
            reply => self.on_reply(reply, out),
        }
    }

    fn hears_blocked(&self) -> bool {
        self.client.hears_blocked && self.phase == super::Phase::Running
    }

    /// Takes the request that is waiting for a reply on that channel.
    fn answered(&mut self, channel: ChannelId) -> Option<Reply> {
        self.awaiting.take_if(|reply| reply.channel == channel)
    }

    fn on_reply(&mut self, event: Event, out: &mut Outgoing) {
        let Some(channel) = replied_channel(&event) else {
            return;
        };
        let Some(Reply { then, .. }) = self.answered(channel) else {
            return;
        };
        if channel != ChannelId::CONNECTION && !self.channels.hears(channel) {
            return;
        }
        let c = channel.0;
        match (then, event) {
            (Then::Tune, Event::Authenticated) => {
                let s = &self.settings;
                encode::tune(out, s.channels_max, s.frame_size_max, s.heartbeat_seconds);
            }
            (Then::ConnectionOpenOk, Event::VhostOpened) => {
                self.deadline = None;
                encode::with_short(out, 0, MethodId(10, 41), "");
            }
            (Then::ChannelOpenOk, Event::ChannelOpened(_)) => {
                encode::method(self.streams.lane(channel, out), c, MethodId(20, 11), |b| b.extend_from_slice(&[0; 4]));
            }
            (Then::ChannelCloseOk, Event::ChannelClosed(_)) => {
                self.channels.remove(channel);
                encode::bare(self.streams.lane(channel, out), c, MethodId(20, 41));
            }
            (Then::Bare(ok), _) => encode::bare(self.streams.lane(channel, out), c, ok),
            (Then::QueueDeclareOk, Event::QueueDeclared { queue, messages, consumers, .. }) => {
                let out = self.streams.lane(channel, out);
                encode::queue_declared(out, c, &queue, messages, consumers);
            }
            (Then::Count(ok), Event::QueueDeleted { messages, .. })
            | (Then::Count(ok), Event::QueuePurged { messages, .. }) => {
                encode::with_count(self.streams.lane(channel, out), c, ok, messages);
            }
            (Then::ConsumeOk(consumer), Event::Consuming { .. }) => {
                self.tell_tag(channel, consumer, MethodId(60, 21), out);
            }
            (Then::CancelOk(consumer), Event::Cancelled { .. }) => {
                self.tell_tag(channel, consumer, MethodId(60, 31), out);
                self.forget_consumer(channel, consumer);
            }
            (Then::CancelSilent(consumer), Event::Cancelled { .. }) => {
                self.forget_consumer(channel, consumer);
            }
            (Then::Get { .. }, Event::GetEmpty(_)) => {
                encode::with_short(self.streams.lane(channel, out), c, MethodId(60, 72), "");
            }
            (Then::Get { no_ack }, Event::Got { receipt, message, redelivered, remaining, .. }) => {
                let delivery = Delivery { receipt, message, redelivered };
                self.on_got(channel, no_ack, &delivery, remaining, out);
            }
            (Then::Silent, _) => {}
            (then, event) => {
                debug_assert!(false, "{event:?} is no reply to what waits for {then:?}");
            }
        }
    }

    fn tell_tag(&mut self, id: ChannelId, consumer: ConsumerId, ok: MethodId, out: &mut Outgoing) {
        if let Some(consumer) = self.channels.get_mut(id).and_then(|c| c.consumer(consumer)) {
            encode::with_short(self.streams.lane(id, out), id.0, ok, &consumer.tag);
        }
    }

    fn forget_consumer(&mut self, id: ChannelId, consumer: ConsumerId) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.remove_consumer(consumer);
        }
    }

    fn on_got(&mut self, id: ChannelId, no_ack: bool, delivery: &Delivery, remaining: u64, out: &mut Outgoing) {
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        let tag = channel.next_tag();
        let method = ContentMethod::GetOk { tag, redelivered: delivery.redelivered, remaining };
        encode::content(self.streams.lane(id, out), id.0, &method, &delivery.message, self.frame_size_max);
        if let Some(body) = delivery.message.large_body() {
            self.streams.start(id, body.clone());
        }
        if !no_ack {
            channel.unsettled.push(tag, delivery.receipt);
            self.limit_unsettled(id, out);
        }
    }

    /// A delivery for a channel or consumer that is gone is dropped: its entry went back when that ended.
    fn on_deliver(&mut self, id: ChannelId, consumer: ConsumerId, delivery: Delivery, out: &mut Outgoing) {
        let Some(channel) = self.channels.open_mut(id) else {
            return;
        };
        let tag = channel.last_tag + 1;
        let Some(consumer) = channel.consumer(consumer) else {
            return;
        };
        let method = ContentMethod::Deliver { consumer_tag: &consumer.tag, tag, redelivered: delivery.redelivered };
        encode::content(self.streams.lane(id, out), id.0, &method, &delivery.message, self.frame_size_max);
        if let Some(body) = delivery.message.large_body() {
            self.streams.start(id, body.clone());
        }
        let no_ack = consumer.no_ack;
        channel.last_tag = tag;
        if no_ack {
            return;
        }
        channel.unsettled.push(tag, delivery.receipt);
        self.limit_unsettled(id, out);
    }

    /// Closes a channel that holds too many deliveries.
    fn limit_unsettled(&mut self, id: ChannelId, out: &mut Outgoing) {
        let held = self.channels.get_mut(id).map_or(0, |channel| channel.unsettled.len());
        if held > UNSETTLED_PER_CHANNEL_MAX {
            let text = format!("more than {UNSETTLED_PER_CHANNEL_MAX} unsettled deliveries");
            let violation = Violation::new(Code::PreconditionFailed, MethodId::NONE, text);
            self.close_channel(id, &violation, out);
        }
    }

    /// A content cannot be completed, and nothing else can be said on its channel: the connection ends. The message stays.
    fn on_body_lost(&mut self, now: Mono, out: &mut Outgoing) {
        if self.streams.is_busy() {
            let text = "the body of a message cannot be read from the disk";
            let violation = Violation::new(Code::InternalError, MethodId::NONE, text);
            self.close_connection(&violation, now, out);
        }
    }

    /// Confirms come in order, so one `multiple` covers them all.
    fn on_confirmed(&mut self, confirmed: Confirmed, out: &mut Outgoing) {
        let Confirmed { channel, first, last, accepted } = confirmed;
        if self.channels.open_mut(channel).is_none() {
            return;
        }
        let multiple = first < last;
        let out = self.streams.lane(channel, out);
        if accepted {
            encode::ack(out, channel.0, last.0, multiple);
        } else {
            encode::nack(out, channel.0, last.0, multiple);
        }
    }

    fn on_returned(&mut self, returned: &Returned, out: &mut Outgoing) {
        let channel = returned.channel;
        if self.channels.open_mut(channel).is_some() {
            let method = ContentMethod::Return;
            encode::content(
                self.streams.lane(channel, out),
                channel.0,
                &method,
                &returned.message,
                self.frame_size_max,
            );
            if let Some(body) = returned.message.large_body() {
                self.streams.start(channel, body.clone());
            }
        }
    }

    fn on_consumer_lost(&mut self, id: ChannelId, consumer: ConsumerId, out: &mut Outgoing) {
        let hears = self.client.hears_cancel;
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        let open = channel.state == State::Open;
        if let Some(consumer) = channel.remove_consumer(consumer)
            && hears
            && open
        {
            encode::cancel(self.streams.lane(id, out), id.0, &consumer.tag);
        }
    }

    fn on_refused(&mut self, id: ChannelId, refusal: Refusal, now: Mono, out: &mut Outgoing) {
        let answered = self.answered(id);
        if let Some(Reply { then: Then::Tune, .. }) = answered {
            self.on_login_refused(refusal, now, out);
            return;
        }
        let method = answered.map_or(self.last_unanswered, |reply| reply.method);
        let violation = Violation::new(refusal.kind.into(), method, refusal.text);
        if violation.code.is_hard() || id == ChannelId::CONNECTION {
            if matches!(self.phase, super::Phase::Closing | super::Phase::Closed) {
                return;
            }
            self.close_connection(&violation, now, out);
            return;
        }
        match self.channels.get_mut(id).map(|channel| channel.state) {
            Some(State::Open | State::Failing) => self.close_channel(id, &violation, out),
            // The client does not want to know any more; its close is on the way, unless that was refused.
            Some(State::Leaving) if answered.is_some_and(|r| r.then == Then::ChannelCloseOk) => {
                self.channels.remove(id);
                encode::bare(self.streams.lane(id, out), id.0, MethodId(20, 41));
            }
            Some(State::Leaving | State::Closing) | None => {}
        }
    }
}

/// The channel a reply is for.
fn replied_channel(event: &Event) -> Option<ChannelId> {
    Some(match event {
        Event::Authenticated | Event::VhostOpened => ChannelId::CONNECTION,
        Event::ChannelOpened(channel)
        | Event::ChannelClosed(channel)
        | Event::ExchangeDeclared(channel)
        | Event::ExchangeDeleted(channel)
        | Event::Bound(channel)
        | Event::Unbound(channel)
        | Event::QosSet(channel)
        | Event::GetEmpty(channel)
        | Event::Recovered(channel)
        | Event::TxDone(channel)
        | Event::QueueDeclared { channel, .. }
        | Event::QueueDeleted { channel, .. }
        | Event::QueuePurged { channel, .. }
        | Event::Consuming { channel, .. }
        | Event::Cancelled { channel, .. }
        | Event::Got { channel, .. } => *channel,
        Event::Refused { .. }
        | Event::Deliver { .. }
        | Event::Returned(_)
        | Event::Confirmed(_)
        | Event::ConsumerLost { .. }
        | Event::BodyPiece(_)
        | Event::Blocked(_)
        | Event::Unblocked => return None,
    })
}
