//! Routes for connections: what they match, without a look at what is carried.

use super::{RouteId, ServiceId};
use model::Network;
use std::net::IpAddr;

/// Which connections go to which service, without a look at what they carry.
#[derive(Clone, Debug)]
pub struct StreamRoute {
    /// Identifier. Of two routes that match equally well the larger id wins.
    pub id: RouteId,
    /// Unique name, if it has one.
    pub name: Option<String>,
    /// The service; without one connections are closed.
    pub service: Option<ServiceId>,
    /// What it serves.
    pub protocols: StreamProtocols,
    /// Server names of TLS; looked at only where TLS is.
    pub snis: Vec<String>,
    /// Where clients come from; empty matches all.
    pub sources: Vec<Endpoint>,
    /// Which of our addresses they came to; empty matches all.
    pub destinations: Vec<Endpoint>,
    /// What it matches, in place of server names, sources and destinations.
    pub expression: Option<String>,
    /// Rank among routes with an expression, from 0 to 2^46 - 1.
    pub priority: u64,
    /// Whether the client's server name is asked of the upstream. Default false.
    pub preserve_host: bool,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

impl StreamRoute {
    /// A route with Kong's defaults that matches every connection of these protocols and has no service.
    #[must_use]
    pub const fn new(id: RouteId, protocols: StreamProtocols) -> Self {
        Self {
            id,
            name: None,
            service: None,
            protocols,
            snis: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            expression: None,
            priority: 0,
            preserve_host: false,
            tags: Vec::new(),
        }
    }
}

/// What a route for connections serves: a set of `tcp`, `tls` and `udp`, or `tls_passthrough` alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamProtocols {
    /// Any of these; never none.
    Of {
        /// Plain TCP.
        tcp: bool,
        /// TLS that ends here.
        tls: bool,
        /// UDP.
        udp: bool,
    },
    /// TLS that goes to the upstream as it is.
    TlsPassthrough,
}

/// An address range, a port, or both; a route's source or destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// Any port of one address.
    Address(IpAddr),
    /// Any port of a range of addresses.
    Network(Network),
    /// This port of any address.
    Port(u16),
    /// This port of one address.
    AddressPort(IpAddr, u16),
    /// This port of a range of addresses.
    NetworkPort(Network, u16),
}
