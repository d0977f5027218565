//! The addresses of an upstream as they are chosen from: by tier, each tier with its algorithm. Immutable; a change of
//! addresses makes the next table.
//!
//! Invariants: an address of weight 0 is in no tier. A tier is used only if those before it have nothing to offer; what
//! was tried already is offered again only if nothing else is left.

use super::address::Address;
use super::random;
use super::ring::Ring;
use super::slow_start;
use super::wheel::Wheel;
use crate::entity::{Algorithm, Scheme, SlowStart};
use http::HeaderValue;
use model::Mono;
use std::sync::Arc;

/// An address in a table.
#[derive(Debug)]
pub struct Member {
    /// The address.
    pub address: Arc<Address>,
    /// Its weight; 0 for one that is drained.
    pub weight: u32,
    /// Its tier.
    pub priority: u16,
    /// The `Host` it is asked by, over HTTP and over HTTPS.
    pub(super) host_values: [HeaderValue; 2],
    /// The name TLS asks for: that of `Host`, without the port.
    pub server_name: Arc<str>,
}

impl Member {
    /// The `Host` it is asked by.
    #[must_use]
    pub const fn host_value(&self, scheme: Scheme) -> &HeaderValue {
        match scheme {
            Scheme::Http => &self.host_values[0],
            Scheme::Https => &self.host_values[1],
        }
    }
}

/// What a choice depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) now: Mono,
    pub(super) random: u64,
    /// The hashed value, for consistent hashing.
    pub(super) key: u64,
    /// What was tried already.
    pub(super) tried: &'a [Arc<Member>],
    /// Health is not looked at.
    pub(super) panic: bool,
    /// Rather an unhealthy address than none.
    pub(super) any: bool,
    pub(super) slow_start: Option<SlowStart>,
}

/// The members of an upstream.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// All of them, drained ones too.
    pub(super) members: Box<[Arc<Member>]>,
    tiers: Box<[Tier]>,
    /// Which state of resolved names it was made from.
    pub(super) version: u64,
}

/// The members of one priority that have weight.
#[derive(Debug)]
struct Tier {
    members: Box<[Arc<Member>]>,
    picker: Picker,
}

#[derive(Debug)]
enum Picker {
    Wheel(Wheel),
    Ring(Ring),
    LeastConnections,
    Latency,
}

impl Table {
    pub(super) fn new(members: Vec<Arc<Member>>, algorithm: &Algorithm, version: u64) -> Self {
        let mut weighty: Vec<Arc<Member>> = members.iter().filter(|member| member.weight > 0).cloned().collect();
        weighty.sort_by_key(|member| member.priority);
        let tiers = weighty.chunk_by(|a, b| a.priority == b.priority).map(|tier| Tier::new(tier, algorithm)).collect();
        Self { members: members.into(), tiers, version }
    }

    /// The member a request goes to.
    pub(super) fn pick(&self, choice: &Choice<'_>) -> Option<&Arc<Member>> {
        let available = |member: &Member| choice.panic || member.address.is_available(choice.now);
        let is_new = |member: &Member| !choice.tried.iter().any(|tried| std::ptr::eq(&raw const **tried, member));
        let first = |ok: &dyn Fn(&Member) -> bool| self.tiers.iter().find_map(|tier| tier.pick(choice, ok));
        first(&|member| available(member) && is_new(member))
            .or_else(|| first(&available))
            .or_else(|| if choice.any { first(&|_| true) } else { None })
    }

    /// Percent of the weight that is available.
    pub(super) fn available_percent(&self, now: Mono) -> f64 {
        let weighty = || self.tiers.iter().flat_map(|tier| tier.members.iter());
        let total: u64 = weighty().map(|member| u64::from(member.weight)).sum();
        let available: u64 =
            weighty().filter(|m| m.address.is_available(now)).map(|member| u64::from(member.weight)).sum();
        #[allow(clippy::cast_precision_loss)] // a percentage
        if total == 0 { 0.0 } else { available as f64 * 100.0 / total as f64 }
    }

    /// Whether one more address may be ejected, when at most `percent` of them may be.
    pub(super) fn may_eject(&self, percent: u8, now: Mono) -> bool {
        let ejected = self.members.iter().filter(|member| member.address.is_ejected(now)).count();
        ejected == 0 || (ejected + 1) * 100 <= self.members.len() * usize::from(percent)
    }
}

impl Tier {
    fn new(members: &[Arc<Member>], algorithm: &Algorithm) -> Self {
        let picker = match algorithm {
            Algorithm::RoundRobin => {
                Picker::Wheel(Wheel::new(&members.iter().map(|member| member.weight).collect::<Vec<_>>()))
            }
            Algorithm::ConsistentHashing(hashing) => {
                let names: Vec<String> = members
                    .iter()
                    .map(|member| format!("{}:{}", member.address.key().host, member.address.key().port))
                    .collect();
                let weighted: Vec<_> =
                    names.iter().map(String::as_str).zip(members.iter().map(|member| member.weight)).collect();
                Picker::Ring(Ring::new(&weighted, hashing.slots))
            }
            Algorithm::LeastConnections => Picker::LeastConnections,
            Algorithm::Latency => Picker::Latency,
        };
        Self { members: members.into(), picker }
    }

