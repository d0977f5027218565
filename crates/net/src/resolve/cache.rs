//! What is known of names, and which of it is being asked for. Without clock and sockets: `now` is an argument.
//!
//! ```text
//! unknown ─ask─► waiting ─┬─► answer ──(a tenth of its time is left: ask again, use it meanwhile)──┐
//!                         │     └─ at its end: ask, wait a moment, then use the old one: stale ◄───┘
//!                         └─► failure, kept for a while; an answer before it goes on as stale, unless
//!                             servers say that the name has no addresses
//! ```
//!
//! Invariants: at most one lookup of a name is under way. At most [`DNS_NAMES_MAX`] names are remembered; the one that was
//! asked for longest ago makes room.

use super::error::ResolveError;
use super::lookup::Source;
use model::limits::{DNS_NAMES_MAX, DNS_STALE_WAIT_MS};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// An address of a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The port, if a service record says one.
    pub port: Option<u16>,
    /// Its share among its like, at least 1, if a service record says one.
    pub weight: Option<u16>,
    /// The name a service record leads to.
    pub name: Option<Arc<str>>,
}

impl Endpoint {
    /// An address without a service record.
    #[must_use]
    pub const fn plain(ip: IpAddr) -> Self {
        Self { ip, port: None, weight: None, name: None }
    }
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its addresses, sorted; at least one.
    pub endpoints: Arc<[Endpoint]>,
    /// Until when it is good. In the past: no server gave a newer one.
    pub until: Instant,
}

/// What the cache says of a name.
#[derive(Debug)]
pub(super) enum Found {
    Answer(Answer),
    /// It has ended: wait for the lookup until then, and use it if that is not enough.
    Stale(Answer, Waiting, Instant),
    Failed(ResolveError),
    /// Nothing: wait for the lookup.
    Unknown(Waiting),
}

/// Ends when the lookup does, whether or not it came to an end itself.
pub(super) type Waiting = watch::Receiver<()>;

/// A lookup that whoever gets this has to start, and to report with [`Cache::settle`].
#[derive(Debug)]
pub(super) struct Ask {
    /// What answered last time.
    pub(super) last: Option<Source>,
    /// Dropped when the lookup has ended.
    pub(super) done: watch::Sender<()>,
}

/// What a lookup brought.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) endpoints: Arc<[Endpoint]>,
    pub(super) ttl: Duration,
    pub(super) source: Source,
}

/// How long what is known is good for, beside its own time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ttls {
    pub(super) stale: Duration,
    pub(super) not_found: Duration,
    pub(super) error: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Arc<str>, Entry>,
    /// Counts uses, for the order of forgetting.
    clock: u64,
}

#[derive(Debug, Default)]
struct Entry {
    answer: Option<Kept>,
    failure: Option<(ResolveError, Instant)>,
    asking: Option<Asking>,
    last: Option<Source>,
    turn: usize,
    used: u64,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    /// From when on it is asked for again while it is still good.
    refresh: Instant,
}

#[derive(Debug)]
struct Asking {
    since: Instant,
    done: Waiting,
}

impl Asking {
    /// A lookup that was dropped has ended too.
    fn is_under_way(&self) -> bool {
        self.done.has_changed().is_ok()
    }
}

impl Cache {
    /// What is known of `name`, and whether it has to be asked for.
    pub(super) fn look(&mut self, name: &str, ttls: Ttls, now: Instant) -> (Found, Option<Ask>) {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entry(name);
        entry.used = clock;
        let known = entry.answer.as_ref().filter(|kept| now < kept.answer.until + ttls.stale);
        let failure = entry.failure.filter(|(_, until)| now < *until);
        match (known.map(|kept| (kept.answer.clone(), kept.refresh)), failure) {
            (Some((answer, refresh)), _) if now < refresh => (Found::Answer(answer), None),
            (Some((answer, _)), Some(_)) => (Found::Answer(answer), None),
            (Some((answer, _)), None) => {
                let (asking, ask) = entry.ask(now);
                // Who asked in vain before has waited enough for all.
                let in_vain = entry.failure.is_some();
                if now < answer.until || in_vain {
                    return (Found::Answer(answer), ask);
                }
                let patience = asking.since + Duration::from_millis(DNS_STALE_WAIT_MS);
                (Found::Stale(answer, asking.done, patience), ask)
            }
            (None, Some((error, _))) => (Found::Failed(error), None),
            (None, None) => {
                let (asking, ask) = entry.ask(now);
                (Found::Unknown(asking.done), ask)
            }
        }
    }

    /// What a lookup came to that was waited for; `None` if it came to no end.
    pub(super) fn outcome(&self, name: &str, ttls: Ttls, now: Instant) -> Option<Result<Answer, ResolveError>> {
        let entry = self.entries.get(name)?;
        let kept = entry.answer.as_ref().filter(|kept| now < kept.answer.until + ttls.stale);
        match (kept, entry.failure) {
            (Some(kept), _) => Some(Ok(kept.answer.clone())),
            (None, failure) => failure.map(|(error, _)| Err(error)),
        }
    }

    /// Takes in what a lookup brought.
    pub(super) fn settle(&mut self, name: &str, result: Result<Settled, ResolveError>, ttls: Ttls, now: Instant) {
        // Forgotten while it was asked for.
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.asking = None;
        match result {
            Ok(settled) => {
                let answer = Answer { endpoints: settled.endpoints, until: now + settled.ttl };
                entry.answer = Some(Kept { answer, refresh: now + settled.ttl - settled.ttl / 10 });
                entry.last = Some(settled.source);
                entry.failure = None;
            }
            Err(error) => {
                let ttl = if error.is_final() { ttls.not_found } else { ttls.error };
                entry.failure = Some((error, now + ttl));
                if error.is_final() {
                    entry.answer = None;
                }
            }
        }
    }

