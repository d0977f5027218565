//! A socket whose small writes are gathered until its connection has been polled, then leave in one.
//!
//! The codec of HTTP/2 writes after every frame of data, so answers that are ready together would cost a system call each,
//! and with TLS a record each.
//!
//! Invariants: bytes leave in the order they were written; what is gathered is bounded, beyond that a write waits for the
//! socket; when the connection has been polled nothing is left unless the socket takes no more, and then whoever polls is
//! woken when it does. So a flush has nothing to do. Once the socket has failed, writes, flushes and the end fail too.

use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered before a write waits for the socket.
const GATHERED_BYTES_MAX: usize = 32 * 1024;
/// A larger write is not copied: it leaves at once, behind what is gathered.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// Room that is kept when all has left.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// The socket, for who writes and for who polls alike.
#[derive(Debug)]
pub(super) struct Gathered<I>(Arc<Mutex<Inner<I>>>);

#[derive(Debug)]
struct Inner<I> {
    io: I,
    out: Vec<u8>,
    /// How much of `out` the socket took.
    n_sent: usize,
    /// What the socket took in all, counted.
    n_taken: u64,
    /// Whether a write has to wait, since the last look.
    waits: bool,
    /// Why the socket took no more.
    failed: Option<io::ErrorKind>,
}

impl<I> Clone for Gathered<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: AsyncWrite + Unpin> Gathered<I> {
    pub(super) fn new(io: I) -> Self {
        Self(Arc::new(Mutex::new(Inner { io, out: Vec::new(), n_sent: 0, n_taken: 0, waits: false, failed: None })))
    }

    /// Writes what is gathered, when the connection has been polled. If the socket takes no more: how much it took until then,
    /// counted from its beginning.
    pub(super) fn write_out(&self, cx: &mut Context<'_>) -> Option<u64> {
        let mut inner = self.0.lock();
        let had_failed = inner.failed.is_some();
        let written = inner.poll_write_out(cx);
        if matches!(written, Poll::Ready(Err(_))) && !had_failed {
            // The connection learns of it when it is polled again.
            cx.waker().wake_by_ref();
        }
        let waits = std::mem::take(&mut inner.waits) || written.is_pending();
        waits.then_some(inner.n_taken)
    }
}

