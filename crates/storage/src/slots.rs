//! Messages of a queue that are in memory, by slot.
//!
//! Invariants: a slot is taken or free; the free ones are a list through themselves. The first slot lies in place, so a
//! queue with one message at a time allocates none.

use crate::seldom::{Room, Seldom};
use model::Message;

/// Slots that are kept when all are free.
const SPARE_SLOTS: usize = 256;
/// Behind the last free slot.
const END: u32 = u32::MAX;

/// A message, whose it is, and how many bytes it is charged with.
pub(crate) struct Slot {
    pub(crate) message: Message,
    pub(crate) seq: u64,
    pub(crate) charge: u32,
}

enum Place {
    Taken(Slot),
    /// The next free slot.
    Free(u32),
}

/// Slots from the second on.
struct More {
    places: Vec<Place>,
    /// The first free one.
    free: u32,
    taken: u32,
}

impl Default for More {
    fn default() -> Self {
        Self { places: Vec::new(), free: END, taken: 0 }
    }
}

impl Room for More {
    fn len(&self) -> usize {
        self.taken as usize
    }

    fn room(&self) -> usize {
        self.places.capacity()
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Slots {
    first: Option<Slot>,
    more: Seldom<More>,
}

/// Where a slot from the second on lies.
fn place_of(slot: u32) -> Option<usize> {
    (slot as usize).checked_sub(1)
}

impl More {
    fn put(&mut self, slot: Slot) -> u32 {
        self.taken += 1;
        let at = self.free;
        if let Some(place) = place_of(at).and_then(|at| self.places.get_mut(at)) {
            if let Place::Free(next) = std::mem::replace(place, Place::Taken(slot)) {
                self.free = next;
            }
            return at;
        }
        self.places.push(Place::Taken(slot));
        u32::try_from(self.places.len()).expect("memory ends first")
    }

    fn get(&self, at: u32) -> Option<&Slot> {
        match self.places.get(place_of(at)?)? {
            Place::Taken(slot) => Some(slot),
            Place::Free(_) => None,
        }
    }

    fn take(&mut self, at: u32) -> Option<Slot> {
        let free = self.free;
        let place = self.places.get_mut(place_of(at)?)?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let Place::Taken(slot) = std::mem::replace(place, Place::Free(free)) else { return None };
        self.free = at;
        self.taken -= 1;
        if self.taken == 0 && self.places.len() > SPARE_SLOTS {
            *self = Self::default();
        }
        Some(slot)
    }
}

impl Slots {
    /// Slots there are, taken or free.
    pub(crate) fn len(&self) -> usize {
        1 + self.more.get().map_or(0, |more| more.places.len())
    }

    /// Whether nothing is in them.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    /// Memory they take beside themselves.
    pub(crate) fn memory(&self) -> usize {
        self.more.room() * size_of::<Place>()
    }

    /// Puts a message into a free slot; returns which.
    pub(crate) fn put(&mut self, slot: Slot) -> u32 {
        if self.first.is_none() {
            self.first = Some(slot);
            return 0;
        }
        self.more.make().put(slot)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Slot> {
        if at == 0 { self.first.as_ref() } else { self.more.get()?.get(at) }
    }

    /// Empties a slot.
    pub(crate) fn take(&mut self, at: u32) -> Option<Slot> {
        if at == 0 { self.first.take() } else { self.more.change(|more| more.take(at)).flatten() }
    }

    /// Gives back the memory if nothing is in it.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            self.more = Seldom::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Envelope, MessageArena, Origin, Wall};
    use std::collections::BTreeMap;

    fn slot(seq: u64) -> Slot {
        let envelope = Envelope {
            origin: Origin::Amqp091,
            persistent: false,
            priority: 0,
            ttl_ms: None,
            received_at: Wall(1),
            has_headers: false,
            producer: 0,
        };
        let message = MessageArena::new().draft(b"", b"q", &[], 0).finish(envelope);
        Slot { message, seq, charge: 7 }
    }

    #[test]
    fn a_slot_is_used_again_and_what_is_not_there_is_not() {
        let mut slots = Slots::default();
        let mut there = BTreeMap::new();
        for round in 0..1_000u64 {
            let at = slots.put(slot(round));
            assert_eq!(there.insert(at, round), None, "slot {at} is taken");
            if round % 3 == 0 {
                let (&at, &seq) = there.iter().nth(round as usize % there.len()).expect("one was put there");
                there.remove(&at);
                assert_eq!(slots.take(at).map(|slot| slot.seq), Some(seq));
                assert!(slots.take(at).is_none() && slots.get(at).is_none());
            }
            assert!(there.iter().all(|(at, seq)| slots.get(*at).is_some_and(|slot| slot.seq == *seq)));
        }
        assert!(slots.len() <= there.len() + 1 && slots.memory() > 0);
        assert!(slots.get(u32::MAX).is_none() && slots.take(u32::MAX - 1).is_none());
        there.keys().for_each(|at| _ = slots.take(*at));
        assert!(slots.is_empty());
        assert_eq!(slots.memory(), 0, "a burst leaves nothing behind");
    }
}
