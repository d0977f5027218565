//! Sockets, TLS, and the one driver that runs a connection of any protocol.
//!
//! Invariants: this crate names no protocol; it is handed constructors. Every accepted socket is a task that the
//! [`Tasks`] of its listener own and join. Every wait has a deadline. A panic in a connection ends that connection.
//!
//! What it does not do: parse anything, decide anything.

mod abort;
mod bell;
mod clock;
pub mod discovery;
mod driver;
pub mod http;
mod idle;
mod listener;
mod probe;
mod proxy_protocol;
mod random;
mod read_buffer;
mod relay;
pub mod resolve;
mod shards;
mod shutdown;
pub mod stream;
mod upkeep;

pub use abort::AbortOnPanic;
pub use bell::Bell;
pub use clock::Clock;
pub use driver::{DriverSettings, drive};
pub use listener::{Accepted, ListenError, Listener, Peer, Place};
pub use shards::Shards;
pub use shutdown::{Drain, Shutdown, Tasks};
pub use upkeep::Upkeep;
