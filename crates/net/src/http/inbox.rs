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
}

impl Inbox {
    /// A buffer that holds `bytes` already.
    pub(crate) fn new(bytes: BytesMut) -> Self {
        Self { bytes, read_bytes: SMALL_BYTES }
    }

    /// One read from `io`, at most `LARGE_BYTES`; 0 at the end of the stream.
    pub(crate) fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < self.read_bytes / 4 || spare == 0 {
            // Asks for what the old allocation can give once what was split off it is dropped.
            let wanted = self.read_bytes.saturating_sub(self.bytes.len());
            self.bytes.reserve(wanted.max(self.read_bytes / 4).max(1));
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
