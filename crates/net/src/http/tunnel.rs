//! Two connections that became one pair of byte streams: after 101, or an accepted extended CONNECT.
//!
//! Bytes go straight from one socket to the other through a buffer of the thread's; only what the other side does not
//! take at once is kept, and then that side is not read from. So an idle tunnel holds no buffer.
//!
//! Invariants: the end of one direction is passed on, and the other goes on until its own end. A tunnel in which nothing
//! moves for its idle time ends, as does one whose server drains and in which nothing moves for a moment. Bytes are counted
//! when they were written. Whoever wants to know the counts is told exactly once, however the tunnel ends.

use super::timer::LazyTimer;
use bytes::{Buf, BytesMut};
use http1::Upgrade;
use model::limits::{TUNNEL_DRAIN_IDLE_MS, TUNNEL_DRAIN_MS_MAX};
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes moved at once.
const SCRATCH_BYTES: usize = 32 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// A socket, of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The upstream's end of a tunnel, to be joined with the client's.
pub struct Tunnel {
    upstream: Box<dyn Stream>,
    protocol: Upgrade,
    idle: Duration,
    up: Direction,
    down: Direction,
    on_end: Option<Box<dyn FnOnce(Carried) + Send>>,
}

/// Bytes that a tunnel carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// From the client to the upstream.
    pub up_bytes: u64,
    /// From the upstream to the client.
    pub down_bytes: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    /// Read and not yet written.
    unwritten: BytesMut,
    ended: bool,
    /// The end was passed on.
    shut: bool,
    n_bytes: u64,
}

impl Tunnel {
    /// `read` was read from the upstream already. `idle` is the time in which something has to move.
    pub(crate) fn new(upstream: Box<dyn Stream>, read: BytesMut, protocol: Upgrade, idle: Duration) -> Self {
        let down = Direction { unwritten: read, ..Direction::default() };
        Self { upstream, protocol, idle, up: Direction::default(), down, on_end: None }
    }

    /// What the connection now speaks.
    #[must_use]
    pub fn protocol(&self) -> &Upgrade {
        &self.protocol
    }

    /// Has this called when the tunnel ends.
    pub fn on_end(&mut self, tell: impl FnOnce(Carried) + Send + 'static) {
        self.on_end = Some(Box::new(tell));
    }

