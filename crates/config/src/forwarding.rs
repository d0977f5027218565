//! `gateway`: settings of the gateway itself, under the names they have in Kong's `kong.conf`.

use gateway::real_ip::Cidr;
use http::HeaderName;
use model::limits::TRUSTED_IPS_MAX;

use crate::problem::Problem;
use crate::reader::{Check, Place};
use crate::settings::Settings;
use crate::tree::Node;

/// Reads `gateway`.
pub(crate) fn gateway(check: &mut Check<'_>, node: &Node, settings: &mut Settings) {
    let Some(mut map) = check.map(node, "`gateway`") else { return };
    let real_ip = &mut settings.real_ip;
    if let Some(trusted) = map.get(check, "trusted_ips", trusted_ips) {
        real_ip.trusted = trusted;
    }
    if let Some(header) = map.get(check, "real_ip_header", header) {
        real_ip.header = header;
    }
    if let Some(recursive) = map.get(check, "real_ip_recursive", Check::bool) {
        real_ip.recursive = recursive;
    }
    settings.allow_debug_header = map.get(check, "allow_debug_header", Check::bool).unwrap_or(false);
    settings.early_hints = map.get(check, "early_hints", Check::bool).unwrap_or(false);
    map.finish(check);
}

fn trusted_ips(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<Cidr>> {
    let items = check.list(node, place)?;
    if items.len() > TRUSTED_IPS_MAX {
        check.report(Problem::new(node.at, format!("{place} has more than {TRUSTED_IPS_MAX} ranges")));
        return None;
    }
    Some(items.iter().filter_map(|item| range(check, item, place)).collect())
}

fn range(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Cidr> {
    let text = check.some_text(node, place)?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let problem = Problem::new(node.at, format!("{place}: `{text}` is not a range of addresses"));
        check.report(problem.expected("an address or a range, such as 10.0.0.0/8 or 2001:db8::/32"));
    }
    parsed
}

fn header(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<HeaderName> {
    let text = check.some_text(node, place)?;
    if text.eq_ignore_ascii_case("proxy_protocol") {
        let problem = Problem::new(node.at, format!("{place}: a PROXY header is read where a listener says so"));
        check.report(problem.help("set `proxy_protocol: true` in the listener's record instead"));
        return None;
    }
    let parsed = HeaderName::from_bytes(text.as_bytes()).ok();
    if parsed.is_none() {
        check.report(Problem::new(node.at, format!("{place}: `{text}` is not the name of a header")));
    }
    parsed
}