    fn pick(&self, choice: &Choice<'_>, ok: &dyn Fn(&Member) -> bool) -> Option<&Arc<Member>> {
        let is_ok = |at: usize| ok(&self.members[at]);
        let at = match &self.picker {
            Picker::Ring(ring) => ring.pick(choice.key, is_ok),
            Picker::Wheel(wheel) => match choice.slow_start {
                None => wheel.pick(choice.random, is_ok),
                Some(settings) => {
                    let takes = |at: usize| {
                        let share = slow_start::share(settings, self.members[at].address.since(choice.now), choice.now);
                        slow_start::accepts(share, random::mix(choice.random ^ at as u64))
                    };
                    wheel.pick(choice.random, |at| is_ok(at) && takes(at)).or_else(|| wheel.pick(choice.random, is_ok))
                }
            },
            Picker::LeastConnections => self.least_loaded(choice, is_ok),
            Picker::Latency => self.quicker_of_two(choice, is_ok),
        };
        at.map(|at| &self.members[at])
    }

    /// The weight of a member as it is now.
    fn weight(&self, at: usize, choice: &Choice<'_>) -> f32 {
        #[allow(clippy::cast_precision_loss)] // weights have 16 bits, shares 17
        let (weight, whole) = (self.members[at].weight as f32, 65_536.0);
        match choice.slow_start {
            None => weight,
            Some(settings) => {
                let share = slow_start::share(settings, self.members[at].address.since(choice.now), choice.now);
                #[allow(clippy::cast_precision_loss)]
                {
                    weight * share as f32 / whole
                }
            }
        }
    }

    /// The fewest requests under way for the weight; among equals chance decides.
    fn least_loaded(&self, choice: &Choice<'_>, ok: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.members.len();
        let start = random::below(choice.random, n);
        #[allow(clippy::cast_precision_loss)] // only compared
        let load = |at: usize| (self.members[at].address.in_flight() + 1) as f32 / self.weight(at, choice);
        (start..n).chain(0..start).filter(|at| ok(*at)).min_by(|a, b| load(*a).total_cmp(&load(*b)))
    }

    /// Of two drawn by chance the one whose latency for its weight is lower.
    fn quicker_of_two(&self, choice: &Choice<'_>, ok: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.members.len();
        let draw = |salt: u64, ok: &dyn Fn(usize) -> bool| {
            let random = random::mix(choice.random ^ salt);
            let drawn = (0..4).map(|k| random::below(random::mix(random.wrapping_add(k)), n)).find(|at| ok(*at));
            let start = random::below(random, n);
            drawn.or_else(|| (start..n).chain(0..start).find(|at| ok(*at)))
        };
        let one = draw(1, &ok)?;
        let Some(other) = draw(2, &|at| at != one && ok(at)) else { return Some(one) };
        let score = |at: usize| self.members[at].address.latency_ms(choice.now) / self.weight(at, choice);
        Some(if score(other) < score(one) { other } else { one })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::address::AddressKey;
    use crate::balancer::{Outcome, random::mix};
    use crate::entity::{FailureLimits, HashInput, Hashing, SuccessLimit, TargetAddress};

    fn member(n: u16, weight: u32, priority: u16) -> Arc<Member> {
        let target = TargetAddress { host: format!("10.0.0.{n}"), port: 80 };
        let key = AddressKey { host: target.host.as_str().into(), target, port: 80 };
        let value = HeaderValue::from_static("h");
        Arc::new(Member {
            address: Arc::new(Address::new(key, std::iter::empty())),
            weight,
            priority,
            host_values: [value.clone(), value],
            server_name: "h".into(),
        })
    }

    fn choice(random: u64) -> Choice<'static> {
        Choice { now: Mono(0), random, key: random, tried: &[], panic: false, any: false, slow_start: None }
    }

    fn down(member: &Member) {
        let bad = FailureLimits { tcp_failures: 1, ..FailureLimits::default() };
        assert_eq!(
            member.address.judge(Outcome::TcpFailure, &SuccessLimit::default(), &bad, Mono(0)),
            Some(false),
            "it went down"
        );
    }

    fn picked(table: &Table, choice: &Choice<'_>) -> Option<String> {
        table.pick(choice).map(|member| member.address.key().host.to_string())
    }

    fn shares(table: &Table, choice: impl Fn(u64) -> Choice<'static>) -> Vec<u32> {
        let mut got = vec![0; table.members.len()];
        for n in 0..4_000 {
            let member = table.pick(&choice(mix(n))).unwrap();
            got[table.members.iter().position(|other| Arc::ptr_eq(other, member)).unwrap()] += 1;
        }
        got
    }

