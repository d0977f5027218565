//! The write buffer of a message: its head and small data flat, one large piece beside them, so that head and
//! body leave in one write.
//!
//! Invariants: the flat buffer belongs to a message only while some of it is there to send; then it is the thread's again, for
//! the next message of any connection. So connections that wait hold none, and messages are written to memory that the
//! processor has at hand. A large piece is let go once it has left.

use super::body::Body;
use super::body::BodyFault;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body as _;
use http1::{LAST_CHUNK, OutgoingFraming, encode_chunk_head, encode_trailers};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Data up to this size is copied behind the head; larger pieces are written from where they are.
const COPY_BYTES_MAX: usize = 16 * 1024;
/// Flat bytes from which the body is not asked for more.
const FLAT_BYTES_MAX: usize = 32 * 1024;
/// A buffer with more room left than this is not kept.
const SPARE_BYTES_MAX: usize = 2 * FLAT_BYTES_MAX;

thread_local! {
    /// The flat buffer that no message has.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Bytes to send.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What is sent first.
    flat: BytesMut,
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

    /// What is sent before the large piece, to be added to.
    pub(crate) fn flat(&mut self) -> &mut BytesMut {
        if self.flat.capacity() == 0 {
            self.flat = SPARE.take();
        }
        &mut self.flat
    }

    fn push(&mut self, data: Bytes, framing: OutgoingFraming) {
        let chunked = framing == OutgoingFraming::Chunked;
        if chunked {
            encode_chunk_head(data.len(), self.flat());
        }
        if data.len() > COPY_BYTES_MAX {
            self.large = data;
            self.crlf_after_large = chunked;
            return;
        }
        self.flat().put_slice(&data);
        if chunked {
            self.flat().put_slice(b"\r\n");
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
            self.leave_flat();
        } else {
            self.flat.advance(from_flat);
        }
        // Bytes of the large piece leave behind all flat ones.
        if n_bytes > from_flat {
            self.consume_large(n_bytes - from_flat);
        }
    }

    fn consume_large(&mut self, n_bytes: usize) {
        self.large.advance(n_bytes);
        if !self.large.is_empty() {
            return;
        }
        // An empty rest would hold the whole of it, and the buffer it was read to.
        self.large = Bytes::new();
        if std::mem::take(&mut self.crlf_after_large) {
            self.flat().put_slice(b"\r\n");
        }
    }

    /// All flat bytes have left; the buffer is for the next message.
    fn leave_flat(&mut self) {
        let mut flat = std::mem::take(&mut self.flat);
        flat.clear();
        if (1..=SPARE_BYTES_MAX).contains(&flat.capacity()) {
            SPARE.set(flat);
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
                Some(trailers) => encode_trailers(trailers, outbox.flat()),
                None => outbox.flat().put_slice(LAST_CHUNK),
            }
        }
        self.ended = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes this many bytes of each write, and no more than so many writes.
    struct Slow {
        taken: Vec<u8>,
        bytes_max: usize,
        n_writes: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            if self.n_writes == 0 {
                return Poll::Pending;
            }
            self.n_writes -= 1;
            let n_bytes = data.len().min(self.bytes_max);
            self.taken.extend_from_slice(&data[..n_bytes]);
            Poll::Ready(Ok(n_bytes))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn flush(outbox: &mut Outbox, io: &mut Slow) -> bool {
        outbox.poll_flush(io, &mut Context::from_waker(Waker::noop()), &mut false).is_ready()
    }

    #[test]
    fn a_message_that_left_leaves_its_buffer_to_the_next() {
        let mut io = Slow { taken: Vec::new(), bytes_max: usize::MAX, n_writes: 2 };
        let (mut first, mut second) = (Outbox::default(), Outbox::default());
        first.flat().put_slice(b"first ");
        let place = first.flat().as_ptr();
        assert!(flush(&mut first, &mut io));
        assert_eq!(first.flat.capacity(), 0, "a connection that waits holds none");
        second.flat().put_slice(b"second");
        assert_eq!(second.flat().as_ptr(), place);
        assert!(flush(&mut second, &mut io));
        assert_eq!(io.taken, b"first second");
    }

    #[test]
    fn a_large_piece_that_left_is_let_go() {
        let mut io = Slow { taken: Vec::new(), bytes_max: 3 * COPY_BYTES_MAX / 2, n_writes: 4 };
        let (mut outbox, piece) = (Outbox::default(), Bytes::from(vec![b'x'; 2 * COPY_BYTES_MAX]));
        outbox.push(piece.clone(), OutgoingFraming::Chunked);
        assert!(!piece.is_unique());
        assert!(flush(&mut outbox, &mut io));
        assert!(piece.is_unique());
        assert_eq!(io.taken, [&b"8000\r\n"[..], &piece, b"\r\n"].concat());
    }

    #[test]
    fn a_message_that_waits_keeps_its_buffer() {
        let mut io = Slow { taken: Vec::new(), bytes_max: 3, n_writes: 1 };
        let (mut slow, mut other) = (Outbox::default(), Outbox::default());
        slow.flat().put_slice(b"slowly");
        assert!(!flush(&mut slow, &mut io));
        other.flat().put_slice(b"quick!");
        io.n_writes = 4;
        assert!(flush(&mut slow, &mut io));
        assert!(flush(&mut other, &mut io));
        assert_eq!(io.taken, b"slowlyquick!");
    }

    #[test]
    fn a_buffer_that_grew_large_is_not_kept() {
        let mut io = Slow { taken: Vec::new(), bytes_max: usize::MAX, n_writes: 2 };
        let mut outbox = Outbox { flat: BytesMut::zeroed(SPARE_BYTES_MAX), ..Outbox::default() };
        let place = outbox.flat.as_ptr();
        assert!(flush(&mut outbox, &mut io));
        outbox.flat = BytesMut::zeroed(SPARE_BYTES_MAX + 1);
        assert!(flush(&mut outbox, &mut io));
        outbox.flat().put_u8(0);
        assert_eq!(outbox.flat.as_ptr(), place, "the one before is there still");
    }
}
