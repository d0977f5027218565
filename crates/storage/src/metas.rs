//! The metadata: values by key, each with its place in the log. There is one or more for each queue, so each is one
//! allocation and an entry of a table.
//!
//! ```text
//! place in the log | length of the key | key | value
//!   u64              u32                 ...   rest
//! ```

use foldhash::fast::RandomState;
use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

const KEY_AT: usize = 12;

/// See the module.
#[derive(Default)]
pub(crate) struct Metas {
    all: HashSet<Meta, RandomState>,
}

/// A key and its value.
pub(crate) struct Meta(Box<[u8]>);

impl Meta {
    fn new(key: &[u8], value: &[u8], lsn: u64) -> Self {
        let key_len = u32::try_from(key.len()).expect("a record of the log is shorter than that");
        let parts = [&lsn.to_le_bytes()[..], &key_len.to_le_bytes(), key, value];
        Self(parts.concat().into())
    }

    /// Where it lies in the log.
    pub(crate) fn lsn(&self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|at| self.0[at]))
    }

    fn value_at(&self) -> usize {
        KEY_AT + u32::from_le_bytes(std::array::from_fn(|at| self.0[8 + at])) as usize
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0[KEY_AT..self.value_at()]
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.0[self.value_at()..]
    }

    /// Bytes of key and value.
    pub(crate) fn size(&self) -> usize {
        self.0.len() - KEY_AT
    }
}

impl Borrow<[u8]> for Meta {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl PartialEq for Meta {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Meta {}

impl Hash for Meta {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Metas {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Meta> {
        self.all.get(key)
    }

    /// Gives a key a value that lies at `lsn`; returns what it had.
    pub(crate) fn insert(&mut self, key: &[u8], value: &[u8], lsn: u64) -> Option<Meta> {
        self.all.replace(Meta::new(key, value, lsn))
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Meta> {
        self.all.take(key)
    }

    /// A value that lay at `from` lies at `to` now; false if its key has another meanwhile.
    pub(crate) fn relocate(&mut self, key: &[u8], from: u64, to: u64) -> bool {
        let Some(mut meta) = self.all.take(key) else { return false };
        let same = meta.lsn() == from;
        if same {
            meta.0[..8].copy_from_slice(&to.to_le_bytes());
        }
        self.all.insert(meta);
        same
    }

    /// All of them, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Meta> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_replaced_relocated_and_removed() {
        let mut metas = Metas::default();
        assert!(metas.insert(b"a", b"one", 7).is_none() && metas.insert(b"", b"", u64::MAX).is_none());
        let before = metas.insert(b"a", b"other", 9).expect("it had one");
        assert_eq!((before.key(), before.value(), before.lsn(), before.size()), (&b"a"[..], &b"one"[..], 7, 4));
        assert!(!metas.relocate(b"a", 7, 11) && !metas.relocate(b"b", 9, 11) && metas.relocate(b"a", 9, 11));
        let now = metas.get(b"a").expect("it is there");
        assert_eq!((now.value(), now.lsn()), (&b"other"[..], 11));
        let mut keys: Vec<&[u8]> = metas.iter().map(Meta::key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [&b""[..], b"a"]);
        assert_eq!(metas.remove(b"").map(|meta| meta.lsn()), Some(u64::MAX));
        assert!(metas.remove(b"").is_none() && metas.get(b"").is_none());
    }
}
