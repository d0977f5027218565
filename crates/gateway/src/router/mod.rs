//! Which route takes a request: Kong's `traditional_compatible` and `expressions` routers in one.
//!
//! Routes have their turns by priority and id, those with an expression first; the match is the first rule whose turn it is
//! and that accepts the request. The index (by host, then a radix tree of path prefixes) only leaves out rules that cannot match,
//! so the answer is that of a scan over all; a property test holds it to that. A regular expression is filed under what it
//! literally starts with, an expression under what it implies for host and path.
//!
//! A router is made from the one before: it shares with it the rules of routes that did not change, and all of the index but
//! the ways to those that did, so a change costs what it changes. A route keeps its place over all changes of it. The router
//! never looks at a route's plugins or service.

mod captures;
mod classic;
mod entry;
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
use crate::shared::{SharedMap, Slots};
use entry::Entry;
use http::{HeaderMap, Method};
use index::Index;
use rule::Compiled;
use std::collections::HashSet;
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
    /// The place of the route.
    pub route_idx: usize,
    /// Bytes of the path that its prefix or regular expression matched; none if it has no paths.
    pub matched_len: Option<usize>,
    /// The place of the rule among those of its route.
    part: usize,
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
#[derive(Clone, Debug, Default)]
pub struct Router {
    index: Index,
    routes: Slots<Compiled>,
    places: SharedMap<RouteId, usize>,
    /// Places that routes have left.
    free: Vec<usize>,
    /// The first place that no route ever had.
    end: usize,
}

impl Router {
    /// The router of these routes. What `previous` compiled and did not change is kept, in its place; without a previous one
    /// the places are those of the iteration.
    ///
    /// # Errors
    /// Every pattern that cannot be compiled.
    pub fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<RouteError>> {
        let routes: Vec<&Route> = routes.into_iter().collect();
        let Some(previous) = previous else { return Self::default().changed(routes, []) };
        let there: HashSet<RouteId> = routes.iter().map(|route| route.id).collect();
        let gone: Vec<RouteId> = previous.ids().filter(|id| !there.contains(id)).collect();
        previous.changed(routes, gone)
    }

    /// The router after a change: with the routes of `put`, each in the place of the one with its id if there is one, and
    /// without those of `gone`. What is not named stays as it is, and so does what has not changed.
    ///
    /// # Errors
    /// Every pattern that cannot be compiled.
    pub fn changed<'a>(
        &self,
        put: impl IntoIterator<Item = &'a Route>,
        gone: impl IntoIterator<Item = RouteId>,
    ) -> Result<Self, Vec<RouteError>> {
        let (mut fresh, mut errors) = (Vec::new(), Vec::new());
        let is_kept = |route: &&Route| self.compiled(route.id).is_some_and(|kept| kept.is_of(route));
        for route in put.into_iter().filter(|route| !is_kept(route)) {
            match Compiled::new(route) {
                Ok(compiled) => fresh.push((route.id, compiled)),
                Err(found) => errors.extend(found.into_iter().map(|error| RouteError { route: route.id, error })),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut next = self.clone();
        gone.into_iter().for_each(|id| next.remove(id));
        let mut entries = Vec::new();
        for (id, compiled) in fresh {
            let place = next.vacate(id);
            entries.extend(Entry::of(place, &compiled));
            next.routes.set(place, Some(Arc::new(compiled)));
        }
        entries.sort_unstable_by(Entry::turn);
        entries.iter().for_each(|entry| next.index.insert(entry));
        Ok(next)
    }

    /// The place of a route.
    #[must_use]
    pub fn place_of(&self, id: RouteId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// The routes there are, in no order.
    pub fn ids(&self) -> impl Iterator<Item = RouteId> {
        self.places.iter().map(|(id, _)| *id)
    }

    fn compiled(&self, id: RouteId) -> Option<&Arc<Compiled>> {
        self.routes.get(self.place_of(id)?)
    }

    fn remove(&mut self, id: RouteId) {
        let Some(place) = self.place_of(id) else { return };
        self.vacate(id);
        self.routes.set(place, None);
        self.places.remove(&id);
        self.free.push(place);
    }

    /// A route's place, without the rules that it had. One that is new gets a place.
    fn vacate(&mut self, id: RouteId) -> usize {
        let Some(place) = self.place_of(id) else {
            let place = self.free.pop().unwrap_or_else(|| {
                self.end += 1;
                self.end - 1
            });
            *self.places.entry(id) = place;
            return place;
        };
        if let Some(compiled) = self.routes.get(place) {
            Entry::of(place, compiled).for_each(|entry| self.index.remove(&entry));
        }
        place
    }

    /// The route that takes the request. Allocates nothing, but for what an expression may copy.
    #[must_use]
    pub fn route(&self, ask: &Ask<'_>) -> Option<Match> {
        self.search(ask).found()
    }

    /// What the regular expressions of the matched route find in the path.
    #[must_use]
    pub fn uri_captures<'p>(&self, found: &Match, path: &'p str) -> UriCaptures<'p> {
        let mut captures = UriCaptures::default();
        let rule = self.routes.get(found.route_idx).and_then(|compiled| compiled.rules.get(found.part));
        if let Some(rule) = rule {
            rule.path_regexes(&mut |regex| {
                let found = regex.captures(path);
                let is_found = found.is_some();
                found.into_iter().for_each(|found| captures.push(found));
                is_found
            });
        }
        captures
    }

    fn search<'s>(&'s self, ask: &'s Ask<'s>) -> Search<'s> {
        let mut search = Search { ask, best: None, n_asked: 0 };
        self.index.candidates(ask.host, ask.path, |entries| search.ask_all(entries));
        search
    }
}

/// A lookup under way.
struct Search<'a> {
    ask: &'a Ask<'a>,
    /// With the bytes of the path that it matched.
    best: Option<(&'a Entry, Option<usize>)>,
    /// Rules that were asked.
    n_asked: usize,
}

impl<'a> Search<'a> {
    /// Asks rules in the order of their turns until one matches or none can be better.
    fn ask_all(&mut self, entries: &'a [Entry]) {
        for entry in entries {
            if self.best.is_some_and(|(best, _)| !entry.is_before(best)) {
                return;
            }
            self.n_asked += 1;
            if let Some(matched_len) = entry.ask(self.ask) {
                self.best = Some((entry, matched_len));
                return;
            }
        }
    }

    fn found(&self) -> Option<Match> {
        let (entry, matched_len) = self.best?;
        let (route_idx, part) = entry.place();
        Some(Match { route_idx, matched_len, part })
    }
}

#[cfg(test)]
mod tests;
