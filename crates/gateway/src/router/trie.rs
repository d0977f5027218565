//! A radix tree from path prefixes to route ranks.
//!
//! A lookup walks one path down and yields the ranks of every prefix of it, at a cost of the path's length whatever
//! the number of routes. Invariants: labels of siblings start with different bytes, children are sorted by that byte,
//! ranks of a node are sorted.

/// A node and what hangs below it. The root's label is empty.
#[derive(Debug, Default)]
pub(super) struct Trie {
    label: Vec<u8>,
    ranks: Vec<u32>,
    children: Vec<Trie>,
}

impl Trie {
    /// Adds a rank to a prefix; ranks must come in ascending order.
    pub(super) fn insert(&mut self, prefix: &[u8], rank: u32) {
        let Some(first) = prefix.first() else {
            if self.ranks.last() != Some(&rank) {
                self.ranks.push(rank);
            }
            return;
        };
        match self.children.binary_search_by_key(first, |child| child.label[0]) {
            Err(at) => {
                let leaf = Self { label: prefix.to_vec(), ranks: vec![rank], children: Vec::new() };
                self.children.insert(at, leaf);
            }
            Ok(at) => {
                let child = &mut self.children[at];
                let common = child.label.iter().zip(prefix).take_while(|(a, b)| a == b).count();
                if common < child.label.len() {
                    child.split(common);
                }
                child.insert(&prefix[common..], rank);
            }
        }
    }

    /// Cuts the label after `at` bytes and moves the rest to an only child.
    fn split(&mut self, at: usize) {
        let tail = self.label.split_off(at);
        let lower =
            Self { label: tail, ranks: std::mem::take(&mut self.ranks), children: std::mem::take(&mut self.children) };
        self.children.push(lower);
    }

    /// Calls `visit` with the sorted ranks of every prefix of `path`, shortest first.
    pub(super) fn walk(&self, path: &[u8], mut visit: impl FnMut(&[u32])) {
        let (mut node, mut rest) = (self, path);
        loop {
            if !node.ranks.is_empty() {
                visit(&node.ranks);
            }
            let Some(first) = rest.first() else { return };
            let Ok(at) = node.children.binary_search_by_key(first, |child| child.label[0]) else { return };
            let child = &node.children[at];
            let Some(below) = rest.strip_prefix(child.label.as_slice()) else { return };
            (node, rest) = (child, below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Trie;

    #[test]
    fn every_prefix_of_the_path_is_visited() {
        let mut trie = Trie::default();
        for (rank, prefix) in ["/a/bc", "/a", "/a/bd", "", "/a/bcd", "/b", "/a"].iter().enumerate() {
            trie.insert(prefix.as_bytes(), rank as u32);
        }
        let mut seen = Vec::new();
        trie.walk(b"/a/bcx", |ranks| seen.extend_from_slice(ranks));
        assert_eq!(seen, [3, 1, 6, 0]);
    }
}
