//! The breaker of an upstream: closed, open, half-open.
//!
//! ```text
//!            too many failures                  its time is over
//! Closed ─────────────────────────► Open ─────────────────────────► HalfOpen
//!    ▲                               ▲                                 │  │
//!    │                               └──────────── a failure ──────────┘  │
//!    └───────────────────── as many successes as probes allowed ──────────┘
//! ```
//!
//! Invariants: while half-open at most `half_open_requests` are under way, and one that ends without an outcome gives its
//! place back. Outcomes of requests let in before the breaker opened change nothing. It is the only gate: a probe may go
//! to an address that health checks have taken out, or it would never close.

use crate::entity::Breaker as Settings;
use model::Mono;
use parking_lot::Mutex;
use std::time::Duration;

/// How finely the window slides.
const N_PARTS: usize = 10;

/// What the breaker says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// It is closed.
    Pass,
    /// It is half-open, and this request is a probe of that time; what it finds says nothing of a later one.
    Probe {
        /// When it became half-open.
        since: Mono,
    },
    /// It is open for that long still, or enough probes are under way.
    Refused {
        /// When to come back.
        retry_after_ms: u64,
    },
}

/// Where it stands, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// A few requests try.
    HalfOpen,
}

/// The breaker.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Phase>);

#[derive(Debug)]
enum Phase {
    Closed(Window),
    Open { until: Mono },
    HalfOpen { since: Mono, under_way: u32, successes: u32 },
}

/// Outcomes of the last while, in parts of it.
#[derive(Debug, Default)]
struct Window {
    parts: [Part; N_PARTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Which part of time it is, counted from the clock's start.
    number: u64,
    total: u32,
    failed: u32,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed(Window::default())
    }
}

impl Breaker {
    /// Asks for a request to be let through.
    pub(super) fn admit(&self, settings: &Settings, now: Mono) -> Admission {
        let mut phase = self.0.lock();
        match &mut *phase {
            Phase::Closed(_) => Admission::Pass,
            Phase::Open { until } if now < *until => {
                let wait_us = until.0 - now.0;
                Admission::Refused { retry_after_ms: wait_us.div_ceil(1_000) }
            }
            Phase::Open { .. } => {
                *phase = Phase::HalfOpen { since: now, under_way: 1, successes: 0 };
                Admission::Probe { since: now }
            }
            Phase::HalfOpen { since, under_way, .. } if *under_way < settings.half_open_requests => {
                *under_way += 1;
                Admission::Probe { since: *since }
            }
            Phase::HalfOpen { .. } => Admission::Refused { retry_after_ms: settings.open_ms.into() },
        }
    }

    /// Takes the outcome of a request; none if it has none, as when the client left.
    pub(super) fn report(&self, settings: &Settings, admission: Admission, success: Option<bool>, now: Mono) {
        let mut phase = self.0.lock();
        let open = || Phase::Open { until: now.after(Duration::from_millis(settings.open_ms.into())) };
        match (&mut *phase, admission, success) {
            // A probe's, too: one that was thought good and broke off, or of a time before.
            (Phase::Closed(window), Admission::Pass | Admission::Probe { .. }, Some(success)) => {
                let too_many = window.record(settings, success, now);
                if too_many {
                    *phase = open();
                }
            }
            // A probe of before it opened again.
            (Phase::HalfOpen { since, .. }, Admission::Probe { since: of }, _) if *since != of => {}
            (Phase::HalfOpen { under_way, .. }, Admission::Probe { .. }, None) => {
                *under_way = under_way.saturating_sub(1);
            }
            (Phase::HalfOpen { .. }, Admission::Probe { .. }, Some(false)) => *phase = open(),
            (Phase::HalfOpen { under_way, successes, .. }, Admission::Probe { .. }, Some(true)) => {
                *under_way = under_way.saturating_sub(1);
                *successes += 1;
                if *successes >= settings.half_open_requests {
                    *phase = Phase::default();
                }
            }
            _ => {}
        }
    }

