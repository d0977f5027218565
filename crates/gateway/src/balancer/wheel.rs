//! Round-robin by weight: a wheel of slots on which every address stands as often as its weight says, as evenly spread
//! as that can be.
//!
//! Invariants: one turn of the wheel gives each address exactly its weight, divided by what all weights have in common. A
//! wheel that would be too large is scaled down; nobody falls off it.

use super::random;
use model::limits::WHEEL_SLOTS_MAX;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The slots and where the wheel stands.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Box<[u32]>,
    next: AtomicUsize,
}

impl Wheel {
    /// A wheel for addresses with these weights, all above 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let counts = counts(weights);
        let total = counts.iter().sum::<u32>() as usize;
        // By the earliest deadline: the k-th turn of an address of weight w is due at (k + phase) / w, and no two have
        // the same phase.
        let n = counts.len() as u64;
        let deadline = |turn: u32, at: u32, count: u32| {
            let turns = u64::from(turn) * 2 * n + 2 * u64::from(at) + 1;
            (turns << 28) / (2 * n * u64::from(count.max(1)))
        };
        let mut due: BinaryHeap<_> =
            (0u32..).zip(&counts).map(|(at, count)| Reverse((deadline(0, at, *count), at, 0))).collect();
        let mut slots = Vec::with_capacity(total);
        while let Some(Reverse((_, at, turn))) = due.pop() {
            slots.push(at);
            let count = counts[at as usize];
            if turn + 1 < count {
                due.push(Reverse((deadline(turn + 1, at, count), at, turn + 1)));
            }
        }
        Self { slots: slots.into(), next: AtomicUsize::new(0) }
    }

    /// The next address that is `ok`. If the one whose turn it is is not, chance decides, so that no neighbour takes all
    /// of its share.
    pub(super) fn pick(&self, random: u64, ok: impl Fn(usize) -> bool) -> Option<usize> {
        let n_slots = self.slots.len();
        if n_slots == 0 {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % n_slots;
        let first = self.slots[turn] as usize;
        if ok(first) {
            return Some(first);
        }
        let draw = |n: u64| self.slots[random::below(random::mix(random.wrapping_add(n)), n_slots)] as usize;
        let drawn = (0..8).map(draw).find(|at| ok(*at));
        let start = random::below(random, n_slots);
        drawn.or_else(|| (start..n_slots).chain(0..start).map(|at| self.slots[at] as usize).find(|at| ok(*at)))
    }
}

/// How often each address stands on the wheel.
fn counts(weights: &[u32]) -> Vec<u32> {
    let common = weights.iter().copied().fold(0, gcd).max(1);
    let total: u64 = weights.iter().map(|weight| u64::from(weight / common)).sum();
    let max = WHEEL_SLOTS_MAX as u64;
    let scale = |weight: u32| {
        let count = u64::from(weight / common);
        let scaled = if total > max { (count * max / total).max(1) } else { count };
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    weights.iter().map(|weight| scale(*weight)).collect()
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(wheel: &Wheel) -> Vec<usize> {
        (0..wheel.slots.len()).map(|_| wheel.pick(0, |_| true).unwrap()).collect()
    }

    #[test]
    fn heavy_addresses_do_not_come_in_bursts() {
        assert_eq!(turn(&Wheel::new(&[100, 100, 100])), [0, 1, 2]);
        assert_eq!(turn(&Wheel::new(&[5, 1, 1])), [0, 0, 0, 1, 0, 0, 2]);
        assert_eq!(Wheel::new(&[]).pick(7, |_| true), None);
        assert_eq!(Wheel::new(&[1, 1]).pick(7, |_| false), None);
    }

    #[test]
    fn the_share_of_one_that_is_out_goes_to_all_others() {
        let wheel = Wheel::new(&[1; 10]);
        let mut got = [0u32; 10];
        for n in 0..10_000 {
            got[wheel.pick(random::mix(n), |at| at != 3).unwrap()] += 1;
        }
        assert_eq!(got[3], 0);
        assert!(got.iter().enumerate().all(|(at, n)| at == 3 || (1_050..1_200).contains(n)), "{got:?}");
    }

    proptest! {
        #[test]
        fn one_turn_honours_the_weights(weights in proptest::collection::vec(1u32..=65_535, 1..20)) {
            let wheel = Wheel::new(&weights);
            let mut got = vec![0u64; weights.len()];
            for at in turn(&wheel) {
                got[at] += 1;
            }
            let (n, total) = (wheel.slots.len() as f64, weights.iter().map(|w| f64::from(*w)).sum::<f64>());
            prop_assert!(wheel.slots.len() <= WHEEL_SLOTS_MAX + weights.len());
            for (got, weight) in got.iter().zip(&weights) {
                let wanted = n * f64::from(*weight) / total;
                // Scaling rounds down, and never to nothing.
                prop_assert!((*got as f64 - wanted).abs() <= 1.0 + n * 0.001, "{got} of {wanted}");
            }
        }
    }
}
