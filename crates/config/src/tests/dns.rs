//! `dns`: Kong's settings of names, in our words.

use std::path::Path;
use std::time::Duration;

use expect_test::expect;

use super::{load_with, messages, report, settings};
use crate::{Dns, DnsRecord};

#[test]
fn every_setting_is_read() {
    let dns = settings(
        "dns: {servers: [10.0.0.2, '[::1]:5353'], order: [SRV, A], timeout: 500ms, valid_ttl: 1m, stale_ttl: 0s, \
         not_found_ttl: 5s, error_ttl: 2s, hosts_file: hosts}\n",
    )
    .dns;
    let expected = Dns {
        servers: vec!["10.0.0.2:53".parse().unwrap(), "[::1]:5353".parse().unwrap()],
        order: vec![DnsRecord::Srv, DnsRecord::A],
        timeout: Some(Duration::from_millis(500)),
        valid_ttl: Some(Duration::from_secs(60)),
        stale_ttl: Duration::ZERO,
        not_found_ttl: Duration::from_secs(5),
        error_ttl: Duration::from_secs(2),
        hosts_file: Path::new("/etc/sluicegate/hosts").into(),
    };
    assert_eq!(dns, expected);
}

#[test]
fn what_is_not_said_is_as_kong_has_it() {
    let dns = settings("{}").dns;
    assert_eq!(dns, Dns::default());
    assert_eq!((dns.stale_ttl.as_secs(), dns.not_found_ttl.as_secs(), dns.error_ttl.as_secs()), (3_600, 30, 1));
}

#[test]
fn kong_s_form_of_the_order_is_read_too() {
    assert_eq!(settings("dns: {order: 'LAST,A, SRV'}").dns.order, [DnsRecord::Last, DnsRecord::A, DnsRecord::Srv]);
    let loaded = load_with("{}", &[("SLUICEGATE_DNS__SERVERS", "10.0.0.2,10.0.0.3:54")]).unwrap();
    assert_eq!(loaded.settings.dns.servers.len(), 2);
}

#[test]
fn mistakes_are_named() {
    expect![[r#"
        sluicegate.yaml:1:17: `servers` in `dns`: `ns.example` is not the address of a name server
          1 | dns: {servers: [ns.example]}
            |                 ^^^^^^^^^^
            = expected: an IP address, with a port where it is not 53, such as 10.0.0.2 or [::1]:5353

        1 error in the configuration
    "#]]
    .assert_eq(&report("dns: {servers: [ns.example]}"));
    assert_eq!(messages("dns: {order: [A, MX]}"), ["`order` in `dns` cannot be `MX`"]);
    assert_eq!(messages("dns: {order: [CNAME]}"), ["`order` in `dns` asks for no addresses"]);
    assert_eq!(messages("dns: {error_ttl: 2d}"), ["`error_ttl` in `dns` is out of range: 2d"]);
    assert_eq!(messages("dns: {resolver: x}"), ["unknown key `resolver` in `dns`"]);
    let many = vec!["10.0.0.1"; model::limits::DNS_SERVERS_MAX + 1].join(", ");
    assert_eq!(messages(&format!("dns: {{servers: [{many}]}}")), ["`servers` in `dns` has more than 16 addresses"]);
}
