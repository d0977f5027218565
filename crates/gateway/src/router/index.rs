//! Finds the rules that may take a request, by host and then by path prefix.
//!
//! It only leaves out rules that cannot match, so the answer is that of asking all of them in order; a property test
//! holds it to that. Ranks are places in that order: of two rules that match, the one of the lower rank wins.

use super::pattern::HostName;
use super::rule::Rule;
use super::trie::Trie;
use std::collections::HashMap;

type ByName = HashMap<Box<str>, Trie, foldhash::fast::RandomState>;

/// More places in the index than these for one rule, hosts times paths, are not worth it: it is filed by its hosts only.
const PLACES_MAX: usize = 1_024;

/// Rules by host, then by what the path starts with.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: ByName,
    /// By a suffix that starts with a dot.
    ends_with: ByName,
    /// By a prefix that ends with a dot.
    starts_with: ByName,
    any_host: Trie,
}

impl Index {
    /// Files a rule; ranks must come in ascending order.
    pub(super) fn insert(&mut self, rule: &Rule, rank: u32) {
        let everywhere: &[Box<str>] = &[Box::default()];
        let few = rule.hosts.len().max(1).saturating_mul(rule.paths.len()) <= PLACES_MAX;
        let paths = if rule.paths.is_empty() || !few { everywhere } else { &rule.paths };
        if rule.hosts.is_empty() {
            insert(&mut self.any_host, paths, rank);
        }
        for host in &rule.hosts {
            let (map, name) = match host {
                HostName::Exact(name) => (&mut self.exact, name),
                HostName::EndsWith(suffix) => (&mut self.ends_with, suffix),
                HostName::StartsWith(prefix) => (&mut self.starts_with, prefix),
            };
            insert(map.entry(name.clone()).or_default(), paths, rank);
        }
    }

    /// Calls `visit` with sorted ranks, list by list, that hold every rule that may match.
    pub(super) fn candidates(&self, host: &str, path: &str, mut visit: impl FnMut(&[u32])) {
        let mut walk = |trie: &Trie| trie.walk(path.as_bytes(), &mut visit);
        if let Some(trie) = self.exact.get(host) {
            walk(trie);
        }
        if !self.ends_with.is_empty() || !self.starts_with.is_empty() {
            for (at, _) in host.match_indices('.') {
                if let Some(trie) = self.ends_with.get(&host[at..]) {
                    walk(trie);
                }
                if let Some(trie) = self.starts_with.get(&host[..=at]) {
                    walk(trie);
                }
            }
        }
        walk(&self.any_host);
    }
}

fn insert(trie: &mut Trie, paths: &[Box<str>], rank: u32) {
    paths.iter().for_each(|path| trie.insert(path.as_bytes(), rank));
}