    /// Carry bytes until both directions have ended, one side fails, or time is up. `read` was read from the client
    /// already; `begun` is ready when the server drains.
    pub(crate) async fn carry(
        mut self,
        read: BytesMut,
        client: &mut dyn Stream,
        mut draining: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
    ) {
        self.up.unwritten = read;
        let (mut timer, mut last): (LazyTimer, Option<Pin<Box<Sleep>>>) = (LazyTimer::default(), None);
        timer.set(self.idle);
        let ended = poll_fn(|cx| {
            if last.is_none() && draining.as_mut().poll(cx).is_ready() {
                self.idle = self.idle.min(Duration::from_millis(TUNNEL_DRAIN_IDLE_MS));
                timer.set(self.idle);
                let deadline = Instant::now() + Duration::from_millis(TUNNEL_DRAIN_MS_MAX);
                last = Some(Box::pin(tokio::time::sleep_until(deadline)));
            }
            let mut moved = false;
            let polled = self.poll(client, &mut moved, cx);
            if moved {
                timer.set(self.idle);
            }
            if polled.is_ready() {
                return polled;
            }
            let late = timer.poll_expired(cx) || last.as_mut().is_some_and(|last| last.as_mut().poll(cx).is_ready());
            if late { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { Poll::Pending }
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "tunnel ended early");
        }
    }

    fn poll(&mut self, client: &mut dyn Stream, moved: &mut bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let upstream = &mut *self.upstream;
        // What the upstream said last reaches the client even if the upstream takes nothing any more.
        let down = self.down.poll(upstream, client, moved, cx)?;
        let up = self.up.poll(client, upstream, moved, cx)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Direction {
    /// Move what can be moved. Ready when the end was passed on.
    fn poll(
        &mut self,
        from: &mut dyn Stream,
        to: &mut dyn Stream,
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.unwritten.is_empty() {
                let n_bytes = ready!(write(to, &self.unwritten, cx))?;
                self.note(n_bytes, moved);
                self.unwritten.advance(n_bytes);
            }
            if self.ended {
                if !self.shut {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            // What was kept is gone, and so is the memory it took.
            self.unwritten = BytesMut::new();
            if self.shovel(from, to, moved, cx)?.is_pending() {
                // TLS keeps what it could not write; nothing else would send it.
                let _ = Pin::new(&mut *to).poll_flush(cx)?;
                return Poll::Pending;
            }
        }
    }

    /// One read, and as much of it written as the other side takes; the rest is kept.
    fn shovel(
        &mut self,
        from: &mut dyn Stream,
        to: &mut dyn Stream,
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(read) => read?,
            }
            let mut unwritten = buffer.filled();
            self.ended = unwritten.is_empty();
            *moved = true;
            while !unwritten.is_empty() {
                match write(to, unwritten, cx) {
                    Poll::Ready(written) => {
                        let n_bytes = written?;
                        self.note(n_bytes, moved);
                        unwritten = &unwritten[n_bytes..];
                    }
                    Poll::Pending => {
                        self.unwritten.extend_from_slice(unwritten);
                        break;
                    }
                }
            }
            Ok(Poll::Ready(()))
        })
    }

    fn note(&mut self, n_bytes: usize, moved: &mut bool) {
        self.n_bytes += n_bytes as u64;
        *moved = true;
    }
}

fn write(to: &mut dyn Stream, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        n_bytes => Poll::Ready(Ok(n_bytes)),
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(tell) = self.on_end.take() {
            tell(Carried { up_bytes: self.up.n_bytes, down_bytes: self.down.n_bytes });
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({:?})", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// What is between the two ends that a test holds, and what it said at its end.
    struct Carrying {
        client: DuplexStream,
        upstream: DuplexStream,
        task: tokio::task::JoinHandle<()>,
        carried: Arc<Mutex<Option<Carried>>>,
    }

    fn carry(idle_ms: u64, buffer_bytes: usize, draining: impl Future<Output = ()> + Send + 'static) -> Carrying {
        let ((client, mut near), (upstream, far)) = (duplex(buffer_bytes), duplex(buffer_bytes));
        let idle = Duration::from_millis(idle_ms);
        let mut tunnel = Tunnel::new(Box::new(far), BytesMut::from("early "), Upgrade::websocket(), idle);
        let carried = Arc::new(Mutex::new(None));
        let told = Arc::clone(&carried);
        tunnel.on_end(move |bytes| *told.lock() = Some(bytes));
        let task = tokio::spawn(async move {
            let draining = std::pin::pin!(draining);
            tunnel.carry(BytesMut::from("ahead "), &mut near, draining).await;
        });
        Carrying { client, upstream, task, carried }
    }

    #[tokio::test]
    async fn both_directions_are_carried_to_their_own_ends() {
        let Carrying { mut client, mut upstream, task, carried } = carry(60_000, 64, std::future::pending());
        client.write_all(b"up").await.unwrap();
        client.shutdown().await.unwrap();
        let mut up = String::new();
        upstream.read_to_string(&mut up).await.unwrap();
        assert_eq!(up, "ahead up");
        // Its direction has ended; the other goes on, more than any buffer holds.
        let large = vec![b'x'; 1 << 20];
        let (written, mut down) = (large.clone(), String::new());
        let writer = tokio::spawn(async move {
            upstream.write_all(&written).await.unwrap();
            upstream.shutdown().await.unwrap();
        });
        client.read_to_string(&mut down).await.unwrap();
        assert_eq!(down.len(), "early ".len() + large.len());
        writer.await.unwrap();
        task.await.unwrap();
        assert_eq!(*carried.lock(), Some(Carried { up_bytes: 8, down_bytes: 6 + (1 << 20) }));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_so_does_a_drain() {
        let Carrying { mut client, upstream, task, carried } = carry(20, 64, std::future::pending());
        task.await.unwrap();
        let mut down = String::new();
        client.read_to_string(&mut down).await.unwrap();
        assert_eq!((down.as_str(), carried.lock().is_some()), ("early ", true));
        drop(upstream);
        let Carrying { client, upstream, task, .. } = carry(60_000, 64, std::future::ready(()));
        tokio::time::timeout(Duration::from_millis(4 * TUNNEL_DRAIN_IDLE_MS), task).await.unwrap().unwrap();
        drop((client, upstream));
    }

    #[tokio::test]
    async fn an_end_that_is_gone_ends_it() {
        let Carrying { mut client, upstream, task, carried } = carry(60_000, 64, std::future::pending());
        drop(upstream);
        // Whoever writes finds out; a socket would have said so by a reset.
        client.write_all(&[0; 32]).await.unwrap();
        task.await.unwrap();
        assert!(carried.lock().is_some());
    }
}
