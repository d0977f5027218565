//! Ejection of an address that fails in a row: for a while, longer each time, and never for good.
//!
//! Not here: how many addresses may be ejected at a time, which only their balancer knows.

use crate::entity::OutlierDetection;
use model::Mono;
use std::time::Duration;

/// What is remembered of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Outlier {
    /// Failures in a row.
    failures: u32,
    /// Ejections in a row.
    ejections: u32,
    /// When the last ejection ends or ended.
    until: Mono,
}

impl Outlier {
    /// Counts a success; after a while without failure the next ejection is a first one again.
    pub(super) fn succeed(&mut self, settings: &OutlierDetection, now: Mono) {
        self.failures = 0;
        if self.ejections > 0 && now >= self.until.after(millis(settings.base_ejection_time_ms)) {
            self.ejections = 0;
        }
    }

    /// Counts a failure; whether the address has failed often enough to be ejected.
    pub(super) fn fail(&mut self, settings: &OutlierDetection) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= settings.consecutive_5xx
    }

    /// Ejects; returns until when.
    pub(super) fn eject(&mut self, settings: &OutlierDetection, now: Mono) -> Mono {
        self.failures = 0;
        self.ejections = self.ejections.saturating_add(1);
        let ms = settings.base_ejection_time_ms.saturating_mul(self.ejections);
        self.until = now.after(millis(ms.min(settings.max_ejection_time_ms)));
        self.until
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: OutlierDetection = OutlierDetection {
        consecutive_5xx: 3,
        base_ejection_time_ms: 1_000,
        max_ejection_time_ms: 2_500,
        max_ejection_percent: 100,
    };

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000)
    }

    #[test]
    fn failures_in_a_row_eject_and_each_ejection_is_longer() {
        let mut outlier = Outlier::default();
        assert!(!outlier.fail(&SETTINGS) && !outlier.fail(&SETTINGS));
        outlier.succeed(&SETTINGS, at(1));
        assert!(!outlier.fail(&SETTINGS) && !outlier.fail(&SETTINGS));
        assert!(outlier.fail(&SETTINGS));
        assert_eq!(outlier.eject(&SETTINGS, at(10)), at(1_010));
        assert_eq!(outlier.eject(&SETTINGS, at(1_010)), at(3_010));
        assert_eq!(outlier.eject(&SETTINGS, at(3_010)), at(5_510), "the longest");
        outlier.succeed(&SETTINGS, at(6_000));
        assert_eq!(outlier.eject(&SETTINGS, at(6_000)), at(8_500), "too soon to be forgiven");
        outlier.succeed(&SETTINGS, at(9_500));
        assert_eq!(outlier.eject(&SETTINGS, at(10_000)), at(11_000));
    }
}
