//! The read buffer of a connection: small while messages are small, larger while a body streams.

use bytes::BytesMut;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes a buffer starts with and returns to.
const SMALL_BYTES: usize = 8 * 1024;
/// Bytes a buffer grows to while reads fill it.
const LARGE_BYTES: usize = 64 * 1024;

/// Bytes received and not yet consumed.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// The bytes; consumers take them off the front.
    pub(crate) bytes: BytesMut,
    read_bytes: usize,
    /// What `bytes` could hold when it was last given room: its allocation from the front, or from where a rest was.
    allocated_bytes: usize,
}

impl Inbox {
    /// A buffer that holds `bytes` already.
    pub(crate) fn new(bytes: BytesMut) -> Self {
        Self { allocated_bytes: bytes.capacity(), bytes, read_bytes: SMALL_BYTES }
    }

    /// One read from `io`, at most `LARGE_BYTES`; 0 at the end of the stream.
    pub(crate) fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() {
            // Back to the front if nobody holds a piece of it: one small message after another is then read to where the
            // last one was, which the processor still has at hand. If somebody does, reading goes on behind it.
            let _ = self.bytes.try_reclaim(self.allocated_bytes);
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < self.read_bytes / 4 || spare == 0 {
            // Asks for what the old allocation can give once what was split off it is dropped.
            let wanted = self.read_bytes.saturating_sub(self.bytes.len());
            self.bytes.reserve(wanted.max(self.read_bytes / 4).max(1));
            self.allocated_bytes = self.bytes.capacity();
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        let read = pin!(io.read_buf(&mut self.bytes)).poll(cx);
        if let Poll::Ready(Ok(n_bytes)) = read {
            self.read_bytes = if n_bytes == spare {
                (self.read_bytes * 2).min(LARGE_BYTES)
            } else if n_bytes < SMALL_BYTES {
                SMALL_BYTES
            } else {
                self.read_bytes
            };
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use std::task::Waker;

    fn read(inbox: &mut Inbox, mut message: &[u8]) {
        let n_bytes = message.len();
        let read = inbox.poll_read(&mut message, &mut Context::from_waker(Waker::noop()));
        assert!(matches!(read, Poll::Ready(Ok(n)) if n == n_bytes), "{read:?}");
    }

    #[test]
    fn each_small_message_is_read_to_where_the_last_one_was() {
        let mut inbox = Inbox::new(BytesMut::new());
        read(&mut inbox, &[1; 1000]);
        let place = inbox.bytes.as_ptr();
        for _ in 0..100 {
            inbox.bytes.advance(1000);
            read(&mut inbox, &[2; 1000]);
            assert_eq!(inbox.bytes.as_ptr(), place);
            // As the body of a response is taken, and dropped when it was written.
            drop(inbox.bytes.split_to(1000).freeze());
            read(&mut inbox, &[3; 1000]);
            assert_eq!(inbox.bytes.as_ptr(), place);
        }
    }

    #[test]
    fn reading_goes_on_behind_what_somebody_holds() {
        let mut inbox = Inbox::new(BytesMut::new());
        read(&mut inbox, &[1; 1000]);
        let held = inbox.bytes.split_to(1000).freeze();
        read(&mut inbox, &[2; 1000]);
        assert_eq!(inbox.bytes.as_ptr(), held.as_ptr().wrapping_add(1000), "behind it");
        inbox.bytes.advance(1000);
        let place = held.as_ptr();
        drop(held);
        read(&mut inbox, &[3; 1000]);
        assert_eq!(inbox.bytes.as_ptr(), place, "there again, once it is let go");
    }

    #[test]
    fn what_was_not_consumed_stays_before_what_comes() {
        let mut inbox = Inbox::new(BytesMut::new());
        read(&mut inbox, b"GET / HT");
        inbox.bytes.advance(4);
        read(&mut inbox, b"TP/1.1");
        assert_eq!(inbox.bytes, b"/ HTTP/1.1"[..]);
    }
}
