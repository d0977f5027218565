//! The machinery behind the bridge between queues and HTTP: today, the push of a queue to an HTTP service.
//!
//! Publishing over HTTP is a plugin (`queue-publish`); this crate holds what runs on its own.
//!
//! Invariants: a message is acknowledged only after a 2xx answer or after it lies durably in the dead-letter queue.
//! A message that waits for its next attempt stays unsettled in its own queue, so a restart puts it back in its place;
//! its attempts are remembered.

mod attempt;
mod push;
pub mod subscription;
mod subscriptions;

pub use push::PushCounts;
pub use subscriptions::Subscriptions;
