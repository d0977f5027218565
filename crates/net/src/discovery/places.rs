//! Where instances are: their names resolved, all at once, and each place once.

use super::Instance;
use crate::resolve::{Endpoint, Resolver};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The addresses of names.
type Found = HashMap<String, Vec<IpAddr>>;

/// The addresses of all instances' hosts; those that have none now are missing. How many are asked for at a time is the
/// resolver's to bound.
pub(super) async fn resolve(resolver: &Arc<Resolver>, instances: &[Instance]) -> Found {
    let (mut found, mut asked) = (Found::with_capacity(instances.len()), JoinSet::new());
    for Instance { host, .. } in instances {
        if found.contains_key(host) {
            continue;
        }
        let literal = host.parse().ok();
        found.insert(host.clone(), literal.into_iter().collect());
        if literal.is_none() {
            let (resolver, host) = (Arc::clone(resolver), host.clone());
            asked.spawn(async move {
                let answer = resolver.answer(&host).await;
                (host, answer)
            });
        }
    }
    while let Some(answered) = asked.join_next().await {
        match answered {
            Ok((host, Ok(answer))) => {
                let addresses = answer.endpoints.iter().map(|endpoint| endpoint.ip).collect();
                found.insert(host, addresses);
            }
            Ok((host, Err(error))) => tracing::warn!(host, %error, "an instance of a catalogue has no address"),
            Err(error) => tracing::error!(%error, "a lookup had panicked"),
        }
    }
    found
}

/// The places of instances, sorted; of two instances at one place the heavier counts.
pub(super) fn of(instances: &[Instance], found: &Found) -> Vec<Endpoint> {
    let mut weights: HashMap<(IpAddr, u16), u16> = HashMap::new();
    for Instance { host, port, weight } in instances {
        for ip in found.get(host).into_iter().flatten() {
            let known = weights.entry((*ip, *port)).or_default();
            *known = (*known).max(*weight);
        }
    }
    let place = |((ip, port), weight): ((IpAddr, u16), u16)| Endpoint {
        port: Some(port),
        weight: Some(weight),
        ..Endpoint::plain(ip)
    };
    let mut places: Vec<Endpoint> = weights.into_iter().map(place).collect();
    places.sort_unstable();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_there_once_with_its_highest_weight() {
        let instance = |host: &str, weight| Instance { host: host.to_owned(), port: 80, weight };
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let found = Found::from([
            ("a".to_owned(), vec![ip(2), ip(1)]),
            ("b".to_owned(), vec![ip(2)]),
            ("gone".to_owned(), Vec::new()),
        ]);
        let places = of(&[instance("a", 3), instance("b", 7), instance("gone", 1)], &found);
        let place = |n, weight| Endpoint { port: Some(80), weight: Some(weight), ..Endpoint::plain(ip(n)) };
        assert_eq!(places, [place(1, 3), place(2, 7)]);
    }
}
