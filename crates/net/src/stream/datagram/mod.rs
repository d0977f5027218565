//! UDP: the datagrams of one client to one address of ours are a session, with a socket of its own to the upstream.
//!
//! ```text
//! listener ─► flow (from, to) ─► table ─┬─ known: its queue ─► session ─► upstream
//!                                       └─ new: a place, a task            │
//! client   ◄── sent from the address that the client had sent to ◄────────┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `socket`   | a listener's socket, which knows which of our addresses a datagram came to, and sends from there |
//! | `places`   | who may have one more session |
//! | `table`    | who has a session |
//! | `listener` | receives, and hands each datagram to its session |
//! | `session`  | carries datagrams both ways until there are none |
//! | `connect`  | a socket to one address of an upstream |
//!
//! Invariants: sessions, datagrams that wait and their bytes are bounded, whoever sends them: what has no room is dropped and
//! counted. A datagram is answered by what the upstream sends and nothing else. A listener and its sessions live on one event
//! loop, in tasks that the listener owns.

mod connect;
mod listener;
mod places;
mod session;
mod socket;
mod table;

pub use connect::{DatagramConnectError, connect_datagrams};
pub use listener::{DatagramListener, DatagramRoom};
pub use session::{CarriedDatagrams, DatagramEnd, DatagramNews, DatagramPatience, DatagramSession};
pub use socket::Flow;
