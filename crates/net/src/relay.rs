//! Two connections as one pair of byte streams: what one side says goes to the other, until both have said all.
//!
//! Bytes go straight from one socket to the other through a buffer of the thread's; only what the other side does not
//! take at once is kept, and then that side is not read from. So an idle relay holds no buffer, and a busy one at most
//! [`RELAY_BUFFER_BYTES`] for each direction, here or in the TLS of the side that takes nothing.
//!
//! Invariants: the end of one direction is passed on, and the other goes on until its own end. A relay in which nothing
//! moves for its idle time ends, as does one whose server drains and in which nothing moves for a moment. Bytes are counted
//! when they were written.

use crate::http::timer::LazyTimer;
use bytes::{Buf, BytesMut};
use model::limits::{RELAY_BUFFER_BYTES, TUNNEL_DRAIN_IDLE_MS, TUNNEL_DRAIN_MS_MAX};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; RELAY_BUFFER_BYTES].into());
}

/// A socket, of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Bytes that were carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// From the client to the upstream.
    pub up_bytes: u64,
    /// From the upstream to the client.
    pub down_bytes: u64,
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both sides have said all.
    Ended,
    /// The client's connection broke.
    Client(io::Error),
    /// The upstream's connection broke.
    Upstream(io::Error),
    /// Nothing moved for its idle time.
    Idle,
    /// The upstream did not take what waits for it in its write time.
    Stalled,
    /// The server drained.
    Drained,
}

/// Carries bytes between a client and an upstream.
#[derive(Debug)]
pub struct Relay {
    idle: Duration,
    write: Duration,
    up: Direction,
    down: Direction,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    /// Read and not yet written.
    unwritten: BytesMut,
    /// TLS has written bytes that its socket has not taken.
    unflushed: bool,
    ended: bool,
    /// The end was passed on.
    shut: bool,
    n_bytes: u64,
    /// Something was read, written or ended since it was last asked.
    moved: bool,
}

