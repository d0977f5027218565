//! The registry as it was when the process last stopped.
//!
//! A queue is created in the engine before its record is written and its record is removed before the queue is, so
//! after a crash an engine queue without a record is garbage and is deleted. Records whose ends are gone are
//! forgotten. After a repair of damage neither is so: a queue without a record is kept under a name that says so, a
//! record without a queue gets an empty one.

use crate::api::OpenError;
use crate::arguments::{self, QueueArguments};
use crate::dedup::DedupKey;
use crate::delay::Store;
use crate::exchange::{Binding, Exchange, ExchangeSpec, Target};
use crate::queue::{Queue, QueueParts};
use crate::record::{BindingRecord, ExchangeRecord, Key, QueueRecord, Record, vhost_value};
use crate::refuse::Resource;
use crate::registry::{Registry, Vhost};
use crate::topology::shape_of;
use engine::{Batch, Engine, MetaSpace, Order, QueueSpec};
use model::{Now, QueueId, Table};
use std::collections::HashSet;
use std::sync::Arc;

/// Reads everything the engine has kept.
pub(crate) fn recover(engine: &dyn Engine, now: Now) -> Result<Registry, OpenError> {
    let mut registry = Registry::default();
    let mut bindings = Vec::new();
    let mut seen = Vec::new();
    let mut exchanges = Vec::new();
    let mut queues = Vec::new();
    let mut repaired = false;
    for (key, value) in engine.metas() {
        let record = match MetaSpace::of(&key) {
            Some((MetaSpace::Topology, name)) => Record::read(name, &value),
            Some((MetaSpace::Bridge | MetaSpace::Entities, _)) => continue,
            Some((MetaSpace::Repair, _)) => {
                repaired = true;
                continue;
            }
            Some((MetaSpace::Dedup, _)) => {
                seen.push((key, value));
                continue;
            }
            None => None,
        };
        match record {
            Some(Record::Vhost(name)) => add_vhost(&mut registry, &name),
            Some(Record::Exchange(vhost, name, record)) => exchanges.push((vhost, name, record)),
            Some(Record::Queue(vhost, name, record)) => queues.push((vhost, name, record)),
            Some(Record::Binding(vhost, record)) => bindings.push((vhost, record)),
            None => {
                let start = key.get(..key.len().min(2)).unwrap_or_default().escape_ascii();
                return Err(OpenError::Record(format!("record '{start}': it is damaged or of a newer version")));
            }
        }
    }
    if !registry.vhosts.contains_key("/") {
        engine.put_meta(Key::vhost("/").bytes(), &vhost_value())?;
        add_vhost(&mut registry, "/");
    }
    let by_due: HashSet<QueueId> =
        engine.queues().into_iter().filter(|(_, spec)| spec.order == Order::Due).map(|(id, _)| id).collect();
    let mut orphans: HashSet<QueueId> = engine.queues().into_iter().map(|(id, _)| id).collect();
    for (vhost, name, mut record) in exchanges {
        if let Some(store) = &mut record.store {
            if by_due.contains(&QueueId(*store)) {
                orphans.remove(&QueueId(*store));
            } else {
                // Only a repair of damage leaves an exchange without its store.
                *store = engine.create_queue(Store::spec(true))?.0.0;
                engine.put_meta(Key::exchange(&vhost, &name).bytes(), &record.value())?;
            }
        }
        add_exchange(&mut registry, &vhost, &name, record)?;
    }
    for (vhost, name, record) in queues {
        if orphans.remove(&QueueId(record.id)) {
            add_queue(&mut registry, &vhost, &name, record, now)?;
        } else if repaired {
            let arguments = QueueArguments::read(&record.arguments, Resource::Queue(&vhost, &name))
                .map_err(|_| broken("queue", &name))?;
            let id = engine.create_queue(queue_spec(true, &arguments))?.0;
            keep_queue(engine, &mut registry, &vhost, &name, QueueRecord { id: id.0, ..record }, now)?;
        } else {
            engine.delete_meta(Key::queue(&vhost, &name).bytes())?;
        }
    }
    recover_seen(engine, &registry, seen)?;
    for orphan in orphans {
        if repaired {
            // Its record is in quarantine, its messages are not.
            let record = QueueRecord { id: orphan.0, auto_delete: false, arguments: Table::default() };
            keep_queue(engine, &mut registry, "/", &format!("repaired-{orphan}"), record, now)?;
        } else {
            engine.delete_queue(orphan)?;
        }
    }
    if repaired {
        engine.delete_meta(&MetaSpace::Repair.key(b""))?;
    }
    for (vhost, record) in bindings {
        if !add_binding(&mut registry, &vhost, &record)? {
            engine.delete_meta(Key::binding(&vhost, &record).bytes())?;
        }
    }
    Ok(registry)
}

