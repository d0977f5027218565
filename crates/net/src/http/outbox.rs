//! The write buffer of a message: its head and small data flat, one large piece beside them, so that head and
//! body leave in one write.

use super::body::Body;
use super::body::BodyFault;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body as _;
use http1::{LAST_CHUNK, OutgoingFraming, encode_chunk_head, encode_trailers};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Data up to this size is copied behind the head; larger pieces are written from where they are.
const COPY_BYTES_MAX: usize = 16 * 1024;
/// Flat bytes from which the body is not asked for more.
const FLAT_BYTES_MAX: usize = 32 * 1024;

/// Bytes to send.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What is sent first.
    pub(crate) flat: BytesMut,
    /// What follows the flat bytes.
    large: Bytes,
    /// Whether CR LF follows the large piece.
    crlf_after_large: bool,
}

/// A body on its way into an outbox, framed.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Body,
    framing: OutgoingFraming,
    /// Bytes still to come when the framing is a length.
    remaining: u64,
    ended: bool,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.flat.is_empty() && self.large.is_empty()
    }

    fn is_full(&self) -> bool {
        !self.large.is_empty() || self.flat.len() >= FLAT_BYTES_MAX
    }

    fn push(&mut self, data: Bytes, framing: OutgoingFraming) {
        let chunked = framing == OutgoingFraming::Chunked;
        if chunked {
            encode_chunk_head(data.len(), &mut self.flat);
        }
        if data.len() > COPY_BYTES_MAX {
            self.large = data;
            self.crlf_after_large = chunked;
            return;
        }
        self.flat.put_slice(&data);
        if chunked {
            self.flat.put_slice(b"\r\n");
        }
    }

    /// Write all of it. `wrote` is set when bytes left, also if the rest has to wait.
    pub(crate) fn poll_flush<I: AsyncWrite + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
        wrote: &mut bool,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let n_bytes = if self.large.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.flat))?
            } else {
                let pieces = [IoSlice::new(&self.flat), IoSlice::new(&self.large)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &pieces))?
            };
            if n_bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *wrote = true;
            self.consume(n_bytes);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn consume(&mut self, n_bytes: usize) {
        let from_flat = n_bytes.min(self.flat.len());
        if from_flat == self.flat.len() {
            self.flat.clear();
        } else {
            self.flat.advance(from_flat);
        }
        self.large.advance(n_bytes - from_flat);
        if self.large.is_empty() && self.crlf_after_large && self.flat.is_empty() {
            self.crlf_after_large = false;
            self.flat.put_slice(b"\r\n");
        }
    }
}

impl Outgoing {
    /// A body that leaves in `framing`.
    pub(crate) fn new(body: Body, framing: OutgoingFraming) -> Self {
        let remaining = match framing {
            OutgoingFraming::Length(length) => length,
            OutgoingFraming::Unmarked | OutgoingFraming::Chunked => 0,
        };
        Self { ended: matches!(body, Body::Empty) && framing != OutgoingFraming::Chunked, body, framing, remaining }
    }

    /// Whether all of it is in the outbox.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Move what is ready into the outbox until that is full. Ready when the body has ended or the outbox is full.
    pub(crate) fn poll_fill(&mut self, outbox: &mut Outbox, cx: &mut Context<'_>) -> Poll<Result<(), BodyFault>> {
        while !self.ended && !outbox.is_full() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.push(data, outbox)?,
                    Err(frame) => self.end(frame.trailers_ref(), outbox)?,
                },
                Some(Err(fault)) => return Poll::Ready(Err(fault)),
                None => self.end(None, outbox)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, data: Bytes, outbox: &mut Outbox) -> Result<(), BodyFault> {
        if data.is_empty() {
            return Ok(());
        }
        if let OutgoingFraming::Length(_) = self.framing {
            self.remaining = self.remaining.checked_sub(data.len() as u64).ok_or(BodyFault::LengthMismatch)?;
        }
        outbox.push(data, self.framing);
        // The end of a body of known length needs no further poll, so it joins the same write.
        if matches!(self.framing, OutgoingFraming::Length(_)) && self.remaining == 0 {
            self.ended = true;
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>, outbox: &mut Outbox) -> Result<(), BodyFault> {
        if self.remaining > 0 {
            return Err(BodyFault::LengthMismatch);
        }
        if self.framing == OutgoingFraming::Chunked {
            match trailers {
                Some(trailers) => encode_trailers(trailers, &mut outbox.flat),
                None => outbox.flat.put_slice(LAST_CHUNK),
            }
        }
        self.ended = true;
        Ok(())
    }
}
