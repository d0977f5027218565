//! Sockets whose bytes are carried without a look at what is in them (`listen.stream`).
//!
//! | file | holds |
//! |---|---|
//! | `hello`    | the ClientHello of a TLS connection, read before it is known who answers it |
//! | `datagram` | UDP: sessions made of datagrams |
//!
//! How bytes go is [`Relay`]'s; connections to upstreams are made by the client side of HTTP, which is the same TCP and TLS.
//! Not here: routes, balancing, tries.

mod datagram;
mod hello;

pub use crate::http::connect_stream;
pub use crate::relay::{Carried, Relay, RelayEnd, Stream};
pub use datagram::{
    CarriedDatagrams, DatagramConnectError, DatagramEnd, DatagramListener, DatagramNews, DatagramPatience,
    DatagramRoom, DatagramSession, Flow, connect_datagrams,
};
pub use hello::{Hello, HelloError};
