//! Declaring, deleting, binding: what changes the topology, with RabbitMQ's checks in RabbitMQ's order.
//!
//! Each operation checks first, then writes the record of what is durable, then takes effect; the ticket of the
//! record is what the reply waits for.

use crate::arguments::{self, QueueArguments};
use crate::broker::Broker;
use crate::delay::{self, Store};
use crate::exchange::{Binding, Exchange, ExchangeKind, ExchangeSpec, Target};
use crate::kind::QueueKind;
use crate::queue::{Queue, QueueParts, QueueState};
use crate::record::{ExchangeRecord, Key, QueueRecord};
use crate::recovery::queue_spec;
use crate::refuse::{self, Resource};
use crate::registry::{Registry, Vhost};
use crate::users::{Access, Verb};
use engine::{EngineError, Overflow, Ticket};
use model::limits::{BINDINGS_MAX, DEDUP_IDS_MAX, EXCHANGES_MAX, NAME_BYTES_MAX, QUEUES_MAX};
use model::{ConnectionId, Now, Table, Value};
use protocol::{BindingRequest, Destination, ExchangeDeclaration, QueueDeclaration, Refusal, RefusalKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Who asks: no access means the broker itself, which may do everything.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) vhost: &'a str,
    pub(crate) access: Option<&'a Access>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) now: Now,
}

impl Asker<'_> {
    pub(crate) fn check(&self, verb: Verb, what: Resource<'_>) -> Result<(), Refusal> {
        self.access.map_or(Ok(()), |a| a.check(verb, what))
    }

    fn check_any(&self, what: Resource<'_>) -> Result<(), Refusal> {
        self.access.map_or(Ok(()), |a| a.check_any(what))
    }

    /// Refuses a queue that belongs to another connection.
    pub(crate) fn check_owner(&self, queue: &Queue) -> Result<(), Refusal> {
        match queue.owner() {
            Some(owner) if self.connection != Some(owner) => {
                Err(refuse::locked(Resource::Queue(&queue.vhost, &queue.name)))
            }
            _ => Ok(()),
        }
    }
}

fn stored(error: EngineError) -> Refusal {
    refuse::engine(&error)
}

/// Line ends are dropped from names, as RabbitMQ does.
fn clean(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

fn check_length(name: &str) -> Result<(), Refusal> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::new(
            RefusalKind::PreconditionFailed,
            format!("a name has at most {NAME_BYTES_MAX} bytes"),
        ));
    }
    Ok(())
}

/// How an exchange of a type routes, and whether it delays.
pub(crate) fn shape_of(kind: &str, arguments: &Table) -> Result<(ExchangeKind, bool), Refusal> {
    if kind != delay::TYPE {
        return Ok((kind_of(kind)?, false));
    }
    match arguments.get(delay::ROUTES_AS).and_then(Value::as_str) {
        Some(routes_as) if routes_as != delay::TYPE => Ok((kind_of(routes_as)?, true)),
        _ => Err(Refusal::new(
            RefusalKind::PreconditionFailed,
            "Invalid argument, 'x-delayed-type' must be an existing exchange type",
        )),
    }
}

fn kind_of(kind: &str) -> Result<ExchangeKind, Refusal> {
    const KNOWN: [&str; 7] = [
        "x-consistent-hash",
        "x-random",
        "x-modulus-hash",
        "x-local-random",
        "x-recent-history",
        "x-jms-topic",
        "x-event",
    ];
    if let Some(kind) = ExchangeKind::from_name(kind) {
        return Ok(kind);
    }
    if KNOWN.contains(&kind) {
        return Err(Refusal::new(RefusalKind::NotImplemented, format!("exchange type '{kind}' is not supported yet")));
    }
    Err(Refusal::new(RefusalKind::CommandInvalid, format!("unknown exchange type '{kind}'")))
}

impl Registry {
    fn vhost_mut(&mut self, name: &str) -> Result<&mut Vhost, Refusal> {
        self.vhosts.get_mut(name).ok_or_else(|| refuse::no_vhost(name))
    }

    /// A queue of a vhost by name.
    pub(crate) fn queue_named(&self, vhost: &str, name: &str) -> Result<&Arc<Queue>, Refusal> {
        self.vhosts
            .get(vhost)
            .ok_or_else(|| refuse::no_vhost(vhost))?
            .queue(name)
            .ok_or_else(|| refuse::missing(Resource::Queue(vhost, name)))
    }
}

impl Broker {
    /// Something a publish could depend on has changed.
    pub(crate) fn topology_changed(&self) {
        self.epoch.fetch_add(1, SeqCst);
    }

