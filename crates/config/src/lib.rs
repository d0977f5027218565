//! Configuration: a file and the environment in, resolved [`Settings`] or every mistake out.
//!
//! The file is Kong's declarative format 3.0 with more top-level keys (`listen`, `admin`, `storage`, `limits`, `gateway`, `broker`,
//! `subscriptions`, `telemetry`). It is parsed into a tree that keeps the place of every key and value (`yaml`,
//! `tree`), environment variables are laid over it (`env`), and everything is checked and resolved in one pass that
//! goes on after mistakes ([`load`]). What is known but not built is refused by name; nothing is silently accepted.
//!
//! Does not: open sockets, declare queues, compile routes. Reading is the only IO: the files that are named.

mod admin;
mod definitions;
mod diff;
mod dns;
mod entities;
mod env;
mod forwarding;
mod listen;
mod load;
mod problem;
mod quotas;
mod reader;
mod render;
mod scalars;
mod settings;
mod source;
mod subscriptions;
mod suggest;
mod tree;
mod yaml;

pub use diff::{Changes, diff};
pub use load::{DEFAULT_FILE, Loaded, default_file, environment, load, load_text, parse};
pub use problem::{ConfigError, Errors, Warning};
pub use settings::{
    Access, AccessLogTo, Admin, AdminRole, AdminToken, Broker, Dns, DnsRecord, Limits, Listen, Listener, Log,
    LogFormat, LogLevel, Settings, Storage, StreamListener, StreamTransport, Telemetry, TlsFiles,
};

/// A configuration to start from: runs as it is, and its comments teach.
pub const QUICKSTART: &str = include_str!("quickstart.yaml");

#[cfg(test)]
mod tests;