    #[test]
    fn a_tier_is_used_when_those_before_it_have_nothing_to_offer() {
        let members = vec![member(1, 100, 0), member(2, 100, 0), member(3, 100, 5), member(4, 0, 0)];
        let table = Table::new(members.clone(), &Algorithm::RoundRobin, 0);
        assert_eq!(shares(&table, choice), [2_000, 2_000, 0, 0]);
        let tried = [Arc::clone(&members[0]), Arc::clone(&members[1])];
        assert_eq!(picked(&table, &Choice { tried: &tried, ..choice(1) }).as_deref(), Some("10.0.0.3"));
        down(&members[0]);
        assert_eq!(shares(&table, choice), [0, 4_000, 0, 0]);
        down(&members[1]);
        assert_eq!(shares(&table, choice), [0, 0, 4_000, 0]);
        down(&members[2]);
        assert_eq!(picked(&table, &choice(1)), None);
        assert!(picked(&table, &Choice { any: true, ..choice(1) }).is_some());
        assert!(table.available_percent(Mono(0)) < 0.1);
    }

    #[test]
    fn what_was_tried_comes_again_only_if_nothing_else_is_left() {
        for algorithm in [
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::Latency,
            Algorithm::ConsistentHashing(Hashing { on: HashInput::Ip, fallback: HashInput::None, slots: 1_000 }),
        ] {
            let members = vec![member(1, 100, 0), member(2, 100, 0), member(3, 100, 0)];
            let table = Table::new(members.clone(), &algorithm, 0);
            for random in (0..50).map(mix) {
                let mut tried = Vec::new();
                for _ in 0..3 {
                    let next = table.pick(&Choice { tried: &tried, ..choice(random) }).unwrap();
                    assert!(!tried.iter().any(|other| Arc::ptr_eq(other, next)), "{algorithm:?}");
                    tried.push(Arc::clone(next));
                }
                assert!(table.pick(&Choice { tried: &tried, ..choice(random) }).is_some());
            }
        }
    }

    #[test]
    fn least_connections_looks_at_load_for_the_weight() {
        let members = vec![member(1, 100, 0), member(2, 300, 0)];
        let table = Table::new(members, &Algorithm::LeastConnections, 0);
        let mut leases = Vec::new();
        for n in 0..40 {
            leases.push(table.pick(&choice(mix(n))).unwrap().address.lease());
        }
        assert_eq!([0, 1].map(|at| table.members[at].address.in_flight()), [10, 30]);
        drop(leases);
        assert_eq!(table.members[0].address.in_flight(), 0);
    }

    #[test]
    fn latency_prefers_the_quick_and_still_asks_the_slow_now_and_then() {
        let members = vec![member(1, 100, 0), member(2, 100, 0), member(3, 100, 0)];
        let table = Table::new(members, &Algorithm::Latency, 0);
        for (at, millis) in [(0, 10.0), (1, 20.0), (2, 500.0)] {
            table.members[at].address.observe(millis, Mono(60_000_000));
        }
        let now = Mono(60_000_000);
        let got = shares(&table, |random| Choice { now, ..choice(random) });
        assert!(got[0] > 2_400 && got[1] > 1_000 && got[2] == 0, "{got:?}");
    }

    #[test]
    fn a_new_address_begins_with_a_little() {
        let members = vec![member(1, 100, 0), member(2, 100, 0)];
        members[0].address.skip_slow_start();
        let settings = SlowStart { window_ms: 10_000, min_weight_percent: 10 };
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
            let table = Table::new(members.clone(), &algorithm, 0);
            let at =
                |ms: u64| move |random| Choice { now: Mono(ms * 1_000), slow_start: Some(settings), ..choice(random) };
            let early = shares(&table, at(100));
            assert!(early[1] < early[0] / 4, "{algorithm:?} {early:?}");
        }
        let table = Table::new(members, &Algorithm::RoundRobin, 0);
        let late =
            shares(&table, |random| Choice { now: Mono(20_000_000), slow_start: Some(settings), ..choice(random) });
        assert_eq!(late, [2_000, 2_000]);
    }

    #[test]
    fn at_most_a_share_is_ejected_but_always_one() {
        use crate::entity::OutlierDetection;
        let members: Vec<_> = (0..10).map(|n| member(n, 100, 0)).collect();
        let table = Table::new(members, &Algorithm::RoundRobin, 0);
        let settings = OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 30, ..OutlierDetection::default() };
        let ejected = table
            .members
            .iter()
            .filter(|member| member.address.weigh(false, &settings, Mono(1), || table.may_eject(30, Mono(1))))
            .count();
        assert_eq!(ejected, 3);
        assert!(table.may_eject(1, Mono(60_000_000)), "they are back, so one may go");
        assert_eq!(table.members.iter().filter(|m| m.address.is_available(Mono(30_000_001))).count(), 10);
    }
}