    /// Declares an exchange.
    pub(crate) fn declare_exchange(&self, asker: Asker<'_>, request: &ExchangeDeclaration) -> Result<Ticket, Refusal> {
        let name = clean(&request.exchange);
        check_length(&name)?;
        let what = Resource::Exchange(asker.vhost, &name);
        if request.passive {
            if name.is_empty() {
                return Err(refuse::default_exchange());
            }
            asker.check_any(what)?;
            let registry = self.registry.read();
            let vhost = registry.vhosts.get(asker.vhost);
            return match vhost.and_then(|v| v.exchanges.get(&*name)) {
                Some(_) => Ok(Ticket::NONE),
                None => Err(refuse::missing(what)),
            };
        }
        let (kind, delayed) = shape_of(&request.kind, &request.arguments)?;
        arguments::check_exchange(&request.arguments, what)?;
        let spec = ExchangeSpec {
            kind,
            delayed,
            durable: request.durable,
            auto_delete: request.auto_delete,
            internal: request.internal,
            alternate: arguments::alternate(&request.arguments, what)?,
            arguments: request.arguments.clone(),
        };
        if name.is_empty() {
            return Err(refuse::default_exchange());
        }
        asker.check(Verb::Configure, what)?;
        let mut registry = self.registry.write();
        let count = registry.exchange_count;
        let vhost = registry.vhost_mut(asker.vhost)?;
        if let Some(known) = vhost.exchanges.get(&*name) {
            return same_exchange(&spec, &known.spec, what).map(|()| Ticket::NONE);
        }
        if name.starts_with("amq.") {
            return Err(refuse::reserved("exchange", &name));
        }
        if let Some(alternate) = &spec.alternate {
            asker.check(Verb::Read, what)?;
            asker.check(Verb::Write, Resource::Exchange(asker.vhost, alternate))?;
        }
        if count >= EXCHANGES_MAX {
            return Err(refuse::too_many("exchanges", EXCHANGES_MAX));
        }
        let (store, ticket) = self.create_exchange(&vhost.name, &name, &spec)?;
        let alternate = registry.policies.alternate(asker.vhost, &name);
        let name: Arc<str> = name.into();
        let mut exchange = Exchange::new(name.clone(), spec, store.clone());
        exchange.set_policy(alternate);
        registry.vhost_mut(asker.vhost)?.exchanges.insert(name, exchange);
        registry.stores.extend(store.map(|store| (store.id, store)));
        registry.exchange_count += 1;
        self.topology_changed();
        Ok(ticket)
    }

    /// Makes what the engine keeps of a new exchange: where messages wait if it delays, and its record if it is
    /// durable.
    fn create_exchange(
        &self,
        vhost: &Arc<str>,
        name: &str,
        spec: &ExchangeSpec,
    ) -> Result<(Option<Arc<Store>>, Ticket), Refusal> {
        let mut store = None;
        let mut ticket = Ticket::NONE;
        if spec.delayed {
            let (id, made) = self.engine.create_queue(Store::spec(spec.durable)).map_err(stored)?;
            ticket = made;
            store = Some(Arc::new(Store { id, vhost: vhost.clone(), exchange: name.into() }));
        }
        if spec.durable {
            let record = ExchangeRecord {
                kind: spec.type_name().to_owned(),
                auto_delete: spec.auto_delete,
                internal: spec.internal,
                store: store.as_ref().map(|store| store.id.0),
                arguments: spec.arguments.clone(),
            };
            match self.engine.put_meta(Key::exchange(vhost, name).bytes(), &record.value()) {
                Ok(recorded) => ticket = ticket.max(recorded),
                Err(error) => {
                    if let Some(store) = store {
                        // Without the record it would be garbage after a restart anyway.
                        let _ = self.engine.delete_queue(store.id);
                    }
                    return Err(stored(error));
                }
            }
        }
        Ok((store, ticket))
    }

    /// Deletes an exchange; a missing one is fine.
    pub(crate) fn delete_exchange(&self, asker: Asker<'_>, name: &str, if_unused: bool) -> Result<Ticket, Refusal> {
        let name = clean(name);
        let what = Resource::Exchange(asker.vhost, &name);
        if name.is_empty() {
            return Err(refuse::default_exchange());
        }
        if name.starts_with("amq.") {
            return Err(refuse::system_exchange(what));
        }
        asker.check(Verb::Configure, what)?;
        let mut registry = self.registry.write();
        let vhost = registry.vhost_mut(asker.vhost)?;
        let Some(exchange) = vhost.exchanges.get(&*name) else {
            return Ok(Ticket::NONE);
        };
        if if_unused && exchange.binding_count() > 0 {
            return Err(refuse::in_use(what));
        }
        let name = exchange.name.clone();
        let gone = registry.remove_exchanges(&*self.engine, asker.vhost, vec![name]);
        self.topology_changed();
        gone.map_err(stored)
    }

