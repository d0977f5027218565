//! The one driver: runs any [`Connection`] on any socket against the broker.
//!
//! ```text
//! socket -> ReadBuffer -> Connection -> requests -> Link (broker) -> events -> Connection -> Outgoing -> socket
//! ```
//!
//! Invariants: each turn reads once, hands the broker everything that was whole in it as one batch, and writes once.
//! Back-pressure is not reading: while the link wants no input or too much is outgoing, the socket is left alone, and
//! while much is outgoing no delivery is taken. A large body is read piece by piece as the socket takes it. Buffers of an idle connection are given back. A reply that must be durable holds back the requests behind it.
//! A panic in the connection ends the connection; a panic in the broker ends the process, and recovery runs.

use crate::abort::AbortOnPanic;
use crate::bell::Bell;
use crate::clock::Clock;
use crate::idle::Idle;
use crate::read_buffer::ReadBuffer;
use crate::shutdown::Drain;
use broker::{Broker, ConnectionMeta, Link, Reply};
use engine::Ticket;
use model::limits::{BODY_PIECE_BYTES, READ_BUFFER_BYTES};
use model::{Mono, Now};
use protocol::{Connection, Event, Outgoing, Request, Status};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

/// Bytes outgoing above which nothing more is read.
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;
/// Bytes outgoing above which nothing more is taken from the broker before some are written. What waits there is only
/// referred to; here it is a copy.
const TAKEN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the buffer of what is outgoing that an idle connection may keep.
const OUTGOING_BYTES_KEPT: usize = 4 * 1024;
/// Slices of one vectored write.
const SLICES: usize = 64;

/// What a client has to take the goodbye and answer it. Who is idle answers at once or not at all.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a peer has, once its connection is over, to take what is still to be written.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// What a client is told when the server stops, in RabbitMQ's words.
const SHUTDOWN: &str = "broker forced connection closure with reason 'shutdown'";

/// How the driver treats a connection.
#[derive(Clone, Copy, Debug)]
pub struct DriverSettings {
    /// What a connection has, once the server drains, to get its confirms. To answer the goodbye it has a second.
    pub drain_patience: Duration,
}

/// Runs a connection until it ends.
pub async fn drive<Io>(
    io: Io,
    connection: Box<dyn Connection>,
    broker: Arc<Broker>,
    meta: ConnectionMeta,
    clock: Clock,
    mut drain: Drain,
    settings: DriverSettings,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut driver = Driver::new(io, connection, broker, meta, clock);
    let ended = tokio::select! {
        biased;
        ended = poll_fn(|cx| driver.poll(cx)) => Some(ended),
        // A peer that always has something to read uses up the task's budget each time; the end is heard all the same.
        () = tokio::task::unconstrained(drain.begun()) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => driver.drain(settings.drain_patience).await,
    };
    driver.log_end(&ended);
    let guard = AbortOnPanic;
    driver.link.close(driver.clock.now());
    drop(guard);
    // The peer may be gone already; there is nobody left to tell.
    let _ =
        tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| Pin::new(&mut driver.io).poll_shutdown(cx))).await;
}

/// Why a connection is over.
#[derive(Debug)]
enum Ended {
    /// The protocol said so.
    Closed,
    /// The peer closed its side.
    PeerGone,
    /// The socket failed.
    Io(io::Error),
    /// The peer sent a piece that does not fit any buffer.
    Oversize,
    /// The server drains and the peer did not answer in time.
    OutOfPatience,
}

/// What keeps a connection from asking for more.
enum Held {
    /// A reply that waits until its ticket is durable.
    Reply(Ticket, Event),
    /// A request that the broker wants handed in again.
    Request(Request),
}

