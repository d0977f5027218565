//! What a queue knows of a message in it.
//!
//! 56 bytes, plus the message while it is in memory.

use model::Wall;

/// No message in memory.
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// No time to live.
pub(crate) const NO_TTL: u32 = u32::MAX;
/// In [`Entry::lsn`]: the rest is a place in the spill, not in the log.
pub(crate) const SPILLED: u64 = 1 << 63;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    /// Where the message lies in the log or, with [`SPILLED`], in the spill; 0 if in neither.
    pub(crate) lsn: u64,
    pub(crate) wall: u64,
    pub(crate) mono: u64,
    /// Bytes of the message, a large body aside.
    pub(crate) size: u32,
    /// Bytes of its body.
    pub(crate) body: u32,
    pub(crate) ttl_ms: u32,
    pub(crate) slot: u32,
    pub(crate) attempts: u16,
    pub(crate) lane: u8,
    pub(crate) redelivered: bool,
    /// Its body is a large one, in a file of its own: see `bodies`.
    pub(crate) large: bool,
}

impl Entry {
    pub(crate) fn is_durable(&self) -> bool {
        self.lsn != 0 && self.lsn & SPILLED == 0
    }

    /// Whether its message lies in the log, which is durable up to `durable`, or in the spill.
    pub(crate) fn is_elsewhere(&self, durable: u64) -> bool {
        self.lsn & SPILLED != 0 || (self.is_durable() && self.lsn < durable)
    }

    /// When it expires in a queue of this time to live.
    pub(crate) fn expires_at(&self, queue_ttl_ms: Option<u64>) -> Option<Wall> {
        expires_at(self.wall, self.ttl_ms, queue_ttl_ms)
    }
}

/// When what came at `wall` with this time to live expires in a queue of that.
pub(crate) fn expires_at(wall: u64, ttl_ms: u32, queue_ttl_ms: Option<u64>) -> Option<Wall> {
    let own = (ttl_ms != NO_TTL).then(|| u64::from(ttl_ms));
    let ttl = own.into_iter().chain(queue_ttl_ms).min()?;
    Some(Wall(wall).after_millis(ttl))
}
