//! Whether a broker can be opened on what an engine has kept, asked without the engine: by a process that is to take a data
//! directory over, while the one before still has it.
//!
//! What would be opened is opened, on an engine that has no messages and forgets what it is told. So the answer is that
//! of [`Broker::open`] and what follows it, as far as it depends on the configuration and not on the disk.

use crate::record::Record;
use crate::{Broker, Settings};
use engine::{
    Batch, BodyLost, BodyWake, BodyWriter, Credit, Dead, Delivery, Engine, EngineError, EngineMetrics, EntryKey,
    Limits, MetaSpace, Outcome, PieceRead, Pressure, QueueSpec, QueueStats, Reaped, Remainder, Ticket,
};
use model::definitions::Definitions;
use model::quotas::QuotaDef;
use model::{HolderId, LargeBody, Now, QueueId, Seq};
use protocol::Formats;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is to be opened, as the configuration has it.
#[derive(Debug)]
pub struct Rehearsal<'s> {
    /// What is to be added or verified.
    pub definitions: &'s Definitions,
    /// What is to be in force.
    pub quotas: &'s [QuotaDef],
    /// Vhost and name of each queue that is to be there.
    pub queues: &'s [(String, String)],
}

impl Rehearsal<'_> {
    /// Opens it on what an engine has kept, of which all but the broker's is passed over; nothing of the broker's is nothing
    /// to contradict.
    ///
    /// # Errors
    /// Why it cannot be, for people.
    pub fn run(&self, metas: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>, now: Now) -> Result<(), String> {
        let is_topology = |key: &[u8]| matches!(MetaSpace::of(key), Some((MetaSpace::Topology, _)));
        let metas: Vec<_> = metas.into_iter().filter(|(key, _)| is_topology(key)).collect();
        if metas.is_empty() {
            return Ok(());
        }
        let formats = Formats::new(Vec::new());
        let broker = Broker::open(Arc::new(Stage::new(metas)), formats, self.definitions, Settings::default(), now)
            .map_err(|error| error.to_string())?;
        broker.set_quotas(self.quotas, now)?;
        for (vhost, queue) in self.queues {
            broker.ensure_queue(vhost, queue, now).map_err(|refusal| format!("queue `{queue}`: {refusal}"))?;
        }
        Ok(())
    }
}

/// An engine with queues that stay empty.
struct Stage {
    metas: Vec<(Vec<u8>, Vec<u8>)>,
    queues: Vec<(QueueId, QueueSpec)>,
    next: AtomicU64,
}

impl Stage {
    fn new(metas: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let queues: Vec<_> = metas.iter().filter_map(|(key, value)| queue_of(key, value)).collect();
        let next = queues.iter().map(|(id, _)| id.0 + 1).max().unwrap_or(1).into();
        Self { metas, queues, next }
    }
}

/// The engine's queue that a record tells of. Of its behaviour only the order matters to who opens it.
fn queue_of(key: &[u8], value: &[u8]) -> Option<(QueueId, QueueSpec)> {
    let (_, name) = MetaSpace::of(key)?;
    match Record::read(name, value)? {
        Record::Queue(_, _, record) => Some((QueueId(record.id), QueueSpec { durable: true, ..QueueSpec::default() })),
        Record::Exchange(_, _, record) => record.store.map(|id| (QueueId(id), crate::delay::Store::spec(true))),
        Record::Vhost(_) | Record::Binding(..) => None,
    }
}

impl Engine for Stage {
    fn append(&self, batch: &mut Batch, _: Now) -> Result<Ticket, EngineError> {
        *batch = Batch::new();
        Ok(Ticket::NONE)
    }

    fn begin_body(&self, _: u64, _: BodyWake) -> Result<Box<dyn BodyWriter>, EngineError> {
        Err(EngineError::Failed("no message is taken in here".to_owned()))
    }

    fn read_body(&self, _: &Arc<LargeBody>, _: u64, done: PieceRead) {
        done(Err(BodyLost));
    }

    fn durable(&self) -> Ticket {
        Ticket::NONE
    }

    fn deliver(&self, _: QueueId, _: Credit, _: Now, _: &mut dyn FnMut(Delivery) -> HolderId) -> Remainder {
        Remainder::default()
    }

    fn take_dead(&self, _: QueueId, _: usize, _: Now, _: &mut Vec<Dead>) -> Reaped {
        Reaped::default()
    }

    fn set_limits(&self, _: QueueId, _: Limits, _: Now) {}

    fn set_waited(&self, _: QueueId, _: bool, _: Now) {}

    fn settle(&self, _: QueueId, _: &[Seq], _: Outcome, _: Now) -> usize {
        0
    }

    fn release(&self, _: QueueId, _: HolderId, _: Now) -> usize {
        0
    }

