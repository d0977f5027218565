//! What has happened, for `/metrics` and the page. Connections count for themselves and add up once per batch.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),* }

        /// Totals since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            pub(crate) fn totals(&self) -> Totals {
                Totals { $($name: self.$name.get()),* }
            }

            pub(crate) fn add(&self, counted: &mut Totals) {
                let counted = std::mem::take(counted);
                $(self.$name.add(counted.$name);)*
            }
        }
    };
}

impl Totals {
    /// Messages dead-lettered, for whatever reason.
    #[must_use]
    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered_rejected
            + self.dead_lettered_expired
            + self.dead_lettered_maxlen
            + self.dead_lettered_delivery_limit
    }
}

counters! {
    /// Messages published.
    published,
    /// Messages told to be safe.
    confirmed,
    /// Messages that reached no queue.
    unroutable,
    /// Those of them that were given back.
    returned,
    /// Messages that a queue had seen before and did not take again.
    deduplicated,
    /// Messages delivered to consumers.
    delivered,
    /// Messages got.
    got,
    /// Gets that found nothing.
    got_empty,
    /// Deliveries and gets that may not have been the first.
    redelivered,
    /// Deliveries acknowledged, or handed out without need of it.
    acknowledged,
    /// Deliveries given back to their queues.
    requeued,
    /// Messages dead-lettered because they were rejected.
    dead_lettered_rejected,
    /// Messages dead-lettered because they expired.
    dead_lettered_expired,
    /// Messages dead-lettered because their queue was too long.
    dead_lettered_maxlen,
    /// Messages dead-lettered because they were given back too often.
    dead_lettered_delivery_limit,
    /// Messages that were put away until a time.
    scheduled,
    /// Those of them whose time has come.
    fired,
    /// Those of them that were taken back before.
    cancelled,
    /// Transactions committed.
    tx_committed,
    /// Transactions rolled back.
    tx_rolled_back,
    /// Connections opened.
    connections_opened,
    /// Connections closed.
    connections_closed,
    /// Channels opened.
    channels_opened,
    /// Channels closed.
    channels_closed,
    /// Queues made.
    queues_created,
    /// Queues deleted.
    queues_deleted,
}
