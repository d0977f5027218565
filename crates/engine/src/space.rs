//! Who owns which keys of the metadata: the first byte of a key names its owner.
//!
//! Invariants: nobody writes a key that does not begin with its own byte, and nobody reads another's. A byte is never
//! given to another owner, since keys outlive the process.

/// An owner of keys. This is the whole list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MetaSpace {
    /// The broker: vhosts, exchanges, queues and bindings.
    Topology = b'T',
    /// The bridge: attempts of deliveries that are still to be repeated.
    Bridge = b'B',
    /// A repair of damage: that there was one since the broker last started.
    Repair = b'R',
    /// The broker: what queues that deduplicate have seen.
    Dedup = b'D',
    /// The Admin API: entities of the gateway that it was given.
    Entities = b'E',
}

impl MetaSpace {
    /// The owner's key with this name.
    #[must_use]
    pub fn key(self, name: &[u8]) -> Vec<u8> {
        [&[self as u8], name].concat()
    }

    /// Whose key this is, and its name there. `None`: nobody's.
    #[must_use]
    pub fn of(key: &[u8]) -> Option<(Self, &[u8])> {
        let (first, name) = key.split_first()?;
        let spaces = [Self::Topology, Self::Bridge, Self::Repair, Self::Dedup, Self::Entities];
        let owner = spaces.into_iter().find(|space| *space as u8 == *first)?;
        Some((owner, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_owners_alone() {
        for space in [MetaSpace::Topology, MetaSpace::Bridge, MetaSpace::Repair, MetaSpace::Dedup, MetaSpace::Entities]
        {
            assert_eq!(MetaSpace::of(&space.key(b"name")), Some((space, &b"name"[..])));
            assert_eq!(MetaSpace::of(&space.key(b"")), Some((space, &b""[..])));
        }
        assert_eq!(MetaSpace::of(b""), None);
        assert_eq!(MetaSpace::of(b"?name"), None);
    }
}
