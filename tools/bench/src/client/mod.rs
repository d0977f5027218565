//! The AMQP 0-9-1 load generator: a minimal client over blocking sockets, written for this tool alone.
//!
//! It must cost less CPU per message than the server it measures, so frames are rendered once and only the sequence
//! number in each body is patched, deliveries are parsed where they lie in the read buffer, and reads may be gathered
//! (see [`load::Load::gather`]). It must also be honest: every message carries its publisher's 64-bit sequence number
//! and every delivery and confirm is checked, so a server that loses, doubles or reorders fails its run.
//!
//! It is not a general client: one channel, PLAIN, no TLS, no returns, bodies of one frame.

pub(crate) mod backlog;
pub(crate) mod checker;
pub(crate) mod confirms;
pub(crate) mod connection;
pub(crate) mod consumer;
pub(crate) mod content;
pub(crate) mod lane;
pub(crate) mod load;
pub(crate) mod pace;
pub(crate) mod publisher;
#[cfg(test)]
mod relay;
pub(crate) mod run;
#[cfg(test)]
mod run_tests;
pub(crate) mod wire;
