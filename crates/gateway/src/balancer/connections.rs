//! Connections at a time to one upstream, whoever makes them: a new one needs a place, which it holds until it is closed.
//!
//! Invariants: who waits for a place waits in the bulkhead's queue. No idle connection keeps anybody waiting: whoever waits
//! longest takes one that is kept for its own target, and for others one is closed. Not here: the connections, which belong
//! to whoever keeps them.

use super::bulkhead::{Bulkhead, Entry, Of};
use crate::entity::Bulkhead as Settings;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

/// The places of an upstream for connections. Equal if they are the same places.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Limit>);

#[derive(Debug)]
struct Limit {
    bulkhead: Arc<Bulkhead>,
    settings: Settings,
}

/// Keeps idle connections to an upstream.
pub trait Keeper: Debug + Send + Sync {
    /// Whether it has one.
    fn has_idle(&self) -> bool;

    /// Closes one; `false` if it has none. Its place is free when it is closed, which may be a moment later.
    fn close_idle(&self) -> bool;
}

impl Connections {
    pub(super) fn new(bulkhead: &Arc<Bulkhead>, settings: Settings) -> Self {
        Self(Arc::new(Limit { bulkhead: Arc::clone(bulkhead), settings }))
    }

    /// Somebody is going to keep idle ones.
    pub fn register(&self, keeper: Weak<dyn Keeper>) {
        let mut keepers = self.0.bulkhead.keepers.lock();
        keepers.retain(|known| known.strong_count() > 0);
        keepers.push(keeper);
    }

    /// Asks for a place. Who waits is woken for it, or because `keeper` has an idle connection.
    #[must_use]
    pub fn enter(&self, keeper: Option<Weak<dyn Keeper>>) -> Entry {
        let Limit { bulkhead, settings } = &*self.0;
        if let Some(place) = bulkhead.take(Of::Connection) {
            return Entry::Free(place);
        }
        // Who had an idle one closed waits for that, however many others wait.
        let waits_for_own = !self.are_wanted() && bulkhead.close_idle();
        let waiting_max = if waits_for_own { u32::MAX } else { settings.max_pending_requests };
        let entry = bulkhead.queue(Of::Connection, keeper, waiting_max);
        // One may have become idle before it was known that somebody waits.
        bulkhead.relieve();
        entry
    }

    /// How long one waits, in milliseconds.
    #[must_use]
    pub fn queue_timeout_ms(&self) -> u32 {
        self.0.settings.queue_timeout_ms
    }

    /// Whether there is a place for a further one now. If not, an idle one is closed for who comes next.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let bulkhead = &self.0.bulkhead;
        let is_full = || bulkhead.is_full(Of::Connection);
        !is_full() || !self.are_wanted() && bulkhead.close_idle() && !is_full()
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.0.bulkhead.first_for_connection().is_some()
    }

    /// A connection became idle: if somebody waits, it is taken, or another closed.
    pub fn relieve(&self) {
        self.0.bulkhead.relieve();
    }
}

impl Bulkhead {
    pub(super) fn relieve(&self) {
        let Some(first) = self.first_for_connection() else { return };
        let own = first.keeper.as_ref().and_then(Weak::upgrade);
        if own.is_some_and(|keeper| keeper.has_idle()) {
            first.nudge();
        } else {
            self.close_idle();
        }
    }

    fn close_idle(&self) -> bool {
        let keepers: Vec<_> = self.keepers.lock().iter().filter_map(Weak::upgrade).collect();
        keepers.iter().any(|keeper| keeper.close_idle())
    }
}

impl PartialEq for Connections {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.bulkhead, &other.0.bulkhead)
    }
}

impl Eq for Connections {}

impl Hash for Connections {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0.bulkhead).hash(state);
    }
}
