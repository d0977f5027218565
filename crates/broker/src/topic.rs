//! Matching of topic patterns: words separated by `.`, `*` one word, `#` zero or more (AMQP 0-9-1 §3.1.3.3).
//!
//! A trie walked as an automaton: one pass over the words with the set of nodes reached so far, so a match costs at
//! most nodes × words whatever the patterns are. Nodes lie in one vector; freed ones are reused.

use std::collections::HashMap;

const ROOT: u32 = 0;

/// A set of patterns, each with values.
#[derive(Debug)]
pub(crate) struct TopicTrie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<T> {
    words: HashMap<Box<str>, u32>,
    star: Option<u32>,
    hash: Option<u32>,
    /// The node was reached by `#`, so it swallows further words.
    is_hash: bool,
    values: Vec<T>,
}

impl<T> Node<T> {
    fn new(is_hash: bool) -> Self {
        Self { words: HashMap::new(), star: None, hash: None, is_hash, values: Vec::new() }
    }

    fn is_dead(&self) -> bool {
        self.values.is_empty() && self.words.is_empty() && self.star.is_none() && self.hash.is_none()
    }
}

impl<T> Default for TopicTrie<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::new(false)], free: Vec::new() }
    }
}

impl<T: PartialEq> TopicTrie<T> {
    /// Adds a value under a pattern.
    pub(crate) fn insert(&mut self, pattern: &str, value: T) {
        let mut at = ROOT;
        for word in pattern.split('.') {
            at = match self.child(at, word) {
                Some(next) => next,
                None => self.grow(at, word),
            };
        }
        self.nodes[at as usize].values.push(value);
    }

    /// Removes one such value from a pattern.
    pub(crate) fn remove(&mut self, pattern: &str, value: &T) {
        let mut path = vec![ROOT];
        for word in pattern.split('.') {
            let at = *path.last().expect("it starts with the root");
            let Some(next) = self.child(at, word) else {
                return;
            };
            path.push(next);
        }
        let last = *path.last().expect("it starts with the root");
        let values = &mut self.nodes[last as usize].values;
        if let Some(at) = values.iter().position(|v| v == value) {
            values.swap_remove(at);
        }
        let words: Vec<&str> = pattern.split('.').collect();
        while let Some(at) = path.pop() {
            if at == ROOT || !self.nodes[at as usize].is_dead() {
                return;
            }
            let parent = *path.last().expect("only the root has no parent");
            self.cut(parent, words[path.len() - 1]);
            self.free.push(at);
        }
    }

    /// Calls `found` for every value whose pattern matches the key; a value with several matching patterns may come
    /// several times.
    pub(crate) fn matches(&self, key: &str, mut found: impl FnMut(&T)) {
        let mut now = Vec::new();
        let mut next = Vec::new();
        self.enter(ROOT, &mut now);
        for word in key.split('.') {
            for &at in &now {
                let node = &self.nodes[at as usize];
                if node.is_hash {
                    next.push(at);
                }
                if let Some(&child) = node.words.get(word) {
                    self.enter(child, &mut next);
                }
                if let Some(star) = node.star {
                    self.enter(star, &mut next);
                }
            }
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut now, &mut next);
            next.clear();
            if now.is_empty() {
                return;
            }
        }
        for at in now {
            self.nodes[at as usize].values.iter().for_each(&mut found);
        }
    }

    /// Adds a node and those reached from it by a `#` that matches nothing.
    fn enter(&self, mut at: u32, set: &mut Vec<u32>) {
        set.push(at);
        while let Some(hash) = self.nodes[at as usize].hash {
            set.push(hash);
            at = hash;
        }
    }

    fn child(&self, at: u32, word: &str) -> Option<u32> {
        let node = &self.nodes[at as usize];
        match word {
            "*" => node.star,
            "#" => node.hash,
            _ => node.words.get(word).copied(),
        }
    }

    fn grow(&mut self, at: u32, word: &str) -> u32 {
        let node = Node::new(word == "#");
        let new = match self.free.pop() {
            Some(free) => {
                self.nodes[free as usize] = node;
                free
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("bindings are bounded far below")
            }
        };
        let parent = &mut self.nodes[at as usize];
        match word {
            "*" => parent.star = Some(new),
            "#" => parent.hash = Some(new),
            _ => {
                parent.words.insert(word.into(), new);
            }
        }
        new
    }

    fn cut(&mut self, at: u32, word: &str) {
        let node = &mut self.nodes[at as usize];
        match word {
            "*" => node.star = None,
            "#" => node.hash = None,
            _ => {
                node.words.remove(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => naive(rest, key) || key.split_first().is_some_and(|(_, k)| naive(pattern, k)),
            (Some((p, rest)), Some((k, key))) => (*p == "*" || p == k) && naive(rest, key),
            _ => false,
        }
    }

    fn naive_match(pattern: &str, key: &str) -> bool {
        let pattern: Vec<&str> = pattern.split('.').collect();
        let key: Vec<&str> = key.split('.').collect();
        naive(&pattern, &key)
    }

    fn found(trie: &TopicTrie<usize>, key: &str) -> Vec<usize> {
        let mut all = Vec::new();
        trie.matches(key, |v| all.push(*v));
        all.sort_unstable();
        all.dedup();
        all
    }

    fn words(of: &'static str) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(of.split(' ').collect::<Vec<_>>()), 1..6).prop_map(|w| w.join("."))
    }

    proptest! {
        #[test]
        fn the_trie_matches_what_the_rule_says(
            patterns in prop::collection::vec(words("a b * #"), 1..12),
            removed in prop::collection::vec(any::<bool>(), 12),
            keys in prop::collection::vec(words("a b c"), 1..8),
        ) {
            let mut trie = TopicTrie::default();
            for (i, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, i);
            }
            for (i, pattern) in patterns.iter().enumerate().filter(|(i, _)| removed[*i]) {
                trie.remove(pattern, &i);
            }
            for key in &keys {
                let expected: Vec<usize> = (0..patterns.len())
                    .filter(|i| !removed[*i] && naive_match(&patterns[*i], key))
                    .collect();
                prop_assert_eq!(found(&trie, key), expected, "{} {:?}", key, patterns);
            }
        }
    }

    #[test]
    fn many_hashes_cost_no_more_than_their_nodes() {
        let mut trie = TopicTrie::default();
        trie.insert(&vec!["#.*"; 60].join("."), 1);
        let key = vec!["a"; 127].join(".");
        assert_eq!(found(&trie, &key), [1]);
        assert_eq!(found(&trie, &vec!["a"; 59].join(".")), []);
    }

    #[test]
    fn an_emptied_trie_reuses_its_nodes() {
        let mut trie = TopicTrie::default();
        for _ in 0..10 {
            trie.insert("a.*.#.b", 1);
            trie.remove("a.*.#.b", &1);
        }
        assert_eq!(trie.nodes.len(), 5);
    }
}
