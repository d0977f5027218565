//! In which order routes are asked: Kong's 64-bit priority, then the larger id.
//!
//! ```text
//! classic   | categories 3 | plain hosts 1 | headers 8 | regex 1 | regex_priority 32 | prefix length 19 |
//! expression| 0xff 8 | 0 10 | priority 46 |
//! stream    | 0 2 | server names, or both ends 1 | 0 53 | source 4 | destination 4 |
//! ```
//!
//! So an expression comes before every classic route. `regex_priority` is biased, so that negative ones come last; Kong
//! lets them spill into the bits above.

use crate::entity::{Endpoint, Id};
use model::limits::ROUTE_PRIORITY_MAX;
use std::cmp::Reverse;

/// A priority as Kong computes it; higher ones are asked first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Priority(u64);

/// What the priority of a classic route is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Number of match fields that are not empty, at most 7.
    pub(super) n_categories: usize,
    /// There are hosts, and none has a wildcard.
    pub(super) plain_hosts_only: bool,
    /// Number of header names; counts up to 255.
    pub(super) n_headers: usize,
    /// `regex_priority`, if the paths are regular expressions.
    pub(super) regex_priority: Option<i64>,
    /// Bytes of the prefix; counts up to 2^19 - 1.
    pub(super) prefix_len: usize,
}

impl Priority {
    pub(super) fn classic(parts: &Parts) -> Self {
        let regex_priority = parts.regex_priority.map_or(0, |priority| {
            let clamped = priority.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            clamped.abs_diff(i64::from(i32::MIN))
        });
        Self(
            capped(parts.n_categories, 7) << 61
                | u64::from(parts.plain_hosts_only) << 60
                | capped(parts.n_headers, 255) << 52
                | u64::from(parts.regex_priority.is_some()) << 51
                | regex_priority << 19
                | capped(parts.prefix_len, (1 << 19) - 1),
        )
    }

    /// Of a route with an expression.
    pub(super) const fn expression(priority: u64) -> Self {
        let priority = if priority > ROUTE_PRIORITY_MAX { ROUTE_PRIORITY_MAX } else { priority };
        Self(0xff << 56 | priority)
    }

    /// Of a route for connections: Kong's bits. Server names, or source and destination together, come first; then what
    /// is said of the source, then of the destination, each an address before a port before a network.
    pub(super) fn stream(has_snis: bool, sources: &[Endpoint], destinations: &[Endpoint]) -> Self {
        let first = has_snis || !(sources.is_empty() || destinations.is_empty());
        let bits = |all: &[Endpoint]| {
            all.iter().fold(0, |bits, endpoint| {
                bits | match endpoint {
                    Endpoint::Address(_) => 8,
                    Endpoint::Network(_) => 1,
                    Endpoint::Port(_) => 4,
                    Endpoint::AddressPort(..) => 8 | 4,
                    Endpoint::NetworkPort(..) => 1 | 4,
                }
            })
        };
        Self(u64::from(first) << 61 | bits(sources) << 4 | bits(destinations))
    }
}

/// The order of a route with this priority and id among all.
pub(super) const fn order(priority: Priority, id: Id) -> Reverse<(Priority, Id)> {
    Reverse((priority, id))
}

fn capped(n: usize, max: u64) -> u64 {
    u64::try_from(n).unwrap_or(max).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Parts =
        Parts { n_categories: 0, plain_hosts_only: false, n_headers: 0, regex_priority: None, prefix_len: 0 };

    #[test]
    fn each_part_outranks_all_below_it() {
        let falling = [
            Parts { n_categories: 2, ..NONE },
            Parts { plain_hosts_only: true, n_categories: 1, ..NONE },
            Parts { n_headers: 2, n_categories: 1, ..NONE },
            Parts { n_headers: 1, regex_priority: Some(0), n_categories: 1, ..NONE },
            Parts { n_headers: 1, regex_priority: Some(-1), n_categories: 1, ..NONE },
            Parts { n_headers: 1, prefix_len: 600_000, n_categories: 1, ..NONE },
            Parts { n_headers: 1, prefix_len: 9, n_categories: 1, ..NONE },
            Parts { n_headers: 1, prefix_len: 8, n_categories: 1, ..NONE },
        ];
        let priorities: Vec<_> = falling.iter().map(Priority::classic).collect();
        assert!(priorities.is_sorted_by(|a, b| a > b), "{priorities:x?}");
    }

    #[test]
    fn an_expression_outranks_every_classic_route() {
        let all = Parts {
            n_categories: 6,
            plain_hosts_only: true,
            n_headers: 999,
            regex_priority: Some(i64::MAX),
            prefix_len: usize::MAX,
        };
        assert!(Priority::expression(0) > Priority::classic(&all));
        assert!(Priority::expression(ROUTE_PRIORITY_MAX) > Priority::expression(ROUTE_PRIORITY_MAX - 1));
    }

    #[test]
    fn the_bits_are_those_of_kong() {
        let parts =
            Parts { n_categories: 3, plain_hosts_only: true, n_headers: 2, regex_priority: None, prefix_len: 5 };
        assert_eq!(Priority::classic(&parts), Priority(3 << 61 | 1 << 60 | 2 << 52 | 5));
        assert_eq!(Priority::expression(7), Priority(0xff00_0000_0000_0007));
    }
}
