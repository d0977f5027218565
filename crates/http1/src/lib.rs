//! HTTP/1.1 without IO (RFC 9112), in the server and in the client role.
//!
//! Bytes in, heads and body extents out; heads and chunk frames encoded into a buffer of the caller's.
//! httparse reads the head's fields; everything that decides where a message ends is here, in one place:
//!
//! | file | decides |
//! |---|---|
//! | `request`  | the request head a server reads: target form, Host, framing, persistence |
//! | `response` | the response head a client reads |
//! | `framing`  | Content-Length, Transfer-Encoding and Connection, for both |
//! | `body`     | the extent of a body: none, a length, chunks, or until the peer closes |
//! | `encode`   | heads, chunks and trailers on the way out |
//! | `fields`   | fields a proxy adds, as lines ready to be written |
//! | `upgrade`  | which switch of protocols a proxy passes on |
//! | `corpus`   | named attacks and their verdicts, for the tests here and over a socket |
//!
//! Invariants: a message two parsers could frame differently is refused, never repaired. A verdict depends on
//! the bytes only, not on how they were split into reads. Nothing here allocates by a length a peer sent, and
//! no encoder writes framing fields from a header map: framing comes from [`OutgoingFraming`] alone.
//!
//! It does not read clocks or sockets, or forward anything; after a switch of protocols it has no say.

pub mod body;
pub mod corpus;
pub mod encode;
pub mod error;
pub mod framing;
mod lines;
pub mod request;
pub mod response;
mod upgrade;

pub use body::{BodyDecoder, BodyStep};
pub use encode::{
    LAST_CHUNK, OutgoingFraming, encode_chunk_head, encode_request_head, encode_response_head, encode_trailers,
};
pub use error::{BodyError, FramingError, HeadError, RequestError, ResponseError};
pub use framing::{BodyFraming, HOP_BY_HOP_LENGTHS, Persistence, is_hop_by_hop, strip_hop_by_hop};
pub use model::field_lines::{FieldLines, NameLengths, NotALine};
pub use request::{RequestHead, RequestParser};
pub use response::{ResponseHead, ResponseParser};
pub use upgrade::Upgrade;
