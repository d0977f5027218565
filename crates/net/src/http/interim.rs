//! Interim responses (1xx) of an upstream on their way to the client of HTTP/1.1, as 103 Early Hints (RFC 8297) is.
//!
//! They go only where a service asks for it: many clients take whatever comes first for the answer. Over HTTP/2 they end here,
//! since its server has no way to send them. 100 Continue is between two neighbours and is never passed on; neither is 101.
//!
//! Invariants: what a slow client does not take is bounded, and what does not fit is left out; an interim response is written
//! whole, before the answer.

use super::server::ClientIo;
use http::{HeaderMap, StatusCode, Version};
use http1::{OutgoingFraming, Persistence, ResponseHead, encode_response_head};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// The way to a request's client, among the request's extensions.
#[derive(Clone)]
pub(crate) struct Interims(Arc<Mutex<ClientIo>>);

impl Interims {
    /// The way to the client of this connection, for the request that is being served.
    pub(crate) fn to(client: &Arc<Mutex<ClientIo>>) -> Self {
        Self(Arc::clone(client))
    }

    /// Passes one on. It leaves when the connection is next written to, which is whoever serves it to do.
    pub(crate) fn pass(&self, head: &ResponseHead) {
        if head.parts.status == StatusCode::CONTINUE {
            return;
        }
        let mut encoded = bytes::BytesMut::new();
        encode_response_head(
            Version::HTTP_11,
            head.parts.status,
            &HeaderMap::new(),
            &head.lines,
            OutgoingFraming::Unmarked,
            Persistence::KeepAlive,
            &mut encoded,
        );
        self.0.lock().say_meanwhile(&encoded);
    }
}

impl fmt::Debug for Interims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interims")
    }
}
