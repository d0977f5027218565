//! The connection, run by scripts: every method, every branch of the handshake, every error text of ours.

#![allow(clippy::unwrap_used, clippy::panic)]

mod captures;
mod channels;
mod content;
mod errors;
mod handshake;
mod large;
mod script;
mod settling;
mod transactions;
