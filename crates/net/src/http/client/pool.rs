//! Kept connections, by target: last in first out, so that the rest can age and be closed.

use super::connection::UpstreamConnection;
use super::http2::Http2Slot;
use super::tls::{TlsSettings, UpstreamTls, UpstreamTlsCache, UpstreamTlsError};
use crate::resolve::Resolver;
use foldhash::fast::RandomState;
use gateway::balancer::{Connections, Keeper};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::time::Instant;

/// Targets remembered; beyond it those without a kept connection are forgotten.
const TARGETS_MAX: usize = 10_000;

/// Where requests go, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamTarget {
    /// A name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// TLS, if it is to be spoken. Shared settings share connections.
    pub tls: Option<UpstreamTls>,
    /// The name TLS asks for and checks; the host if none.
    pub server_name: Option<Arc<str>>,
    /// HTTP/2 is spoken: agreed on by TLS, or known beforehand (RFC 9113 §3.3).
    pub http2: bool,
    /// The places for connections to the upstream it belongs to, if those are bounded. They are not shared with others.
    pub connections: Option<Connections>,
}

/// Deadlines of one exchange, as Kong's service has them.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From asking for the name to the end of the TLS handshake.
    pub connect_ms: u64,
    /// Between two writes of the request.
    pub write_ms: u64,
    /// Between two reads of the response, the first counted from the end of the request.
    pub read_ms: u64,
}

/// How many connections are kept, and how long. The defaults are Kong's.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// Idle connections kept for a target.
    pub idle_max: usize,
    /// How long an idle connection is kept.
    pub idle_timeout_ms: u64,
    /// Requests over one connection.
    pub requests_max: u32,
}

/// The connections to all upstreams.
#[derive(Debug)]
pub struct UpstreamPool {
    pub(super) settings: PoolSettings,
    slots: RwLock<HashMap<UpstreamTarget, Arc<Slot>, RandomState>>,
    pub(super) resolver: Arc<Resolver>,
    tls: Arc<UpstreamTlsCache>,
}

/// The idle connections to one target, the latest at the end, and those of HTTP/2.
#[derive(Debug)]
pub(crate) struct Slot {
    settings: PoolSettings,
    #[expect(clippy::vec_box, reason = "a connection moves in and out at every request; boxed, it moves as a pointer")]
    idle: Mutex<Vec<Box<UpstreamConnection>>>,
    pub(super) http2: Http2Slot,
    connections: Option<Connections>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { idle_max: 512, idle_timeout_ms: 60_000, requests_max: 10_000 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 60_000, write_ms: 60_000, read_ms: 60_000 }
    }
}

impl UpstreamPool {
    /// An empty pool, whose targets that are names `resolver` knows.
    #[must_use]
    pub fn new(settings: PoolSettings, resolver: Arc<Resolver>) -> Self {
        Self { settings, slots: RwLock::default(), resolver, tls: Arc::default() }
    }

    /// The same pool, which has its TLS in common with others.
    #[must_use]
    pub fn with_tls(self, tls: Arc<UpstreamTlsCache>) -> Self {
        Self { tls, ..self }
    }

    /// TLS with these settings: while connections with it are kept, the TLS they have.
    ///
    /// # Errors
    /// [`UpstreamTlsError`].
    pub fn tls(&self, settings: TlsSettings) -> Result<UpstreamTls, UpstreamTlsError> {
        self.tls.get(settings)
    }

    /// Idle connections, to all targets.
    #[must_use]
    pub fn n_idle(&self) -> usize {
        self.slots.read().values().map(|slot| slot.idle.lock().len()).sum()
    }

    /// Close the connections that were idle too long. Called now and then, so that an upstream nobody uses any
    /// more costs nothing.
    pub fn sweep(&self) {
        for slot in self.slots.read().values() {
            slot.close_expired();
        }
        self.forget_unused();
    }

    pub(super) fn slot(&self, target: &UpstreamTarget) -> Arc<Slot> {
        if let Some(slot) = self.slots.read().get(target) {
            return Arc::clone(slot);
        }
        if self.slots.read().len() >= TARGETS_MAX {
            self.forget_unused();
        }
        let fresh = || {
            let (settings, idle) = (self.settings, Mutex::new(Vec::new()));
            let connections = target.connections.clone();
            let slot = Arc::new(Slot { settings, idle, http2: Http2Slot::default(), connections });
            if let Some(connections) = &slot.connections {
                connections.register(Arc::<Slot>::downgrade(&slot));
            }
            slot
        };
        Arc::clone(self.slots.write().entry(target.clone()).or_insert_with(fresh))
    }

    fn forget_unused(&self) {
        self.slots.write().retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_empty());
    }
}

impl Slot {
    /// The connection used last that is still good.
    pub(super) fn take(&self, cx: &mut Context<'_>) -> Option<Box<UpstreamConnection>> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            if connection.idle_since.elapsed() < self.idle_timeout() && connection.is_quiet(cx) {
                return Some(connection);
            }
        }
    }

    /// Keep a connection, or close it if it cannot be used again.
    pub(super) fn put(&self, mut connection: Box<UpstreamConnection>) {
        if !connection.is_reusable() || connection.n_requests >= self.settings.requests_max {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < self.settings.idle_max {
            idle.push(connection);
        }
        drop(idle);
        if let Some(connections) = &self.connections {
            connections.relieve();
        }
    }

    fn is_empty(&self) -> bool {
        self.idle.lock().is_empty() && self.http2.is_empty()
    }

    fn close_expired(&self) {
        self.http2.sweep(self.idle_timeout());
        let mut idle = self.idle.lock();
        let n_expired = idle.partition_point(|connection| connection.idle_since.elapsed() >= self.idle_timeout());
        idle.drain(..n_expired);
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.idle_timeout_ms)
    }
}

impl Keeper for Slot {
    fn has_idle(&self) -> bool {
        !self.idle.lock().is_empty()
    }

    fn close_idle(&self) -> bool {
        let mut idle = self.idle.lock();
        if idle.is_empty() {
            drop(idle);
            return self.http2.close_idle();
        }
        // The one that was used longest ago.
        let oldest = idle.remove(0);
        drop((idle, oldest));
        true
    }
}
