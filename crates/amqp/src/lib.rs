//! AMQP 0-9-1 as RabbitMQ speaks it: a sans-IO [`Connection`] of the server's side, and the [`Amqp091Format`] by which
//! others read the headers of its messages.
//!
//! Layers: `wire` is bytes, `conn` is state, `error` maps mistakes to reply codes, `convert` is the door for everybody
//! else. Invariants: nothing a peer sends makes it panic, recurse deeper than `TABLE_DEPTH_MAX` or allocate from a
//! length that was not checked. Requests leave in the order their frames came, and errors wait their turn behind
//! them. A body is copied once, into the connection's arena.
//!
//! What it does not do: routing, permissions, queues (the broker's); sockets, clocks, back-pressure (the driver's).

mod conn;
mod convert;
mod error;
mod wire;

pub use conn::{AmqpSettings, Connection};
pub use convert::Amqp091Format;
