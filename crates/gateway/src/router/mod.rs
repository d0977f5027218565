//! Which route takes a request: Kong's `traditional_compatible` router.
//!
//! Routes are ranked once by priority and id; the match is the first ranked entry whose every field accepts the
//! request. The index (by host, then a radix tree of path prefixes) only leaves out entries that cannot match, so the
//! answer is that of a scan over all entries; a property test holds it to that. Regular expressions hang in the tree at
//! what they literally start with.
//!
//! The router never looks at a route's plugins or service. Expressions and stream routes are not here.

mod entry;
mod pattern;
mod trie;

pub(crate) use pattern::split_port;
pub use pattern::{PatternError, check_header_value, check_host, check_path};

use crate::entity::{Route, RouteId, Scheme};
use entry::{Entry, Paths};
use http::{HeaderMap, Method};
use pattern::HostName;
use std::collections::HashMap;
use trie::Trie;

/// What the router asks of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Method.
    pub method: &'a Method,
    /// Host in lower case, without port.
    pub host: &'a str,
    /// Our port.
    pub port: u16,
    /// Normalised path, without query.
    pub path: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Server name of TLS in lower case.
    pub sni: Option<&'a str>,
}

/// The answer: a route and how much of the path it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Place of the route in the list the router was built from.
    pub route_idx: usize,
    /// Bytes of the path that its prefix or regular expression matched; none if it has no paths.
    pub matched_len: Option<usize>,
}

/// The regular expressions among a route's paths, for what their groups match; those that cannot be compiled are left
/// out, as no router has them.
pub(crate) fn path_regexes(route: &Route) -> Box<[regex::Regex]> {
    let patterns = route.paths.iter().filter_map(|path| path.strip_prefix('~'));
    patterns.filter_map(|pattern| pattern::path_regex(pattern).ok()).collect()
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
    exact: HashMap<Box<str>, Trie, foldhash::fast::RandomState>,
    ends_with: HashMap<Box<str>, Trie, foldhash::fast::RandomState>,
    starts_with: HashMap<Box<str>, Trie, foldhash::fast::RandomState>,
    any_host: Trie,
}

impl Router {
    /// Compiles routes; a match names its route by the place in the iteration.
    ///
    /// # Errors
    /// Every pattern that cannot be compiled.
    pub fn new<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Result<Self, Vec<RouteError>> {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for (route_idx, route) in routes.into_iter().enumerate() {
            match Entry::compile(route_idx, route) {
                Ok(parts) => entries.extend(parts),
                Err(found) => errors.extend(found.into_iter().map(|error| RouteError { route: route.id, error })),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        entries.sort_by_cached_key(Entry::order);
        let mut router = Self { entries, ..Self::default() };
        router.index();
        Ok(router)
    }

    fn index(&mut self) {
        for (rank, entry) in self.entries.iter().enumerate() {
            let rank = u32::try_from(rank).expect("routes are counted in 32 bits");
            if entry.hosts.is_empty() {
                insert(&mut self.any_host, entry, rank);
            }
            for host in &entry.hosts {
                let (map, name) = match &host.name {
                    HostName::Exact(name) => (&mut self.exact, name),
                    HostName::EndsWith(suffix) => (&mut self.ends_with, suffix),
                    HostName::StartsWith(prefix) => (&mut self.starts_with, prefix),
                };
                insert(map.entry(name.clone()).or_default(), entry, rank);
            }
        }
    }

    /// The route that takes the request. Allocates nothing, unless a header is matched by a regular expression.
    #[must_use]
    pub fn route(&self, ask: &Ask<'_>) -> Option<Match> {
        let mut search = Search { entries: &self.entries, ask, best: None };
        if let Some(trie) = self.exact.get(ask.host) {
            search.trie(trie);
        }
        if !self.ends_with.is_empty() || !self.starts_with.is_empty() {
            for (at, _) in ask.host.match_indices('.') {
                if let Some(trie) = self.ends_with.get(&ask.host[at..]) {
                    search.trie(trie);
                }
                if let Some(trie) = self.starts_with.get(&ask.host[..=at]) {
                    search.trie(trie);
                }
            }
        }
        search.trie(&self.any_host);
        search.best.map(|(_, found)| found)
    }

    /// The same answer by asking every entry in order, for tests of the index.
    #[cfg(test)]
    fn route_by_scan(&self, ask: &Ask<'_>) -> Option<Match> {
        self.entries
            .iter()
            .find_map(|entry| entry.matches(ask).map(|matched_len| Match { route_idx: entry.route_idx, matched_len }))
    }
}

fn insert(trie: &mut Trie, entry: &Entry, rank: u32) {
    match &entry.paths {
        Paths::Any => trie.insert(b"", rank),
        Paths::Prefixes(prefixes) => prefixes.iter().for_each(|prefix| trie.insert(prefix.as_bytes(), rank)),
        Paths::Regexes(regexes) => regexes.iter().for_each(|(_, prefix)| trie.insert(prefix.as_bytes(), rank)),
    }
}

/// A lookup under way and the best ranked match so far.
struct Search<'a> {
    entries: &'a [Entry],
    ask: &'a Ask<'a>,
    best: Option<(u32, Match)>,
}

impl Search<'_> {
    fn trie(&mut self, trie: &Trie) {
        trie.walk(self.ask.path.as_bytes(), |ranks| self.ranks(ranks));
    }

    /// Asks the entries of a sorted list until one matches or none can be better.
    fn ranks(&mut self, ranks: &[u32]) {
        for rank in ranks {
            if self.best.is_some_and(|(best, _)| best <= *rank) {
                return;
            }
            let entry = &self.entries[*rank as usize];
            if let Some(matched_len) = entry.matches(self.ask) {
                self.best = Some((*rank, Match { route_idx: entry.route_idx, matched_len }));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
