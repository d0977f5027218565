//! The settings of names as `net` wants them.

use config::{Dns, DnsRecord};
use net::resolve::{RecordKind, ResolverSettings};

/// What the configuration says of names.
pub(super) fn resolver_settings(dns: &Dns) -> ResolverSettings {
    let order = dns.order.iter().map(|record| match record {
        DnsRecord::Last => RecordKind::Last,
        DnsRecord::Srv => RecordKind::Srv,
        DnsRecord::A => RecordKind::A,
        DnsRecord::Aaaa => RecordKind::Aaaa,
        DnsRecord::Cname => RecordKind::Cname,
    });
    ResolverSettings {
        servers: dns.servers.clone(),
        order: order.collect(),
        timeout: dns.timeout,
        valid_ttl: dns.valid_ttl,
        stale_ttl: dns.stale_ttl,
        not_found_ttl: dns.not_found_ttl,
        error_ttl: dns.error_ttl,
        hosts_file: dns.hosts_file.clone(),
        ..ResolverSettings::default()
    }
}
