//! Which route takes a request: Kong's `traditional_compatible` and `expressions` routers in one.
//!
//! Routes are ranked once by priority and id, those with an expression first; the match is the first ranked rule that
//! accepts the request. The index (by host, then a radix tree of path prefixes) only leaves out rules that cannot match,
//! so the answer is that of a scan over all; a property test holds it to that. A regular expression is filed under what it
//! literally starts with, an expression under what it implies for host and path.
//!
//! A router can be built from the one before: rules of routes that did not change are kept, since compiling their
//! regular expressions is what takes time. It never looks at a route's plugins or service.

mod captures;
mod classic;
mod expression;
mod index;
mod pattern;
mod rank;
mod rule;
mod stream;
mod trie;

pub use captures::UriCaptures;
pub use expression::{ExpressionError, Fields, check_expression};
pub(crate) use pattern::split_port;
pub use pattern::{PatternError, check_header_value, check_host, check_path};
pub use stream::{StreamAsk, StreamKind, StreamRouter};

use crate::entity::{Route, RouteId, Scheme};
use http::{HeaderMap, Method};
use index::Index;
use rule::{Compiled, Rule};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What the router asks of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Method.
    pub method: &'a Method,
    /// Host in lower case, without port.
    pub host: &'a str,
    /// Normalised path, without query.
    pub path: &'a str,
    /// Query as it was sent, without the `?`.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Server name of TLS in lower case.
    pub sni: Option<&'a str>,
    /// The client.
    pub source: SocketAddr,
    /// Our address; with the port of the host asked for, if it has one.
    pub destination: SocketAddr,
}

/// The answer: a route and how much of the path it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Place of the route in the list the router was built from.
    pub route_idx: usize,
    /// Bytes of the path that its prefix or regular expression matched; none if it has no paths.
    pub matched_len: Option<usize>,
    /// Place of the rule.
    rank: u32,
}

/// A route that cannot be compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteError {
    /// The route.
    pub route: RouteId,
    /// What is wrong.
    pub error: PatternError,
}

/// The compiled routes.
#[derive(Debug, Default)]
pub struct Router {
    /// In the order in which they are asked.
    entries: Vec<Entry>,
    index: Index,
    /// To be kept by the next router.
    compiled: HashMap<RouteId, Arc<Compiled>, foldhash::fast::RandomState>,
}

/// A rule and the route it is of.
#[derive(Debug)]
struct Entry {
    route_idx: usize,
    rule: Arc<Rule>,
}

impl Router {
    /// Compiles routes; a match names its route by the place in the iteration. What `previous` compiled and did not change
    /// is kept.
    ///
    /// # Errors
    /// Every pattern that cannot be compiled.
    pub fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<RouteError>> {
        let (mut router, mut errors) = (Self::default(), Vec::new());
        let n_routes = previous.map_or(0, |previous| previous.compiled.len());
        router.compiled.reserve(n_routes);
        router.entries.reserve(n_routes);
        for (route_idx, route) in routes.into_iter().enumerate() {
            let kept = previous.and_then(|previous| previous.compiled.get(&route.id)).filter(|kept| kept.is_of(route));
            let compiled = match kept {
                Some(kept) => Arc::clone(kept),
                None => match Compiled::new(route) {
                    Ok(compiled) => Arc::new(compiled),
                    Err(found) => {
                        errors.extend(found.into_iter().map(|error| RouteError { route: route.id, error }));
                        continue;
                    }
                },
            };
            router.entries.extend(compiled.rules.iter().map(|rule| Entry { route_idx, rule: Arc::clone(rule) }));
            router.compiled.insert(route.id, compiled);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        router.entries.sort_by_cached_key(|entry| rank::order(entry.rule.priority, entry.rule.id));
        for (rank, entry) in router.entries.iter().enumerate() {
            let rank = u32::try_from(rank).expect("routes are counted in 32 bits");
            router.index.insert(&entry.rule, rank);
        }
        Ok(router)
    }

    /// The route that takes the request. Allocates nothing, but for what an expression may copy.
    #[must_use]
    pub fn route(&self, ask: &Ask<'_>) -> Option<Match> {
        self.search(ask).best
    }

    /// What the regular expressions of the matched route find in the path.
    #[must_use]
    pub fn uri_captures<'p>(&self, found: &Match, path: &'p str) -> UriCaptures<'p> {
        let mut captures = UriCaptures::default();
        if let Some(entry) = self.entries.get(found.rank as usize) {
            entry.rule.path_regexes(&mut |regex| {
                let found = regex.captures(path);
                let is_found = found.is_some();
                found.into_iter().for_each(|found| captures.push(found));
                is_found
            });
        }
        captures
    }

    fn search<'s>(&'s self, ask: &'s Ask<'s>) -> Search<'s> {
        let mut search = Search { entries: &self.entries, ask, best: None, n_asked: 0 };
        self.index.candidates(ask.host, ask.path, |ranks| search.ranks(ranks));
        search
    }
}

/// A lookup under way.
struct Search<'a> {
    entries: &'a [Entry],
    ask: &'a Ask<'a>,
    best: Option<Match>,
    /// Rules that were asked.
    n_asked: usize,
}

impl Search<'_> {
    /// Asks the rules of a sorted list until one matches or none can be better.
    fn ranks(&mut self, ranks: &[u32]) {
        for rank in ranks {
            if self.best.is_some_and(|best| best.rank <= *rank) {
                return;
            }
            self.n_asked += 1;
            if let Some(found) = self.entries[*rank as usize].ask(self.ask, *rank) {
                self.best = Some(found);
                return;
            }
        }
    }
}

impl Entry {
    fn ask(&self, ask: &Ask<'_>, rank: u32) -> Option<Match> {
        let matched_len = self.rule.matches(ask)?;
        // A match of nothing strips nothing, and a length that would cut a character ends before it.
        let whole = |len: &usize| *len > 0;
        let matched_len = matched_len.map(|len| ask.path.floor_char_boundary(len)).filter(whole);
        Some(Match { route_idx: self.route_idx, matched_len, rank })
    }
}

#[cfg(test)]
mod tests;
