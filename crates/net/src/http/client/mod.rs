//! The client side: kept connections to upstreams, and one exchange at a time over each.

mod bounded;
mod connect;
mod connection;
mod error;
mod exchange;
mod fetch;
mod http2;
mod pool;
mod tls;

pub use connect::connect_stream;
pub use connection::UpstreamBody;
pub use error::{Retry, UpstreamError, UpstreamErrorKind};
pub use fetch::{FetchError, Fetched, fetch, fetch_head};
pub use http2::UpstreamHttp2Body;
pub use pool::{PoolSettings, Timeouts, UpstreamPool, UpstreamTarget};
pub use tls::{TlsSettings, TlsTrust, UpstreamTls, UpstreamTlsCache, UpstreamTlsError};
