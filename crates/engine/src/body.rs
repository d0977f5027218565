//! Bodies that are too large for memory: they come and go piece by piece, and lie beside the messages they belong to.
//!
//! Invariants: a body is durable before anything can refer to it, so whatever is durable about its message is durable
//! about all of it. What was begun and not finished, and what nothing refers to any more, is gone.

use crate::EngineError;
use bytes::Bytes;
use model::LargeBody;
use std::fmt;
use std::sync::Arc;

/// Called, from any thread, when a [`BodyWriter`] has gone on. Returns at once.
pub type BodyWake = Arc<dyn Fn() + Send + Sync>;

/// Called once, from any thread, with what was read. Returns at once.
pub type PieceRead = Box<dyn FnOnce(Result<Bytes, BodyLost>) + Send>;

/// A body on its way in. Dropping it before it is finished takes back what has come.
pub trait BodyWriter: Send {
    /// Whether the next piece may be handed in: the one before is written. Its wake is called when that changes.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    fn is_ready(&self) -> Result<bool, EngineError>;

    /// Hands in what comes next. To be called only when it is ready, and never with more than is missing.
    fn append(&mut self, piece: Bytes);

    /// Makes the whole body durable; to be called when all of it was handed in, and again after each wake until it gives
    /// the body.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    fn finish(&mut self) -> Result<Option<Arc<LargeBody>>, EngineError>;
}

/// A piece of a body cannot be read or is not what was written. Entries that refer to it are kept aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyLost;

impl fmt::Display for BodyLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message body is damaged on the disk")
    }
}

impl std::error::Error for BodyLost {}
