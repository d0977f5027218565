//! One connection to an upstream: sending a request, reading its response, and the body that is still coming.
//!
//! While the response body is read the request body may still be going up; one poll drives both, in the task of
//! the client's connection.

use super::error::{Retry, UpstreamError, UpstreamErrorKind};
use super::pool::{Slot, Timeouts};
use crate::http::body::{Body, BodyFault};
use crate::http::inbox::Inbox;
use crate::http::interim::Interims;
use crate::http::outbox::{Outbox, Outgoing};
use crate::http::timer::LazyTimer;
use crate::http::tunnel::Tunnel;
use bytes::{Bytes, BytesMut};
use gateway::balancer::Place;
use http::{Extensions, Method};
use http_body::Frame;
use http1::{BodyDecoder, BodyFraming, BodyStep, OutgoingFraming, Persistence, ResponseHead, ResponseParser, Upgrade};
use model::limits::HTTP_INTERIM_RESPONSES_MAX;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// A socket to an upstream, and the place it takes there, which is free when it is closed.
#[derive(Debug)]
pub(super) struct UpstreamIo {
    socket: UpstreamSocket,
    _place: Option<Place>,
}

#[derive(Debug)]
pub(super) enum UpstreamSocket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection and the exchange on it.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    io: UpstreamIo,
    inbox: Inbox,
    parser: ResponseParser,
    timer: LazyTimer,
    pub(super) outbox: Outbox,
    /// The request body until all of it was written.
    request: Option<Outgoing>,
    response: BodyDecoder,
    read_timeout: Duration,
    write_timeout: Duration,
    /// Whether it may carry another exchange after this one.
    keep: bool,
    pub(super) n_requests: u32,
    pub(super) idle_since: Instant,
    /// Whether a byte of the response was read.
    response_began: bool,
    /// Interim responses before it.
    n_interim: usize,
    /// Where they go, if anywhere.
    interims: Option<Interims>,
}

impl UpstreamConnection {
    pub(super) fn new(io: UpstreamIo) -> Self {
        Self {
            io,
            inbox: Inbox::new(BytesMut::new()),
            parser: ResponseParser::default(),
            timer: LazyTimer::default(),
            outbox: Outbox::default(),
            request: None,
            response: BodyDecoder::new(BodyFraming::Empty, 0),
            read_timeout: Duration::MAX,
            write_timeout: Duration::MAX,
            keep: false,
            n_requests: 0,
            idle_since: Instant::now(),
            response_began: false,
            n_interim: 0,
            interims: None,
        }
    }

