//! HTTP over sockets: the server side of a listener and the pooled client side of an upstream.
//!
//! | file | holds |
//! |---|---|
//! | `service` | what a listener calls: [`HttpService`], and how it words refusals |
//! | `body`    | one body type for both directions, without boxing on the hot path |
//! | `server/` | `h1` runs our http1 over a socket, `h2` hands HTTP/2 to hyper (`gathered`: its writes), `mod` tells them apart |
//! | `client/` | the pool, one exchange over one connection, many over one of HTTP/2, names, TLS, typed errors |
//! | `tunnel`  | two connections as one pair of byte streams, after a switch of protocols |
//! | `tls`     | certificate files into a TLS configuration for a listener |
//! | `outbox`, `inbox`, `timer`, `date` | write buffer, read buffer, lazy deadlines, the Date field |
//!
//! A proxied request runs in the task of its client connection from first byte to last: the exchange with the
//! upstream is polled there, and so is the request body that is still going up while the response comes down. No
//! channel, no other task. On the wire a small request costs one read and one write a side.
//!
//! Invariants: every buffer is bounded, every wait has a deadline, a message whose framing is in doubt ends its
//! connection. A client that leaves takes its request
//! with it: while one is served or streamed its connection is heard. Not here: routing, retries by policy.

mod body;
mod client;
mod date;
mod inbox;
mod interim;
mod outbox;
mod server;
mod service;
pub(crate) mod timer;
mod tls;
mod tunnel;

pub use body::{Body, BodyFault};
pub use client::{
    FetchError, Fetched, PoolSettings, Retry, Timeouts, TlsSettings, TlsTrust, UpstreamBody, UpstreamError,
    UpstreamErrorKind, UpstreamHttp2Body, UpstreamPool, UpstreamTarget, UpstreamTls, UpstreamTlsCache,
    UpstreamTlsError, connect_stream, fetch, fetch_head,
};
pub use server::{ClientBody, Http2Body, ServerSettings, serve_connection};
pub use service::{Answer, HttpService, Refusal};
pub use tls::{ServerTls, TlsFiles, TlsFilesError};
pub use tunnel::Tunnel;
