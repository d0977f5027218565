//! When a buffer that has grown is given back.
//!
//! Invariants: not before it was left alone for a second, because one that shrank between two bursts would grow anew in
//! each; looked at once a second and not at each use, so that a use costs a store.

use model::Mono;
use std::time::Duration;

/// How long nothing uses a buffer before it is given back.
const IDLE: Duration = Duration::from_secs(1);

/// How long something has not been used.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    used_at: Mono,
    /// When to look whether what has grown is still needed.
    look_at: Option<Mono>,
}

impl Idle {
    /// Notes a use; `grown` says whether there is anything to give back.
    pub(crate) fn note_use(&mut self, now: Mono, grown: bool) {
        self.used_at = now;
        if self.look_at.is_none() && grown {
            self.look_at = Some(now.after(IDLE));
        }
    }

    /// When it wants [`Idle::is_over`] asked.
    pub(crate) fn poll_timeout(&self) -> Option<Mono> {
        self.look_at
    }

    /// Whether it is time to give back what has grown; if not, it is looked at again.
    pub(crate) fn is_over(&mut self, now: Mono) -> bool {
        if self.look_at.is_none_or(|at| at > now) {
            return false;
        }
        let idle_at = self.used_at.after(IDLE);
        self.look_at = (idle_at > now).then_some(idle_at);
        self.look_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_a_second_after_the_last_use() {
        let mut idle = Idle::default();
        idle.note_use(Mono(5_000_000), false);
        assert_eq!(idle.poll_timeout(), None, "there is nothing to give back");
        idle.note_use(Mono(5_000_000), true);
        idle.note_use(Mono(5_700_000), true);
        assert_eq!(idle.poll_timeout(), Some(Mono(6_000_000)));
        assert!(!idle.is_over(Mono(5_999_999)) && !idle.is_over(Mono(6_000_000)), "it was used since");
        assert_eq!(idle.poll_timeout(), Some(Mono(6_700_000)));
        assert!(idle.is_over(Mono(6_700_000)));
        assert_eq!(idle.poll_timeout(), None);
        assert!(!idle.is_over(Mono(9_000_000)), "once");
    }
}