    /// Whether an idle connection is still open and silent. Costs no system call unless something arrived.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.inbox.bytes.is_empty() && self.inbox.poll_read(&mut self.io, cx).is_pending()
    }

    /// A new exchange; its head is in the outbox. `asked` is what came with the request: an upgrade it wishes for, and who
    /// wants to hear of interim responses.
    pub(super) fn begin(&mut self, body: Body, framing: OutgoingFraming, asked: &Extensions, timeouts: Timeouts) {
        self.parser.expect(asked.get::<Upgrade>().cloned());
        self.interims = asked.get::<Interims>().cloned();
        self.n_interim = 0;
        self.request = Some(Outgoing::new(body, framing));
        self.read_timeout = Duration::from_millis(timeouts.read_ms);
        self.write_timeout = Duration::from_millis(timeouts.write_ms);
        self.timer.set(self.write_timeout);
        self.keep = false;
        self.response_began = false;
        self.n_requests += 1;
    }

    /// Whether the upstream said anything in this exchange.
    pub(super) fn response_began(&self) -> bool {
        self.response_began
    }

    /// Write the request as far as it goes. `false` while some of it is left.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<bool, UpstreamError> {
        let Some(request) = &mut self.request else {
            return Ok(true);
        };
        loop {
            let filled = match request.poll_fill(&mut self.outbox, cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
                Poll::Ready(Err(fault)) => {
                    let kind = UpstreamErrorKind::RequestBody;
                    return Err(UpstreamError::new(kind, Retry::Never).because(fault));
                }
            };
            let mut wrote = false;
            let flushed = self.outbox.poll_flush(&mut self.io, cx, &mut wrote);
            if wrote {
                self.timer.set(self.write_timeout);
            }
            match flushed {
                Poll::Ready(Err(error)) => return Err(UpstreamError::io(error, Retry::IfIdempotent)),
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(())) if request.is_ended() => {
                    self.request = None;
                    self.timer.set(self.read_timeout);
                    return Ok(true);
                }
                Poll::Ready(Ok(())) if filled => {}
                Poll::Ready(Ok(())) => {
                    // The client is slow, which its own deadline judges, not the upstream's.
                    self.timer.set(self.write_timeout);
                    return Ok(false);
                }
            }
        }
    }

    /// Send the request and read the head of the final response.
    pub(super) fn poll_head(
        &mut self,
        method: &Method,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, UpstreamError>> {
        let mut write_error = None;
        match self.poll_request(cx) {
            Ok(_) => {}
            Err(error) if error.kind == UpstreamErrorKind::RequestBody => return Poll::Ready(Err(error)),
            // The upstream may have answered before it stopped reading.
            Err(error) => write_error = Some(error),
        }
        loop {
            if !self.inbox.bytes.is_empty() {
                match self.parser.parse(method, &mut self.inbox.bytes) {
                    Ok(Some(head)) if head.is_interim() => {
                        self.n_interim += 1;
                        if self.n_interim > HTTP_INTERIM_RESPONSES_MAX {
                            let error = UpstreamError::new(UpstreamErrorKind::InvalidResponse, Retry::Never);
                            return Poll::Ready(
                                Err(error.because("no answer, but one interim response after another")),
                            );
                        }
                        if let Some(interims) = &self.interims {
                            interims.pass(&head);
                        }
                        continue;
                    }
                    Ok(Some(head)) => {
                        self.take_head(&head, write_error.is_none());
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let kind = UpstreamErrorKind::InvalidResponse;
                        return Poll::Ready(Err(UpstreamError::new(kind, Retry::Never).because(error)));
                    }
                }
            }
            match self.inbox.poll_read(&mut self.io, cx) {
                Poll::Ready(Ok(0)) => {
                    let retry = self.retry();
                    let error =
                        write_error.unwrap_or_else(|| UpstreamError::io(io::ErrorKind::UnexpectedEof.into(), retry));
                    return Poll::Ready(Err(UpstreamError { retry, ..error }));
                }
                Poll::Ready(Ok(_)) => {
                    self.response_began = true;
                    self.timer.set(self.read_timeout);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(UpstreamError::io(error, self.retry()))),
                Poll::Pending if write_error.is_some() => {
                    return Poll::Ready(Err(write_error
                        .take()
                        .unwrap_or_else(|| UpstreamError::new(UpstreamErrorKind::Reset, Retry::Never))));
                }
                Poll::Pending if self.timer.poll_expired(cx) => {
                    let kind = self.timeout_kind();
                    return Poll::Ready(Err(UpstreamError::new(kind, self.retry())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take_head(&mut self, head: &ResponseHead, writable: bool) {
        self.response = BodyDecoder::new(head.framing, u64::MAX);
        self.interims = None;
        self.keep = writable && head.persistence == Persistence::KeepAlive;
        if !writable {
            self.request = None;
        }
    }

    fn retry(&self) -> Retry {
        if self.response_began { Retry::Never } else { Retry::IfIdempotent }
    }

    fn timeout_kind(&self) -> UpstreamErrorKind {
        if self.request.is_some() { UpstreamErrorKind::WriteTimeout } else { UpstreamErrorKind::ReadTimeout }
    }

    /// The socket of a connection that carried nothing yet.
    pub(super) fn into_io(self) -> UpstreamIo {
        self.io
    }

    /// The connection as what it became by a 101.
    pub(super) fn into_tunnel(self, protocol: Upgrade) -> Tunnel {
        Tunnel::new(Box::new(self.io), self.inbox.bytes, protocol, self.read_timeout)
    }

    /// The whole body, if it was read along with the head, without its framing.
    pub(super) fn ready_body(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.response.remaining()?).ok()?;
        if self.request.is_some() || length > self.inbox.bytes.len() {
            return None;
        }
        self.response = BodyDecoder::new(BodyFraming::Empty, 0);
        Some(self.inbox.bytes.split_to(length).freeze())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamErrorKind>>> {
        match self.poll_request(cx) {
            Ok(_) => {}
            Err(error) if error.kind == UpstreamErrorKind::RequestBody => {
                return Poll::Ready(Some(Err(error.kind)));
            }
            Err(_) => {
                self.request = None;
                self.keep = false;
            }
        }
        loop {
            match self.response.decode(&mut self.inbox.bytes) {
                Ok(BodyStep::Data(n_bytes)) => {
                    let data = self.inbox.bytes.split_to(n_bytes).freeze();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(BodyStep::End) => {
                    let trailers = self.response.take_trailers();
                    return Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))));
                }
                Ok(BodyStep::NeedInput) => {}
                Err(_) => return Poll::Ready(Some(Err(UpstreamErrorKind::InvalidResponse))),
            }
            match self.inbox.poll_read(&mut self.io, cx) {
                Poll::Ready(Ok(0)) => match self.response.close() {
                    Ok(()) => return Poll::Ready(None),
                    Err(_) => return Poll::Ready(Some(Err(UpstreamErrorKind::Reset))),
                },
                Poll::Ready(Ok(_)) => self.timer.set(self.read_timeout),
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(UpstreamErrorKind::Reset))),
                Poll::Pending if self.timer.poll_expired(cx) => {
                    return Poll::Ready(Some(Err(self.timeout_kind())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether another exchange can follow: both messages ended, and nothing came after the response.
    pub(super) fn is_reusable(&self) -> bool {
        self.keep && self.request.is_none() && self.response.is_ended() && self.inbox.bytes.is_empty()
    }
}

/// A response body on its way; gives the connection back at its end.
pub struct UpstreamBody {
    connection: Option<Box<UpstreamConnection>>,
    slot: Arc<Slot>,
    failed: bool,
}

impl UpstreamBody {
    pub(super) fn new(connection: Box<UpstreamConnection>, slot: Arc<Slot>) -> Self {
        Self { connection: Some(connection), slot, failed: false }
    }

    /// Bytes still to come, if the upstream said.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.connection.as_ref().map_or(Some(0), |connection| connection.response.remaining())
    }

    /// Whether all of it was taken.
    pub(crate) fn is_ended(&self) -> bool {
        self.connection.is_none() && !self.failed
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(self.failed.then_some(Err(BodyFault::Taken)));
        };
        match connection.poll_body(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                // Data of known length ends with its last byte, trailers end a chunked body.
                if connection.response.is_ended() {
                    self.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(kind))) => {
                self.connection = None;
                self.failed = true;
                Poll::Ready(Some(Err(BodyFault::Upstream(kind))))
            }
        }
    }

    fn release(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.slot.put(connection);
        }
    }
}

impl UpstreamIo {
    pub(super) const fn new(socket: UpstreamSocket, place: Option<Place>) -> Self {
        Self { socket, _place: place }
    }

    /// The protocol that TLS agreed on.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        match &self.socket {
            UpstreamSocket::Plain(_) => None,
            UpstreamSocket::Tls(io) => io.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            UpstreamSocket::Plain(io) => Pin::new(io).poll_read(cx, buf),
            UpstreamSocket::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            UpstreamSocket::Plain(io) => Pin::new(io).poll_write(cx, buf),
            UpstreamSocket::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            UpstreamSocket::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            UpstreamSocket::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            UpstreamSocket::Plain(io) => Pin::new(io).poll_flush(cx),
            UpstreamSocket::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            UpstreamSocket::Plain(io) => Pin::new(io).poll_shutdown(cx),
            UpstreamSocket::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
