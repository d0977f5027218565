//! The methods on an open channel, each turned into a step.

use super::Connection;
use super::channel::{Consumer, State};
use super::step::{Step, Tell, Then};
use crate::error::{Code, Violation};
use crate::wire::MethodId;
use crate::wire::method::{Binding, ChannelMethod, DECLARE_NOWAIT, DURABLE, FOURTH, PASSIVE, THIRD};
use model::limits::CONSUMERS_PER_CHANNEL_MAX;
use model::{ChannelId, ConsumerId, PublishSeq, Table};
use protocol::{
    BindingRequest, ConsumeRequest, Destination, ExchangeDeclaration, QueueDeclaration, Request, Settlement,
};

type Done = Result<(), Violation>;

impl Connection {
    pub(super) fn on_channel_method(&mut self, id: ChannelId, method: MethodId, what: ChannelMethod<'_>) -> Done {
        match what {
            ChannelMethod::ExchangeDeclare { .. }
            | ChannelMethod::ExchangeDelete { .. }
            | ChannelMethod::ExchangeBind(_)
            | ChannelMethod::ExchangeUnbind(_) => self.on_exchange_method(id, method, what),
            ChannelMethod::QueueDeclare { .. }
            | ChannelMethod::QueueBind(_)
            | ChannelMethod::QueueUnbind(_)
            | ChannelMethod::QueuePurge { .. }
            | ChannelMethod::QueueDelete { .. } => self.on_queue_method(id, method, what),
            ChannelMethod::Ack { tag, multiple } => self.on_settle(id, method, tag, multiple, Settlement::Ack),
            ChannelMethod::Reject { tag, requeue } => self.on_settle(id, method, tag, false, rejected(requeue)),
            ChannelMethod::Nack { tag, multiple, requeue } => {
                self.on_settle(id, method, tag, multiple, rejected(requeue))
            }
            ChannelMethod::ChannelOpen => Err(Violation::new(Code::ChannelError, method, "second 'channel.open' seen")),
            ChannelMethod::ChannelFlow { active: true } => self.tell_later(id, Tell::Flow),
            ChannelMethod::ChannelFlow { active: false } => Err(not_implemented(method, "active=false")),
            ChannelMethod::ChannelFlowOk | ChannelMethod::ChannelCloseOk => Ok(()),
            ChannelMethod::ChannelClose => {
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.state = State::Leaving;
                }
                let request = Request::CloseChannel(id);
                self.ask(id, method, Then::ChannelCloseOk, request);
                Ok(())
            }
            ChannelMethod::AccessRequest => self.tell_later(id, Tell::AccessRequest),
            ChannelMethod::ConfirmSelect { nowait } => self.on_confirm_select(id, nowait),
            ChannelMethod::TxSelect | ChannelMethod::TxCommit | ChannelMethod::TxRollback => {
                self.on_tx(id, method, &what)
            }
            _ => self.on_basic_method(id, method, what),
        }
    }

    fn tell_later(&mut self, id: ChannelId, tell: Tell) -> Done {
        self.steps.push_back(Step::Tell(id, tell));
        Ok(())
    }

    fn on_confirm_select(&mut self, id: ChannelId, nowait: bool) -> Done {
        if let Some(channel) = self.channels.get_mut(id) {
            if channel.tx.is_some() {
                let text = "cannot switch from tx to confirm mode";
                return Err(Violation::new(Code::PreconditionFailed, MethodId::CONFIRM_SELECT, text));
            }
            channel.confirms.get_or_insert(PublishSeq(0));
        }
        if nowait { Ok(()) } else { self.tell_later(id, Tell::ConfirmSelect) }
    }

    fn on_exchange_method(&mut self, id: ChannelId, method: MethodId, what: ChannelMethod<'_>) -> Done {
        let (request, nowait) = match what {
            ChannelMethod::ExchangeDeclare { exchange, kind, bits, arguments } => {
                let declaration = ExchangeDeclaration {
                    exchange: name(exchange),
                    kind: kind.to_owned(),
                    passive: bits & PASSIVE != 0,
                    durable: bits & DURABLE != 0,
                    auto_delete: bits & THIRD != 0,
                    internal: bits & FOURTH != 0,
                    arguments,
                };
                let request = Request::DeclareExchange(id, declaration);
                (request, bits & DECLARE_NOWAIT != 0)
            }
            ChannelMethod::ExchangeDelete { exchange, if_unused, nowait } => {
                let exchange = name(exchange);
                let request = Request::DeleteExchange { channel: id, exchange, if_unused };
                (request, nowait)
            }
            ChannelMethod::ExchangeBind(binding) => {
                let nowait = binding.nowait;
                (Request::Bind(id, exchange_binding(binding)), nowait)
            }
            ChannelMethod::ExchangeUnbind(binding) => {
                let nowait = binding.nowait;
                (Request::Unbind(id, exchange_binding(binding)), nowait)
            }
            _ => return Ok(()),
        };
        // The one method whose ok does not follow it by one (§1.1.2 of the errata: unbind-ok is 51).
        let ok = match method {
            MethodId(40, 40) => MethodId(40, 51),
            MethodId(class, number) => MethodId(class, number + 1),
        };
        self.ask(id, method, unless(nowait, Then::Bare(ok)), request);
        Ok(())
    }

    fn on_queue_method(&mut self, id: ChannelId, method: MethodId, what: ChannelMethod<'_>) -> Done {
        let ok = MethodId(method.0, method.1 + 1);
        let (request, then) = match what {
            ChannelMethod::QueueDeclare { queue, bits, arguments } => {
                let declaration = self.queue_declaration(id, queue, bits, arguments);
                let then = unless(bits & DECLARE_NOWAIT != 0, Then::QueueDeclareOk);
                (Request::DeclareQueue(id, declaration), then)
            }
            ChannelMethod::QueueBind(binding) => {
                let then = unless(binding.nowait, Then::Bare(ok));
                let binding = self.queue_binding(id, method, binding)?;
                (Request::Bind(id, binding), then)
            }
            ChannelMethod::QueueUnbind(binding) => {
                let binding = self.queue_binding(id, method, binding)?;
                (Request::Unbind(id, binding), Then::Bare(ok))
            }
            ChannelMethod::QueuePurge { queue, nowait } => {
                let queue = self.queue_name(id, method, queue)?;
                let request = Request::PurgeQueue { channel: id, queue };
                (request, unless(nowait, Then::Count(ok)))
            }
            ChannelMethod::QueueDelete { queue, if_unused, if_empty, nowait } => {
                let request = Request::DeleteQueue {
                    channel: id,
                    queue: self.queue_name(id, method, queue)?,
                    if_unused,
                    if_empty,
                };
                (request, unless(nowait, Then::Count(ok)))
            }
            _ => return Ok(()),
        };
        self.ask(id, method, then, request);
        Ok(())
    }

    fn queue_declaration(&mut self, id: ChannelId, queue: &str, bits: u8, arguments: Table) -> QueueDeclaration {
        let queue = name(queue);
        let passive = bits & PASSIVE != 0;
        let mut generated = None;
        if let Some(channel) = self.channels.get_mut(id) {
            if !queue.is_empty() {
                channel.last_queue = Some(queue.clone());
            } else if !passive {
                let made = self.names.next("amq.gen-");
                channel.last_queue = Some(made.clone());
                generated = Some(made);
            }
        }
        QueueDeclaration {
            queue,
            generated,
            passive,
            durable: bits & DURABLE != 0,
            exclusive: bits & THIRD != 0,
            auto_delete: bits & FOURTH != 0,
            arguments,
        }
    }

    /// The queue of that name; an empty one means the queue this channel declared last.
    fn queue_name(&mut self, id: ChannelId, method: MethodId, queue: &str) -> Result<String, Violation> {
        let queue = name(queue);
        if !queue.is_empty() {
            return Ok(queue);
        }
        self.channels
            .get_mut(id)
            .and_then(|channel| channel.last_queue.clone())
            .ok_or_else(|| Violation::new(Code::NotFound, method, "no previously declared queue"))
    }

    /// A binding of a queue. With neither queue nor key, the key is the queue's name, too.
    fn queue_binding(
        &mut self,
        id: ChannelId,
        method: MethodId,
        binding: Binding<'_>,
    ) -> Result<BindingRequest, Violation> {
        let queue = self.queue_name(id, method, binding.destination)?;
        let routing_key = if binding.destination.is_empty() && binding.routing_key.is_empty() {
            queue.clone()
        } else {
            binding.routing_key.to_owned()
        };
        Ok(BindingRequest {
            source: name(binding.source),
            destination: Destination::Queue(queue),
            routing_key,
            arguments: binding.arguments,
        })
    }

    fn on_basic_method(&mut self, id: ChannelId, method: MethodId, what: ChannelMethod<'_>) -> Done {
        match what {
            ChannelMethod::Qos { prefetch_size, .. } if prefetch_size != 0 => {
                Err(not_implemented(method, format!("prefetch_size!=0 ({prefetch_size})")))
            }
            ChannelMethod::Qos { prefetch, global, .. } => {
                let request = Request::Qos { channel: id, prefetch, global };
                self.ask(id, method, Then::Bare(MethodId(60, 11)), request);
                Ok(())
            }
            ChannelMethod::Consume { .. } => self.on_consume(id, method, what),
            ChannelMethod::Cancel { tag, nowait } => self.on_cancel(id, method, tag, nowait),
            ChannelMethod::Get { queue, no_ack } => {
                let request = Request::Get { channel: id, queue: self.queue_name(id, method, queue)?, no_ack };
                self.ask(id, method, Then::Get { no_ack }, request);
                Ok(())
            }
            ChannelMethod::Recover { requeue: true } => {
                self.on_recover(id, method, Then::Bare(MethodId(60, 111)));
                Ok(())
            }
            ChannelMethod::RecoverAsync { requeue: true } => {
                self.on_recover(id, method, Then::Silent);
                Ok(())
            }
            ChannelMethod::Recover { .. } | ChannelMethod::RecoverAsync { .. } => {
                Err(not_implemented(method, "requeue=false"))
            }
            _ => Ok(()),
        }
    }

    /// What is unsettled now cannot be settled any more; neither can what is delivered until the broker is asked.
    fn on_recover(&mut self, id: ChannelId, method: MethodId, then: Then) {
        if self.recover_in_tx(id, method, then) {
            return;
        }
        self.forget_unsettled(id);
        self.ask(id, method, then, Request::Recover(id));
    }

    fn on_consume(&mut self, id: ChannelId, method: MethodId, what: ChannelMethod<'_>) -> Done {
        let ChannelMethod::Consume { queue, tag, no_ack, exclusive, nowait, arguments } = what else {
            return Ok(());
        };
        let queue = self.queue_name(id, method, queue)?;
        let tag = match tag {
            "" => self.names.next("amq.ctag-"),
            tag => tag.to_owned(),
        };
        let Some(channel) = self.channels.get_mut(id) else {
            return Ok(());
        };
        if channel.has_tag(&tag) {
            return Err(Violation::new(Code::NotAllowed, method, format!("attempt to reuse consumer tag '{tag}'")));
        }
        if channel.consumers_len() >= CONSUMERS_PER_CHANNEL_MAX {
            return Err(Violation::new(
                Code::PreconditionFailed,
                method,
                format!("number of consumers has reached the maximum ({CONSUMERS_PER_CHANNEL_MAX})"),
            ));
        }
        let consumer = ConsumerId(self.next_consumer);
        self.next_consumer = self
            .next_consumer
            .checked_add(1)
            .ok_or_else(|| Violation::new(Code::ResourceError, method, "no consumer ids are left"))?;
        channel.add_consumer(Consumer { id: consumer, tag: tag.clone(), no_ack });
        let request = ConsumeRequest { queue, consumer, tag, no_ack, exclusive, arguments };
        let then = unless(nowait, Then::ConsumeOk(consumer));
        self.ask(id, method, then, Request::Consume(id, request));
        Ok(())
    }

    fn on_cancel(&mut self, id: ChannelId, method: MethodId, tag: &str, nowait: bool) -> Done {
        let consumer = self.channels.get_mut(id).and_then(|c| c.free_tag(tag));
        match consumer {
            Some(consumer) => {
                let then = if nowait { Then::CancelSilent(consumer) } else { Then::CancelOk(consumer) };
                let request = Request::Cancel { channel: id, consumer };
                self.ask(id, method, then, request);
                Ok(())
            }
            None if nowait => Ok(()),
            None => self.tell_later(id, Tell::Cancel(tag.to_owned())),
        }
    }
}

fn unless(nowait: bool, then: Then) -> Then {
    if nowait { Then::Silent } else { then }
}

fn rejected(requeue: bool) -> Settlement {
    if requeue { Settlement::Requeue } else { Settlement::Reject }
}

fn not_implemented(method: MethodId, text: impl Into<std::borrow::Cow<'static, str>>) -> Violation {
    Violation::new(Code::NotImplemented, method, text)
}

/// The name of a queue or exchange, without the line ends that RabbitMQ takes out, too.
fn name(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}

fn exchange_binding(binding: Binding<'_>) -> BindingRequest {
    BindingRequest {
        source: name(binding.source),
        destination: Destination::Exchange(name(binding.destination)),
        routing_key: binding.routing_key.to_owned(),
        arguments: binding.arguments,
    }
}
