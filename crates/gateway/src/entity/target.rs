//! Targets of upstreams.

use super::{TargetId, UpstreamId};
use std::fmt;

/// One place an upstream sends requests to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Identifier.
    pub id: TargetId,
    /// Whose target it is.
    pub upstream: UpstreamId,
    /// Where it is; unique within the upstream.
    pub address: TargetAddress,
    /// Its share, 0 to 65535; 0 takes no new requests. Default 100.
    pub weight: u16,
    /// Its tier (ours): a tier is used only when no lower one has a target to offer. Default 0.
    pub priority: u16,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

impl Target {
    /// A target with Kong's defaults.
    #[must_use]
    pub fn new(upstream: UpstreamId, address: TargetAddress) -> Self {
        let id = TargetId::derived(&format!("{upstream}:{address}"));
        Self { id, upstream, address, weight: 100, priority: 0, tags: Vec::new() }
    }
}

/// A host and a port: Kong's `target`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TargetAddress {
    /// Name in lower case, or IP address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl TargetAddress {
    /// The port of a target that names none.
    pub const DEFAULT_PORT: u16 = 8000;

    /// Reads `host`, `host:port`, an IPv4 or (with brackets if a port follows) IPv6 address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse::<std::net::Ipv6Addr>() {
            return Some(Self { host: ip.to_string(), port: Self::DEFAULT_PORT });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']')?;
            let host = host.parse::<std::net::Ipv6Addr>().ok()?.to_string();
            let port = if port.is_empty() { Self::DEFAULT_PORT } else { port.strip_prefix(':')?.parse().ok()? };
            return Some(Self { host, port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, Self::DEFAULT_PORT),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let plausible = !host.is_empty() && host.len() <= 253 && host.bytes().all(is_name);
        plausible.then(|| Self { host: host.to_ascii_lowercase(), port })
    }

    /// Whether the host is an address and needs no resolver.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let text = |text| TargetAddress::parse(text).map(|target| target.to_string());
        assert_eq!(text("Orders.Local").as_deref(), Some("orders.local:8000"));
        assert_eq!(text("10.0.0.1:80").as_deref(), Some("10.0.0.1:80"));
        assert_eq!(text("::1").as_deref(), Some("[::1]:8000"));
        assert_eq!(text("[::1]:80").as_deref(), Some("[::1]:80"));
        for bad in ["", ":80", "a b", "a:", "a:70000", "[::1", "[::1]80", "a/b"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
