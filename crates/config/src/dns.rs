//! `dns`: how names of upstreams and targets become addresses. Kong's settings and defaults, without its prefix.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::limits::DNS_SERVERS_MAX;

use crate::listen::{duration, path};
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place, split_commas};
use crate::settings::{Dns, DnsRecord};
use crate::tree::{Node, Value};

/// The port of name servers.
const PORT: u16 = 53;
const DAY: Duration = Duration::from_secs(86_400);
const ORDER: [(&str, DnsRecord); 5] = [
    ("LAST", DnsRecord::Last),
    ("SRV", DnsRecord::Srv),
    ("A", DnsRecord::A),
    ("AAAA", DnsRecord::Aaaa),
    ("CNAME", DnsRecord::Cname),
];

/// Reads `dns`.
pub(crate) fn dns(check: &mut Check<'_>, node: &Node) -> Dns {
    let mut dns = Dns::default();
    let Some(mut map) = check.map(node, "`dns`") else { return dns };
    if let Some(servers) = map.get(check, "servers", servers) {
        dns.servers = servers;
    }
    if let Some(order) = map.get(check, "order", order) {
        dns.order = order;
    }
    let ms = Duration::from_millis;
    dns.timeout = time(check, &mut map, "timeout", ms(1), ms(30_000));
    dns.valid_ttl = time(check, &mut map, "valid_ttl", ms(1), DAY);
    for (key, slot) in [
        ("stale_ttl", &mut dns.stale_ttl),
        ("not_found_ttl", &mut dns.not_found_ttl),
        ("error_ttl", &mut dns.error_ttl),
    ] {
        *slot = time(check, &mut map, key, Duration::ZERO, DAY).unwrap_or(*slot);
    }
    if let Some(file) = map.get(check, "hosts_file", path) {
        dns.hosts_file = file;
    }
    map.finish(check);
    dns
}

fn time(
    check: &mut Check<'_>,
    map: &mut MapReader<'_, '_>,
    key: &'static str,
    min: Duration,
    max: Duration,
) -> Option<Duration> {
    map.get(check, key, |check, node, place| duration(check, node, place, min, max))
}

fn servers(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<SocketAddr>> {
    let servers = check.list_of(node, place, server)?;
    if servers.len() > DNS_SERVERS_MAX {
        check.report(Problem::new(node.at, format!("{place} has more than {DNS_SERVERS_MAX} addresses")));
        return None;
    }
    Some(servers)
}

/// An address, with or without a port.
fn server(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<SocketAddr> {
    let text = check.some_text(node, place)?;
    let parsed = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT)));
    if parsed.is_none() {
        let problem = Problem::new(node.at, format!("{place}: `{text}` is not the address of a name server"));
        check.report(problem.expected("an IP address, with a port where it is not 53, such as 10.0.0.2 or [::1]:5353"));
    }
    parsed
}

/// A list, or Kong's form of one: words between commas.
fn order(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<DnsRecord>> {
    let order: Vec<DnsRecord> = match &node.value {
        Value::Scalar(scalar) => {
            let words = split_commas(node.at, scalar);
            words.iter().filter_map(|word| record(check, word, place)).collect()
        }
        _ => check.list_of(node, place, record)?,
    };
    let addresses = |record: &DnsRecord| matches!(record, DnsRecord::Srv | DnsRecord::A | DnsRecord::Aaaa);
    if !order.iter().any(addresses) {
        let problem = Problem::new(node.at, format!("{place} asks for no addresses"));
        check.report(problem.expected("at least one of SRV, A and AAAA"));
        return None;
    }
    Some(order)
}

fn record(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<DnsRecord> {
    check.word(node, place, &ORDER)
}
