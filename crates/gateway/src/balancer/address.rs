//! One address of an upstream and what is known of it: health, ejection, speed, load.
//!
//! Invariants: the state belongs to the address, not to a snapshot, so it survives every change that keeps the address.
//! Whether it may be picked is read without a lock; what changes that is rare and behind one short lock.

use super::health::{Failure, Health, HealthState};
use super::latency::Latency;
use super::outlier::Outlier;
use crate::entity::{FailureLimits, OutlierDetection, SuccessLimit, TargetAddress};
use model::Mono;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What an address is known by: the target it belongs to and where that is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressKey {
    /// The target.
    pub target: TargetAddress,
    /// IP address without brackets; the target's name until it is resolved.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

/// It has not taken a request yet.
const NOT_YET: u64 = u64::MAX;
/// It has all of its weight from the start.
const ALWAYS: u64 = 0;

/// An address and its state.
pub struct Address {
    key: AddressKey,
    up: AtomicBool,
    /// Ejected until then; 0 if it never was.
    ejected_until: AtomicU64,
    /// When it began, or began again, to take requests; [`NOT_YET`] until it is first looked at, or
    /// [`ALWAYS`].
    since: AtomicU64,
    in_flight: AtomicU32,
    latency: Latency,
    judged: Mutex<Judged>,
}

#[derive(Debug, Default)]
struct Judged {
    health: Health,
    outlier: Outlier,
}

/// What an exchange with an address gave, as health checks see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// A connection where that is all that was asked for, or the word of a health service that all is well.
    Connected,
    /// No connection, or one that broke.
    TcpFailure,
    /// Nothing in time.
    Timeout,
    /// An answer that is none, or the word of a health service that not all is well.
    Garbage,
}

impl Address {
    /// An address that is new among others; it is thought to be as quick as they are.
    pub(super) fn new<'a>(key: AddressKey, others: impl Iterator<Item = &'a Self>) -> Self {
        Self {
            key,
            up: AtomicBool::new(true),
            ejected_until: AtomicU64::new(0),
            since: AtomicU64::new(NOT_YET),
            in_flight: AtomicU32::new(0),
            latency: Latency::like(others.map(|address| &address.latency)),
            judged: Mutex::default(),
        }
    }

    /// What it is known by.
    #[must_use]
    pub const fn key(&self) -> &AddressKey {
        &self.key
    }

    /// Whether health checks and ejection leave it in.
    #[must_use]
    pub fn is_available(&self, now: Mono) -> bool {
        self.is_up() && !self.is_ejected(now)
    }

    /// Whether health checks leave it in.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether it is ejected.
    #[must_use]
    pub fn is_ejected(&self, now: Mono) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now.0
    }

    /// Where its health stands.
    #[must_use]
    pub fn health(&self) -> HealthState {
        self.judged.lock().health.state()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The moving average of its answers' latency, in milliseconds.
    #[must_use]
    pub fn latency_ms(&self, now: Mono) -> f32 {
        self.latency.millis(now)
    }

    pub(super) fn observe(&self, latency_ms: f32, now: Mono) {
        self.latency.observe(latency_ms, now);
    }

    /// Since when it takes requests, for slow start; none if always.
    pub(super) fn since(&self, now: Mono) -> Option<Mono> {
        // It has all the time until it is first looked at.
        let _ = self.since.compare_exchange(NOT_YET, now.0, Ordering::Relaxed, Ordering::Relaxed);
        let ejected_until = Mono(self.ejected_until.load(Ordering::Relaxed));
        let since = Mono(self.since.load(Ordering::Relaxed));
        let latest = if ejected_until <= now { since.max(ejected_until) } else { since };
        (latest.0 != ALWAYS).then_some(latest)
    }

    /// It takes all of its weight at once, as one of the first addresses of an upstream does.
    pub(super) fn skip_slow_start(&self) {
        self.since.store(ALWAYS, Ordering::Relaxed);
    }

    /// Counts an outcome; returns whether it went up or down.
    pub(super) fn judge(&self, outcome: Outcome, good: &SuccessLimit, bad: &FailureLimits, now: Mono) -> Option<bool> {
        let mut judged = self.judged.lock();
        match outcome {
            Outcome::Status(status) if good.http_statuses.contains(&status) => judged.health.succeed(good.successes),
            Outcome::Status(status) if bad.http_statuses.contains(&status) => {
                judged.health.fail(Failure::Http, bad.http_failures);
            }
            Outcome::Status(_) => {}
            Outcome::Connected => judged.health.succeed(good.successes),
            Outcome::Garbage => judged.health.fail(Failure::Http, bad.http_failures),
            Outcome::TcpFailure => judged.health.fail(Failure::Tcp, bad.tcp_failures),
            Outcome::Timeout => judged.health.fail(Failure::Timeout, bad.timeouts),
        }
        self.publish(judged.health.state().is_up(), now)
    }

    /// What an operator says of it; also ends an ejection.
    pub(super) fn set_healthy(&self, healthy: bool, now: Mono) -> Option<bool> {
        let mut judged = self.judged.lock();
        judged.health.set(healthy);
        if healthy {
            judged.outlier = Outlier::default();
            self.ejected_until.store(0, Ordering::Relaxed);
        }
        self.publish(healthy, now)
    }

    fn publish(&self, up: bool, now: Mono) -> Option<bool> {
        let was_up = self.up.swap(up, Ordering::Relaxed);
        if up && !was_up {
            self.since.store(now.0, Ordering::Relaxed);
        }
        (was_up != up).then_some(up)
    }

    /// Counts an outcome for ejection; ejects if `may_eject` agrees that there is room for it.
    pub(super) fn weigh(
        &self,
        success: bool,
        settings: &OutlierDetection,
        now: Mono,
        may_eject: impl FnOnce() -> bool,
    ) -> bool {
        let mut judged = self.judged.lock();
        if success {
            judged.outlier.succeed(settings, now);
            return false;
        }
        if self.is_ejected(now) || !judged.outlier.fail(settings) || !may_eject() {
            return false;
        }
        let until = judged.outlier.eject(settings, now);
        self.ejected_until.store(until.0, Ordering::Relaxed);
        true
    }

    /// A request to it begins.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease(Arc::clone(self))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} at {}:{})", self.key.target, self.key.host, self.key.port)
    }
}

/// A request under way to an address.
#[derive(Debug)]
pub(super) struct Lease(Arc<Address>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
