//! Ids of entities that are given none in a file: UUIDs of version 5 (RFC 9562) of the kind and of what identifies the
//! entity, so that they stay the same over reloads and machines.

use crate::kind::Kind;
use plugin::Id;
use sha1_smol::Sha1;

/// The UUIDv5 of `sluicegate` in the DNS namespace.
const NAMESPACE: [u8; 16] =
    [0x72, 0xa4, 0xb5, 0xb0, 0xb1, 0x2a, 0x54, 0x57, 0x82, 0xcf, 0x3e, 0x1e, 0x87, 0xe9, 0xab, 0x77];

/// The id of the entity of a kind that `key` identifies.
#[must_use]
pub fn derived_id(kind: Kind, key: &str) -> Id {
    let mut hash = Sha1::from(NAMESPACE);
    hash.update(kind.name().as_bytes());
    hash.update(b":");
    hash.update(key.as_bytes());
    let digest = hash.digest().bytes();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Id::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_rfc_9562() {
        assert_eq!(derived_id(Kind::Services, "orders").to_string(), "379a44b4-3212-5bdc-b626-f393a1de9154");
        assert_ne!(derived_id(Kind::Services, "orders"), derived_id(Kind::Routes, "orders"));
    }
}
