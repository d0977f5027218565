//! Consistent hashing: points on a ring, as many for an address as its weight says (ketama).
//!
//! Invariants: an address's points are its own, whatever other addresses there are, and fewer points are the first of
//! more; so when one goes, only its keys move, and they spread over all others. Reference: Kong's `slots`.

use super::random::mix;

/// Points of the heaviest address, if the ring has room.
const POINTS_PER_ADDRESS: u64 = 160;

/// The points in order.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// A ring of at most about `slots` points for addresses with these names and weights, all above 0.
    pub(super) fn new(addresses: &[(&str, u32)], slots: u32) -> Self {
        let heaviest = addresses.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(1).max(1);
        let wanted = |weight: u32| (POINTS_PER_ADDRESS * u64::from(weight) / heaviest).max(1);
        let total: u64 = addresses.iter().map(|(_, weight)| wanted(*weight)).sum();
        let slots = u64::from(slots);
        let mut points = Vec::new();
        for (at, (name, weight)) in (0u32..).zip(addresses) {
            let n_points = if total > slots { (wanted(*weight) * slots / total).max(1) } else { wanted(*weight) };
            let base = hash(name.as_bytes());
            points.extend((0..n_points).map(|n| (mix(base ^ mix(n + 1)), at)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The address the key belongs to, or the next on the ring that is `ok`.
    pub(super) fn pick(&self, key: u64, ok: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, at)| *at as usize).find(|at| ok(*at))
    }
}

/// The key of a value: the same in every process and version (FNV-1a, its bits spread).
pub(super) fn hash(value: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(value.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|n| format!("10.0.0.{n}:80")).collect()
    }

    fn ring(names: &[String], slots: u32) -> Ring {
        Ring::new(&names.iter().map(|name| (name.as_str(), 100)).collect::<Vec<_>>(), slots)
    }

    fn owner<'a>(ring: &Ring, names: &'a [String], key: u64) -> &'a str {
        &names[ring.pick(mix(key), |_| true).unwrap()]
    }

    #[test]
    fn every_address_gets_about_its_share() {
        let addresses = [("a", 100), ("b", 100), ("c", 200)];
        let ring = Ring::new(&addresses, 10_000);
        let mut got = [0u32; 3];
        for key in 0..40_000 {
            got[ring.pick(mix(key), |_| true).unwrap()] += 1;
        }
        let near = |n: u32, wanted: u32| n.abs_diff(wanted) < wanted / 4;
        assert!(near(got[0], 10_000) && near(got[1], 10_000) && near(got[2], 20_000), "{got:?}");
    }

    #[test]
    fn the_keys_of_one_that_is_out_go_to_the_next_and_no_other_moves() {
        let names = names(5);
        let ring = ring(&names, 10_000);
        for key in (0..2_000).map(mix) {
            let (all, four) = (ring.pick(key, |_| true).unwrap(), ring.pick(key, |at| at != 2).unwrap());
            assert!(all == four || (all == 2 && four != 2));
        }
        assert_eq!(ring.pick(1, |_| false), None);
        assert_eq!(Ring::new(&[], 10).pick(1, |_| true), None);
    }

    #[test]
    fn a_full_ring_still_has_everybody() {
        let names = names(30);
        let ring = ring(&names, 10);
        let mut there: Vec<u32> = ring.points.iter().map(|(_, at)| *at).collect();
        there.sort_unstable();
        assert_eq!(there, (0..30).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn when_one_goes_only_its_keys_move(n in 2usize..12, gone in 0usize..12, seed in any::<u64>()) {
            let all = names(n);
            let gone = gone % n;
            let mut rest = all.clone();
            rest.remove(gone);
            let (before, after) = (ring(&all, 10_000), ring(&rest, 10_000));
            let keys = (0..1_000u64).map(|key| mix(key ^ seed));
            let moved = keys.filter(|key| {
                let (was, is) = (owner(&before, &all, *key), owner(&after, &rest, *key));
                assert!(was == is || was == all[gone], "{was} -> {is}");
                was != is
            });
            // One n-th, give or take what chance makes of 160 points.
            prop_assert!(moved.count() <= 1_000 * 3 / 2 / n + 40);
        }
    }
}
