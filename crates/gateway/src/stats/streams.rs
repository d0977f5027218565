//! Counters of connections that are not HTTP's, by route.

use super::{Histogram, LATENCY_BUCKETS_MS};
use crate::decision::{Datagrams, Transferred};
use crate::reason::Reason;
use parking_lot::Mutex;

/// What was counted for a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamCounts {
    /// Sessions that have ended, from first to last.
    pub duration: Histogram<13>,
    /// Bytes from clients and to them.
    pub transferred: Transferred,
    /// Datagrams from clients and to them; none of connections.
    pub datagrams: Datagrams,
    /// Sessions that did not end of themselves, by reason, in the order of [`Reason::WORDS`].
    pub failures: [u64; Reason::WORDS.len()],
    /// Sessions under way.
    pub open: u64,
}

/// The counters of one route for connections, or of all connections that matched none.
#[derive(Debug)]
pub struct StreamStats(Mutex<StreamCounts>);

impl Default for StreamStats {
    fn default() -> Self {
        let failures = [0; Reason::WORDS.len()];
        Self(Mutex::new(StreamCounts {
            duration: Histogram::new(),
            transferred: Transferred::default(),
            datagrams: Datagrams::default(),
            failures,
            open: 0,
        }))
    }
}

impl StreamStats {
    /// A session begins.
    pub(crate) fn begin(&self) {
        self.0.lock().open += 1;
    }

    /// One that began has ended.
    pub(crate) fn end(&self, us: u64, transferred: Transferred, datagrams: Datagrams, reason: Option<Reason>) {
        let mut counts = self.0.lock();
        counts.open = counts.open.saturating_sub(1);
        counts.duration.observe(&LATENCY_BUCKETS_MS, us);
        counts.transferred.bytes_in += transferred.bytes_in;
        counts.transferred.bytes_out += transferred.bytes_out;
        counts.datagrams.n_in += datagrams.n_in;
        counts.datagrams.n_out += datagrams.n_out;
        if let Some(reason) = reason {
            counts.failures[reason.index()] += 1;
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> StreamCounts {
        self.0.lock().clone()
    }
}
