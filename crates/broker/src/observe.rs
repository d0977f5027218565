//! What the metrics, the management API and the page see. Copies, made when asked for; no secrets.

use crate::broker::Broker;
use crate::counters::Totals;
use crate::delay::Store;
use crate::exchange::Target;
use crate::policies::PolicyView;
use engine::{Durability, EngineMetrics, Pressure, QueueStats};
use model::{ConnectionId, QueueId, Table};
use protocol::ConnectionInfo;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueView {
    /// Its id in the engine.
    pub id: QueueId,
    /// Where it is.
    pub vhost: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// It survives a restart.
    pub durable: bool,
    /// When persistent messages in it are safe; none if it is not durable.
    pub durability: Option<Durability>,
    /// It goes when its last consumer goes.
    pub auto_delete: bool,
    /// The connection it belongs to, if any.
    pub owner: Option<ConnectionId>,
    /// Its type, as in `x-queue-type`.
    pub kind: &'static str,
    /// Its arguments as declared.
    pub arguments: Table,
    /// Consumers on it.
    pub consumers: usize,
    /// The tag of the one that gets everything, where one does.
    pub single_active_consumer: Option<String>,
    /// The policies in force for it.
    pub policy: PolicyView,
    /// What is in it.
    pub stats: QueueStats,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerView {
    /// The queue's vhost.
    pub vhost: Arc<str>,
    /// The queue.
    pub queue: Arc<str>,
    /// The client's name for it.
    pub tag: String,
    /// Its connection.
    pub connection: ConnectionId,
    /// The peer's address.
    pub peer: String,
    /// Its channel.
    pub channel: u16,
    /// Deliveries count as settled when handed out.
    pub no_ack: bool,
    /// It alone is on the queue.
    pub exclusive: bool,
    /// Those of a higher one are served first.
    pub priority: i64,
    /// Whether entries may be handed to it.
    pub activity: Activity,
    /// Limit of unsettled deliveries; 0 is none.
    pub prefetch: u32,
    /// Deliveries not settled.
    pub unsettled: u32,
}

/// Whether a consumer may get anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// As any other of its queue.
    Up,
    /// It alone.
    SingleActive,
    /// Another one is the single active consumer.
    Waiting,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// Its id.
    pub id: ConnectionId,
    /// The peer's address.
    pub peer: String,
    /// What its driver says of it.
    pub info: ConnectionInfo,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeView {
    /// Where it is.
    pub vhost: Arc<str>,
    /// Its name; empty is the default exchange.
    pub name: Arc<str>,
    /// Its type.
    pub kind: &'static str,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Its arguments as declared.
    pub arguments: Table,
    /// Messages that wait for their time, if it is an `x-delayed-message`.
    pub messages_delayed: Option<u64>,
}

/// A binding, without those every queue has to the default exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingView {
    /// Where it is.
    pub vhost: Arc<str>,
    /// The exchange it starts at.
    pub source: Arc<str>,
    /// Where it leads.
    pub destination: Arc<str>,
    /// Whether that is a queue.
    pub to_queue: bool,
    /// Its key.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: Table,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// Login name.
    pub name: String,
    /// RabbitMQ's tags.
    pub tags: Vec<String>,
    /// Vhosts it has permissions in.
    pub vhosts: Vec<String>,
}