    /// Where it stands.
    pub(super) fn state(&self, now: Mono) -> BreakerState {
        match &*self.0.lock() {
            Phase::Closed(_) => BreakerState::Closed,
            Phase::Open { until } if now < *until => BreakerState::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

impl Window {
    /// Counts an outcome; whether there are now too many failures.
    fn record(&mut self, settings: &Settings, success: bool, now: Mono) -> bool {
        let part_us = (u64::from(settings.window_ms) * 1_000 / N_PARTS as u64).max(1);
        let number = now.0 / part_us;
        let part = &mut self.parts[usize::try_from(number % N_PARTS as u64).unwrap_or_default()];
        if part.number != number {
            *part = Part { number, total: 0, failed: 0 };
        }
        part.total = part.total.saturating_add(1);
        part.failed = part.failed.saturating_add(u32::from(!success));
        let recent = self.parts.iter().filter(|part| number - part.number.min(number) < N_PARTS as u64);
        let (total, failed) = recent.fold((0u64, 0u64), |(total, failed), part| {
            (total + u64::from(part.total), failed + u64::from(part.failed))
        });
        !success
            && total >= settings.minimum_requests.into()
            && failed * 100 >= total * u64::from(settings.failure_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Admission::{Pass, Probe, Refused};

    const fn probe(ms: u64) -> Admission {
        Probe { since: at(ms) }
    }

    const SETTINGS: Settings =
        Settings { failure_percent: 50, minimum_requests: 4, window_ms: 1_000, open_ms: 500, half_open_requests: 2 };

    const fn at(ms: u64) -> Mono {
        Mono(ms * 1_000)
    }

    fn pass(breaker: &Breaker, success: bool, ms: u64) {
        assert_eq!(breaker.admit(&SETTINGS, at(ms)), Pass);
        breaker.report(&SETTINGS, Pass, Some(success), at(ms));
    }

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        for success in [true, true, false, false] {
            pass(&breaker, success, 10);
        }
        breaker
    }

    #[test]
    fn it_opens_at_the_share_of_failures_once_there_are_enough_requests() {
        let breaker = opened();
        assert_eq!(breaker.admit(&SETTINGS, at(10)), Refused { retry_after_ms: 500 });
        assert_eq!(breaker.state(at(10)), BreakerState::Open);
        let breaker = Breaker::default();
        for n in 0..3 {
            pass(&breaker, false, n);
        }
        assert_eq!(breaker.admit(&SETTINGS, at(10)), Pass, "three are not enough to judge");
    }

    #[test]
    fn failures_long_ago_do_not_count() {
        let breaker = Breaker::default();
        for ms in [0, 400, 800, 1_200, 1_600, 2_000] {
            pass(&breaker, false, ms);
        }
        assert_eq!(breaker.state(at(2_000)), BreakerState::Closed, "never four within a second");
    }

    #[test]
    fn half_open_it_lets_few_through_and_closes_after_their_success() {
        let breaker = opened();
        assert_eq!(breaker.admit(&SETTINGS, at(509)), Refused { retry_after_ms: 1 });
        assert_eq!(breaker.admit(&SETTINGS, at(510)), probe(510));
        assert_eq!(breaker.admit(&SETTINGS, at(511)), probe(510));
        assert!(matches!(breaker.admit(&SETTINGS, at(511)), Refused { .. }));
        breaker.report(&SETTINGS, probe(510), Some(true), at(520));
        assert_eq!(breaker.state(at(520)), BreakerState::HalfOpen);
        breaker.report(&SETTINGS, probe(510), Some(true), at(521));
        assert_eq!(breaker.admit(&SETTINGS, at(522)), Pass);
    }

    #[test]
    fn a_failing_probe_opens_it_again() {
        let breaker = opened();
        assert_eq!(breaker.admit(&SETTINGS, at(600)), probe(600));
        breaker.report(&SETTINGS, probe(600), Some(false), at(650));
        assert_eq!(breaker.admit(&SETTINGS, at(650)), Refused { retry_after_ms: 500 });
        assert_eq!(breaker.admit(&SETTINGS, at(1_150)), probe(1_150));
    }

    #[test]
    fn a_late_probe_says_nothing_of_a_later_half_open_time() {
        let breaker = opened();
        assert_eq!(breaker.admit(&SETTINGS, at(600)), probe(600));
        assert_eq!(breaker.admit(&SETTINGS, at(601)), probe(600));
        breaker.report(&SETTINGS, probe(600), Some(false), at(650));
        for _ in 0..2 {
            assert_eq!(breaker.admit(&SETTINGS, at(1_200)), probe(1_200));
        }
        for late in [Some(true), Some(false), None] {
            breaker.report(&SETTINGS, probe(600), late, at(1_210));
            assert_eq!(breaker.state(at(1_210)), BreakerState::HalfOpen);
            assert!(matches!(breaker.admit(&SETTINGS, at(1_210)), Refused { .. }), "{late:?} gave a place back");
        }
    }

    #[test]
    fn a_probe_that_was_good_and_broke_off_opens_it_again() {
        let breaker = opened();
        assert_eq!(breaker.admit(&SETTINGS, at(600)), probe(600));
        breaker.report(&SETTINGS, probe(600), Some(true), at(610));
        breaker.report(&SETTINGS, probe(600), Some(false), at(620));
        assert_eq!(breaker.state(at(620)), BreakerState::Open);
        let breaker = opened();
        for n in 0..2 {
            assert_eq!(breaker.admit(&SETTINGS, at(600)), probe(600));
            breaker.report(&SETTINGS, probe(600), Some(true), at(610 + n));
        }
        assert_eq!(breaker.state(at(620)), BreakerState::Closed);
        for _ in 0..4 {
            breaker.report(&SETTINGS, probe(600), Some(false), at(630));
        }
        assert_eq!(breaker.state(at(630)), BreakerState::Open, "they count like any");
    }

    #[test]
    fn a_probe_without_an_outcome_gives_its_place_back() {
        let breaker = opened();
        for _ in 0..5 {
            assert_eq!(breaker.admit(&SETTINGS, at(600)), probe(600));
            breaker.report(&SETTINGS, probe(600), None, at(600));
        }
    }

    #[test]
    fn outcomes_of_before_it_opened_do_not_matter() {
        let breaker = opened();
        assert_eq!(breaker.admit(&SETTINGS, at(600)), probe(600));
        breaker.report(&SETTINGS, Pass, Some(false), at(601));
        assert_eq!(breaker.state(at(601)), BreakerState::HalfOpen);
    }
}
