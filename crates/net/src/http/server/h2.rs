//! HTTP/2 by hyper, bounded, in front of the same service.
//!
//! A request comes out as HTTP/1's does: target in origin form, the authority as Host. So does the extended CONNECT of a
//! WebSocket (`extended_connect`).

use super::ServerSettings;
use super::extended_connect::{self, Switching};
use super::gathered::Gathered;
use super::http2_body::Http2Body;
use crate::http::body::Body;
use crate::http::service::{Answer, HttpService, Refusal};
use crate::http::timer::LazyTimer;
use crate::{Accepted, Drain, Peer, Tasks};
use bytes::{Buf, BytesMut};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Request, Response, header};
use http1::framing::check_framed_elsewhere;
use http1::request::is_host;
use http1::{NameLengths, strip_hop_by_hop};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Streams the server reset itself and has not forgotten yet.
const LOCAL_RESETS_MAX: usize = 128;
/// Bytes buffered for sending, a stream.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What tunnels have to notice that their connection has ended.
const TUNNELS_PATIENCE: Duration = Duration::from_secs(1);

/// Serve HTTP/2 until the connection ends. `read` was read from `io` already.
pub(super) async fn serve<S: HttpService>(
    io: Accepted,
    read: BytesMut,
    peer: Arc<Peer>,
    service: Arc<S>,
    settings: ServerSettings,
    mut drain: Drain,
) {
    let address = peer.address;
    let interval = Duration::from_millis(settings.h2_ping_interval_ms);
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.h2_streams_max)
        .max_header_list_size(settings.h2_header_list_bytes_max)
        .max_pending_accept_reset_streams(settings.h2_pending_resets_max)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .enable_connect_protocol()
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(interval)
        .keep_alive_timeout(interval);
    let streams = Arc::new(Streams::default());
    let counted = Arc::clone(&streams);
    let tunnels = Arc::new(Mutex::new(Tasks::new()));
    let (owner, signal) = (Arc::clone(&tunnels), drain.clone());
    let handler = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (service, peer) = (Arc::clone(&service), Arc::clone(&peer));
        let place = Streams::begin(&counted);
        let switching = Switching { tunnels: Arc::clone(&owner), drain: signal.clone() };
        // Boxed, because hyper moves it several times on its way to a task of its own.
        Box::pin(async move {
            let response = answer(request, &*service, &peer, settings, switching, &place.0.known).await;
            drop(place);
            Ok::<_, Infallible>(response)
        })
    });
    let out = Gathered::new(Rewound { read, io });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(out.clone()), handler));
    let patience = Duration::from_millis(settings.body_idle_timeout_ms);
    let served = tokio::select! {
        served = polled(connection.as_mut(), &out, patience) => served,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            polled(connection, &out, patience).await
        }
        () = streams.idle_for(Duration::from_millis(settings.keep_alive_timeout_ms)) => {
            connection.as_mut().graceful_shutdown();
            polled(connection, &out, patience).await
        }
    };
    match served {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(peer = %address, %error, "HTTP/2 connection ended"),
        None => tracing::debug!(peer = %address, "HTTP/2 client takes nothing"),
    }
    let tunnels = std::mem::take(&mut *tunnels.lock());
    tunnels.join(TUNNELS_PATIENCE).await;
}

/// The connection to its end, its writes after each poll; none if the client has taken nothing of them for so long.
async fn polled<C: Future>(
    mut connection: Pin<&mut C>,
    out: &Gathered<Rewound>,
    patience: Duration,
) -> Option<C::Output> {
    let mut timer = LazyTimer::default();
    let mut stuck_at = None;
    poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        let stuck = out.write_out(cx);
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(Some(ended));
        }
        if stuck != stuck_at {
            stuck_at = stuck;
            if stuck.is_some() { timer.set(patience) } else { timer.clear() }
        }
        if timer.poll_expired(cx) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Requests of a connection, to tell when it is idle. A response that still streams is not waited for by this
