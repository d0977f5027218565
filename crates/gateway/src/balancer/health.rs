//! The health of one address: Kong's four counters and the states between healthy and not.
//!
//! Invariants: a failure resets the successes only, a success all three failures; a counter that reaches its limit flips
//! the state, and traffic follows the last flip, not the states between. Active and passive checks share the counters, each
//! with its own limits; a limit of 0 turns its counter off. Unlike in Kong a success resets the failures even where
//! successes are not counted, so that failures must come in a row.

/// Where an address stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HealthState {
    /// Takes requests.
    #[default]
    Healthy,
    /// Takes requests, but has failed.
    MostlyHealthy,
    /// Takes none, but has succeeded.
    MostlyUnhealthy,
    /// Takes none.
    Unhealthy,
}

impl HealthState {
    /// Whether it takes requests.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Healthy | Self::MostlyHealthy)
    }
}

/// What kind of failure is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// A failing status, or an answer that is none.
    Http,
    /// No connection, or a broken one.
    Tcp,
    /// No answer in time.
    Timeout,
}

/// The counters and the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Health {
    state: HealthState,
    successes: u8,
    failures: [u8; 3],
}

impl Health {
    /// Where it stands.
    pub(super) const fn state(&self) -> HealthState {
        self.state
    }

    /// Counts a success; `limit` in a row make it healthy.
    pub(super) fn succeed(&mut self, limit: u8) {
        self.failures = [0; 3];
        if limit == 0 {
            if self.state == HealthState::MostlyHealthy {
                self.state = HealthState::Healthy;
            }
            return;
        }
        if self.state == HealthState::Healthy {
            return;
        }
        self.successes = self.successes.saturating_add(1);
        if self.successes >= limit {
            *self = Self::default();
        } else if self.state == HealthState::Unhealthy {
            self.state = HealthState::MostlyUnhealthy;
        }
    }

    /// Counts a failure; `limit` of its kind without a success between make it unhealthy.
    pub(super) fn fail(&mut self, kind: Failure, limit: u8) {
        if limit == 0 || self.state == HealthState::Unhealthy {
            return;
        }
        self.successes = 0;
        let count = &mut self.failures[kind as usize];
        *count = count.saturating_add(1);
        if *count >= limit {
            *self = Self { state: HealthState::Unhealthy, ..Self::default() };
        } else if self.state == HealthState::Healthy {
            self.state = HealthState::MostlyHealthy;
        }
    }

    /// What an operator says, whatever was counted.
    pub(super) fn set(&mut self, healthy: bool) {
        let state = if healthy { HealthState::Healthy } else { HealthState::Unhealthy };
        *self = Self { state, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthState::*;

    fn run(script: &str, success_limit: u8) -> HealthState {
        let mut health = Health::default();
        for step in script.chars() {
            match step {
                's' => health.succeed(success_limit),
                'h' => health.fail(Failure::Http, 3),
                't' => health.fail(Failure::Tcp, 2),
                'o' => health.fail(Failure::Timeout, 1),
                _ => unreachable!(),
            }
        }
        health.state()
    }

    #[test]
    fn counters_flip_the_state_at_their_limits() {
        let cases = [
            ("", Healthy),
            ("h", MostlyHealthy),
            ("hh", MostlyHealthy),
            ("hhh", Unhealthy),
            ("hht", MostlyHealthy),
            ("tt", Unhealthy),
            ("o", Unhealthy),
            ("hhs", MostlyHealthy),
            ("hhss", Healthy),
            ("hhshh", MostlyHealthy),
            ("os", MostlyUnhealthy),
            ("oss", Healthy),
            ("osh", MostlyUnhealthy),
            ("oshs", MostlyUnhealthy),
            ("oshss", Healthy),
            ("oshhh", Unhealthy),
        ];
        for (script, state) in cases {
            assert_eq!(run(script, 2), state, "{script}");
        }
    }

    #[test]
    fn without_a_limit_successes_only_break_the_row() {
        assert_eq!(run("hhshh", 0), MostlyHealthy);
        assert_eq!(run("hhs", 0), Healthy);
        assert_eq!(run("osss", 0), Unhealthy);
        let mut health = Health::default();
        health.fail(Failure::Http, 0);
        assert_eq!(health.state(), Healthy);
    }

    #[test]
    fn an_operator_has_the_last_word() {
        let mut health = Health::default();
        health.set(false);
        assert!(!health.state().is_up());
        health.set(true);
        assert_eq!(health, Health::default());
    }
}
