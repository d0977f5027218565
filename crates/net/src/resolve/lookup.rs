//! From a host's name to its addresses: search list, order of kinds, canonical names, services.

use super::cache::{Endpoint, Settled};
use super::client::Client;
use super::error::ResolveError;
use super::message::{Data, Kind, Message, Rcode, Record};
use super::name::Name;
use super::settings::Config;
use model::limits::{DNS_ADDRESSES_MAX, DNS_CNAMES_MAX, DNS_LOOKUP_MS_MAX, DNS_TTL_S_MAX, DNS_TTL_S_MIN};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Which question gave an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) name: Name,
}

/// Addresses and how long they are good, in seconds.
struct Addresses {
    endpoints: Vec<Endpoint>,
    ttl_s: u32,
}

/// Finds out what `host` stands for; what answered last time is tried first, unless that was what comes after IPv4 for want
/// of it: one question of it that failed must not hide from then on what hosts without IPv6 need.
pub(super) async fn look_up(
    client: &Client,
    config: &Config,
    host: &str,
    last: Option<Source>,
) -> Result<Settled, ResolveError> {
    let name = Name::parse(host).ok_or(ResolveError::InvalidName)?;
    if let Some(settled) = of_hosts_file(config, &name) {
        return Ok(settled);
    }
    let mut error = ResolveError::NotFound;
    let ipv4_first = config.kinds.iter().find(|kind| **kind != Kind::Srv) == Some(&Kind::A);
    let last = last.filter(|last| config.last_first && !(ipv4_first && last.kind == Kind::Aaaa));
    let names = candidates(config, host, &name);
    let mut sources: Vec<Source> = last.into_iter().collect();
    for kind in &config.kinds {
        for name in &names {
            let source = Source { kind: *kind, name: name.clone() };
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
    }
    let mut is_silent = false;
    for source in sources.into_iter() {
        if is_silent && source.kind == Kind::Srv {
            continue;
        }
        match ask_in_time(client, config, &source).await {
            Ok(found) => return Ok(settle(config, found, source)),
            Err(ResolveError::NotFound) => {}
            // Whoever says nothing of addresses says nothing of others either.
            Err(silent @ (ResolveError::Timeout | ResolveError::Unreachable(_))) if source.kind != Kind::Srv => {
                return Err(silent);
            }
            // A server that fails for one kind of record may still know another.
            Err(failed) => {
                is_silent = failed == ResolveError::Timeout;
                error = failed;
            }
        }
    }
    Err(error)
}

/// Asks, but for services no longer than leaves time to ask for addresses: some servers never answer that question.
async fn ask_in_time(client: &Client, config: &Config, source: &Source) -> Result<Addresses, ResolveError> {
    if source.kind != Kind::Srv || config.kinds.iter().all(|kind| *kind == Kind::Srv) {
        return ask(client, config, source).await;
    }
    let patience = Duration::from_millis(DNS_LOOKUP_MS_MAX / 3);
    tokio::time::timeout(patience, ask(client, config, source)).await.unwrap_or(Err(ResolveError::Timeout))
}

/// The names that may be meant, the likeliest first (resolv.conf(5), `ndots`).
fn candidates(config: &Config, host: &str, name: &Name) -> Vec<Name> {
    if host.ends_with('.') {
        return vec![name.clone()];
    }
    let mut names: Vec<Name> = config.search.iter().filter_map(|domain| name.below(domain)).collect();
    let at = if name.dots() >= config.ndots { 0 } else { names.len() };
    names.insert(at, name.clone());
    names
}

fn of_hosts_file(config: &Config, name: &Name) -> Option<Settled> {
    let all = config.hosts.get(name)?;
    let of = |kind: Kind| {
        let wanted = move |ip: &&IpAddr| ip.is_ipv6() == (kind == Kind::Aaaa);
        all.iter().filter(wanted).map(|ip| Endpoint::plain(*ip)).collect::<Vec<_>>()
    };
    let kinds = config.kinds.iter().filter(|kind| **kind != Kind::Srv);
    let (kind, endpoints) = kinds.map(|kind| (*kind, of(*kind))).find(|(_, endpoints)| !endpoints.is_empty())?;
    let ttl = Duration::from_secs(DNS_TTL_S_MAX.into());
    Some(Settled { endpoints: endpoints.into(), ttl, source: Source { kind, name: name.clone() } })
}

fn settle(config: &Config, mut found: Addresses, source: Source) -> Settled {
    found.endpoints.sort_unstable();
    found.endpoints.dedup();
    found.endpoints.truncate(DNS_ADDRESSES_MAX);
    let ttl = Duration::from_secs(found.ttl_s.clamp(DNS_TTL_S_MIN, DNS_TTL_S_MAX).into());
    Settled { endpoints: found.endpoints.into(), ttl: config.valid_ttl.unwrap_or(ttl), source }
}

async fn ask(client: &Client, config: &Config, source: &Source) -> Result<Addresses, ResolveError> {
    if source.kind != Kind::Srv {
        return addresses(client, config, &source.name, source.kind).await;
    }
    let (records, ttl_s) = chase(client, config, &source.name, Kind::Srv).await?;
    services(client, config, &records, ttl_s).await
}

async fn addresses(client: &Client, config: &Config, name: &Name, kind: Kind) -> Result<Addresses, ResolveError> {
    let (records, mut ttl_s) = chase(client, config, name, kind).await?;
    let mut endpoints = Vec::new();
    for record in records {
        if let Data::Address(ip) = record.data {
            endpoints.push(Endpoint::plain(ip));
            ttl_s = ttl_s.min(record.ttl_s);
        }
    }
    if endpoints.is_empty() { Err(ResolveError::NotFound) } else { Ok(Addresses { endpoints, ttl_s }) }
}

/// Asks, and follows canonical names, first in the answer and then by asking again. The records that come back are those
/// of the last name and what came beside them; none of the kind asked for is [`ResolveError::NotFound`].
async fn chase(client: &Client, config: &Config, name: &Name, kind: Kind) -> Result<(Vec<Record>, u32), ResolveError> {
    let (mut name, mut ttl_s, mut hops) = (name.clone(), u32::MAX, 0);
    loop {
        let message = client.query(config, &name, kind).await?;
        if message.rcode == Rcode::NameError {
            return Err(ResolveError::NotFound);
        }
        let asked = name.clone();
        while let Some((target, ttl)) = canonical(&message, &name) {
            hops += 1;
            if hops > DNS_CNAMES_MAX {
                return Err(ResolveError::CnameLoop);
            }
            (name, ttl_s) = (target, ttl_s.min(ttl));
        }
        let mut records = message.records;
        if records.iter().any(|record| record.owner == name && is_of(&record.data, kind)) {
            // Addresses of other names are only beside services of any use.
            records.retain(|record| record.owner == name || kind == Kind::Srv);
            return Ok((records, ttl_s));
        }
        if name == asked {
            return Err(ResolveError::NotFound);
        }
    }
}

fn canonical(message: &Message, name: &Name) -> Option<(Name, u32)> {
    message.records.iter().find_map(|record| match &record.data {
        Data::Cname(target) if record.owner == *name => Some((target.clone(), record.ttl_s)),
        _ => None,
    })
}

const fn is_of(data: &Data, kind: Kind) -> bool {
    matches!(
        (data, kind),
        (Data::Address(IpAddr::V4(_)), Kind::A)
            | (Data::Address(IpAddr::V6(_)), Kind::Aaaa)
            | (Data::Srv { .. }, Kind::Srv)
    )
}

/// The addresses of services: of those of the first priority, as Kong does. A target without addresses is left out. Those
/// that came with the answer are not asked for.
async fn services(
    client: &Client,
    config: &Config,
    records: &[Record],
    mut ttl_s: u32,
) -> Result<Addresses, ResolveError> {
    let first = records.iter().filter_map(|record| priority(&record.data)).min();
    let mut endpoints = Vec::new();
    let mut error = ResolveError::NotFound;
    for record in records.iter().filter(|record| priority(&record.data) == first).take(DNS_ADDRESSES_MAX) {
        let Data::Srv { weight, port, target: Some(target), .. } = &record.data else { continue };
        ttl_s = ttl_s.min(record.ttl_s);
        let beside = addresses_beside(records, target);
        let found = match beside {
            Some(found) => Ok(found),
            None => target_addresses(client, config, target).await,
        };
        match found {
            Ok(found) => {
                ttl_s = ttl_s.min(found.ttl_s);
                // A weight of 0 means "hardly ever".
                let (port, weight, name) = (Some(*port), Some((*weight).max(1)), Arc::<str>::from(target.as_str()));
                let service = |ip| Endpoint { ip, port, weight, name: Some(Arc::clone(&name)) };
                endpoints.extend(found.endpoints.iter().map(|endpoint| service(endpoint.ip)));
            }
            Err(failed) => error = failed,
        }
    }
    if endpoints.is_empty() { Err(error) } else { Ok(Addresses { endpoints, ttl_s }) }
}

const fn priority(data: &Data) -> Option<u16> {
    match data {
        Data::Srv { priority, .. } => Some(*priority),
        _ => None,
    }
}

fn addresses_beside(records: &[Record], target: &Name) -> Option<Addresses> {
    let mut found = Addresses { endpoints: Vec::new(), ttl_s: u32::MAX };
    for record in records.iter().filter(|record| record.owner == *target) {
        if let Data::Address(ip) = record.data {
            found.endpoints.push(Endpoint::plain(ip));
            found.ttl_s = found.ttl_s.min(record.ttl_s);
        }
    }
    (!found.endpoints.is_empty()).then_some(found)
}

async fn target_addresses(client: &Client, config: &Config, target: &Name) -> Result<Addresses, ResolveError> {
    if let Some(found) = of_hosts_file(config, target) {
        return Ok(Addresses { endpoints: found.endpoints.to_vec(), ttl_s: u32::MAX });
    }
    let mut error = ResolveError::NotFound;
    for kind in config.kinds.iter().filter(|kind| **kind != Kind::Srv) {
        match addresses(client, config, target, *kind).await {
            Ok(found) => return Ok(found),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}