/// Which end of a direction failed.
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl Relay {
    /// Nothing carried yet. `idle` is the time in which something has to move.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self { idle, write: Duration::MAX, up: Direction::default(), down: Direction::default() }
    }

    /// Ends it as well if the upstream takes nothing of what waits for it in that time; with TLS, not all of what TLS keeps.
    #[must_use]
    pub const fn with_write_timeout(mut self, write: Duration) -> Self {
        self.write = write;
        self
    }

    /// What was read from the client already.
    pub fn from_client(&mut self, read: BytesMut) {
        self.up.unwritten = read;
    }

    /// What was read from the upstream already.
    pub fn from_upstream(&mut self, read: BytesMut) {
        self.down.unwritten = read;
    }

    /// What was carried so far.
    #[must_use]
    pub const fn carried(&self) -> Carried {
        Carried { up_bytes: self.up.n_bytes, down_bytes: self.down.n_bytes }
    }

    /// Carries bytes until both directions have ended, one side fails, or time is up; `draining` is ready when the server
    /// drains.
    pub async fn carry(
        &mut self,
        client: &mut dyn Stream,
        upstream: &mut dyn Stream,
        mut draining: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
    ) -> RelayEnd {
        let (mut timer, mut stall) = (LazyTimer::default(), LazyTimer::default());
        let mut last: Option<Pin<Box<Sleep>>> = None;
        timer.set(self.idle);
        poll_fn(|cx| {
            if last.is_none() && draining.as_mut().poll(cx).is_ready() {
                self.idle = self.idle.min(Duration::from_millis(TUNNEL_DRAIN_IDLE_MS));
                timer.set(self.idle);
                let deadline = Instant::now() + Duration::from_millis(TUNNEL_DRAIN_MS_MAX);
                last = Some(Box::pin(tokio::time::sleep_until(deadline)));
            }
            let polled = self.poll(client, upstream, cx);
            let went_up = std::mem::take(&mut self.up.moved);
            if std::mem::take(&mut self.down.moved) || went_up {
                timer.set(self.idle);
            }
            if !self.up.waits() {
                stall.clear();
            } else if went_up || !stall.is_set() {
                stall.set(self.write);
            }
            if let Poll::Ready(end) = polled {
                return Poll::Ready(end);
            }
            let drains = last.as_mut().is_some_and(|last| last.as_mut().poll(cx).is_ready());
            match (timer.poll_expired(cx), stall.poll_expired(cx)) {
                (true, _) if last.is_some() => Poll::Ready(RelayEnd::Drained),
                _ if drains => Poll::Ready(RelayEnd::Drained),
                (_, true) => Poll::Ready(RelayEnd::Stalled),
                (true, _) => Poll::Ready(RelayEnd::Idle),
                (false, false) => Poll::Pending,
            }
        })
        .await
    }

    fn poll(&mut self, client: &mut dyn Stream, upstream: &mut dyn Stream, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        // What the upstream said last reaches the client even if the upstream takes nothing any more.
        let down = match self.down.poll(upstream, client, cx) {
            Poll::Ready(Err(Fault::Read(error))) => return Poll::Ready(RelayEnd::Upstream(error)),
            Poll::Ready(Err(Fault::Write(error))) => return Poll::Ready(RelayEnd::Client(error)),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        match self.up.poll(client, upstream, cx) {
            Poll::Ready(Err(Fault::Read(error))) => Poll::Ready(RelayEnd::Client(error)),
            Poll::Ready(Err(Fault::Write(error))) => Poll::Ready(RelayEnd::Upstream(error)),
            Poll::Ready(Ok(())) if down => Poll::Ready(RelayEnd::Ended),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Direction {
    /// Move what can be moved. Ready when the end was passed on.
    fn poll(&mut self, from: &mut dyn Stream, to: &mut dyn Stream, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            while !self.unwritten.is_empty() {
                let n_bytes = ready!(write(to, &self.unwritten, cx)).map_err(Fault::Write)?;
                self.note(n_bytes);
                self.unwritten.advance(n_bytes);
            }
            // TLS keeps what it could not write; nothing else would send it.
            self.unflushed = true;
            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Fault::Write)?;
            self.unflushed = false;
            if self.ended {
                if !self.shut {
                    // Who is gone already needs no end.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            // What was kept is gone, and so is the memory it took.
            self.unwritten = BytesMut::new();
            ready!(self.shovel(from, to, cx)?);
        }
    }

    /// Whether something waits for the side it goes to.
    fn waits(&self) -> bool {
        self.unflushed || !self.unwritten.is_empty()
    }

    /// One read, and as much of it written as the other side takes; the rest is kept.
    fn shovel(&mut self, from: &mut dyn Stream, to: &mut dyn Stream, cx: &mut Context<'_>) -> Result<Poll<()>, Fault> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                // TLS that ends without its own word for it ends as TCP does.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Poll::Ready(read) => read.map_err(Fault::Read)?,
            }
            let mut unwritten = buffer.filled();
            self.ended = unwritten.is_empty();
            self.moved = true;
            while !unwritten.is_empty() {
                match write(to, unwritten, cx) {
                    Poll::Ready(written) => {
                        let n_bytes = written.map_err(Fault::Write)?;
                        self.note(n_bytes);
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

    fn note(&mut self, n_bytes: usize) {
        self.n_bytes += n_bytes as u64;
        self.moved = true;
    }
}

fn write(to: &mut dyn Stream, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        n_bytes => Poll::Ready(Ok(n_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// A relay under way, between two ends that a test holds.
    fn relay(
        mut relay: Relay,
        buffer_bytes: usize,
        draining: impl Future<Output = ()> + Send + 'static,
    ) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<(RelayEnd, Carried)>) {
        let ((client, mut near), (upstream, mut far)) = (duplex(buffer_bytes), duplex(buffer_bytes));
        let task = tokio::spawn(async move {
            let draining = std::pin::pin!(draining);
            (relay.carry(&mut near, &mut far, draining).await, relay.carried())
        });
        (client, upstream, task)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_direction_that_has_ended_leaves_the_other() {
        let (mut client, mut upstream, task) = relay(Relay::new(LONG), 64, std::future::pending());
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        upstream.read_to_string(&mut asked).await.unwrap();
        upstream.write_all(b"answer").await.unwrap();
        drop(upstream);
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.unwrap();
        assert_eq!((asked.as_str(), answered.as_str()), ("question", "answer"));
        let (end, carried) = task.await.unwrap();
        assert!(matches!(end, RelayEnd::Ended), "{end:?}");
        assert_eq!(carried, Carried { up_bytes: 8, down_bytes: 6 });
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_not_waited_for_longer_than_its_time() {
        let timed = Relay::new(LONG).with_write_timeout(Duration::from_secs(1));
        let (mut client, upstream, task) = relay(timed, 64, std::future::pending());
        // The upstream answers all the while, so that the relay is not idle.
        let (mut heard, mut said) = tokio::io::split(upstream);
        let answers = tokio::spawn(async move {
            while said.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        client.write_all(&[0; 32]).await.unwrap();
        let mut taken = [0; 32];
        heard.read_exact(&mut taken).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!task.is_finished(), "nothing waits for the upstream");
        let writer = tokio::spawn(async move {
            let _ = client.write_all(&[0; 1 << 20]).await;
            client
        });
        let (end, carried) = task.await.unwrap();
        assert!(matches!(end, RelayEnd::Stalled), "{end:?}");
        assert_eq!(carried.up_bytes, 32 + 64);
        let _ = (writer.await.unwrap(), answers.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_tls_keeps_waits_too_and_holds_the_writer_back() {
        let ((mut client, mut near), (upstream, far)) = (duplex(64), duplex(64));
        // Takes all it gets, as TLS does, but passes on no more than the upstream takes.
        let mut far = tokio::io::BufWriter::with_capacity(1 << 20, far);
        let writer = tokio::spawn(async move { client.write_all(&[0; 4 * RELAY_BUFFER_BYTES]).await });
        let mut relay = Relay::new(LONG).with_write_timeout(Duration::from_secs(1));
        let end = relay.carry(&mut near, &mut far, std::pin::pin!(std::future::pending())).await;
        assert!(matches!(end, RelayEnd::Stalled), "{end:?}");
        assert!(relay.carried().up_bytes <= 64 + RELAY_BUFFER_BYTES as u64, "{:?}", relay.carried());
        drop((near, upstream));
        assert!(writer.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn its_ends_are_told_apart() {
        let (client, upstream, task) = relay(Relay::new(Duration::from_secs(1)), 64, std::future::pending());
        let (end, _) = task.await.unwrap();
        assert!(matches!(end, RelayEnd::Idle), "{end:?}");
        drop((client, upstream));
        let (client, upstream, task) = relay(Relay::new(LONG), 64, std::future::ready(()));
        let (end, _) = task.await.unwrap();
        assert!(matches!(end, RelayEnd::Drained), "{end:?}");
        drop((client, upstream));
        let (mut client, upstream, task) = relay(Relay::new(LONG), 64, std::future::pending());
        drop(upstream);
        client.write_all(b"x").await.unwrap();
        let (end, _) = task.await.unwrap();
        assert!(matches!(end, RelayEnd::Upstream(_)), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_one_is_drained_too() {
        let (client, mut upstream, task) = relay(Relay::new(LONG), 64, std::future::ready(()));
        let (mut heard, began) = (client, Instant::now());
        let said = tokio::spawn(async move {
            while upstream.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let mut all = Vec::new();
        heard.read_to_end(&mut all).await.unwrap();
        let (end, _) = task.await.unwrap();
        assert!(matches!(end, RelayEnd::Drained), "{end:?}");
        assert!(began.elapsed() <= Duration::from_millis(TUNNEL_DRAIN_MS_MAX + 100), "{:?}", began.elapsed());
        said.await.unwrap();
    }
}