impl<I: AsyncWrite + Unpin> Inner<I> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = match self.failed {
            Some(kind) => Err(kind.into()),
            None => ready!(self.poll_drain(cx)),
        };
        Poll::Ready(self.told(written))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.n_sent < self.out.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.n_sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n_bytes => {
                    self.n_sent += n_bytes;
                    self.n_taken += n_bytes as u64;
                }
            }
        }
        self.n_sent = 0;
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
        // TLS holds records back, and has its own to send.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let n_bytes = pieces.iter().map(|piece| piece.len()).sum();
        let is_large = n_bytes > COPIED_BYTES_MAX;
        if is_large || self.failed.is_some() || self.out.len() + n_bytes > GATHERED_BYTES_MAX {
            ready!(self.poll_write_out(cx))?;
        }
        if is_large {
            let written = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
            self.waits = written.is_pending();
            let written = ready!(written);
            self.n_taken += *written.as_ref().unwrap_or(&0) as u64;
            return Poll::Ready(self.told(written));
        }
        pieces.iter().for_each(|piece| self.out.extend_from_slice(piece));
        Poll::Ready(Ok(n_bytes))
    }

    /// Keeps a failure.
    fn told<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome {
            self.failed = Some(error.kind());
        }
        outcome
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gathered<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathered<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.lock().failed.map_or(Ok(()), |kind| Err(kind.into())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        ready!(inner.poll_write_out(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A socket that takes `room` bytes, and holds them back until it is flushed if told so.
    #[derive(Default)]
    struct Socket {
        writes: Vec<Vec<u8>>,
        room: usize,
        holds_back: bool,
        n_flushes: usize,
        is_shut: bool,
        fails: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.fails {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let n_bytes = buf.len().min(self.room);
            if n_bytes == 0 {
                return Poll::Pending;
            }
            self.room -= n_bytes;
            self.writes.push(buf[..n_bytes].to_vec());
            Poll::Ready(Ok(n_bytes))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.holds_back {
                return Poll::Pending;
            }
            self.n_flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn socket(room: usize) -> Gathered<Socket> {
        Gathered::new(Socket { room, ..Socket::default() })
    }

    fn write(to: &Gathered<Socket>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut to.clone()).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    fn write_out(of: &Gathered<Socket>) -> Option<u64> {
        of.write_out(&mut Context::from_waker(Waker::noop()))
    }

    fn sent(by: &Gathered<Socket>) -> Vec<u8> {
        by.0.lock().io.writes.concat()
    }

    #[test]
    fn what_is_written_in_one_poll_leaves_in_one_write() {
        let gathered = socket(100);
        for bytes in [&b"head"[..], b"body", b"more"] {
            assert!(matches!(write(&gathered, bytes), Poll::Ready(Ok(4))));
        }
        assert!(sent(&gathered).is_empty());
        assert_eq!(write_out(&gathered), None);
        assert_eq!(gathered.0.lock().io.writes.as_slice(), [b"headbodymore".to_vec()]);
    }

    #[test]
    fn a_large_write_leaves_at_once_behind_what_is_gathered() {
        let gathered = socket(100_000);
        assert!(write(&gathered, b"small").is_ready());
        let large = vec![b'x'; COPIED_BYTES_MAX + 1];
        assert!(matches!(write(&gathered, &large), Poll::Ready(Ok(n_bytes)) if n_bytes == large.len()));
        assert_eq!(sent(&gathered), [&b"small"[..], &large].concat());
        assert_eq!((write_out(&gathered), gathered.0.lock().n_taken), (None, 5 + large.len() as u64));
        gathered.0.lock().io.room = 0;
        assert!(write(&gathered, &large).is_pending());
        assert_eq!(write_out(&gathered), Some(5 + large.len() as u64), "what waits is not here");
        assert_eq!(write_out(&gathered), None);
    }

    #[test]
    fn beyond_the_limit_a_write_waits_for_the_socket_and_nothing_is_lost() {
        let gathered = socket(10);
        let piece = [b'a'; COPIED_BYTES_MAX];
        for _ in 0..GATHERED_BYTES_MAX / COPIED_BYTES_MAX {
            assert!(write(&gathered, &piece).is_ready());
        }
        assert!(write(&gathered, b"b").is_pending());
        assert_eq!((write_out(&gathered), write_out(&gathered)), (Some(10), Some(10)));
        assert_eq!(sent(&gathered).len(), 10);
        assert!(write(&gathered, b"b").is_pending(), "ten bytes less are no room yet");
        gathered.0.lock().io.room = usize::MAX;
        assert!(write(&gathered, b"b").is_ready());
        assert_eq!(write_out(&gathered), None);
        assert_eq!(sent(&gathered), [&[b'a'; GATHERED_BYTES_MAX][..], b"b"].concat());
        assert!(gathered.0.lock().out.capacity() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn what_the_socket_holds_back_is_flushed_when_it_can_be() {
        let gathered = socket(100);
        gathered.0.lock().io.holds_back = true;
        assert!(write(&gathered, b"record").is_ready());
        assert_eq!((write_out(&gathered), gathered.0.lock().io.n_flushes), (Some(6), 0));
        gathered.0.lock().io.holds_back = false;
        assert_eq!((write_out(&gathered), gathered.0.lock().io.n_flushes), (None, 1));
    }

    #[test]
    fn the_end_comes_behind_what_is_gathered() {
        let gathered = socket(3);
        assert!(write(&gathered, b"goaway").is_ready());
        let shutdown =
            || Pin::new(&mut gathered.clone()).poll_shutdown(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!shutdown() && !gathered.0.lock().io.is_shut);
        gathered.0.lock().io.room = 3;
        assert!(shutdown() && gathered.0.lock().io.is_shut);
        assert_eq!(sent(&gathered), b"goaway");
    }

    #[test]
    fn a_socket_that_failed_is_told_of_in_every_call() {
        for n_bytes in [4, COPIED_BYTES_MAX + 1] {
            let gathered = socket(0);
            gathered.0.lock().io.fails = true;
            assert!(write(&gathered, &vec![b'x'; n_bytes]).is_ready());
            assert_eq!(write_out(&gathered), None);
            let mut cx = Context::from_waker(Waker::noop());
            let mut io = gathered.clone();
            let flushed = Pin::new(&mut io).poll_flush(&mut cx);
            let shut = Pin::new(&mut io).poll_shutdown(&mut cx);
            let written = write(&gathered, b"x").map_ok(|_| ());
            for failed in [flushed, shut, written] {
                assert!(matches!(failed, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset));
            }
        }
    }
}