impl Broker {
    /// Totals since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.counters.totals()
    }

    /// The engine's figures.
    #[must_use]
    pub fn engine_metrics(&self) -> EngineMetrics {
        self.engine.metrics()
    }

    /// Whether publishers are welcome.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.engine.pressure()
    }

    /// Vhosts by name.
    #[must_use]
    pub fn vhosts(&self) -> Vec<Arc<str>> {
        let mut all: Vec<_> = self.registry.read().vhosts.keys().cloned().collect();
        all.sort();
        all
    }

    /// How many queues there are.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.registry.read().queues.len()
    }

    /// Queues by vhost and name.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueView> {
        let registry = self.registry.read();
        let mut all: Vec<_> = registry.queues.values().cloned().collect();
        let policies: HashMap<_, _> = all
            .iter()
            .map(|queue| (queue.id, registry.policies.view(&queue.vhost, &queue.name, queue.arguments.kind)))
            .collect();
        drop(registry);
        all.sort_by(|a, b| (&*a.vhost.0, &a.name).cmp(&(&*b.vhost.0, &b.name)));
        all.iter()
            .map(|queue| QueueView {
                policy: policies.get(&queue.id).cloned().unwrap_or_default(),
                id: queue.id,
                vhost: queue.vhost.0.clone(),
                name: (*queue.name).into(),
                durable: queue.durable,
                durability: queue.durability(),
                auto_delete: queue.auto_delete,
                owner: queue.owner(),
                kind: queue.arguments.kind.name(),
                arguments: queue.arguments.table.clone(),
                consumers: queue.consumer_count.load(SeqCst) as usize,
                single_active_consumer: queue.state.lock().active().map(|active| active.tag.to_string()),
                stats: self.engine.stats(queue.id),
            })
            .collect()
    }

    /// Consumers, in the order of their queues.
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerView> {
        let mut queues: Vec<_> = self.registry.read().queues.values().cloned().collect();
        queues.retain(|q| q.consumer_count.load(SeqCst) > 0);
        queues.sort_by(|a, b| (&*a.vhost.0, &a.name).cmp(&(&*b.vhost.0, &b.name)));
        let mut all = Vec::new();
        for queue in queues {
            let state = queue.state.lock();
            all.extend(state.consumers().iter().map(|consumer| ConsumerView {
                vhost: queue.vhost.0.clone(),
                queue: (*queue.name).into(),
                tag: consumer.tag.to_string(),
                connection: consumer.mailbox.id,
                peer: consumer.mailbox.meta.peer.clone(),
                channel: consumer.channel.id.0,
                no_ack: consumer.no_ack,
                exclusive: consumer.exclusive,
                priority: consumer.priority,
                activity: match state.active() {
                    None => Activity::Up,
                    Some(active) if Arc::ptr_eq(active, consumer) => Activity::SingleActive,
                    Some(_) => Activity::Waiting,
                },
                prefetch: consumer.prefetch,
                unsettled: consumer.unsettled.load(SeqCst),
            }));
        }
        all
    }

    /// How many connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.mailboxes.lock().len()
    }

    /// Connections in the order they came.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionView> {
        let mut all: Vec<_> = self
            .mailboxes
            .lock()
            .values()
            .map(|mailbox| ConnectionView {
                id: mailbox.id,
                peer: mailbox.meta.peer.clone(),
                info: mailbox.info.lock().clone(),
            })
            .collect();
        all.sort_by_key(|c| c.id);
        all
    }

    /// Exchanges by vhost and name, the default ones included.
    #[must_use]
    pub fn exchanges(&self) -> Vec<ExchangeView> {
        let registry = self.registry.read();
        let mut all = Vec::new();
        for vhost in registry.vhosts.values() {
            all.push(ExchangeView {
                vhost: vhost.name.clone(),
                name: "".into(),
                kind: "direct",
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Table::new(),
                messages_delayed: None,
            });
            all.extend(vhost.exchanges.values().map(|exchange| ExchangeView {
                vhost: vhost.name.clone(),
                name: exchange.name.clone(),
                kind: exchange.spec.type_name(),
                durable: exchange.spec.durable,
                auto_delete: exchange.spec.auto_delete,
                internal: exchange.spec.internal,
                arguments: exchange.spec.arguments.clone(),
                messages_delayed: exchange.store.as_ref().map(|store| self.waiting_in(store)),
            }));
        }
        all.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
        all
    }

    fn waiting_in(&self, store: &Store) -> u64 {
        let stats = self.engine.stats(store.id);
        stats.ready + stats.unsettled
    }

    /// Bindings by vhost and source.
    #[must_use]
    pub fn bindings(&self) -> Vec<BindingView> {
        let registry = self.registry.read();
        let mut all = Vec::new();
        for vhost in registry.vhosts.values() {
            for exchange in vhost.exchanges.values() {
                all.extend(exchange.bindings().map(|binding| BindingView {
                    vhost: vhost.name.clone(),
                    source: exchange.name.clone(),
                    destination: match &binding.target {
                        Target::Queue(queue) => (*queue.name).into(),
                        Target::Exchange(name) => name.clone(),
                    },
                    to_queue: matches!(binding.target, Target::Queue(_)),
                    routing_key: binding.key.clone(),
                    arguments: binding.arguments.clone(),
                }));
            }
        }
        all.sort_by(|a, b| {
            let place = |v: &BindingView| (v.vhost.clone(), v.source.clone(), v.destination.clone());
            (place(a), &a.routing_key).cmp(&(place(b), &b.routing_key))
        });
        all
    }

    /// Users by name.
    #[must_use]
    pub fn users(&self) -> Vec<UserView> {
        self.registry.read().users.list()
    }

    /// The tags of a user whose password is right; for the management listener.
    #[must_use]
    pub fn authenticate(&self, user: &str, password: &str) -> Option<Arc<[String]>> {
        self.registry.read().users.tags(user, password)
    }
}
