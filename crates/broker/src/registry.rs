//! Everything that is declared: vhosts with their exchanges, bindings and queues, and users.
//!
//! Invariants: a binding's target exists; a durable exchange, queue, or binding between such has a record in the
//! engine's metadata, written before it takes effect here. Callers hold the registry's lock and bump the epoch.

use crate::delay::Store;
use crate::exchange::{Binding, Exchange, ExchangeKind, ExchangeSpec, Target, TargetKey};
use crate::policies::Policies;
use crate::queue::Queue;
use crate::record::{BindingRecord, Key};
use crate::users::Users;
use engine::{Batch, Engine, EngineError, QueueMap, Ticket};
use model::{Now, QueueId, Table};
use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// The exchanges every vhost has, beside the default one.
pub(crate) const SYSTEM_EXCHANGES: [(&str, ExchangeKind, bool); 6] = [
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
    ("amq.topic", ExchangeKind::Topic, false),
];

/// Everything that is declared.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) vhosts: HashMap<Arc<str>, Vhost>,
    pub(crate) queues: QueueMap<Arc<Queue>>,
    /// Where the messages of delayed exchanges wait.
    pub(crate) stores: HashMap<QueueId, Arc<Store>>,
    pub(crate) users: Users,
    pub(crate) policies: Policies,
    /// Ids that queues have declared to remember.
    pub(crate) dedup_ids: usize,
    /// Bindings of all vhosts together.
    pub(crate) binding_count: usize,
    pub(crate) exchange_count: usize,
}

/// A vhost.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) name: Arc<str>,
    /// The same for its queues.
    pub(crate) shared_name: Arc<VhostName>,
    pub(crate) exchanges: HashMap<Arc<str>, Exchange>,
    queues: HashSet<ByName>,
}

/// The name of a vhost behind a pointer of one word: every queue has one.
#[derive(Debug)]
pub(crate) struct VhostName(pub(crate) Arc<str>);