    /// Declares a queue.
    pub(crate) fn declare_queue(
        &self,
        asker: Asker<'_>,
        request: &QueueDeclaration,
    ) -> Result<(Arc<Queue>, Ticket), Refusal> {
        let asked = clean(&request.queue);
        check_length(&asked)?;
        let name = match &request.generated {
            Some(generated) if asked.is_empty() => generated.clone(),
            _ => asked.clone(),
        };
        let what = Resource::Queue(asker.vhost, &name);
        if name.is_empty() {
            return Err(Refusal::new(RefusalKind::NotFound, "no previously declared queue"));
        }
        if request.passive {
            asker.check_any(what)?;
            let registry = self.registry.read();
            let queue = registry.queue_named(asker.vhost, &name)?;
            asker.check_owner(queue)?;
            queue.state.lock().used_at = asker.now.mono;
            return Ok((queue.clone(), Ticket::NONE));
        }
        asker.check(Verb::Configure, what)?;
        let durable = request.durable && !request.exclusive;
        let mut registry = self.registry.write();
        let (count, dedup_ids) = (registry.queues.len(), registry.dedup_ids);
        let vhost = registry.vhost_mut(asker.vhost)?;
        if let Some(known) = vhost.queue(&name) {
            same_queue(asker, durable, request, known)?;
            known.state.lock().used_at = asker.now.mono;
            return Ok((known.clone(), Ticket::NONE));
        }
        if !asked.is_empty() && asked.starts_with("amq.") {
            return Err(refuse::reserved("queue", &name));
        }
        QueueKind::of(&request.arguments).check_named(&asked)?;
        let arguments = QueueArguments::read(&request.arguments, what)?;
        arguments.kind.check_declaration(request, what)?;
        if arguments.durability.is_some() && !durable {
            return Err(refuse::invalid_arg("x-durability", what, "\"the queue is not durable\""));
        }
        if arguments.dedup.is_some() && arguments.behaviour.overflow.unwrap_or_default() != Overflow::DropHead {
            // What is refused must not count as seen.
            return Err(refuse::unsupported_arg("x-overflow beside x-message-deduplication", what));
        }
        if let Some(exchange) = &arguments.behaviour.dead_letter_exchange {
            asker.check(Verb::Read, what)?;
            asker.check(Verb::Write, Resource::Exchange(asker.vhost, exchange))?;
        }
        if count >= QUEUES_MAX {
            return Err(refuse::too_many("queues", QUEUES_MAX));
        }
        let window = arguments.dedup.as_ref().map_or(0, |spec| spec.window);
        if dedup_ids + window > DEDUP_IDS_MAX {
            return Err(refuse::too_many("ids remembered by all queues", DEDUP_IDS_MAX));
        }
        let behaviour = registry.policies.behaviour(asker.vhost, &name, &arguments);
        let vhost = registry.vhost_mut(asker.vhost)?;
        let (queue, ticket) = self.create_queue(asker, vhost, &name, request, arguments)?;
        queue.change(behaviour);
        queue.rates.store(self.quotas.load().of_queue(&queue, asker.now.mono).map(Arc::new));
        // Nobody has seen it yet, so it begins with them.
        self.engine.set_limits(queue.id, queue.limits(), asker.now);
        registry.queues.insert(queue.id, queue.clone());
        registry.dedup_ids += window;
        self.topology_changed();
        drop(registry);
        self.counters.queues_created.add(1);
        self.watch(&queue, asker.now);
        Ok((queue, if durable { ticket } else { Ticket::NONE }))
    }

