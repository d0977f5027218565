//! One upstream: its settings, the table of its addresses, and the state that outlives both.

use super::address::{Address, AddressKey, Lease, Outcome};
use super::breaker::Breaker;
use super::bulkhead::Bulkhead;
use super::catalogue::{self, CatalogueState};
use super::connections::Connections;
use super::resolution::{Resolution, ResolvedAddress};
use super::retry::{Load, UnderWay};
use super::table::{Choice, Member, Table};
use crate::entity::{Scheme, Target, TargetAddress, Upstream};
use crate::forward;
use crate::tls::Identity;
use arc_swap::ArcSwap;
use model::Mono;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An upstream at work. Immutable but for its table, which follows the resolver; a change of configuration makes another
/// balancer over the same state.
#[derive(Debug)]
pub struct Balancer {
    pub(super) upstream: Upstream,
    pub(super) targets: Vec<Target>,
    /// What the upstream's `client_certificate` is at present.
    identity: Option<Arc<Identity>>,
    /// What a catalogue lists stands for this one.
    pub(super) listed: Option<Target>,
    pub(super) state: Arc<State>,
    pub(super) table: ArcSwap<Table>,
}

/// What outlives a change of configuration.
#[derive(Debug, Default)]
pub(super) struct State {
    addresses: Mutex<HashMap<AddressKey, Arc<Address>>>,
    resolved: Mutex<HashMap<TargetAddress, Resolution>>,
    /// Counts the changes of `resolved`.
    version: AtomicU64,
    pub(super) breaker: Breaker,
    pub(super) bulkhead: Arc<Bulkhead>,
    pub(super) load: Arc<Load>,
    pub(super) ejections: AtomicU64,
    pub(super) catalogue: Arc<Mutex<CatalogueState>>,
}

/// A chosen address; while it is held, a request is under way to it.
#[derive(Debug)]
pub struct Peer {
    /// Which one.
    pub member: Arc<Member>,
    _lease: Lease,
    /// What a request beside another takes of the budget of retries.
    pub(super) extra: Option<UnderWay>,
}

/// Why no address could be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPeer {
    /// There is no target with weight.
    NoTargets,
    /// No target's name has an address.
    NotResolved,
    /// Health checks and ejections left none, or fewer than the threshold.
    Unhealthy,
}

impl Balancer {
    /// A balancer, over the state of the one before it, if there was one for the same upstream.
    ///
    /// # Errors
    /// What is wrong with the upstream.
    pub(crate) fn new(upstream: &Upstream, targets: Vec<Target>, before: Option<&Self>) -> Result<Self, String> {
        let host = upstream.host_header.as_deref().unwrap_or("host");
        if forward::upstream_host(Scheme::Http, host, 80).is_none() {
            return Err("host_header: not a host name".to_owned());
        }
        let state = before.map_or_else(Arc::default, |before| Arc::clone(&before.state));
        let (upstream, listed) = (upstream.clone(), catalogue::listed(upstream));
        let balancer = Self { upstream, targets, identity: None, listed, state, table: ArcSwap::default() };
        balancer.rebuild();
        Ok(balancer)
    }

    /// The same, which shows this to targets that ask who we are.
    pub(crate) fn showing(self, identity: Option<Arc<Identity>>) -> Self {
        Self { identity, ..self }
    }

    /// What is shown to targets that ask who we are, unless their service has its own.
    #[must_use]
    pub const fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// The places for connections to it, if those are bounded. A try whose time is limited waits for one half of that time
    /// at most: its end would count against an address that has nothing to do with it.
    #[must_use]
    pub fn connections(&self) -> Option<Connections> {
        let resilience = &self.upstream.resilience;
        let mut settings = resilience.bulkhead.filter(|bulkhead| bulkhead.max_connections.is_some())?;
        let per_try_ms = resilience.retry.as_ref().map_or(0, |retry| retry.per_try_timeout_ms);
        if per_try_ms > 0 {
            settings.queue_timeout_ms = settings.queue_timeout_ms.min(per_try_ms / 2);
        }
        Some(Connections::new(&self.state.bulkhead, settings))
    }

    /// Whether it does what one of these entities would.
    pub(crate) fn is_of(&self, upstream: &Upstream, targets: &[&Target]) -> bool {
        self.upstream == *upstream && self.targets.iter().eq(targets.iter().copied())
    }

