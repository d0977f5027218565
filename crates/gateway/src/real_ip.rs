//! Whose word is taken for where a request comes from (Kong's `trusted_ips`, `real_ip_header`, `real_ip_recursive`).
//!
//! A peer whose address is trusted is a proxy of our own: its `X-Forwarded-*` headers are kept, and the client's address
//! is the one it says. Nobody is trusted unless configured. An address that cannot be read is as good as none: the
//! peer's own stands.

use http::header::{HeaderMap, HeaderName};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The settings, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealIp {
    /// Peers that are believed. Default none.
    pub trusted: Vec<Cidr>,
    /// Where they say who the client is. Default `X-Real-IP`.
    pub header: HeaderName,
    /// Whether the last address that is not itself trusted is the client's; else the last one is.
    pub recursive: bool,
}

/// A range of addresses: `10.0.0.0/8`, or one address. IPv4 addresses mapped into IPv6 are IPv4 here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    address: u128,
    mask: u128,
    is_v4: bool,
}

/// A text that is no range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotACidr;

impl Default for RealIp {
    fn default() -> Self {
        Self { trusted: Vec::new(), header: HeaderName::from_static("x-real-ip"), recursive: false }
    }
}

impl RealIp {
    /// Whether this peer is believed.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(peer))
    }

    /// The address of the client as a trusted peer says; `None` if it says none.
    pub(crate) fn client_of(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut last_read = None;
        for value in headers.get_all(&self.header).iter().rev() {
            for item in value.as_bytes().split(|byte| *byte == b',').rev() {
                let Some(address) = std::str::from_utf8(item).ok().and_then(address) else { return last_read };
                if !self.recursive || !self.trusts(address) {
                    return Some(address);
                }
                last_read = Some(address);
            }
        }
        last_read
    }
}

/// An address of a list, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

impl Cidr {
    /// Whether the address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, is_v4) = bits_of(address);
        is_v4 == self.is_v4 && bits & self.mask == self.address
    }
}

/// An address in 128 bits, those of IPv4 the highest.
fn bits_of(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
        IpAddr::V6(address) => (address.to_bits(), false),
    }
}

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (address, n_bits) = match text.split_once('/') {
            Some((address, n_bits)) if n_bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(n_bits.parse::<u32>().map_err(|_| NotACidr)?))
            }
            Some(_) => return Err(NotACidr),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotACidr)?;
        let (bits, is_v4) = bits_of(address);
        let widest = if is_v4 { 32 } else { 128 };
        let n_bits = n_bits.unwrap_or(widest);
        if n_bits > widest {
            return Err(NotACidr);
        }
        let mask = u128::MAX.checked_shl(128 - n_bits).unwrap_or(0);
        Ok(Self { address: bits & mask, mask, is_v4 })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = if self.is_v4 {
            IpAddr::from(((self.address >> 96) as u32).to_be_bytes())
        } else {
            IpAddr::from(Ipv6Addr::from_bits(self.address))
        };
        write!(f, "{address}/{}", self.mask.count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap_or_else(|NotACidr| panic!("{text}"))
    }

    #[test]
    fn ranges_contain_what_they_say() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "1.2.3.4", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("2001:db8::/32", "2001:db8:1::", true),
            ("2001:db8::/32", "2001:db9::", false),
        ];
        for (range, address, expected) in cases {
            assert_eq!(cidr(range).contains(address.parse().unwrap()), expected, "{range} {address}");
        }
        assert_eq!(cidr("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(cidr("::1").to_string(), "::1/128");
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "a", "10.0.0.0/8/8", "unix:"] {
            assert_eq!(bad.parse::<Cidr>(), Err(NotACidr), "{bad:?}");
        }
    }

    fn client(recursive: bool, values: &[&'static str]) -> Option<String> {
        let header = HeaderName::from_static("x-forwarded-for");
        let trusted = vec![cidr("10.0.0.0/8"), cidr("::1")];
        let real_ip = RealIp { trusted, header: header.clone(), recursive };
        let headers = values.iter().map(|value| (header.clone(), HeaderValue::from_static(value))).collect();
        real_ip.client_of(&headers).map(|address| address.to_string())
    }

    #[test]
    fn the_last_address_is_the_client_or_the_last_that_is_not_trusted() {
        let cases: [(&[&str], Option<&str>, Option<&str>); 9] = [
            (&["203.0.113.9"], Some("203.0.113.9"), Some("203.0.113.9")),
            (&["203.0.113.9, 10.0.0.2"], Some("10.0.0.2"), Some("203.0.113.9")),
            (&["192.0.2.1, 203.0.113.9, 10.0.0.2,10.0.0.1"], Some("10.0.0.1"), Some("203.0.113.9")),
            (&["203.0.113.9", "10.0.0.2"], Some("10.0.0.2"), Some("203.0.113.9")),
            // All are trusted: the first.
            (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.2"), Some("10.0.0.3")),
            (&["203.0.113.9:8080"], Some("203.0.113.9"), Some("203.0.113.9")),
            (&["[2001:db8::1]:80, [::1]"], Some("::1"), Some("2001:db8::1")),
            (&["unknown"], None, None),
            // What cannot be read ends the search.
            (&["203.0.113.9, garbage, 10.0.0.2"], Some("10.0.0.2"), Some("10.0.0.2")),
        ];
        for (values, last, recursive) in cases {
            assert_eq!(client(false, values).as_deref(), last, "{values:?}");
            assert_eq!(client(true, values).as_deref(), recursive, "{values:?}");
        }
        assert_eq!(client(true, &[]), None);
    }
}