    /// Makes a queue that is not there, and its record if it is durable.
    fn create_queue(
        &self,
        asker: Asker<'_>,
        vhost: &mut Vhost,
        name: &str,
        request: &QueueDeclaration,
        arguments: QueueArguments,
    ) -> Result<(Arc<Queue>, Ticket), Refusal> {
        let durable = request.durable && !request.exclusive;
        let spec = queue_spec(durable, &arguments);
        let (id, mut ticket) = self.engine.create_queue(spec).map_err(stored)?;
        if durable {
            let record =
                QueueRecord { id: id.0, auto_delete: request.auto_delete, arguments: request.arguments.clone() };
            let key = Key::queue(asker.vhost, name);
            match self.engine.put_meta(key.bytes(), &record.value()) {
                Ok(recorded) => ticket = ticket.max(recorded),
                Err(error) => {
                    // Without its record the queue would be garbage after a restart anyway.
                    let _ = self.engine.delete_queue(id);
                    return Err(stored(error));
                }
            }
        }
        let parts = QueueParts {
            id,
            vhost: vhost.shared_name.clone(),
            name,
            durable,
            auto_delete: request.auto_delete,
            owner: asker.connection.filter(|_| request.exclusive),
            arguments,
            recovered: false,
        };
        let queue = Arc::new(Queue::new(parts, asker.now.mono));
        vhost.add_queue(queue.clone());
        Ok((queue, ticket))
    }

    /// Deletes a queue by name; a missing one is fine. Returns how many messages went with it.
    pub(crate) fn delete_queue(
        &self,
        asker: Asker<'_>,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(u64, Ticket), Refusal> {
        let what = Resource::Queue(asker.vhost, name);
        asker.check(Verb::Configure, what)?;
        let Ok(queue) = self.registry.read().queue_named(asker.vhost, name).cloned() else {
            return Ok((0, Ticket::NONE));
        };
        asker.check_owner(&queue)?;
        let ready = self.engine.stats(queue.id).ready;
        if if_empty && ready > 0 {
            return Err(refuse::not_empty(what));
        }
        let deleted = self.delete_queue_if(&queue, |state| !if_unused || state.consumers().is_empty());
        match deleted.map_err(stored)? {
            Some(ticket) => Ok((ready, if queue.durable { ticket } else { Ticket::NONE })),
            None => Err(refuse::in_use(what)),
        }
    }

    /// Deletes a queue if it is as asked; its consumers are told.
    pub(crate) fn delete_queue_if(
        &self,
        queue: &Arc<Queue>,
        wanted: impl FnOnce(&QueueState) -> bool,
    ) -> Result<Option<Ticket>, EngineError> {
        let mut registry = self.registry.write();
        let (consumers, getters) = {
            let mut state = queue.state.lock();
            if state.deleted {
                return Ok(Some(Ticket::NONE));
            }
            if !wanted(&state) {
                return Ok(None);
            }
            state.deleted = true;
            queue.consumer_count.store(0, SeqCst);
            (state.take_consumers(), state.take_getters())
        };
        let ticket = registry.remove_queue(&*self.engine, queue);
        self.topology_changed();
        drop(registry);
        self.counters.queues_deleted.add(1);
        for consumer in consumers {
            consumer.gone.store(true, SeqCst);
            let lost = crate::mailbox::Parcel::Lost(consumer.clone());
            consumer.mailbox.put(std::iter::once(lost));
            consumer.mailbox.wake();
        }
        for getter in getters {
            getter.wake();
        }
        ticket.map(Some)
    }

    /// Makes a binding; one that exists is fine.
    pub(crate) fn bind(&self, asker: Asker<'_>, request: &BindingRequest) -> Result<Ticket, Refusal> {
        self.check_binding(asker, request)?;
        let mut registry = self.registry.write();
        let count = registry.binding_count;
        let vhost = registry.vhost_mut(asker.vhost)?;
        let binding = resolve(asker, vhost, request)?;
        if count >= BINDINGS_MAX {
            return Err(refuse::too_many("bindings", BINDINGS_MAX));
        }
        let record = vhost.record_of(source_of(vhost, request)?, &binding);
        let Some(source) = vhost.exchanges.get_mut(&*request.source) else {
            return Err(refuse::missing(Resource::Exchange(asker.vhost, &request.source)));
        };
        let undo = binding.clone();
        if !source.bind(binding)? {
            return Ok(Ticket::NONE);
        }
        let mut ticket = Ticket::NONE;
        if let Some(record) = record {
            let key = Key::binding(asker.vhost, &record);
            match self.engine.put_meta(key.bytes(), &record.value()) {
                Ok(recorded) => ticket = recorded,
                Err(error) => {
                    source.unbind(&undo);
                    return Err(stored(error));
                }
            }
        }
        registry.binding_count += 1;
        self.topology_changed();
        Ok(ticket)
    }