/// count; a graceful end lets it finish.
#[derive(Debug, Default)]
struct Streams {
    n_begun: AtomicU64,
    n_ended: AtomicU64,
    /// Names of fields that responses have had, whose values never repeat.
    known: Mutex<NameLengths>,
}

/// One request under way, until dropped.
struct Place(Arc<Streams>);

impl Streams {
    fn begin(streams: &Arc<Self>) -> Place {
        streams.n_begun.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(streams))
    }

    /// Returns when no request was under way or begun for this long, at most twice as long.
    async fn idle_for(&self, patience: Duration) {
        loop {
            let n_begun = self.n_begun.load(Ordering::Relaxed);
            tokio::time::sleep(patience).await;
            let n_ended = self.n_ended.load(Ordering::Relaxed);
            if n_begun == n_ended && n_begun == self.n_begun.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.n_ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn answer<S: HttpService>(
    request: Request<hyper::body::Incoming>,
    service: &S,
    peer: &Peer,
    settings: ServerSettings,
    switching: Switching,
    known: &Mutex<NameLengths>,
) -> Response<Body> {
    let request = match origin_form(request) {
        Ok(request) => request,
        Err(refusal) => return refused(refusal, service, peer),
    };
    let length = http_body::Body::size_hint(request.body()).lower();
    if length > settings.body_bytes_max {
        return refused(Refusal::Body(http1::BodyError::TooLarge), service, peer);
    }
    if extended_connect::is_websocket(&request) {
        return Box::pin(switching.answer(request, service, peer)).await;
    }
    let (head, incoming) = request.into_parts();
    // A request that ended with its head has no body to stream.
    let (body, body_refusal) = if http_body::Body::is_end_stream(&incoming) {
        (Body::Empty, None)
    } else {
        let (body, refusal) = Http2Body::new(incoming, settings);
        (Body::Http2(body), Some(refusal))
    };
    let Answer { mut head, body, lines } = *service.call(Request::from_parts(head, body), peer).await;
    if let Some(refusal) = body_refusal.as_deref().and_then(OnceLock::get) {
        return refused(*refusal, service, peer);
    }
    strip_hop_by_hop(&mut head.headers);
    let known = learn(known, lines.unique_lengths());
    lines.move_to(&mut head.headers, known);
    Response::from_parts(head, body)
}

/// The names that HPACK knows, and from now on these too.
fn learn(known: &Mutex<NameLengths>, names: NameLengths) -> NameLengths {
    let mut known = known.lock();
    let before = *known;
    *known = before.and(names);
    before
}

pub(super) fn refused<S: HttpService>(refusal: Refusal, service: &S, peer: &Peer) -> Response<Body> {
    let mut response = service.refuse(&refusal, peer);
    *response.status_mut() = refusal.status();
    response
}

/// The authority as Host, the target without it. Two different names for one request are refused, and what would frame it
/// in two ways once it is HTTP/1.1.
fn origin_form(mut request: Request<hyper::body::Incoming>) -> Result<Request<hyper::body::Incoming>, Refusal> {
    check_framed_elsewhere(request.headers()).map_err(|error| Refusal::Request(error.into()))?;
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let name = match (authority, host, more) {
        (Some(authority), None, None) => authority,
        (Some(authority), Some(host), None) if host.as_bytes().eq_ignore_ascii_case(authority) => authority,
        (None, Some(host), None) => host.as_bytes(),
        _ => return Err(Refusal::Http2Authority),
    };
    if !is_host(name) {
        return Err(Refusal::Http2Authority);
    }
    let name = HeaderValue::from_bytes(name).map_err(|_| Refusal::Http2Authority)?;
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(header::HOST, name);
    Ok(request)
}

/// A socket some of whose bytes were read already.
struct Rewound {
    read: BytesMut,
    io: Accepted,
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n_bytes = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..n_bytes]);
        self.read.advance(n_bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_from_its_second_time_on() {
        let (known, first, second) = (Mutex::default(), NameLengths::of(b"a"), NameLengths::of(b"bb"));
        assert!(!learn(&known, first).meet(first));
        assert!(learn(&known, first.and(second)).meet(first));
        assert!(learn(&known, first).meet(second));
    }
}
