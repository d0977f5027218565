//! An upstream as people, metrics and the Admin API see it.

use super::address::AddressKey;
use super::balancer::Balancer;
use super::breaker::BreakerState;
use super::catalogue::CatalogueState;
use super::health::HealthState;
use crate::entity::{TargetAddress, TargetId};
use model::Mono;
use std::sync::atomic::Ordering;

/// Kong's word for the health of a target or an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthWord {
    /// `HEALTHY`
    Healthy,
    /// `UNHEALTHY`
    Unhealthy,
    /// `DNS_ERROR`
    DnsError,
    /// `HEALTHCHECKS_OFF`
    HealthchecksOff,
}

impl HealthWord {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::DnsError => "DNS_ERROR",
            Self::HealthchecksOff => "HEALTHCHECKS_OFF",
        }
    }
}

/// An upstream.
#[derive(Clone, Debug)]
pub struct UpstreamView {
    /// Its name.
    pub name: String,
    /// Its health: healthy if a request would be given an address.
    pub health: HealthWord,
    /// Its targets.
    pub targets: Vec<TargetView>,
    /// Its breaker, if it has one.
    pub breaker: Option<BreakerState>,
    /// Requests under way.
    pub requests: u32,
    /// Retries under way.
    pub retries: u32,
    /// Requests that wait for their turn.
    pub pending: usize,
    /// Ejections so far.
    pub ejections: u64,
    /// The catalogue that lists its targets, if there is one: its kind, and how it goes.
    pub catalogue: Option<(&'static str, CatalogueState)>,
}

/// A target.
#[derive(Clone, Debug)]
pub struct TargetView {
    /// Which one.
    pub id: TargetId,
    /// Where it is.
    pub target: TargetAddress,
    /// Its weight.
    pub weight: u16,
    /// Its tier.
    pub priority: u16,
    /// Its health: that of the best of its addresses.
    pub health: HealthWord,
    /// Its addresses.
    pub addresses: Vec<AddressView>,
}

/// An address of a target.
#[derive(Clone, Debug)]
pub struct AddressView {
    /// IP address, or the name where it is not resolved.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Its weight.
    pub weight: u32,
    /// Its health.
    pub health: HealthWord,
    /// Where its health stands between healthy and not.
    pub state: HealthState,
    /// Whether it is ejected.
    pub ejected: bool,
    /// Requests under way.
    pub in_flight: u32,
}

impl Balancer {
    /// The upstream as it is now.
    #[must_use]
    pub fn view(&self, now: Mono) -> UpstreamView {
        let table = self.table.load();
        let targets: Vec<TargetView> = self
            .targets
            .iter()
            .chain(&self.listed)
            .map(|target| {
                let members = table.members.iter().filter(|member| member.address.key().target == target.address);
                let addresses: Vec<AddressView> = members
                    .map(|member| {
                        let AddressKey { host, port, .. } = member.address.key();
                        AddressView {
                            host: host.to_string(),
                            port: *port,
                            weight: member.weight,
                            health: self.word(member.address.is_available(now)),
                            state: member.address.health(),
                            ejected: member.address.is_ejected(now),
                            in_flight: member.address.in_flight(),
                        }
                    })
                    .collect();
                let best = addresses.iter().any(|address| address.health != HealthWord::Unhealthy);
                let health = if addresses.is_empty() { HealthWord::DnsError } else { self.word(best) };
                let (id, target, weight, priority) =
                    (target.id, target.address.clone(), target.weight, target.priority);
                TargetView { id, target, weight, priority, health, addresses }
            })
            .collect();
        let percent = table.available_percent(now);
        let offers = percent > self.upstream.health_checks.threshold;
        let breaker = self.upstream.resilience.breaker.as_ref().map(|_| self.state.breaker.state(now));
        let (requests, retries) = self.state.load.under_way();
        UpstreamView {
            name: self.upstream.name.clone(),
            health: self.word(offers),
            targets,
            breaker,
            requests,
            retries,
            pending: self.state.bulkhead.load().1,
            ejections: self.state.ejections.load(Ordering::Relaxed),
            catalogue: self.discovery().map(|(from, _)| (from.kind(), self.catalogue_state().lock().clone())),
        }
    }

    /// The word for what is available or not; if nothing is ever taken out, checks are off.
    fn word(&self, available: bool) -> HealthWord {
        let is_on = self.upstream.health_checks.is_on() || self.upstream.resilience.outlier_detection.is_some();
        match available {
            false => HealthWord::Unhealthy,
            true if is_on => HealthWord::Healthy,
            true => HealthWord::HealthchecksOff,
        }
    }

    /// Sets what an operator says of a target, or of one of its addresses; whether there is such a one. A drained target
    /// can be set too.
    #[must_use]
    pub fn set_healthy(&self, target: &TargetAddress, address: Option<(&str, u16)>, healthy: bool, now: Mono) -> bool {
        let table = self.table.load();
        let mut found = false;
        for member in &table.members {
            let key = member.address.key();
            if key.target == *target && address.is_none_or(|(host, port)| *key.host == *host && key.port == port) {
                member.address.set_healthy(healthy, now);
                found = true;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{OutlierDetection, Target, Upstream, UpstreamId};

    fn words(balancer: &Balancer) -> Vec<&'static str> {
        let view = balancer.view(Mono(1));
        std::iter::once(view.health)
            .chain(view.targets.iter().map(|target| target.health))
            .map(HealthWord::as_str)
            .collect()
    }

    #[test]
    fn health_is_said_in_kong_s_words() {
        let address = |text| TargetAddress::parse(text).unwrap();
        let targets: Vec<Target> = ["10.0.0.1:80", "a.local:80"]
            .into_iter()
            .map(|text| Target::new(UpstreamId::derived("orders"), address(text)))
            .collect();
        let mut upstream = Upstream::new("orders");
        let off = Balancer::new(&upstream, targets.clone(), None).unwrap();
        assert_eq!(words(&off), ["HEALTHCHECKS_OFF"; 3]);
        upstream.resilience.outlier_detection = Some(OutlierDetection::default());
        let on = Balancer::new(&upstream, targets, None).unwrap();
        assert_eq!(words(&on), ["HEALTHY"; 3]);
        on.set_addresses(&address("a.local:80"), super::super::Resolution::Failed);
        assert!(on.set_healthy(&address("10.0.0.1:80"), None, false, Mono(1)));
        assert_eq!(words(&on), ["UNHEALTHY", "UNHEALTHY", "DNS_ERROR"]);
        assert!(on.set_healthy(&address("10.0.0.1:80"), Some(("10.0.0.1", 80)), true, Mono(1)));
        assert_eq!(words(&on), ["HEALTHY", "HEALTHY", "DNS_ERROR"]);
        assert!(!on.set_healthy(&address("10.0.0.1:80"), Some(("10.0.0.2", 80)), true, Mono(1)));
        assert!(!on.set_healthy(&address("b.local:80"), None, true, Mono(1)));
    }
}
