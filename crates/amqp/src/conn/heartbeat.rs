//! Heartbeats (§4.2.7): one is sent after half an interval of silence from us, and the peer is gone after two
//! intervals of silence from it. Any traffic counts.

use model::Mono;
use std::time::Duration;

/// The clockwork of both directions. An interval of 0 stops it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heartbeat {
    interval: Duration,
    sent: Mono,
    received: Mono,
}

impl Heartbeat {
    /// Stopped.
    pub(super) fn new(now: Mono) -> Self {
        Self { interval: Duration::ZERO, sent: now, received: now }
    }

    pub(super) fn start(&mut self, seconds: u16, now: Mono) {
        self.interval = Duration::from_secs(seconds.into());
        self.received = now;
    }

    pub(super) fn stop(&mut self) {
        self.interval = Duration::ZERO;
    }

    pub(super) fn seconds(&self) -> u64 {
        self.interval.as_secs()
    }

    pub(super) fn note_sent(&mut self, now: Mono) {
        self.sent = now;
    }

    pub(super) fn note_received(&mut self, now: Mono) {
        self.received = now;
    }

    fn send_at(&self) -> Mono {
        self.sent.after(self.interval / 2)
    }

    fn gone_at(&self) -> Mono {
        self.received.after(self.interval * 2)
    }

    /// When something is next to be done.
    pub(super) fn next(&self) -> Option<Mono> {
        (!self.interval.is_zero()).then(|| self.send_at().min(self.gone_at()))
    }

    pub(super) fn must_send(&self, now: Mono) -> bool {
        !self.interval.is_zero() && now >= self.send_at()
    }

    pub(super) fn peer_is_gone(&self, now: Mono) -> bool {
        !self.interval.is_zero() && now >= self.gone_at()
    }
}
