//! What of a queue's spec is looked at with every message, in four octets.

use engine::{Durability, Order, QueueSpec};

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) durable: bool,
    pub(crate) durability: Durability,
    pub(crate) priority_max: u8,
    pub(crate) order: Order,
}

impl Traits {
    pub(crate) fn of(spec: QueueSpec) -> Self {
        let QueueSpec { durable, durability, priority_max, order, ttl_ms: _ } = spec;
        Self { durable, durability, priority_max, order }
    }

    /// The spec, with what is not among these.
    pub(crate) fn with(self, ttl_ms: Option<u64>) -> QueueSpec {
        let Self { durable, durability, priority_max, order } = self;
        QueueSpec { durable, durability, priority_max, ttl_ms, order }
    }

    /// As [`QueueSpec::keeps`].
    pub(crate) fn keeps(self) -> bool {
        self.with(None).keeps()
    }

    /// As [`QueueSpec::syncs`].
    pub(crate) fn syncs(self) -> bool {
        self.with(None).syncs()
    }
}
