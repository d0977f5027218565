//! What became of a target's name, as a resolver or a catalogue says.

use std::net::IpAddr;
use std::sync::Arc;

/// What became of a target's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// Its addresses.
    Addresses(Vec<ResolvedAddress>),
    /// It has none, or nobody could say: the target offers nothing (`DNS_ERROR`).
    Failed,
}

/// One address of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvedAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port of an SRV record, instead of the target's.
    pub port: Option<u16>,
    /// The weight of an SRV record, instead of the target's, unless that is 0; at least 1.
    pub weight: Option<u16>,
    /// The name an SRV record points to.
    pub name: Option<Arc<str>>,
}

impl ResolvedAddress {
    /// An address without a record of its own.
    #[must_use]
    pub const fn new(ip: IpAddr) -> Self {
        Self { ip, port: None, weight: None, name: None }
    }
}
