//! A body that is too large to be in memory: who has a [`LargeBody`] may read it from the engine, piece by piece.
//!
//! Invariants: the engine keeps what it names for as long as one of these, or an entry of a queue, refers to it. Nothing
//! of the body itself is here.

use std::any::Any;
use std::fmt;

/// Names a body that the engine keeps, and holds on to it.
pub struct LargeBody {
    id: u64,
    len: u64,
    /// Dropped with the last reference, which is how the engine learns of it.
    _lease: Box<dyn Any + Send + Sync>,
}

impl LargeBody {
    /// For engines: the body with this id and length in bytes. The lease is dropped when nobody holds it any more.
    #[must_use]
    pub fn new(id: u64, len: u64, lease: Box<dyn Any + Send + Sync>) -> Self {
        Self { id, len, _lease: lease }
    }

    /// The engine's name for it, never used twice.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Bytes of it.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> u64 {
        self.len
    }
}

impl PartialEq for LargeBody {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl fmt::Debug for LargeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LargeBody({}, {} bytes)", self.id, self.len)
    }
}