impl Deref for VhostName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A queue, found by its name.
#[derive(Debug)]
struct ByName(Arc<Queue>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl Vhost {
    /// A vhost with the exchanges every vhost has.
    pub(crate) fn new(name: Arc<str>) -> Self {
        let exchanges = SYSTEM_EXCHANGES
            .iter()
            .map(|&(name, kind, internal)| {
                let spec = ExchangeSpec {
                    kind,
                    delayed: false,
                    durable: true,
                    auto_delete: false,
                    internal,
                    alternate: None,
                    arguments: Table::new(),
                };
                let name: Arc<str> = name.into();
                (name.clone(), Exchange::new(name, spec, None))
            })
            .collect();
        Self { shared_name: Arc::new(VhostName(name.clone())), name, exchanges, queues: HashSet::new() }
    }

    /// The queue of this name.
    pub(crate) fn queue(&self, name: &str) -> Option<&Arc<Queue>> {
        self.queues.get(name).map(|ByName(queue)| queue)
    }

    /// Adds a queue; there is none of its name.
    pub(crate) fn add_queue(&mut self, queue: Arc<Queue>) {
        self.queues.insert(ByName(queue));
    }

    fn is_durable(&self, target: &Target) -> bool {
        match target {
            Target::Queue(queue) => queue.durable,
            Target::Exchange(name) => self.exchanges.get(name).is_some_and(|e| e.spec.durable),
        }
    }

    /// The key of a binding's record if the binding survives a restart.
    pub(crate) fn record_of(&self, source: &Exchange, binding: &Binding) -> Option<BindingRecord> {
        let to_itself = matches!(&binding.target, Target::Exchange(name) if *name == source.name);
        (source.spec.durable && (to_itself || self.is_durable(&binding.target))).then(|| BindingRecord {
            source: source.name.to_string(),
            to_queue: matches!(binding.target, Target::Queue(_)),
            destination: match &binding.target {
                Target::Queue(queue) => queue.name.to_string(),
                Target::Exchange(name) => name.to_string(),
            },
            key: binding.key.clone(),
            arguments: binding.arguments.clone(),
        })
    }
}

impl Registry {
    /// Removes a queue with its bindings, and the exchanges that go with them.
    pub(crate) fn remove_queue(&mut self, engine: &dyn Engine, queue: &Queue) -> Result<Ticket, EngineError> {
        let Some(vhost) = self.vhosts.get_mut(&**queue.vhost) else {
            return Ok(Ticket::NONE);
        };
        if queue.durable {
            engine.delete_meta(Key::queue(&queue.vhost, &queue.name).bytes())?;
        }
        vhost.queues.remove(&*queue.name);
        if self.queues.remove(queue.id).is_some()
            && let Some(spec) = &queue.arguments.dedup
        {
            self.dedup_ids -= spec.window;
        }
        let target = TargetKey::Queue(queue.id);
        let emptied = self.remove_bindings_to(engine, &queue.vhost, &target, queue.durable)?;
        self.remove_exchanges(engine, &queue.vhost, emptied)?;
        if let Some(dedup) = &queue.dedup {
            let mut batch = Batch::new();
            dedup.lock().keys().into_iter().for_each(|key| batch.delete_meta(key));
            engine.append(&mut batch, Now::default())?;
        }
        engine.delete_queue(queue.id)
    }

    /// Removes exchanges with their bindings both ways, and the exchanges that go with them.
    pub(crate) fn remove_exchanges(
        &mut self,
        engine: &dyn Engine,
        vhost: &str,
        mut names: Vec<Arc<str>>,
    ) -> Result<Ticket, EngineError> {
        let mut ticket = Ticket::NONE;
        // A list and not recursion: clients decide how long a chain of exchanges is.
        while let Some(name) = names.pop() {
            ticket = ticket.max(self.remove_exchange(engine, vhost, &name, &mut names)?);
        }
        Ok(ticket)
    }

    fn remove_exchange(
        &mut self,
        engine: &dyn Engine,
        vhost_name: &str,
        name: &Arc<str>,
        emptied: &mut Vec<Arc<str>>,
    ) -> Result<Ticket, EngineError> {
        let Some(vhost) = self.vhosts.get_mut(vhost_name) else {
            return Ok(Ticket::NONE);
        };
        let Some(exchange) = vhost.exchanges.remove(name) else {
            return Ok(Ticket::NONE);
        };
        self.exchange_count = self.exchange_count.saturating_sub(1);
        self.binding_count -= exchange.binding_count();
        for binding in exchange.bindings() {
            if let Some(record) = vhost.record_of(&exchange, binding) {
                engine.delete_meta(Key::binding(vhost_name, &record).bytes())?;
            }
        }
        let durable = exchange.spec.durable;
        let target = TargetKey::Exchange(name.clone());
        emptied.extend(self.remove_bindings_to(engine, vhost_name, &target, durable)?);
        let mut ticket = Ticket::NONE;
        if durable {
            ticket = engine.delete_meta(Key::exchange(vhost_name, name).bytes())?;
        }
        if let Some(store) = &exchange.store {
            self.stores.remove(&store.id);
            engine.delete_queue(store.id)?;
        }
        Ok(ticket)
    }

    /// Removes the bindings to a target; returns the auto-delete exchanges that have no binding left.
    fn remove_bindings_to(
        &mut self,
        engine: &dyn Engine,
        vhost_name: &str,
        target: &TargetKey,
        target_durable: bool,
    ) -> Result<Vec<Arc<str>>, EngineError> {
        let mut emptied = Vec::new();
        let Some(vhost) = self.vhosts.get_mut(vhost_name) else {
            return Ok(emptied);
        };
        for exchange in vhost.exchanges.values_mut() {
            let gone = exchange.unbind_target(target);
            self.binding_count -= gone.len();
            for binding in &gone {
                if !(exchange.spec.durable && target_durable) {
                    continue;
                }
                let (to_queue, destination) = match &binding.target {
                    Target::Queue(queue) => (true, queue.name.to_string()),
                    Target::Exchange(name) => (false, name.to_string()),
                };
                let record = BindingRecord {
                    source: exchange.name.to_string(),
                    to_queue,
                    destination,
                    key: binding.key.clone(),
                    arguments: binding.arguments.clone(),
                };
                engine.delete_meta(Key::binding(vhost_name, &record).bytes())?;
            }
            if !gone.is_empty() && exchange.spec.auto_delete && exchange.binding_count() == 0 {
                emptied.push(exchange.name.clone());
            }
        }
        Ok(emptied)
    }
}