    fn cancel(&self, _: QueueId, _: EntryKey, _: Now) -> Result<(usize, Ticket), EngineError> {
        Ok((0, Ticket::NONE))
    }

    fn purge(&self, _: QueueId, _: Now) -> u64 {
        0
    }

    fn stats(&self, _: QueueId) -> QueueStats {
        QueueStats::default()
    }

    fn create_queue(&self, _: QueueSpec) -> Result<(QueueId, Ticket), EngineError> {
        Ok((QueueId(self.next.fetch_add(1, Ordering::Relaxed)), Ticket::NONE))
    }

    fn delete_queue(&self, _: QueueId) -> Result<Ticket, EngineError> {
        Ok(Ticket::NONE)
    }

    fn queues(&self) -> Vec<(QueueId, QueueSpec)> {
        self.queues.clone()
    }

    fn put_meta(&self, _: &[u8], _: &[u8]) -> Result<Ticket, EngineError> {
        Ok(Ticket::NONE)
    }

    fn delete_meta(&self, _: &[u8]) -> Result<Ticket, EngineError> {
        Ok(Ticket::NONE)
    }

    fn get_meta(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.metas.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    }

    fn metas(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.metas.clone()
    }

    fn pressure(&self) -> Pressure {
        Pressure::None
    }

    fn metrics(&self) -> EngineMetrics {
        EngineMetrics::default()
    }

    fn close(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BindingRecord, Key, QueueRecord, vhost_value};
    use model::Table;
    use model::definitions::{BindingDef, DestinationType, QueueDef, VhostDef};
    use model::quotas::QuotaScope;

    fn kept() -> Vec<(Vec<u8>, Vec<u8>)> {
        let queue = QueueRecord { id: 7, auto_delete: false, arguments: Table::new() };
        let binding = BindingRecord {
            source: "amq.topic".to_owned(),
            to_queue: true,
            destination: "orders".to_owned(),
            key: "#".to_owned(),
            arguments: Table::new(),
        };
        vec![
            (Key::vhost("/").bytes().to_vec(), vhost_value().to_vec()),
            (Key::queue("/", "orders").bytes().to_vec(), queue.value()),
            (Key::binding("/", &binding).bytes().to_vec(), binding.value()),
            (MetaSpace::Entities.key(b"services/1"), b"{}".to_vec()),
        ]
    }

    fn queue(vhost: &str, name: &str, auto_delete: bool) -> QueueDef {
        let (vhost, name) = (vhost.to_owned(), name.to_owned());
        QueueDef { vhost, name, durable: true, auto_delete, arguments: Table::new() }
    }

    fn rehearse(definitions: &Definitions, quotas: &[QuotaDef], queues: &[(&str, &str)]) -> Result<(), String> {
        let queues: Vec<_> = queues.iter().map(|(vhost, name)| ((*vhost).to_owned(), (*name).to_owned())).collect();
        Rehearsal { definitions, quotas, queues: &queues }.run(kept(), Now::default())
    }

    #[test]
    fn what_fits_the_data_may_be_opened() {
        let bound = BindingDef {
            vhost: "/".to_owned(),
            source: "amq.direct".to_owned(),
            destination: "orders".to_owned(),
            destination_type: DestinationType::Queue,
            routing_key: "k".to_owned(),
            arguments: Table::new(),
        };
        let definitions = Definitions {
            vhosts: vec![VhostDef { name: "other".to_owned() }],
            queues: vec![queue("/", "orders", false), queue("other", "fresh", true)],
            bindings: vec![bound],
            ..Definitions::default()
        };
        assert_eq!(rehearse(&definitions, &[], &[("/", "orders"), ("other", "more")]), Ok(()));
    }

    #[test]
    fn what_contradicts_the_data_is_told() {
        let changed = Definitions { queues: vec![queue("/", "orders", true)], ..Definitions::default() };
        let said = rehearse(&changed, &[], &[]).unwrap_err();
        assert!(said.contains("queue 'orders' in vhost '/'") && said.contains("auto_delete"), "{said}");
        let none = Definitions::default();
        let matches = "(".to_owned();
        let bad = QuotaDef { scope: QuotaScope::User, matches, publish: Some(1), consume: None, burst: None };
        assert!(rehearse(&none, &[bad], &[]).is_err());
        let said = rehearse(&none, &[], &[("/", "amq.mine")]).unwrap_err();
        assert!(said.starts_with("queue `amq.mine`: "), "{said}");
        assert!(rehearse(&none, &[], &[("nowhere", "q")]).is_err());
    }

    #[test]
    fn nothing_kept_is_nothing_to_contradict() {
        let changed = Definitions { queues: vec![queue("nowhere", "orders", true)], ..Definitions::default() };
        let rehearsal = Rehearsal { definitions: &changed, quotas: &[], queues: &[] };
        assert_eq!(rehearsal.run(Vec::new(), Now::default()), Ok(()));
    }
}
