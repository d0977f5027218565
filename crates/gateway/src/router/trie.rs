//! A radix tree from path prefixes to rules.
//!
//! A lookup walks one path down and yields the rules of every prefix of it, at a cost of the path's length whatever
//! the number of routes. Invariants: children are sorted by the first byte of their labels, which is different for each; the
//! rules of a node are in the order of their turns; a node below the root has rules or several children, so a tree is the
//! same whatever came and went before. Nodes are shared with the tree this one was cloned from: a change copies those on the
//! way to it.

use super::entry::Entry;
use std::sync::Arc;

/// A node and what hangs below it. The root's label is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    label: Vec<u8>,
    entries: Vec<Entry>,
    /// With the first byte of each label.
    children: Vec<(u8, Arc<Trie>)>,
}

impl Trie {
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.children.is_empty()
    }

    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |(first, _)| *first)
    }

    /// Files a rule under a prefix; once, however often it is told.
    pub(super) fn insert(&mut self, prefix: &[u8], entry: &Entry) {
        let Some(first) = prefix.first() else {
            if let Err(at) = self.entries.binary_search_by(|there| there.turn(entry)) {
                self.entries.insert(at, entry.clone());
            }
            return;
        };
        match self.child(*first) {
            Err(at) => {
                let leaf = Self { label: prefix.to_vec(), entries: vec![entry.clone()], children: Vec::new() };
                self.children.insert(at, (*first, Arc::new(leaf)));
            }
            Ok(at) => {
                let child = Arc::make_mut(&mut self.children[at].1);
                let common = child.label.iter().zip(prefix).take_while(|(a, b)| a == b).count();
                if common < child.label.len() {
                    child.split(common);
                }
                child.insert(&prefix[common..], entry);
            }
        }
    }

    /// Takes a rule from under a prefix, if it is there.
    pub(super) fn remove(&mut self, prefix: &[u8], entry: &Entry) {
        let Some(first) = prefix.first() else {
            if let Ok(at) = self.entries.binary_search_by(|there| there.turn(entry)) {
                self.entries.remove(at);
            }
            return;
        };
        let Ok(at) = self.child(*first) else { return };
        let child = Arc::make_mut(&mut self.children[at].1);
        if !prefix.starts_with(&child.label) {
            return;
        }
        child.remove(&prefix[child.label.len()..], entry);
        match (child.entries.len(), child.children.len()) {
            (0, 0) => drop(self.children.remove(at)),
            (0, 1) => child.join(),
            _ => {}
        }
    }

    /// Cuts the label after `at` bytes and moves the rest to an only child.
    fn split(&mut self, at: usize) {
        let label = self.label.split_off(at);
        let Some(first) = label.first().copied() else { return };
        let lower =
            Self { label, entries: std::mem::take(&mut self.entries), children: std::mem::take(&mut self.children) };
        self.children.push((first, Arc::new(lower)));
    }

    /// Takes the place of the only child.
    fn join(&mut self) {
        let Some((_, only)) = self.children.pop() else { return };
        let Self { label, entries, children } = Arc::unwrap_or_clone(only);
        self.label.extend(label);
        (self.entries, self.children) = (entries, children);
    }

    /// Calls `visit` with the rules of every prefix of `path`, shortest first.
    pub(super) fn walk<'t>(&'t self, path: &[u8], mut visit: impl FnMut(&'t [Entry])) {
        let (mut node, mut rest) = (self, path);
        loop {
            if !node.entries.is_empty() {
                visit(&node.entries);
            }
            let Some(first) = rest.first() else { return };
            let Ok(at) = node.child(*first) else { return };
            let child = &*node.children[at].1;
            let Some(below) = rest.strip_prefix(child.label.as_slice()) else { return };
            (node, rest) = (child, below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Id, Route, RouteId};
    use crate::router::rule::Compiled;

    /// A rule without paths: where it is filed is the test's business.
    fn entry(n: u8) -> Entry {
        let compiled = Compiled::new(&Route::new(RouteId(Id::from_bytes([n; 16])))).unwrap();
        Entry::of(usize::from(n), &compiled).next().unwrap()
    }

    #[test]
    fn every_prefix_of_the_path_is_visited() {
        let mut trie = Trie::default();
        for (n, prefix) in (0..).zip(["/a/bc", "/a", "/a/bd", "", "/a/bcd", "/b", "/a", "/a"]) {
            trie.insert(prefix.as_bytes(), &entry(n));
        }
        trie.insert(b"/a", &entry(1));
        let mut seen = Vec::new();
        trie.walk(b"/a/bcx", |entries| seen.extend(entries.iter().map(|entry| entry.place().0)));
        assert_eq!(seen, [3, 7, 6, 1, 0], "of equals the larger id first");
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let (mut trie, prefixes) = (Trie::default(), ["/a/bc", "/a", "/a/bd", "", "/a/bcd", "/b"]);
        (0..).zip(prefixes).for_each(|(n, prefix)| trie.insert(prefix.as_bytes(), &entry(n)));
        let before = format!("{trie:?}");
        let other = trie.clone();
        trie.insert(b"/a/b", &entry(9));
        trie.insert(b"/ax", &entry(9));
        trie.remove(b"/a/b", &entry(9));
        trie.remove(b"/ax", &entry(9));
        trie.remove(b"/nowhere", &entry(9));
        assert_eq!((format!("{trie:?}"), format!("{other:?}")), (before.clone(), before));
        (0..).zip(prefixes).for_each(|(n, prefix)| trie.remove(prefix.as_bytes(), &entry(n)));
        assert!(trie.is_empty());
    }
}
