//! A rule as the index files it, with what a lookup looks at first: when its turn is.

use super::Ask;
use super::rank::Priority;
use super::rule::{Compiled, Rule};
use std::cmp::Ordering;
use std::sync::Arc;

/// A rule of the route in a place of the router. One of the higher priority is asked first, of equals that of the larger id;
/// should two ids be equal too, then that in the lower place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    priority: Priority,
    route: u32,
    /// The rule's place among those of its route.
    part: u32,
    pub(super) rule: Arc<Rule>,
}

impl Entry {
    /// The entries of a route's rules.
    pub(super) fn of(route_idx: usize, compiled: &Compiled) -> impl Iterator<Item = Self> {
        let route = u32::try_from(route_idx).expect("routes are counted in 32 bits");
        (0..).zip(&compiled.rules).map(move |(part, rule)| Self {
            priority: rule.priority,
            route,
            part,
            rule: Arc::clone(rule),
        })
    }

    /// The route's place, and the rule's among those of its route.
    pub(super) const fn place(&self) -> (usize, usize) {
        (self.route as usize, self.part as usize)
    }

    /// Whether this one's turn comes before the other's.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.turn(other).is_lt()
    }

    /// The order of turns. Only a rule and itself are equal.
    pub(super) fn turn(&self, other: &Self) -> Ordering {
        let by_id = || other.rule.id.cmp(&self.rule.id).then(self.route.cmp(&other.route));
        other.priority.cmp(&self.priority).then_with(by_id)
    }

    /// If the request matches: the bytes of the path that did, if it was compared.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Option<Option<usize>> {
        let matched_len = self.rule.matches(ask)?;
        // A match of nothing strips nothing, and a length that would cut a character ends before it.
        let whole = |len: &usize| *len > 0;
        Some(matched_len.map(|len| ask.path.floor_char_boundary(len)).filter(whole))
    }
}
