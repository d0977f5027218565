//! Which route takes a connection: by server name, source and destination.
//!
//! Routes are ranked once, as Kong ranks them; the match is the first that fits. Routes of exact server names are found by
//! name, the others are asked in order. Server names count only where TLS is. Unlike Kong, a connection only gets to a route
//! that names its protocol.

use super::RouteError;
use super::expression::{Expression, Fields, Subject};
use super::pattern::{NamePattern, PatternError};
use super::rank::{Priority, order};
use crate::entity::{Endpoint, Id, StreamProtocols, StreamRoute};
use std::collections::HashMap;
use std::net::SocketAddr;

/// What comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// TCP on a listener without TLS.
    Tcp,
    /// A TLS handshake.
    Tls,
    /// The first datagram of a client.
    Udp,
}

/// What the router asks of a connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamAsk<'a> {
    /// What it is.
    pub kind: StreamKind,
    /// The server name of its TLS handshake, in lower case.
    pub sni: Option<&'a str>,
    /// The client.
    pub source: SocketAddr,
    /// Our address.
    pub destination: SocketAddr,
}

/// The compiled routes for connections.
#[derive(Debug, Default)]
pub struct StreamRouter {
    /// In the order in which they are asked.
    rules: Vec<Rule>,
    /// Places in `rules` of what has only exact server names, by name; ascending.
    by_sni: HashMap<Box<str>, Vec<u32>, foldhash::fast::RandomState>,
    /// Places of the others, and of routes that also serve what has no TLS; ascending.
    others: Vec<u32>,
}

#[derive(Debug)]
struct Rule {
    route_idx: usize,
    id: Id,
    priority: Priority,
    protocols: StreamProtocols,
    matcher: Matcher,
}

#[derive(Debug)]
enum Matcher {
    Classic { snis: Vec<NamePattern>, sources: Vec<Endpoint>, destinations: Vec<Endpoint> },
    Expression(Expression),
}

impl StreamRouter {
    /// Compiles routes; a match is the place of its route in the iteration.
    ///
    /// # Errors
    /// Every expression that cannot be compiled.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a StreamRoute>) -> Result<Self, Vec<RouteError>> {
        let (mut router, mut errors) = (Self::default(), Vec::new());
        for (route_idx, route) in routes.into_iter().enumerate() {
            match Rule::compile(route_idx, route) {
                Ok(rule) => router.rules.push(rule),
                Err(error) => errors.push(RouteError { route: route.id, error }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        router.rules.sort_by_key(|rule| order(rule.priority, rule.id));
        for (rank, rule) in router.rules.iter().enumerate() {
            let rank = u32::try_from(rank).expect("routes are counted in 32 bits");
            match rule.exact_snis() {
                Some(names) => names.for_each(|name| router.by_sni.entry(name.into()).or_default().push(rank)),
                None => router.others.push(rank),
            }
        }
        Ok(router)
    }

    /// The place of the route that takes the connection.
    #[must_use]
    pub fn route(&self, ask: &StreamAsk<'_>) -> Option<usize> {
        let sni = ask.sni.map(|sni| sni.strip_suffix('.').unwrap_or(sni));
        let ask = StreamAsk { sni, ..*ask };
        let named = sni.and_then(|sni| self.by_sni.get(sni)).map_or(&[][..], Vec::as_slice);
        let first = |ranks: &[u32]| ranks.iter().copied().find(|rank| self.rules[*rank as usize].matches(&ask));
        let best = [named, &self.others].into_iter().filter_map(first).min();
        best.map(|rank| self.rules[rank as usize].route_idx)
    }
}

impl Rule {
    fn compile(route_idx: usize, route: &StreamRoute) -> Result<Self, PatternError> {
        let (priority, matcher) = match &route.expression {
            Some(text) => {
                let expression = Expression::parse(text, Fields::Stream)
                    .map_err(|error| PatternError::new(text, error.to_string()))?;
                (Priority::expression(route.priority), Matcher::Expression(expression))
            }
            None => {
                let matcher = Matcher::Classic {
                    snis: route.snis.iter().map(|sni| NamePattern::sni(sni)).collect(),
                    sources: route.sources.clone(),
                    destinations: route.destinations.clone(),
                };
                (Priority::stream(!route.snis.is_empty(), &route.sources, &route.destinations), matcher)
            }
        };
        Ok(Self { route_idx, id: route.id.0, priority, protocols: route.protocols, matcher })
    }

    /// The names it can be found by: all of them are exact, and it takes nothing without TLS.
    fn exact_snis(&self) -> Option<impl Iterator<Item = &str>> {
        let Matcher::Classic { snis, .. } = &self.matcher else { return None };
        let only_tls = matches!(
            self.protocols,
            StreamProtocols::TlsPassthrough | StreamProtocols::Of { tcp: false, tls: true, udp: false }
        );
        let exact = |sni| matches!(sni, &NamePattern::Exact(_));
        let findable = only_tls && !snis.is_empty() && snis.iter().all(exact);
        findable.then(|| {
            snis.iter().filter_map(|sni| match sni {
                NamePattern::Exact(name) => Some(&**name),
                NamePattern::EndsWith(_) | NamePattern::StartsWith(_) => None,
            })
        })
    }

    fn matches(&self, ask: &StreamAsk<'_>) -> bool {
        self.protocols.includes(ask.kind)
            && match &self.matcher {
                Matcher::Classic { snis, sources, destinations } => {
                    let names = ask.kind != StreamKind::Tls
                        || snis.is_empty()
                        || ask.sni.is_some_and(|name| snis.iter().any(|sni| sni.matches(name)));
                    names && any_holds(sources, ask.source) && any_holds(destinations, ask.destination)
                }
                Matcher::Expression(expression) => expression.matches(&subject(ask)).is_some(),
            }
    }
}

impl StreamProtocols {
    /// Whether it serves connections of this kind.
    #[must_use]
    pub const fn includes(self, kind: StreamKind) -> bool {
        match (self, kind) {
            (Self::Of { tcp, .. }, StreamKind::Tcp) => tcp,
            (Self::Of { tls, .. }, StreamKind::Tls) => tls,
            (Self::Of { udp, .. }, StreamKind::Udp) => udp,
            (Self::TlsPassthrough, kind) => matches!(kind, StreamKind::Tls),
        }
    }
}

/// Whether one of the endpoints holds the address; none at all says nothing.
fn any_holds(endpoints: &[Endpoint], address: SocketAddr) -> bool {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let holds = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(wanted) => ip == *wanted,
        Endpoint::Network(network) => network.contains(ip),
        Endpoint::Port(wanted) => port == *wanted,
        Endpoint::AddressPort(wanted, wanted_port) => ip == *wanted && port == *wanted_port,
        Endpoint::NetworkPort(network, wanted_port) => network.contains(ip) && port == *wanted_port,
    };
    endpoints.is_empty() || endpoints.iter().any(holds)
}

/// A connection as expressions see it.
fn subject<'a>(ask: &StreamAsk<'a>) -> Subject<'a> {
    Subject {
        protocol: match ask.kind {
            StreamKind::Tcp => "tcp",
            StreamKind::Tls => "tls",
            StreamKind::Udp => "udp",
        },
        sni: ask.sni,
        source: SocketAddr::new(ask.source.ip().to_canonical(), ask.source.port()),
        destination: SocketAddr::new(ask.destination.ip().to_canonical(), ask.destination.port()),
        http: None,
    }
}

#[cfg(test)]
mod tests;
