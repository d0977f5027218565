//! A range of IP addresses in CIDR notation (RFC 4632, RFC 4291 §2.3).
//!
//! Invariant: the bits of the address after the prefix are zero. It does not map IPv4 into IPv6: an address is in a
//! network of its own family only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    address: IpAddr,
    prefix_len: u8,
}

/// Text that is not a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkError {
    /// It is not `address/length`.
    Malformed,
    /// The prefix is longer than the address.
    TooLong,
    /// Bits after the prefix are set; this is the network without them.
    HostBits(Network),
}

impl Network {
    /// The network of an address: its bits after the prefix are dropped. None if the prefix is longer than the address.
    #[must_use]
    pub const fn of(address: IpAddr, prefix_len: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(address) if prefix_len <= 32 => {
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask_v4(prefix_len)))
            }
            IpAddr::V6(address) if prefix_len <= 128 => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask_v6(prefix_len)))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, prefix_len })
    }

    /// The network of this one address.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix_len }
    }

    /// Whether the address is in it.
    #[must_use]
    pub const fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => ours.to_bits() == theirs.to_bits() & mask_v4(self.prefix_len),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => ours.to_bits() == theirs.to_bits() & mask_v6(self.prefix_len),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Ones for the prefix; shifting by the whole width is not defined.
const fn mask_v4(prefix_len: u8) -> u32 {
    if prefix_len == 0 { 0 } else { u32::MAX << (32 - prefix_len) }
}

const fn mask_v6(prefix_len: u8) -> u128 {
    if prefix_len == 0 { 0 } else { u128::MAX << (128 - prefix_len) }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix_len) = text.split_once('/').ok_or(NetworkError::Malformed)?;
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
        if prefix_len.is_empty() || !prefix_len.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NetworkError::Malformed);
        }
        let prefix_len = prefix_len.parse().map_err(|_| NetworkError::TooLong)?;
        let network = Self::of(address, prefix_len).ok_or(NetworkError::TooLong)?;
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(f, "not an address, a slash and the length of the prefix"),
            Self::TooLong => write!(f, "the prefix is longer than the address"),
            Self::HostBits(network) => write!(f, "bits after the prefix are set, write {network}"),
        }
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_shares_its_prefix() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("1.2.3.4/32", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "fe00::1", true),
            ("::1/128", "::1", true),
        ] {
            assert_eq!(
                network.parse::<Network>().unwrap().contains(address.parse().unwrap()),
                holds,
                "{network} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, error) in [
            ("10.0.0.0", "not an address, a slash and the length of the prefix"),
            ("10.0.0/8", "not an address, a slash and the length of the prefix"),
            ("10.0.0.0/+8", "not an address, a slash and the length of the prefix"),
            ("10.0.0.0/33", "the prefix is longer than the address"),
            ("::/129", "the prefix is longer than the address"),
            ("::/999", "the prefix is longer than the address"),
            ("10.0.0.1/8", "bits after the prefix are set, write 10.0.0.0/8"),
            ("fd00::1/64", "bits after the prefix are set, write fd00::/64"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap_err().to_string(), error);
        }
    }
}
