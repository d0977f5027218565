//! Applying definitions: what they name is added or verified, never changed or deleted.
//!
//! Users, permissions and policies are the definitions' own: they are not kept in the engine, and replace what was
//! there.

use crate::broker::Broker;
use crate::dead_letter::Burial;
use crate::policies::Policies;
use crate::record::{Key, vhost_value};
use crate::recovery::add_vhost;
use crate::refuse;
use crate::topology::Asker;
use crate::users::Users;
use engine::Ticket;
use model::definitions::{BindingDef, Definitions, DestinationType, ExchangeDef, QueueDef};
use model::{Now, Table};
use protocol::{BindingRequest, Destination, ExchangeDeclaration, QueueDeclaration, Refusal};
use std::collections::HashSet;

impl Broker {
    /// Adds what `definitions` name and verifies what exists already. Users, permissions, topic permissions and
    /// policies become exactly those named; `guest` alone if no user is. Contradictions leave them as they were; what
    /// was added before one stays.
    ///
    /// # Errors
    /// Every contradiction.
    pub fn apply_definitions(&self, definitions: &Definitions, now: Now) -> Result<Ticket, Vec<String>> {
        let _alone = self.applying.lock();
        let mut problems = Vec::new();
        let mut ticket = Ticket::NONE;
        let users = Users::from_definitions(definitions, &mut problems);
        let policies = Policies::from_definitions(definitions, &mut problems);
        self.check_vhosts(definitions, &mut problems);
        let mut note = |what: String, result: Result<Ticket, Refusal>| match result {
            Ok(made) => ticket = ticket.max(made),
            Err(refusal) => problems.push(format!("{what}: {refusal}")),
        };
        for vhost in &definitions.vhosts {
            note(format!("vhost '{}'", vhost.name), self.add_vhost(&vhost.name));
        }
        for exchange in &definitions.exchanges {
            let what = format!("exchange '{}' in vhost '{}'", exchange.name, exchange.vhost);
            note(what, self.define_exchange(exchange, now));
        }
        for queue in &definitions.queues {
            let what = format!("queue '{}' in vhost '{}'", queue.name, queue.vhost);
            note(what, self.define_queue(queue, now));
        }
        for binding in &definitions.bindings {
            let what =
                format!("binding from '{}' to '{}' in vhost '{}'", binding.source, binding.destination, binding.vhost);
            note(what, self.define_binding(binding, now));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.registry.write().users = users;
        self.enforce(policies, now);
        Ok(ticket)
    }

    /// Puts policies in force for everything there is. No queue loses a message by it, but those that a time to live
    /// or a limit then ends.
    fn enforce(&self, policies: Policies, now: Now) {
        let mut registry = self.registry.write();
        for vhost in registry.vhosts.values_mut() {
            for exchange in vhost.exchanges.values_mut() {
                exchange.set_policy(policies.alternate(&vhost.name, &exchange.name));
            }
        }
        registry.policies = policies;
        let mut changed = Vec::new();
        for queue in registry.queues.values() {
            let before = queue.limits();
            let behaviour = registry.policies.behaviour(&queue.vhost, &queue.name, &queue.arguments);
            if queue.change(behaviour) {
                changed.push((queue.clone(), before));
            }
        }
        drop(registry);
        self.topology_changed();
        for (queue, before) in changed {
            let limits = queue.limits();
            if limits != before {
                if queue.drops_head() {
                    // What is on its way to who waits is not too much.
                    self.engine.set_waited(queue.id, queue.state.lock().waited_since().is_some(), now);
                }
                // Without a lock, since it may end many entries.
                self.engine.set_limits(queue.id, limits, now);
            }
            self.dispatch(&queue, now);
            if self.bury(&queue, now) == Burial::Done {
                self.watch(&queue, now);
            }
        }
    }

    fn check_vhosts(&self, definitions: &Definitions, problems: &mut Vec<String>) {
        let registry = self.registry.read();
        let named: HashSet<&str> = definitions.vhosts.iter().map(|v| &*v.name).collect();
        for permission in &definitions.permissions {
            let vhost = permission.vhost.as_str();
            if !named.contains(vhost) && !registry.vhosts.contains_key(vhost) {
                problems.push(format!("permission of user '{}': there is no vhost '{vhost}'", permission.user));
            }
        }
    }

    fn add_vhost(&self, name: &str) -> Result<Ticket, Refusal> {
        let mut registry = self.registry.write();
        if registry.vhosts.contains_key(name) {
            return Ok(Ticket::NONE);
        }
        let ticket =
            self.engine.put_meta(Key::vhost(name).bytes(), &vhost_value()).map_err(|error| refuse::engine(&error))?;
        add_vhost(&mut registry, name);
        self.topology_changed();
        Ok(ticket)
    }

    fn itself(vhost: &str, now: Now) -> Asker<'_> {
        Asker { vhost, access: None, connection: None, now }
    }

    fn define_exchange(&self, exchange: &ExchangeDef, now: Now) -> Result<Ticket, Refusal> {
        let declaration = ExchangeDeclaration {
            exchange: exchange.name.clone(),
            kind: exchange.kind.clone(),
            passive: false,
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
        };
        self.declare_exchange(Self::itself(&exchange.vhost, now), &declaration)
    }

    fn define_queue(&self, queue: &QueueDef, now: Now) -> Result<Ticket, Refusal> {
        let declaration = QueueDeclaration {
            queue: queue.name.clone(),
            generated: None,
            passive: false,
            durable: queue.durable,
            exclusive: false,
            auto_delete: queue.auto_delete,
            arguments: queue.arguments.clone(),
        };
        let (_, ticket) = self.declare_queue(Self::itself(&queue.vhost, now), &declaration)?;
        Ok(ticket)
    }

    fn define_binding(&self, binding: &BindingDef, now: Now) -> Result<Ticket, Refusal> {
        let to_queue = binding.destination_type == DestinationType::Queue;
        if binding.source.is_empty() && to_queue {
            // An export may name the implicit bindings of the default exchange.
            let registry = self.registry.read();
            return registry.queue_named(&binding.vhost, &binding.destination).map(|_| Ticket::NONE);
        }
        let request = BindingRequest {
            source: binding.source.clone(),
            destination: match binding.destination_type {
                DestinationType::Queue => Destination::Queue(binding.destination.clone()),
                DestinationType::Exchange => Destination::Exchange(binding.destination.clone()),
            },
            routing_key: binding.routing_key.clone(),
            arguments: binding.arguments.clone(),
        };
        self.bind(Self::itself(&binding.vhost, now), &request)
    }

    /// Declares a durable queue if there is none of that name.
    ///
    /// # Errors
    /// No such vhost, or the engine refuses.
    pub fn ensure_queue(&self, vhost: &str, name: &str, now: Now) -> Result<Ticket, Refusal> {
        if self.registry.read().queue_named(vhost, name).is_ok() {
            return Ok(Ticket::NONE);
        }
        let queue = QueueDef {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            durable: true,
            auto_delete: false,
            arguments: Table::new(),
        };
        self.define_queue(&queue, now)
    }
}