    /// Removes a binding; one that does not exist is fine.
    pub(crate) fn unbind(&self, asker: Asker<'_>, request: &BindingRequest) -> Result<Ticket, Refusal> {
        self.check_binding(asker, request)?;
        let mut registry = self.registry.write();
        let vhost = registry.vhost_mut(asker.vhost)?;
        let binding = resolve(asker, vhost, request)?;
        let record = vhost.record_of(source_of(vhost, request)?, &binding);
        let Some(source) = vhost.exchanges.get_mut(&*request.source) else {
            return Ok(Ticket::NONE);
        };
        if !source.unbind(&binding) {
            return Ok(Ticket::NONE);
        }
        let emptied = source.spec.auto_delete && source.binding_count() == 0;
        let name = source.name.clone();
        registry.binding_count -= 1;
        self.topology_changed();
        let mut ticket = Ticket::NONE;
        if let Some(record) = record {
            let key = Key::binding(asker.vhost, &record);
            ticket = self.engine.delete_meta(key.bytes()).map_err(stored)?;
        }
        if emptied {
            let gone = registry.remove_exchanges(&*self.engine, asker.vhost, vec![name]);
            ticket = ticket.max(gone.map_err(stored)?);
        }
        Ok(ticket)
    }

    fn check_binding(&self, asker: Asker<'_>, request: &BindingRequest) -> Result<(), Refusal> {
        let destination = match &request.destination {
            Destination::Queue(name) => Resource::Queue(asker.vhost, name),
            Destination::Exchange(name) => Resource::Exchange(asker.vhost, name),
        };
        if request.source.is_empty() || destination == Resource::Exchange(asker.vhost, "") {
            return Err(refuse::default_exchange());
        }
        check_length(&request.routing_key)?;
        asker.check(Verb::Write, destination)?;
        asker.check(Verb::Read, Resource::Exchange(asker.vhost, &request.source))?;
        let Some(access) = asker.access else {
            return Ok(());
        };
        let registry = self.registry.read();
        let vhost = registry.vhosts.get(asker.vhost);
        let source = vhost.and_then(|v| v.exchanges.get(&*request.source));
        if source.is_some_and(|e| e.spec.kind == ExchangeKind::Topic) {
            access.check_topic(Verb::Read, &request.source, &request.routing_key)?;
        }
        Ok(())
    }
}

fn source_of<'a>(vhost: &'a Vhost, request: &BindingRequest) -> Result<&'a Exchange, Refusal> {
    vhost
        .exchanges
        .get(&*request.source)
        .ok_or_else(|| refuse::missing(Resource::Exchange(&vhost.name, &request.source)))
}

fn resolve(asker: Asker<'_>, vhost: &Vhost, request: &BindingRequest) -> Result<Binding, Refusal> {
    let target = match &request.destination {
        Destination::Queue(name) => match vhost.queue(name) {
            Some(queue) => {
                asker.check_owner(queue)?;
                Target::Queue(queue.clone())
            }
            None => return Err(refuse::missing(Resource::Queue(&vhost.name, name))),
        },
        Destination::Exchange(name) => match vhost.exchanges.get(&**name) {
            Some(exchange) => Target::Exchange(exchange.name.clone()),
            None => return Err(refuse::missing(Resource::Exchange(&vhost.name, name))),
        },
    };
    source_of(vhost, request)?;
    Ok(Binding { key: request.routing_key.clone(), arguments: request.arguments.clone(), target })
}

/// Checks that an exchange declared again is declared alike.
pub(crate) fn same_exchange(
    received: &ExchangeSpec,
    current: &ExchangeSpec,
    what: Resource<'_>,
) -> Result<(), Refusal> {
    arguments::same_field("type", received.type_name(), current.type_name(), what)?;
    if received.delayed {
        arguments::same_argument(delay::ROUTES_AS, &received.arguments, &current.arguments, what)?;
    }
    arguments::same_field("durable", received.durable, current.durable, what)?;
    arguments::same_field("auto_delete", received.auto_delete, current.auto_delete, what)?;
    arguments::same_field("internal", received.internal, current.internal, what)?;
    arguments::same_argument("alternate-exchange", &received.arguments, &current.arguments, what)
}

fn same_queue(asker: Asker<'_>, durable: bool, request: &QueueDeclaration, known: &Queue) -> Result<(), Refusal> {
    let what = Resource::Queue(&known.vhost, &known.name);
    if known.owner() != asker.connection.filter(|_| request.exclusive) {
        return Err(refuse::locked(what));
    }
    arguments::same_field("durable", durable, known.durable, what)?;
    arguments::same_field("auto_delete", request.auto_delete, known.auto_delete, what)?;
    arguments::same_queue(&request.arguments, &known.arguments.table, what)
}
