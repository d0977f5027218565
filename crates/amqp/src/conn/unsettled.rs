//! Deliveries of a channel that the client has to settle, by tag.
//!
//! Invariants: tags rise from front to back; the front and the back are unsettled. Settling in order pops in constant
//! time; out of order leaves a hole, and holes never outnumber what is unsettled by more than a few.

use protocol::Receipt;
use std::collections::VecDeque;

/// Holes that are not worth closing up.
const HOLES_MIN: usize = 64;

/// Unsettled deliveries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    deliveries: VecDeque<(u64, Option<Receipt>)>,
    holes: usize,
}

impl Unsettled {
    /// How many are unsettled.
    pub(super) fn len(&self) -> usize {
        self.deliveries.len() - self.holes
    }

    /// Notes a delivery; its tag is higher than all before.
    pub(super) fn push(&mut self, tag: u64, receipt: Receipt) {
        debug_assert!(self.deliveries.back().is_none_or(|(last, _)| *last < tag));
        self.deliveries.push_back((tag, Some(receipt)));
    }

    /// Takes out the delivery of that tag.
    pub(super) fn take(&mut self, tag: u64) -> Option<Receipt> {
        let at = self.find(tag)?;
        let receipt = self.deliveries[at].1.take()?;
        self.holes += 1;
        self.close_up();
        Some(receipt)
    }

    /// Takes out all deliveries up to and including that tag, which must be there.
    pub(super) fn take_through(&mut self, tag: u64, mut each: impl FnMut(u64, Receipt)) -> bool {
        let Some(at) = self.find(tag) else {
            return false;
        };
        if self.deliveries[at].1.is_none() {
            return false;
        }
        for (tag, receipt) in self.deliveries.drain(..=at) {
            match receipt {
                Some(receipt) => each(tag, receipt),
                None => self.holes -= 1,
            }
        }
        self.close_up();
        true
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self, mut each: impl FnMut(u64, Receipt)) {
        for (tag, receipt) in self.deliveries.drain(..) {
            if let Some(receipt) = receipt {
                each(tag, receipt);
            }
        }
        self.holes = 0;
    }

    /// Puts deliveries back that were taken out, in any order.
    pub(super) fn put_back(&mut self, taken: impl Iterator<Item = (u64, Receipt)>) {
        self.deliveries.extend(taken.map(|(tag, receipt)| (tag, Some(receipt))));
        self.deliveries.retain(|(_, receipt)| receipt.is_some());
        self.holes = 0;
        self.deliveries.make_contiguous().sort_unstable_by_key(|(tag, _)| *tag);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let (first, _) = *self.deliveries.front()?;
        // Without no-ack deliveries in between, tags are dense and the first guess is right.
        let guess = usize::try_from(tag.checked_sub(first)?).ok()?;
        match self.deliveries.get(guess) {
            Some((there, _)) if *there == tag => Some(guess),
            _ => self.deliveries.binary_search_by_key(&tag, |(tag, _)| *tag).ok(),
        }
    }

    fn close_up(&mut self) {
        while let Some((_, None)) = self.deliveries.front() {
            self.deliveries.pop_front();
            self.holes -= 1;
        }
        while let Some((_, None)) = self.deliveries.back() {
            self.deliveries.pop_back();
            self.holes -= 1;
        }
        if self.holes > self.len() + HOLES_MIN {
            self.deliveries.retain(|(_, receipt)| receipt.is_some());
            self.holes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{QueueId, Seq};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn receipt(n: u64) -> Receipt {
        Receipt { queue: QueueId(1), seq: Seq(n), consumer: None }
    }

    #[test]
    fn a_delivery_that_is_never_settled_does_not_pin_the_room_of_the_others() {
        let mut unsettled = Unsettled::default();
        unsettled.push(1, receipt(1));
        unsettled.push(2, receipt(2));
        for tag in 3..10_000 {
            unsettled.push(tag, receipt(tag));
            assert_eq!(unsettled.take(tag - 1), Some(receipt(tag - 1)));
            assert!(unsettled.deliveries.len() < 2 * HOLES_MIN);
        }
        assert_eq!(unsettled.len(), 2);
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((0u8..6, 0u64..300), 1..600)) {
            let mut unsettled = Unsettled::default();
            let mut model = BTreeMap::new();
            let mut last = 0;
            for (what, n) in steps {
                match what {
                    0 | 1 => {
                        last += 1 + n % 3;
                        unsettled.push(last, receipt(last));
                        model.insert(last, receipt(last));
                    }
                    2 | 3 => prop_assert_eq!(unsettled.take(n), model.remove(&n)),
                    what => {
                        let mut taken = Vec::new();
                        let there = unsettled.take_through(n, |tag, receipt| taken.push((tag, receipt)));
                        prop_assert_eq!(there, model.contains_key(&n));
                        if there {
                            let rest = model.split_off(&(n + 1));
                            let expected: Vec<_> = model.into_iter().collect();
                            prop_assert_eq!(&taken, &expected);
                            model = rest;
                        }
                        if what == 5 {
                            model.extend(taken.iter().copied());
                            unsettled.put_back(taken.into_iter().rev());
                        }
                    }
                }
                prop_assert_eq!(unsettled.len(), model.len());
                prop_assert!(unsettled.deliveries.len() <= 2 * model.len() + HOLES_MIN + 1);
            }
        }
    }
}
