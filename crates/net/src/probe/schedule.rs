//! When each address of an upstream is probed: while it is up at one interval, while it is down at another.
//!
//! Without clock: `now` is an argument. The first probe of an address comes at a random point of its interval, so that an
//! upstream's probes spread; after a change of its health the new interval counts from the last probe's begin.

use gateway::entity::Intervals;
use model::Mono;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// The addresses of an upstream, by what they are known by.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    planned: HashMap<K, Planned>,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    /// When the last probe began, or the one before the first would have.
    begun: Mono,
    under_way: bool,
}

impl<K: Clone + Eq + Hash> Schedule<K> {
    pub(super) fn new() -> Self {
        Self { planned: HashMap::new() }
    }

    /// Those to probe now, longest due first, and when the next will be due. `addresses` are all there are, each with
    /// whether it is up; what is not among them is forgotten.
    pub(super) fn due(
        &mut self,
        addresses: &[(K, bool)],
        intervals: Intervals,
        now: Mono,
        mut random: impl FnMut() -> u64,
    ) -> (Vec<K>, Option<Mono>) {
        let before = std::mem::take(&mut self.planned);
        let (mut due, mut next) = (Vec::new(), None::<Mono>);
        for (key, up) in addresses {
            let interval = if *up { intervals.healthy_ms } else { intervals.unhealthy_ms };
            let planned = before.get(key).copied().unwrap_or_else(|| {
                let whole = u64::from(interval) * 1_000;
                Planned { begun: Mono(now.0.saturating_sub(random() % whole.max(1))), under_way: false }
            });
            self.planned.insert(key.clone(), planned);
            if interval == 0 || planned.under_way {
                continue;
            }
            let at = planned.begun.after(Duration::from_millis(interval.into()));
            if at <= now {
                due.push((at, key.clone()));
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        due.sort_by_key(|(at, _)| *at);
        (due.into_iter().map(|(_, key)| key).collect(), next)
    }

    /// A probe begins.
    pub(super) fn begin(&mut self, key: &K, now: Mono) {
        self.planned.insert(key.clone(), Planned { begun: now, under_way: true });
    }

    /// A probe has ended.
    pub(super) fn end(&mut self, key: &K) {
        if let Some(planned) = self.planned.get_mut(key) {
            planned.under_way = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: Intervals = Intervals { healthy_ms: 10_000, unhealthy_ms: 1_000 };

    fn s(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000)
    }

    /// Probes what is due at once; returns what that was.
    fn run(schedule: &mut Schedule<&'static str>, all: &[(&'static str, bool)], now: Mono) -> Vec<&'static str> {
        let (due, _) = schedule.due(all, INTERVALS, now, || 4_000_000);
        for key in &due {
            schedule.begin(key, now);
            schedule.end(key);
        }
        due
    }

    #[test]
    fn an_address_is_probed_at_the_interval_of_its_health() {
        let mut schedule = Schedule::new();
        let all = [("up", true), ("down", false)];
        assert_eq!(run(&mut schedule, &all, s(100)), [""; 0]);
        let (due, next) = schedule.due(&all, INTERVALS, s(100), || 0);
        assert!(due.is_empty() && next == Some(s(101)));
        assert_eq!(run(&mut schedule, &all, s(101)), ["down"]);
        assert_eq!(run(&mut schedule, &all, s(102)), ["down"]);
        assert_eq!(run(&mut schedule, &all, s(106)), ["down", "up"]);
        assert_eq!(run(&mut schedule, &all, s(106)), [""; 0]);
        assert_eq!(run(&mut schedule, &[("up", false), ("down", true)], s(107)), ["up"], "its health has changed");
    }

    #[test]
    fn an_interval_of_zero_probes_nothing() {
        let mut schedule = Schedule::new();
        let never = Intervals { healthy_ms: 0, unhealthy_ms: 1_000 };
        let (due, next) = schedule.due(&[("up", true)], never, s(100), || 5);
        assert_eq!((due, next), (Vec::new(), None));
    }

    #[test]
    fn a_probe_under_way_is_not_begun_again() {
        let mut schedule = Schedule::new();
        let all = [("a", false)];
        schedule.due(&all, INTERVALS, s(100), || 0);
        schedule.begin(&"a", s(100));
        assert!(schedule.due(&all, INTERVALS, s(200), || 0).0.is_empty());
        schedule.end(&"a");
        assert_eq!(schedule.due(&all, INTERVALS, s(200), || 0).0, ["a"]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut schedule = Schedule::new();
        schedule.due(&[("a", true), ("b", true)], INTERVALS, s(100), || 0);
        schedule.due(&[("b", true)], INTERVALS, s(100), || 0);
        schedule.end(&"a");
        assert_eq!(schedule.planned.len(), 1);
    }
}
