//! Finds the rules that may take a request, by host and then by path prefix.
//!
//! It only leaves out rules that cannot match, so the answer is that of asking all of them in order; a property test
//! holds it to that. It is cheap to clone and to change after: what did not change is shared.

use super::entry::Entry;
use super::pattern::HostName;
use super::rule::Rule;
use super::trie::Trie;
use crate::shared::SharedMap;
use std::sync::Arc;

type ByName = SharedMap<Box<str>, Arc<Trie>>;

/// More places in the index than these for one rule, hosts times paths, are not worth it: it is filed by its hosts only.
const PLACES_MAX: usize = 1_024;

/// Rules by host, then by what the path starts with.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    exact: ByName,
    /// By a suffix that starts with a dot.
    ends_with: ByName,
    /// By a prefix that ends with a dot.
    starts_with: ByName,
    any_host: Arc<Trie>,
}

impl Index {
    /// Files a rule. What comes in the order of turns is filed fastest.
    pub(super) fn insert(&mut self, entry: &Entry) {
        let insert = |trie: &mut Arc<Trie>| {
            let trie = Arc::make_mut(trie);
            paths(&entry.rule).for_each(|path| trie.insert(path.as_bytes(), entry));
        };
        if entry.rule.hosts.is_empty() {
            insert(&mut self.any_host);
        }
        for host in &entry.rule.hosts {
            let (map, name) = self.by_name(host);
            insert(map.entry(name.into()));
        }
    }

    /// Takes out a rule that was filed.
    pub(super) fn remove(&mut self, entry: &Entry) {
        let remove = |trie: &mut Arc<Trie>| {
            let trie = Arc::make_mut(trie);
            paths(&entry.rule).for_each(|path| trie.remove(path.as_bytes(), entry));
            trie.is_empty()
        };
        if entry.rule.hosts.is_empty() {
            remove(&mut self.any_host);
        }
        for host in &entry.rule.hosts {
            let (map, name) = self.by_name(host);
            if remove(map.entry(name.into())) {
                map.remove(name);
            }
        }
    }

    fn by_name<'h>(&mut self, host: &'h HostName) -> (&mut ByName, &'h str) {
        match host {
            HostName::Exact(name) => (&mut self.exact, name),
            HostName::EndsWith(suffix) => (&mut self.ends_with, suffix),
            HostName::StartsWith(prefix) => (&mut self.starts_with, prefix),
        }
    }

    /// Calls `visit` with rules in the order of their turns, list by list, that hold every rule that may match.
    pub(super) fn candidates<'i>(&'i self, host: &str, path: &str, mut visit: impl FnMut(&'i [Entry])) {
        let mut walk = |trie: &'i Trie| trie.walk(path.as_bytes(), &mut visit);
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

/// What a rule is filed under for each of its hosts.
fn paths(rule: &Rule) -> impl Iterator<Item = &str> {
    let few = rule.hosts.len().max(1).saturating_mul(rule.paths.len()) <= PLACES_MAX;
    let paths = if few { rule.paths.as_slice() } else { &[] };
    let everywhere = paths.is_empty().then_some("");
    paths.iter().map(|path| &**path).chain(everywhere)
}
