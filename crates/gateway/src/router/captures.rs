//! What the regular expressions of a route's path found in it: Kong's `uri_captures`.
//!
//! Taken only when somebody asks, by running the route's expressions once more. Of a choice the first that is found
//! counts, of several that must all be found each does, and the last has the say about a name.

use regex::Captures;
use std::fmt;

/// Numbered and named groups found in a path.
#[derive(Default)]
pub struct UriCaptures<'p> {
    found: Vec<Captures<'p>>,
}

impl<'p> UriCaptures<'p> {
    pub(super) fn push(&mut self, captures: Captures<'p>) {
        self.found.push(captures);
    }

    /// What a group found: by name, or by number from 1.
    #[must_use]
    pub fn get(&self, group: &str) -> Option<&'p str> {
        let number = group.parse::<usize>().ok();
        let of = |captures: &Captures<'p>| match number {
            Some(number) => captures.get(number),
            None => captures.name(group),
        };
        self.found.iter().rev().find_map(of).map(|found| found.as_str())
    }

    /// Whether no regular expression for the path was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

impl fmt::Debug for UriCaptures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.found).finish()
    }
}
