//! A connection's read buffer: bytes that were read and not used yet.
//!
//! Invariants: it never holds more than its cap; it starts small and grows while reads fill it. A connection that has
//! been idle for a second keeps only the small buffer; what is read at once is what the broker handles at once, so
//! bursts are to begin with large reads.

use crate::idle::Idle;
use model::Mono;
use model::limits::READ_AHEAD_BYTES;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a fresh buffer, so that an idle connection costs little.
const SMALL: usize = 4 * 1024;

/// Bytes read and not used yet.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    cap: usize,
    /// The last read brought as much as there was room for, which was much: there is more, most likely, and the next one is to
    /// bring more at once.
    filled: bool,
    idle: Idle,
}

impl ReadBuffer {
    pub(crate) fn new(cap: usize) -> Self {
        Self { bytes: vec![0; SMALL.min(cap)], start: 0, end: 0, cap, filled: false, idle: Idle::default() }
    }

    /// What was read and not used.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Notes that `n` bytes were used.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        assert!(self.start <= self.end, "used more than was read");
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Whether no byte more fits: the peer sent something larger than it may.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == self.cap
    }

    /// Notes when something was read.
    pub(crate) fn note_read(&mut self, now: Mono) {
        self.idle.note_use(now, self.bytes.len() > SMALL || self.filled);
    }

    /// When it wants [`ReadBuffer::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Mono> {
        self.idle.poll_timeout()
    }

    /// Gives memory back if nothing was read lately and nothing is kept in it.
    pub(crate) fn handle_timeout(&mut self, now: Mono) {
        if self.idle.is_over(now) && self.start == self.end {
            self.bytes = vec![0; SMALL.min(self.cap)];
            self.filled = false;
        }
    }

    /// Reads once. Returns the bytes read; 0 is the end of the stream.
    pub(crate) fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        self.make_room();
        let mut buf = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(io).poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        self.end += n;
        self.filled = self.end == self.bytes.len() && n * 2 >= self.bytes.len();
        Poll::Ready(Ok(n))
    }

    /// Makes room behind what is unread, if there is none or if more than there was before would have come. Beyond what is
    /// read ahead the buffer grows only for something that does not fit.
    fn make_room(&mut self) {
        let filled = std::mem::take(&mut self.filled);
        if !filled && self.end < self.bytes.len() {
            return;
        }
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let enough = match self.end == self.bytes.len() {
            true => self.cap,
            false if filled => self.cap.min(READ_AHEAD_BYTES),
            false => return,
        };
        let grown = (self.bytes.len() * 4).min(enough);
        self.bytes.resize(grown.max(self.bytes.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn it_keeps_order_grows_to_its_cap_and_says_when_full() {
        let sent: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let mut io = &sent[..];
        let mut buffer = ReadBuffer::new(16 * 1024);
        let mut got = Vec::new();
        loop {
            let n = poll_fn(|cx| buffer.poll_read(&mut io, cx)).await.unwrap();
            if n == 0 {
                break;
            }
            if buffer.is_full() || buffer.unread().len() > 10_000 {
                let use_now = buffer.unread().len() - 3;
                got.extend_from_slice(&buffer.unread()[..use_now]);
                buffer.consume(use_now);
            }
        }
        got.extend_from_slice(buffer.unread());
        assert!(got == sent);
        assert!(buffer.bytes.len() <= 16 * 1024);
    }

    #[tokio::test]
    async fn it_grows_while_reads_fill_it_however_little_of_each_is_left() {
        // Whole frames are used: of those that divide a buffer nothing is left, of large ones much.
        for (frame, most) in
            [(1, READ_AHEAD_BYTES), (1_024, READ_AHEAD_BYTES), (1_100, READ_AHEAD_BYTES), (200_000, 256 * 1024)]
        {
            let mut buffer = ReadBuffer::new(256 * 1024);
            let mut io = &vec![7; 2 * 1024 * 1024][..];
            let mut largest = 0;
            while poll_fn(|cx| buffer.poll_read(&mut io, cx)).await.unwrap() > 0 {
                largest = largest.max(buffer.unread().len());
                buffer.consume(buffer.unread().len() / frame * frame);
            }
            assert_eq!(largest, most, "frames of {frame}");
        }
    }

    #[tokio::test]
    async fn it_keeps_its_size_between_bursts_and_gives_it_back_when_idle() {
        let second = |n: u64| Mono(n * 1_000_000);
        let mut buffer = ReadBuffer::new(64 * 1024);
        let mut read = async |at| {
            let mut io = &[7; 10_000][..];
            while poll_fn(|cx| buffer.poll_read(&mut io, cx)).await.unwrap() > 0 {}
            buffer.note_read(at);
            buffer.consume(10_000);
            assert!(buffer.bytes.len() > SMALL);
            buffer.handle_timeout(at);
            assert!(buffer.bytes.len() > SMALL, "the next burst is read as large");
            buffer.poll_timeout()
        };
        assert_eq!(read(second(5)).await, Some(second(6)));
        assert_eq!(read(Mono(5_700_000)).await, Some(second(6)));
        buffer.handle_timeout(second(6));
        assert_eq!(buffer.poll_timeout(), Some(Mono(6_700_000)), "it was used since");
        buffer.handle_timeout(Mono(6_700_000));
        assert_eq!((buffer.bytes.len(), buffer.poll_timeout()), (SMALL, None));
    }

    /// Brings so many bytes with each read, and then nothing for now.
    struct Trickle(Vec<usize>);

    impl AsyncRead for Trickle {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            let n = self.0.remove(0);
            to.put_slice(&vec![7; n]);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn it_grows_for_what_comes_and_not_for_what_might() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut buffer = ReadBuffer::new(256 * 1024);
        let mut io = Trickle(vec![SMALL]);
        assert!(buffer.poll_read(&mut io, &mut cx).is_ready());
        buffer.note_read(Mono(0));
        buffer.consume(SMALL);
        // Whatever wakes the connection meanwhile.
        for _ in 0..5 {
            assert!(buffer.poll_read(&mut io, &mut cx).is_pending());
        }
        assert_eq!(buffer.bytes.len(), 4 * SMALL);
        buffer.handle_timeout(Mono(1_000_000));
        assert!(buffer.poll_read(&mut io, &mut cx).is_pending());
        assert_eq!((buffer.bytes.len(), buffer.poll_timeout()), (SMALL, None));

        // A slow peer whose frames end anywhere: what is left of one is moved, and there is room enough.
        for _ in 0..1_000 {
            let room = if buffer.end < SMALL { SMALL - buffer.end } else { SMALL };
            let mut io = Trickle(vec![room.min(500)]);
            assert!(buffer.poll_read(&mut io, &mut cx).is_ready());
            buffer.consume(buffer.unread().len() / 300 * 300);
        }
        assert_eq!(buffer.bytes.len(), SMALL);
    }
}
