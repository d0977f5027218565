//! An upstream whose targets a catalogue lists, and how it goes with the catalogue.
//!
//! What a catalogue lists stands for one target of the upstream, beside those of its own, with a weight of 100 and in the
//! first tier; the addresses have the weights that the catalogue says.

use super::balancer::Balancer;
use crate::entity::{Discovery, Target, TargetAddress, Upstream};
use parking_lot::Mutex;
use std::sync::Arc;

/// How it goes with a catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CatalogueState {
    /// Good answers.
    pub answers: u64,
    /// Failures.
    pub failures: u64,
    /// Instances of the last good answer; `None` before the first.
    pub instances: Option<usize>,
    /// What is wrong now, if the last try failed.
    pub error: Option<String>,
}

impl Balancer {
    /// The catalogue that lists targets of this upstream, and the target they stand for.
    #[must_use]
    pub fn discovery(&self) -> Option<(&Discovery, &TargetAddress)> {
        Some((self.upstream.discovery.as_ref()?, &self.listed.as_ref()?.address))
    }

    /// How it goes with the catalogue; for whoever asks it to tell.
    #[must_use]
    pub fn catalogue_state(&self) -> &Arc<Mutex<CatalogueState>> {
        &self.state.catalogue
    }
}

/// The target that a catalogue's instances stand for.
pub(super) fn listed(upstream: &Upstream) -> Option<Target> {
    let discovery = upstream.discovery.as_ref()?;
    let address = TargetAddress { host: discovery.service.to_ascii_lowercase(), port: 0 };
    Some(Target::new(upstream.id, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::{Resolution, ResolvedAddress};
    use crate::entity::Scheme;

    fn upstream() -> Upstream {
        Upstream { discovery: Discovery::consul("http://127.0.0.1:8500", "Orders"), ..Upstream::new("orders.api") }
    }

    fn hosts(balancer: &Balancer) -> Vec<String> {
        let place = |key: &crate::balancer::AddressKey| format!("{}:{}", key.host, key.port);
        balancer.members().iter().map(|member| place(member.address.key())).collect()
    }

    #[test]
    fn what_a_catalogue_lists_is_balanced_beside_the_upstream_s_own_targets() {
        let own = Target::new(upstream().id, TargetAddress::parse("10.0.0.9:80").unwrap());
        let balancer = Balancer::new(&upstream(), vec![own], None).unwrap();
        assert_eq!(hosts(&balancer), ["10.0.0.9:80"], "nothing is listed yet");
        assert_eq!(balancer.names().count(), 0, "a service of a catalogue is not a name to resolve");
        let target = balancer.discovery().unwrap().1.clone();
        let instance = |n: u8| ResolvedAddress {
            port: Some(8_000 + u16::from(n)),
            weight: Some(n.into()),
            ..ResolvedAddress::new([10, 0, 0, n].into())
        };
        assert!(balancer.set_addresses(&target, Resolution::Addresses(vec![instance(1), instance(2)])));
        assert_eq!(hosts(&balancer), ["10.0.0.9:80", "10.0.0.1:8001", "10.0.0.2:8002"]);
        assert_eq!(balancer.members()[2].weight, 2);
        assert_eq!(*balancer.members()[1].host_value(Scheme::Http), "orders:8001");
        assert!(balancer.set_addresses(&target, Resolution::Addresses(vec![instance(2)])));
        let after = Balancer::new(&upstream(), Vec::new(), Some(&balancer)).unwrap();
        assert_eq!(hosts(&after), ["10.0.0.2:8002"], "a change of the upstream keeps what was listed");
        let without = Balancer::new(&Upstream { discovery: None, ..upstream() }, Vec::new(), Some(&after)).unwrap();
        assert_eq!(hosts(&without), [""; 0]);
    }
}
