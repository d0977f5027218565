//! The server side of a connection: which HTTP version it speaks, and the limits that hold for it.
//!
//! HTTP/2 is spoken if ALPN said so, or if a plain connection begins with its preface (RFC 9113 §3.3, prior knowledge).

mod client_body;
mod extended_connect;
mod gathered;
mod h1;
mod h2;
mod http2_body;
mod respond;

pub use client_body::ClientBody;
pub(crate) use client_body::ClientIo;
pub use http2_body::Http2Body;

use super::inbox::Inbox;
use super::service::HttpService;
use super::timer::LazyTimer;
use crate::{Accepted, Drain, Peer};
use bytes::BytesMut;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What a client sends first to speak HTTP/2.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Deadlines and limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct ServerSettings {
    /// From the first byte of a head (or the connection's start) to its end.
    pub head_timeout_ms: u64,
    /// Between two reads of a body, and between two writes of a response.
    pub body_idle_timeout_ms: u64,
    /// Between two requests.
    pub keep_alive_timeout_ms: u64,
    /// Bytes of a request body.
    pub body_bytes_max: u64,
    /// Bytes of an unread request body that are read away to keep the connection.
    pub drain_bytes_max: u64,
    /// Milliseconds a closing connection is read away, so that the client sees the answer and not a reset.
    pub linger_timeout_ms: u64,
    /// HTTP/2 streams open at once.
    pub h2_streams_max: u32,
    /// Bytes of an HTTP/2 header list.
    pub h2_header_list_bytes_max: u32,
    /// HTTP/2 streams reset by the client and not yet accepted, after which it is cut off (rapid reset).
    pub h2_pending_resets_max: usize,
    /// Milliseconds of silence after which an HTTP/2 client is pinged; as long again without an answer, and it is
    /// cut off.
    pub h2_ping_interval_ms: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            head_timeout_ms: 60_000,
            body_idle_timeout_ms: 60_000,
            keep_alive_timeout_ms: 75_000,
            body_bytes_max: u64::MAX,
            drain_bytes_max: 256 * 1024,
            linger_timeout_ms: 5_000,
            h2_streams_max: 128,
            h2_header_list_bytes_max: 64 * 1024,
            h2_pending_resets_max: 20,
            h2_ping_interval_ms: 30_000,
        }
    }
}

/// Serve one connection until either side ends it. When draining begins, the request in flight is finished.
pub async fn serve_connection<S: HttpService>(
    mut io: Accepted,
    peer: Peer,
    service: Arc<S>,
    settings: ServerSettings,
    drain: Drain,
) {
    let peer = Arc::new(peer);
    if peer.alpn.as_deref() == Some(b"h2") {
        return h2::serve(io, BytesMut::new(), peer, service, settings, drain).await;
    }
    let mut inbox = Inbox::new(BytesMut::new());
    match sniff(&mut io, &mut inbox, settings.head_timeout_ms).await {
        Sniffed::Http1 => h1::serve(io, inbox, &peer, &*service, settings, drain).await,
        Sniffed::Http2 => h2::serve(io, inbox.bytes, peer, service, settings, drain).await,
        Sniffed::Gone => {}
    }
}

enum Sniffed {
    Http1,
    Http2,
    Gone,
}

/// Read until the bytes are the preface or cannot become it; usually one read.
async fn sniff(io: &mut Accepted, inbox: &mut Inbox, timeout_ms: u64) -> Sniffed {
    let mut timer = LazyTimer::default();
    timer.set(Duration::from_millis(timeout_ms));
    std::future::poll_fn(|cx| {
        loop {
            match inbox.poll_read(io, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Sniffed::Gone),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if timer.poll_expired(cx) => return Poll::Ready(Sniffed::Gone),
                Poll::Pending => return Poll::Pending,
            }
            let n_common = inbox.bytes.len().min(HTTP2_PREFACE.len());
            if inbox.bytes[..n_common] != HTTP2_PREFACE[..n_common] {
                return Poll::Ready(Sniffed::Http1);
            }
            if n_common == HTTP2_PREFACE.len() {
                return Poll::Ready(Sniffed::Http2);
            }
        }
    })
    .await
}