/// Which vhost and name each queue in an engine's metadata has, by its id there. What is no queue is passed over.
pub fn queue_names(metas: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = (QueueId, (String, String))> {
    metas.iter().filter_map(|(key, value)| match MetaSpace::of(key) {
        Some((MetaSpace::Topology, name)) => match Record::read(name, value)? {
            Record::Queue(vhost, name, record) => Some((QueueId(record.id), (vhost, name))),
            _ => None,
        },
        _ => None,
    })
}

/// Reads what queues have seen; what is of none goes.
fn recover_seen(engine: &dyn Engine, registry: &Registry, seen: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), OpenError> {
    let mut gone = Batch::new();
    for (key, value) in seen {
        let read = key.get(1..).and_then(DedupKey::read).ok_or_else(|| broken_seen(&key))?;
        match registry.queues.get(read.queue()).and_then(|queue| queue.dedup.as_ref()) {
            Some(dedup) => dedup.lock().recover(&read, &value).ok_or_else(|| broken_seen(&key))?,
            None => gone.delete_meta(key),
        }
    }
    if !gone.is_empty() {
        engine.append(&mut gone, Now::default())?;
    }
    Ok(())
}

fn broken_seen(key: &[u8]) -> OpenError {
    OpenError::Record(format!("record '{}': it is damaged or of a newer version", key.escape_ascii()))
}

/// Adds a vhost with its system exchanges.
pub(crate) fn add_vhost(registry: &mut Registry, name: &str) {
    let name: Arc<str> = name.into();
    registry.vhosts.entry(name.clone()).or_insert_with(|| Vhost::new(name));
}

fn broken(what: &str, name: &str) -> OpenError {
    OpenError::Record(format!("{what} '{name}': this version does not have it"))
}

fn add_exchange(registry: &mut Registry, vhost: &str, name: &str, record: ExchangeRecord) -> Result<(), OpenError> {
    let Some(vhost) = registry.vhosts.get_mut(vhost) else {
        return Ok(());
    };
    let (kind, delayed) = shape_of(&record.kind, &record.arguments).map_err(|_| broken("exchange", name))?;
    let resource = Resource::Exchange(&vhost.name, name);
    let spec = ExchangeSpec {
        kind,
        delayed,
        durable: true,
        auto_delete: record.auto_delete,
        internal: record.internal,
        alternate: arguments::alternate(&record.arguments, resource).map_err(|_| broken("exchange", name))?,
        arguments: record.arguments,
    };
    let name: Arc<str> = name.into();
    let store = record.store.map(|id| {
        let (vhost, exchange) = (vhost.name.clone(), name.clone());
        Arc::new(Store { id: QueueId(id), vhost, exchange })
    });
    if delayed != store.is_some() {
        return Err(broken("exchange", &name));
    }
    vhost.exchanges.insert(name.clone(), Exchange::new(name, spec, store.clone()));
    registry.stores.extend(store.map(|store| (store.id, store)));
    registry.exchange_count += 1;
    Ok(())
}

fn add_queue(registry: &mut Registry, vhost: &str, name: &str, record: QueueRecord, now: Now) -> Result<(), OpenError> {
    let Some(vhost) = registry.vhosts.get_mut(vhost) else {
        return Ok(());
    };
    let arguments = QueueArguments::read(&record.arguments, Resource::Queue(&vhost.name, name))
        .map_err(|_| broken("queue", name))?;
    let parts = QueueParts {
        id: QueueId(record.id),
        vhost: vhost.shared_name.clone(),
        name,
        durable: true,
        auto_delete: record.auto_delete,
        owner: None,
        arguments,
        recovered: true,
    };
    let queue = Arc::new(Queue::new(parts, now.mono));
    vhost.add_queue(queue.clone());
    registry.dedup_ids += queue.arguments.dedup.as_ref().map_or(0, |spec| spec.window);
    registry.queues.insert(queue.id, queue);
    Ok(())
}

/// Adds a queue after a repair, with a record that names it.
fn keep_queue(
    engine: &dyn Engine,
    registry: &mut Registry,
    vhost: &str,
    name: &str,
    record: QueueRecord,
    now: Now,
) -> Result<(), OpenError> {
    engine.put_meta(Key::queue(vhost, name).bytes(), &record.value())?;
    add_queue(registry, vhost, name, record, now)
}

fn add_binding(registry: &mut Registry, vhost: &str, record: &BindingRecord) -> Result<bool, OpenError> {
    let Some(vhost) = registry.vhosts.get_mut(vhost) else {
        return Ok(false);
    };
    let target = if record.to_queue {
        vhost.queue(&record.destination).cloned().map(Target::Queue)
    } else {
        let exchange = vhost.exchanges.get(&*record.destination);
        exchange.map(|e| Target::Exchange(e.name.clone()))
    };
    let Some((target, source)) = target.zip(vhost.exchanges.get_mut(&*record.source)) else {
        return Ok(false);
    };
    let binding = Binding { key: record.key.clone(), arguments: record.arguments.clone(), target };
    let added = source.bind(binding).map_err(|_| broken("a binding of exchange", &record.source))?;
    registry.binding_count += usize::from(added);
    Ok(true)
}

/// What the engine needs to know of a queue for ever.
pub(crate) fn queue_spec(durable: bool, arguments: &QueueArguments) -> QueueSpec {
    QueueSpec {
        durable,
        durability: arguments.durability.unwrap_or_default(),
        priority_max: arguments.priority_max,
        ttl_ms: arguments.behaviour.ttl_ms,
        order: Order::Arrival,
    }
}