struct Driver<Io> {
    io: Io,
    connection: Box<dyn Connection>,
    broker: Arc<Broker>,
    link: Link,
    bell: Arc<Bell>,
    clock: Clock,
    incoming: ReadBuffer,
    outgoing: Outgoing,
    outgoing_idle: Idle,
    /// What the requests behind it wait for.
    held: Option<Held>,
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off; it may be earlier than needed, never later.
    armed: Option<Mono>,
    /// Nothing more is read: the server drains.
    deaf: bool,
    /// The connection is over and the link closed; only what is outgoing is still written.
    leaving: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Driver<Io> {
    fn new(io: Io, connection: Box<dyn Connection>, broker: Arc<Broker>, meta: ConnectionMeta, clock: Clock) -> Self {
        let bell = Arc::new(Bell::new());
        let wake: Arc<dyn broker::Wake> = Arc::clone(&bell) as _;
        let link = broker.connect(meta, wake);
        Self {
            io,
            connection,
            broker,
            link,
            bell,
            clock,
            incoming: ReadBuffer::new(READ_BUFFER_BYTES),
            outgoing: Outgoing::new(),
            outgoing_idle: Idle::default(),
            held: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            deaf: false,
            leaving: false,
        }
    }

    /// One turn after another until there is nothing to do but wait.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let rung = self.bell.poll_rung(cx).is_ready();
            let now = self.clock.now();
            let more = self.turn(now);
            if !self.outgoing.is_empty() {
                self.outgoing_idle.note_use(now.mono, self.outgoing.capacity() > OUTGOING_BYTES_KEPT);
            }
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(Ended::Io(error));
            }
            let guard = AbortOnPanic;
            self.link.written(self.outgoing.len(), now);
            drop(guard);
            self.ask_for_body();
            if more && self.outgoing.len() < TAKEN_BYTES_MAX {
                continue;
            }
            if self.connection.status() == Status::Closed {
                return self.poll_leave(cx);
            }
            let read = match self.poll_read(cx) {
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                Poll::Pending => false,
            };
            let timed_out = match self.poll_timer(cx) {
                Ok(timed_out) => timed_out,
                Err(ended) => return Poll::Ready(ended),
            };
            if !(rung || read || timed_out) {
                return Poll::Pending;
            }
        }
    }

    /// Everything that needs no socket: requests to the broker, events from it. Returns whether events were left behind
    /// because much is outgoing.
    fn turn(&mut self, now: Now) -> bool {
        if self.leaving {
            return false;
        }
        self.ask(now);
        let guard = AbortOnPanic;
        self.link.flush(now);
        drop(guard);
        while self.outgoing.len() < TAKEN_BYTES_MAX {
            let guard = AbortOnPanic;
            let event =
                if self.connection.is_sending_body() { self.link.poll_notice(now) } else { self.link.poll_event(now) };
            drop(guard);
            let Some(event) = event else { return false };
            self.connection.handle_event(event, now, &mut self.outgoing);
        }
        true
    }

    /// Has the next piece of a large body read while little is outgoing; the bell rings when it is there.
    fn ask_for_body(&mut self) {
        if self.outgoing.len() < BODY_PIECE_BYTES
            && !self.leaving
            && let Some(read) = self.connection.poll_body()
        {
            let guard = AbortOnPanic;
            self.link.read_body(&read);
            drop(guard);
        }
    }

    /// Hands the broker what the connection asks for, in order.
    fn ask(&mut self, now: Now) {
        let mut next = match self.held.take() {
            Some(Held::Reply(ticket, event)) => {
                if !self.tell_when_durable(ticket, event, now) {
                    return;
                }
                self.connection.poll_request()
            }
            Some(Held::Request(request)) => Some(request),
            None => self.connection.poll_request(),
        };
        while let Some(request) = next {
            let shown = changes_info(&request);
            let upcoming = self.connection.upcoming();
            let guard = AbortOnPanic;
            upcoming.into_iter().for_each(|message| self.link.expect(message));
            let reply = self.link.handle(request, now);
            drop(guard);
            match reply {
                Reply::None => {}
                Reply::Now(event) => self.connection.handle_event(event, now, &mut self.outgoing),
                Reply::After(ticket, event) => {
                    if !self.tell_when_durable(ticket, event, now) {
                        return;
                    }
                }
                Reply::Wait(request) => {
                    self.held = Some(Held::Request(request));
                    return;
                }
            }
            if shown {
                self.link.set_info(self.connection.info());
            }
            next = self.connection.poll_request();
        }
    }

    /// Tells the reply if its ticket is durable, else holds it. Returns whether it was told.
    fn tell_when_durable(&mut self, ticket: Ticket, event: Event, now: Now) -> bool {
        let durable = ticket <= self.broker.durable();
        if durable {
            self.connection.handle_event(event, now, &mut self.outgoing);
        } else {
            self.held = Some(Held::Reply(ticket, event));
        }
        durable
    }

    /// The connection is over: the broker has everything back at once, and what is outgoing has a little time.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.outgoing.is_empty() {
            return Poll::Ready(Ended::Closed);
        }
        if !self.leaving {
            self.leaving = true;
            let guard = AbortOnPanic;
            self.link.close(self.clock.now());
            drop(guard);
            self.timer.as_mut().reset(Instant::now() + LAST_WRITE);
        }
        self.timer.as_mut().poll(cx).map(|()| Ended::OutOfPatience)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.outgoing.slices(&mut slices);
            match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..filled]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.outgoing.advance(n),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads once if input is wanted. `Ok(false)` means nothing was read because nothing is wanted.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Ended>> {
        if self.is_backed_up() || !self.wants_input() {
            return Poll::Ready(Ok(false));
        }
        self.read_once(cx)
    }

    /// Whether so much is to be written that what more input would bring has to wait.
    fn is_backed_up(&self) -> bool {
        self.outgoing.len() + self.connection.bytes_behind_body() >= OUTGOING_BYTES_MAX
    }

    /// Whether input could be used, however much is outgoing.
    fn wants_input(&self) -> bool {
        !self.deaf && self.held.is_none() && self.connection.status() != Status::Closed && self.link.wants_input()
    }

    fn read_once(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Ended>> {
        if self.incoming.is_full() {
            return Poll::Ready(Err(Ended::Oversize));
        }
        match self.incoming.poll_read(&mut self.io, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(Ended::Io(error))),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Ended::PeerGone)),
            Poll::Ready(Ok(_)) => {
                let now = self.clock.now();
                self.incoming.note_read(now.mono);
                let used = self.connection.handle_input(self.incoming.unread(), now, &mut self.outgoing);
                self.incoming.consume(used);
                Poll::Ready(Ok(true))
            }
        }
    }

    /// Keeps the timer no later than the connection's deadline and the looks at the buffers, and sees to what is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let timeout = self.connection.poll_timeout();
        let idle = [self.incoming.poll_timeout(), self.outgoing_idle.poll_timeout()];
        let Some(deadline) = timeout.into_iter().chain(idle.into_iter().flatten()).min() else { return Ok(false) };
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.timer.as_mut().reset(Instant::from_std(self.clock.instant(deadline)));
            self.armed = Some(deadline);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        self.armed = None;
        let now = self.clock.now().mono;
        self.incoming.handle_timeout(now);
        if self.outgoing_idle.is_over(now) {
            self.outgoing.release();
        }
        if timeout.is_some_and(|timeout| timeout <= now) {
            // A peer that is slow to take what we send is not read and may have spoken all the while: it is heard
            // before its silence is judged, one buffer each time.
            if self.is_backed_up()
                && self.wants_input()
                && let Poll::Ready(Err(ended)) = self.read_once(cx)
            {
                return Err(ended);
            }
            let now = self.clock.now();
            if !self.wants_input() {
                self.connection.note_unread(now);
            }
            self.connection.handle_timeout(now, &mut self.outgoing);
        }
        Ok(true)
    }

    /// Lets the confirms out that are owed, says goodbye, and waits for the answer.
    async fn drain(&mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        self.deaf = true;
        let owed = poll_fn(|cx| match self.poll(cx) {
            Poll::Pending if !self.link.owes_confirms() && self.held.is_none() => Poll::Ready(None),
            other => other.map(Some),
        });
        match tokio::time::timeout_at(deadline, owed).await {
            Ok(Some(ended)) => return ended,
            Ok(None) => {}
            Err(_) => return Ended::OutOfPatience,
        }
        self.deaf = false;
        self.connection.shut_down(SHUTDOWN, self.clock.now(), &mut self.outgoing);
        let deadline = deadline.min(Instant::now() + GOODBYE);
        match tokio::time::timeout_at(deadline, poll_fn(|cx| self.poll(cx))).await {
            Ok(ended) => ended,
            Err(_) => Ended::OutOfPatience,
        }
    }

    fn log_end(&self, ended: &Ended) {
        let info = self.connection.info();
        let why = self.connection.failure();
        let (user, client) = (info.user.unwrap_or_default(), info.client.unwrap_or_default());
        match (ended, why) {
            (Ended::Io(error), _) if !is_ordinary(error) => tracing::info!(user, client, %error, "connection failed"),
            (_, Some(why)) => tracing::info!(user, client, reason = %why, "connection ended"),
            (Ended::Oversize, None) => tracing::info!(user, client, "connection ended: oversize input"),
            (ended, None) => tracing::debug!(user, client, ?ended, "connection ended"),
        }
    }
}

/// A peer that simply went away is nothing to report.
fn is_ordinary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
}

/// Whether what people are shown of the connection changes with this request.
fn changes_info(request: &Request) -> bool {
    matches!(
        request,
        Request::Authenticate(_) | Request::OpenVhost(_) | Request::OpenChannel(_) | Request::CloseChannel(_)
    )
}