    /// The upstream's settings.
    #[must_use]
    pub const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The targets whose names have to be resolved.
    pub fn names(&self) -> impl Iterator<Item = &TargetAddress> {
        self.targets.iter().map(|target| &target.address).filter(|address| !address.is_literal())
    }

    /// The addresses there are now, drained ones too.
    #[must_use]
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.table.load().members.to_vec()
    }

    /// Tells what a target's name resolves to. Until it is told, a target stands for one address, its name; `false` if
    /// nothing changed. State of addresses that stay is kept.
    pub(crate) fn set_addresses(&self, target: &TargetAddress, resolution: Resolution) -> bool {
        let listed = self.listed.as_ref().map(|listed| &listed.address);
        if !self.names().chain(listed).any(|name| name == target) {
            return false;
        }
        let mut resolved = self.state.resolved.lock();
        if resolved.get(target) == Some(&resolution) {
            return false;
        }
        resolved.insert(target.clone(), resolution);
        self.state.version.fetch_add(1, Ordering::Relaxed);
        drop(resolved);
        self.rebuild();
        true
    }

    /// It becomes the current one: catches up with what names resolved to while another balancer of this upstream was.
    /// What no target is called any more is forgotten; places are as many as it says.
    pub(crate) fn refresh(&self) {
        let named = |address: &TargetAddress| {
            self.names().chain(self.listed.as_ref().map(|listed| &listed.address)).any(|name| name == address)
        };
        self.state.resolved.lock().retain(|address, _| named(address));
        if self.table.load().version != self.state.version.load(Ordering::Relaxed) {
            self.rebuild();
        }
        self.state.bulkhead.resize(self.upstream.resilience.bulkhead.as_ref());
    }

    fn rebuild(&self) {
        let resolved = self.state.resolved.lock();
        let version = self.state.version.load(Ordering::Relaxed);
        let mut addresses = self.state.addresses.lock();
        let is_first = addresses.is_empty();
        let mut members = Vec::with_capacity(self.targets.len());
        let own = self.targets.iter().map(|target| (target, resolved.get(&target.address)));
        let listed = self.listed.iter().map(|target| {
            // Until the catalogue has answered there is nothing.
            (target, Some(resolved.get(&target.address).unwrap_or(&Resolution::Failed)))
        });
        for (target, resolution) in own.chain(listed) {
            for place in places(target, resolution) {
                let key = AddressKey { target: target.address.clone(), host: place.host, port: place.port };
                let fresh = || Arc::new(Address::new(key.clone(), addresses.values().map(|known| &**known)));
                let address = addresses.get(&key).map_or_else(fresh, Arc::clone);
                if is_first {
                    address.skip_slow_start();
                }
                addresses.insert(key, Arc::clone(&address));
                members.push(Arc::new(self.member(address, target, place.weight, place.name.as_deref())));
            }
        }
        // What another table still has, or a request, is kept.
        addresses.retain(|_, address| Arc::strong_count(address) > 1);
        self.table.store(Arc::new(Table::new(members, &self.upstream.algorithm, version)));
    }

    fn member(&self, address: Arc<Address>, target: &Target, weight: u16, srv_name: Option<&str>) -> Member {
        let srv_name = srv_name.filter(|_| self.upstream.use_srv_name);
        let host = self.upstream.host_header.as_deref().or(srv_name).unwrap_or(&target.address.host);
        let port = address.key().port;
        let empty = http::HeaderValue::from_static("");
        let value = |scheme| forward::upstream_host(scheme, host, port).unwrap_or_else(|| empty.clone());
        let host_values = [value(Scheme::Http), value(Scheme::Https)];
        let server_name = crate::router::split_port(host).0.into();
        Member { address, weight: weight.into(), priority: target.priority, host_values, server_name }
    }

    /// Chooses an address.
    pub(super) fn pick(&self, choice: Choice<'_>) -> Result<Peer, NoPeer> {
        let table = self.table.load();
        let (threshold, panic) = (self.upstream.health_checks.threshold, self.upstream.resilience.panic_threshold);
        let mut choice = Choice { slow_start: self.upstream.resilience.slow_start, ..choice };
        if threshold > 0.0 || panic > 0 {
            let percent = table.available_percent(choice.now);
            if threshold > 0.0 && percent <= threshold && !choice.any {
                return Err(NoPeer::Unhealthy);
            }
            choice.panic = percent < f64::from(panic);
        }
        match table.pick(&choice) {
            Some(member) => Ok(Peer { _lease: member.address.lease(), member: Arc::clone(member), extra: None }),
            None if table.members.iter().any(|member| member.weight > 0) => Err(NoPeer::Unhealthy),
            None if table.members.is_empty() && !self.targets.is_empty() => Err(NoPeer::NotResolved),
            None => Err(NoPeer::NoTargets),
        }
    }

    /// Takes the outcome of a request to a member.
    pub(super) fn report(&self, member: &Member, outcome: Outcome, now: Mono) {
        let passive = &self.upstream.health_checks.passive;
        if passive.unhealthy.is_on() || passive.healthy.successes > 0 {
            member.address.judge(outcome, &passive.healthy, &passive.unhealthy, now);
        }
        if let Some(settings) = &self.upstream.resilience.outlier_detection {
            let success = matches!(outcome, Outcome::Status(..500) | Outcome::Connected);
            let may_eject = || self.table.load().may_eject(settings.max_ejection_percent, now);
            if member.address.weigh(success, settings, now, may_eject) {
                self.state.ejections.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes the outcome of a probe of a member: a status, or whether there was a connection. Members that are up are probed
    /// at `healthy.interval`, others at `unhealthy.interval`, drained ones not at all; when, and how, is up to the caller.
    pub fn probed(&self, member: &Member, outcome: Outcome, now: Mono) {
        let active = &self.upstream.health_checks.active;
        member.address.judge(outcome, &active.healthy, &active.unhealthy, now);
    }
}

/// Where a target is.
struct Place {
    host: Arc<str>,
    port: u16,
    weight: u16,
    name: Option<Arc<str>>,
}

fn places(target: &Target, resolution: Option<&Resolution>) -> Vec<Place> {
    let (address, weight) = (&target.address, target.weight);
    let resolved = |found: &ResolvedAddress| Place {
        host: found.ip.to_string().into(),
        port: found.port.unwrap_or(address.port),
        weight: if weight == 0 { 0 } else { found.weight.map_or(weight, |weight| weight.max(1)) },
        name: found.name.clone(),
    };
    match resolution {
        Some(Resolution::Addresses(found)) => found.iter().map(resolved).collect(),
        Some(Resolution::Failed) => Vec::new(),
        None => vec![Place { host: address.host.as_str().into(), port: address.port, weight, name: None }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{HealthChecks, PassiveChecks};
    use std::net::{IpAddr, Ipv4Addr};

    fn upstream() -> Upstream {
        let mut upstream = Upstream::new("orders");
        upstream.health_checks = HealthChecks { passive: PassiveChecks::default(), ..HealthChecks::default() };
        upstream.health_checks.passive.unhealthy.tcp_failures = 1;
        upstream
    }

    fn targets(names: &[&str]) -> Vec<Target> {
        let upstream = crate::entity::UpstreamId::derived("orders");
        names.iter().map(|name| Target::new(upstream, TargetAddress::parse(name).unwrap())).collect()
    }

    fn choice() -> Choice<'static> {
        Choice { now: Mono(1), random: 7, key: 0, tried: &[], panic: false, any: false, slow_start: None }
    }

    fn hosts(balancer: &Balancer) -> Vec<String> {
        balancer
            .members()
            .iter()
            .map(|member| format!("{}:{}", member.address.key().host, member.address.key().port))
            .collect()
    }

    fn ip(n: u8) -> ResolvedAddress {
        ResolvedAddress::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)))
    }

    #[test]
    fn state_stays_with_an_address_over_changes() {
        let first = Balancer::new(&upstream(), targets(&["10.0.0.1:80", "10.0.0.2:80"]), None).unwrap();
        let peer = first.pick(choice()).unwrap();
        assert_eq!(peer.member.address.in_flight(), 1);
        first.report(&peer.member, Outcome::TcpFailure, Mono(1));
        assert!(!peer.member.address.is_up());
        let second = Balancer::new(&upstream(), targets(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]), Some(&first));
        let second = second.unwrap();
        let same = Arc::clone(&second.members()[0].address);
        assert!(Arc::ptr_eq(&same, &peer.member.address) && !same.is_up());
        assert_eq!(same.in_flight(), 1);
        let third = Balancer::new(&upstream(), targets(&["10.0.0.3:80"]), Some(&second)).unwrap();
        drop((peer, first, second, same));
        third.rebuild();
        assert_eq!(third.state.addresses.lock().len(), 1, "what nobody has any more is forgotten");
    }

    #[test]
    fn a_name_is_one_address_until_it_is_resolved() {
        let balancer = Balancer::new(&upstream(), targets(&["a.local:81", "10.0.0.9:80"]), None).unwrap();
        let name = TargetAddress::parse("a.local:81").unwrap();
        assert_eq!(balancer.names().collect::<Vec<_>>(), [&name]);
        assert_eq!(hosts(&balancer), ["a.local:81", "10.0.0.9:80"]);
        let srv = ResolvedAddress { port: Some(9000), weight: Some(0), ..ip(2) };
        assert!(balancer.set_addresses(&name, Resolution::Addresses(vec![ip(1), srv.clone()])));
        assert!(!balancer.set_addresses(&name, Resolution::Addresses(vec![ip(1), srv])));
        assert_eq!(hosts(&balancer), ["10.0.0.1:81", "10.0.0.2:9000", "10.0.0.9:80"]);
        assert_eq!(balancer.members()[1].weight, 1);
        assert_eq!(*balancer.members()[0].host_value(Scheme::Http), "a.local:81");
        assert!(balancer.set_addresses(&name, Resolution::Failed));
        assert_eq!(hosts(&balancer), ["10.0.0.9:80"]);
        let literal = TargetAddress::parse("10.0.0.9:80").unwrap();
        assert!(!balancer.set_addresses(&literal, Resolution::Failed));
    }

    #[test]
    fn what_was_resolved_meanwhile_is_caught_up_with() {
        let old = Balancer::new(&upstream(), targets(&["a.local:80"]), None).unwrap();
        let new = Balancer::new(&upstream(), targets(&["a.local:80", "10.0.0.9:80"]), Some(&old)).unwrap();
        old.set_addresses(&TargetAddress::parse("a.local:80").unwrap(), Resolution::Addresses(vec![ip(5)]));
        assert_eq!(hosts(&new), ["a.local:80", "10.0.0.9:80"]);
        new.refresh();
        assert_eq!(hosts(&new), ["10.0.0.5:80", "10.0.0.9:80"]);
    }

    #[test]
    fn why_there_is_nobody_is_known() {
        let none = Balancer::new(&upstream(), Vec::new(), None).unwrap();
        assert_eq!(none.pick(choice()).unwrap_err(), NoPeer::NoTargets);
        let named = Balancer::new(&upstream(), targets(&["a.local"]), None).unwrap();
        named.set_addresses(&TargetAddress::parse("a.local").unwrap(), Resolution::Failed);
        assert_eq!(named.pick(choice()).unwrap_err(), NoPeer::NotResolved);
        let one = Balancer::new(&upstream(), targets(&["10.0.0.1"]), None).unwrap();
        let peer = one.pick(choice()).unwrap();
        one.report(&peer.member, Outcome::TcpFailure, Mono(1));
        assert_eq!(one.pick(choice()).unwrap_err(), NoPeer::Unhealthy);
        assert!(one.pick(Choice { any: true, ..choice() }).is_ok());
    }

    #[test]
    fn below_the_threshold_nothing_is_offered_and_in_panic_everything() {
        let names: Vec<String> = (1..=4).map(|n| format!("10.0.0.{n}:80")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let picks = |threshold: f64, panic_threshold: u8| {
            let mut upstream = upstream();
            upstream.health_checks.threshold = threshold;
            upstream.resilience.panic_threshold = panic_threshold;
            let balancer = Balancer::new(&upstream, targets(&names), None).unwrap();
            for member in &balancer.members()[..2] {
                balancer.report(member, Outcome::TcpFailure, Mono(1));
            }
            let picked: std::collections::BTreeSet<_> = (0..8)
                .filter_map(|_| balancer.pick(choice()).ok())
                .map(|peer| peer.member.address.key().clone())
                .collect();
            picked.len()
        };
        assert_eq!(picks(0.0, 0), 2);
        assert_eq!(picks(49.9, 0), 2);
        assert_eq!(picks(50.0, 0), 0, "not greater than the threshold");
        assert_eq!(picks(0.0, 50), 2);
        assert_eq!(picks(0.0, 51), 4);
    }
}