    /// A number that is another one at each call for a name, for taking turns.
    pub(super) fn turn(&mut self, name: &str) -> usize {
        self.entries.get_mut(name).map_or(0, |entry| {
            entry.turn = entry.turn.wrapping_add(1);
            entry.turn
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        if !self.entries.contains_key(name) && self.entries.len() >= DNS_NAMES_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.entry(name.into()).or_default()
    }
}

impl Entry {
    /// The lookup under way, begun now if there is none.
    fn ask(&mut self, now: Instant) -> (Asking, Option<Ask>) {
        if let Some(asking) = self.asking.as_ref().filter(|asking| asking.is_under_way()) {
            return (Asking { since: asking.since, done: asking.done.clone() }, None);
        }
        let (sender, done) = watch::channel(());
        self.asking = Some(Asking { since: now, done: done.clone() });
        (Asking { since: now, done }, Some(Ask { last: self.last.clone(), done: sender }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::message::Kind;
    use crate::resolve::name::Name;

    const TTLS: Ttls =
        Ttls { stale: Duration::from_secs(3_600), not_found: Duration::from_secs(30), error: Duration::from_secs(1) };

    fn settled(ttl_s: u64) -> Result<Settled, ResolveError> {
        let endpoint = Endpoint::plain([10, 0, 0, 1].into());
        let source = Source { kind: Kind::A, name: Name::parse("a").unwrap() };
        Ok(Settled { endpoints: [endpoint].into(), ttl: Duration::from_secs(ttl_s), source })
    }

    /// A cache that knows `a` since `now`, for `ttl_s`.
    fn knowing(ttl_s: u64, now: Instant) -> Cache {
        let mut cache = Cache::default();
        let (_, ask) = cache.look("a", TTLS, now);
        assert!(ask.is_some());
        cache.settle("a", settled(ttl_s), TTLS, now);
        cache
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_name_is_asked_for_once_while_many_wait() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let (first, ask) = cache.look("a", TTLS, now);
        let (second, again) = cache.look("a", TTLS, now);
        assert!(matches!((first, second), (Found::Unknown(_), Found::Unknown(_))));
        assert!(ask.is_some() && again.is_none());
        drop(ask);
        assert!(cache.look("a", TTLS, now).1.is_some(), "a lookup that was dropped is begun again");
    }

    #[test]
    fn an_answer_is_used_for_its_ttl_and_asked_for_again_before_its_end() {
        let now = Instant::now();
        let mut cache = knowing(100, now);
        let (found, ask) = cache.look("a", TTLS, now + s(89));
        assert!(matches!(found, Found::Answer(_)) && ask.is_none());
        let (found, under_way) = cache.look("a", TTLS, now + s(91));
        assert!(matches!(found, Found::Answer(_)) && under_way.is_some());
        let (found, ask) = cache.look("a", TTLS, now + s(101));
        assert!(matches!(found, Found::Stale(_, _, until) if until == now + s(91) + Duration::from_millis(500)));
        assert!(ask.is_none(), "one is under way");
    }

    #[test]
    fn an_old_answer_serves_while_servers_fail_and_not_longer_than_it_may() {
        let now = Instant::now();
        let mut cache = knowing(10, now);
        let (found, _ask) = cache.look("a", TTLS, now + s(11));
        assert!(matches!(found, Found::Stale(..)));
        cache.settle("a", Err(ResolveError::Timeout), TTLS, now + s(11));
        let (found, ask) = cache.look("a", TTLS, now + s(11));
        assert!(matches!(found, Found::Answer(_)) && ask.is_none(), "not asked again within the error's time");
        assert!(cache.outcome("a", TTLS, now + s(11)).unwrap().is_ok());
        let (found, ask) = cache.look("a", TTLS, now + s(13));
        assert!(matches!(found, Found::Answer(_)) && ask.is_some(), "asked again, and nobody waits for it");
        let (found, _) = cache.look("a", TTLS, now + s(10 + 3_601));
        assert!(matches!(found, Found::Unknown(_)));
    }

    #[test]
    fn a_name_that_is_gone_has_no_old_answer() {
        let now = Instant::now();
        let mut cache = knowing(10, now);
        let _ask = cache.look("a", TTLS, now + s(11));
        cache.settle("a", Err(ResolveError::NotFound), TTLS, now + s(11));
        let (found, ask) = cache.look("a", TTLS, now + s(40));
        assert!(matches!(found, Found::Failed(ResolveError::NotFound)) && ask.is_none());
        let (found, ask) = cache.look("a", TTLS, now + s(42));
        assert!(matches!(found, Found::Unknown(_)) && ask.is_some());
    }

    #[test]
    fn the_name_unused_for_longest_makes_room() {
        let now = Instant::now();
        let mut cache = knowing(10_000, now);
        for n in 0..DNS_NAMES_MAX - 1 {
            drop(cache.look(&format!("n{n}"), TTLS, now));
        }
        assert_eq!(cache.len(), DNS_NAMES_MAX);
        assert!(matches!(cache.look("a", TTLS, now).0, Found::Answer(_)));
        drop(cache.look("one more", TTLS, now));
        assert_eq!(cache.len(), DNS_NAMES_MAX);
        assert!(matches!(cache.look("a", TTLS, now).0, Found::Answer(_)), "it was used since");
        assert!(!cache.entries.contains_key("n0"));
    }
}
