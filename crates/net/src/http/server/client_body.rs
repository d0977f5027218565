//! The client's connection while a request is served: its socket, what was read ahead, and the request body in it.
//!
//! The body handle is given to the service, so socket and buffer are shared between it and the loop that serves the
//! connection. Both run in one task, but for a body that goes to an upstream by HTTP/2; the lock is never held across a wait.

use crate::Accepted;
use crate::http::body::BodyFault;
use crate::http::inbox::Inbox;
use crate::http::service::Refusal;
use crate::http::timer::LazyTimer;
use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use http1::{BodyDecoder, BodyError, BodyFraming, BodyStep};
use model::limits::{HTTP_HEAD_BYTES_MAX, HTTP_READ_AHEAD_BYTES_MAX};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One client's socket and the bytes around it.
pub(crate) struct ClientIo {
    pub(crate) io: Accepted,
    pub(crate) inbox: Inbox,
    pub(crate) timer: LazyTimer,
    body: BodyDecoder,
    body_idle: Duration,
    /// Why the body in flight cannot be finished.
    fault: Option<Refusal>,
    /// Of writing a response; the task that reads the body may be another.
    pub(crate) write_timer: LazyTimer,
    /// A response has begun: `100 Continue` would be in the midst of it.
    answering: bool,
    /// The client waits for `100 Continue` before it sends the body.
    client_waits: bool,
    /// What of interim responses is still to be written.
    interim: BytesMut,
    /// Counts requests, so that a body handle kept too long reads nothing of the next one.
    n_requests: u64,
}

/// The handle on a request's body.
pub struct ClientBody {
    shared: Arc<Mutex<ClientIo>>,
    request: u64,
    length: Option<u64>,
}

impl ClientIo {
    pub(crate) fn new(io: Accepted, inbox: Inbox, body_idle: Duration) -> Self {
        Self {
            io,
            inbox,
            timer: LazyTimer::default(),
            write_timer: LazyTimer::default(),
            answering: false,
            body: BodyDecoder::new(BodyFraming::Empty, 0),
            body_idle,
            fault: None,
            client_waits: false,
            interim: BytesMut::new(),
            n_requests: 0,
        }
    }

    /// A new request begins; its body starts at the front of the inbox.
    pub(crate) fn begin(&mut self, body: BodyDecoder, client_waits: bool) {
        self.body = body;
        self.fault = None;
        self.client_waits = client_waits;
        self.answering = false;
        self.n_requests += 1;
        self.timer.set(self.body_idle);
    }

    /// A response begins.
    pub(crate) fn answer(&mut self) {
        self.answering = true;
    }

    /// Why the body failed, if it did.
    pub(crate) fn fault(&self) -> Option<Refusal> {
        self.fault
    }

    /// Whether nothing of the body is left on the wire.
    pub(crate) fn body_is_ended(&self) -> bool {
        self.body.is_ended()
    }

    /// Whether the rest of the body may be worth reading away: it is coming, and not known to be more than this.
    pub(crate) fn can_drain(&self, bytes_max: u64) -> bool {
        self.fault.is_none()
            && !self.client_waits
            && self.body.remaining().is_none_or(|remaining| remaining <= bytes_max)
    }

    /// Ready when the client has closed its side while nothing of a body is expected: nobody waits for the response. What
    /// it sends ahead meanwhile is kept. Costs no system call unless something arrived.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.body.is_ended() && self.inbox.bytes.len() < HTTP_READ_AHEAD_BYTES_MAX {
            match ready!(self.inbox.poll_read(&mut self.io, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Say something before the answer, if there is room for it.
    pub(crate) fn say_meanwhile(&mut self, interim: &[u8]) {
        if self.interim.len() + interim.len() <= HTTP_HEAD_BYTES_MAX {
            self.interim.extend_from_slice(interim);
        }
    }

    /// While an answer is waited for: ready when nobody waits for it any more.
    pub(crate) fn poll_meanwhile(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_interim(cx) {
            return Poll::Ready(());
        }
        self.poll_left(cx)
    }

    /// Write what is left of an interim response; nothing else may be written before.
    pub(crate) fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let n_bytes = ready!(Pin::new(&mut self.io).poll_write(cx, &self.interim))?;
            if n_bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(n_bytes);
            if self.interim.is_empty() {
                return Pin::new(&mut self.io).poll_flush(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next piece of the request body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        loop {
            match self.body.decode(&mut self.inbox.bytes) {
                Ok(BodyStep::Data(n_bytes)) => {
                    let data = self.inbox.bytes.split_to(n_bytes).freeze();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(BodyStep::End) => {
                    let trailers = self.body.take_trailers();
                    return Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))));
                }
                Ok(BodyStep::NeedInput) => {}
                Err(error) => return self.fail(Refusal::Body(error), BodyFault::Client(error)),
            }
            if !self.answering && std::mem::take(&mut self.client_waits) {
                self.interim.extend_from_slice(CONTINUE);
            }
            if let Poll::Ready(Err(error)) = self.poll_interim(cx) {
                return self.fail(Refusal::BodyTimeout, BodyFault::ClientIo(error.kind()));
            }
            match self.inbox.poll_read(&mut self.io, cx) {
                Poll::Ready(Ok(0)) => {
                    let error = BodyError::Incomplete;
                    return self.fail(Refusal::Body(error), BodyFault::Client(error));
                }
                Poll::Ready(Ok(_)) => self.timer.set(self.body_idle),
                Poll::Ready(Err(error)) => {
                    return self.fail(Refusal::BodyTimeout, BodyFault::ClientIo(error.kind()));
                }
                Poll::Pending if self.timer.poll_expired(cx) => {
                    return self.fail(Refusal::BodyTimeout, BodyFault::ClientTimeout);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn fail(&mut self, refusal: Refusal, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.fault.get_or_insert(refusal);
        Poll::Ready(Some(Err(fault)))
    }
}

/// The socket alone, for as long as a tunnel takes it.
pub(super) struct ClientStream<'a>(pub(super) &'a Mutex<ClientIo>);

impl AsyncRead for ClientStream<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.lock().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_shutdown(cx)
    }
}

impl ClientBody {
    pub(crate) fn new(shared: Arc<Mutex<ClientIo>>, length: Option<u64>) -> Self {
        let request = shared.lock().n_requests;
        Self { shared, request, length }
    }

    /// The length announced, none for a chunked body.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let mut client = self.shared.lock();
        if client.n_requests != self.request {
            return Poll::Ready(Some(Err(BodyFault::Taken)));
        }
        if client.fault.is_some() {
            return Poll::Ready(Some(Err(BodyFault::Taken)));
        }
        client.poll_body(cx)
    }
}
