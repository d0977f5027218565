//! The datagrams of one client to one address of ours, carried to an upstream and back.
//!
//! Invariants: it holds no buffer while nothing waits; one datagram at most waits for the upstream's socket, a bounded number
//! behind it. A session in which nothing moves for its idle time ends, as does one whose server drains and in which nothing
//! moves for a moment. Datagrams are counted when they were sent. Whether an upstream refuses is judged a while after the first
//! was sent to it, whatever the client sends until then. Its place and its entry among the sessions go with it.

use super::listener::{SharedTable, Waiting};
use super::places::Place;
use super::socket::{DatagramSocket, Flow};
use super::table::SessionId;
use crate::http::timer::LazyTimer;
use crate::relay::Carried;
use bytes::Bytes;
use gateway::Datagrams;
use gateway::stats::{DatagramDrops, Dropped};
use model::limits::{DATAGRAM_BYTES_MAX, TUNNEL_DRAIN_IDLE_MS, TUNNEL_DRAIN_MS_MAX, UDP_RESENT_BYTES_MAX};
use nix::errno::Errno;
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

thread_local! {
    /// For an answer; a byte more than it may have.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; DATAGRAM_BYTES_MAX + 1].into());
}

/// See the module.
pub struct DatagramSession {
    flow: Flow,
    from_client: mpsc::Receiver<Waiting>,
    to_client: Arc<DatagramSocket>,
    drops: Arc<DatagramDrops>,
    /// What the upstream's socket did not take yet.
    unsent: Option<Waiting>,
    /// The first datagram, until there is an answer.
    first: Option<Bytes>,
    answered: bool,
    carried: CarriedDatagrams,
    /// Something went either way since it was last asked.
    moved: bool,
    _entry: TableEntry,
    _place: Place,
}

/// What was carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CarriedDatagrams {
    /// Bytes.
    pub bytes: Carried,
    /// Datagrams.
    pub datagrams: Datagrams,
}

/// How long there is patience.
#[derive(Clone, Copy, Debug)]
pub struct DatagramPatience {
    /// Nothing moves either way for so long: the end.
    pub idle: Duration,
    /// So long after the first datagram no refusal has come: it is taken for arrived.
    pub refusal: Duration,
}

/// What becomes known of an upstream while datagrams are carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramNews {
    /// It answers, for the first time.
    Answered,
    /// It has neither answered nor refused.
    NotRefused,
}

/// A try to carry datagrams to one upstream.
struct Attempt {
    /// The first datagram, if another upstream has refused it.
    again: Option<Bytes>,
    /// See [`DatagramPatience::refusal`], until something was sent.
    patience: Option<Duration>,
    unrefused: LazyTimer,
}

impl Attempt {
    fn note_sent(&mut self) {
        if let Some(patience) = self.patience.take() {
            self.unrefused.set(patience);
        }
    }
}

/// How carrying ended.
#[derive(Debug)]
pub enum DatagramEnd {
    /// Nothing moved for its idle time.
    Silent,
    /// Nobody is there for the upstream's address.
    Refused(io::Error),
    /// The server drained.
    Drained,
}

/// What a session has in the table.
pub(super) struct TableEntry {
    pub(super) table: SharedTable,
    pub(super) flow: Flow,
    pub(super) id: SessionId,
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        self.table.lock().close(&self.flow, self.id);
    }
}

impl DatagramSession {
    pub(super) fn new(
        from_client: mpsc::Receiver<Waiting>,
        to_client: Arc<DatagramSocket>,
        drops: Arc<DatagramDrops>,
        entry: TableEntry,
        place: Place,
    ) -> Self {
        Self {
            flow: entry.flow,
            from_client,
            to_client,
            drops,
            unsent: None,
            first: None,
            answered: false,
            carried: CarriedDatagrams::default(),
            moved: false,
            _entry: entry,
            _place: place,
        }
    }

    /// Between whom it goes.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        self.flow
    }

    /// Whether the upstream has sent anything.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered
    }

    /// What was carried so far.
    #[must_use]
    pub const fn carried(&self) -> CarriedDatagrams {
        self.carried
    }

    /// Carries datagrams until nothing moves, the upstream refuses, or the server drains, when `draining` is ready. If an
    /// upstream that never answered has refused, another one can be tried: it gets the first datagram too. `tell` hears each
    /// of the [`DatagramNews`] once at most.
    pub async fn carry(
        &mut self,
        upstream: &UdpSocket,
        patience: DatagramPatience,
        mut draining: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
        mut tell: impl FnMut(DatagramNews),
    ) -> DatagramEnd {
        let DatagramPatience { mut idle, refusal: unrefused } = patience;
        let mut timer = LazyTimer::default();
        let mut last: Option<Pin<Box<Sleep>>> = None;
        timer.set(idle);
        let mut attempt =
            Attempt { again: self.first.clone(), patience: Some(unrefused), unrefused: LazyTimer::default() };
        let drops = Arc::clone(&self.drops);
        let mut refusal = pin!(refusal(upstream, &drops));
        poll_fn(|cx| {
            if last.is_none() && draining.as_mut().poll(cx).is_ready() {
                idle = idle.min(Duration::from_millis(TUNNEL_DRAIN_IDLE_MS));
                timer.set(idle);
                let deadline = Instant::now() + Duration::from_millis(TUNNEL_DRAIN_MS_MAX);
                last = Some(Box::pin(tokio::time::sleep_until(deadline)));
            }
            if let Poll::Ready(refused) = self.poll(upstream, &mut attempt, &mut tell, cx) {
                return Poll::Ready(DatagramEnd::Refused(refused));
            }
            // Asked last: what came before it is an answer all the same.
            if let Poll::Ready(refused) = refusal.as_mut().poll(cx) {
                return Poll::Ready(DatagramEnd::Refused(refused));
            }
            if attempt.unrefused.poll_expired(cx) {
                attempt.unrefused.clear();
                if !self.answered {
                    tell(DatagramNews::NotRefused);
                }
            }
            if std::mem::take(&mut self.moved) {
                timer.set(idle);
            }
            let drains = last.as_mut().is_some_and(|last| last.as_mut().poll(cx).is_ready());
            match (timer.poll_expired(cx), last.is_some()) {
                (true, false) => Poll::Ready(DatagramEnd::Silent),
                (true, true) => Poll::Ready(DatagramEnd::Drained),
                (false, _) if drains => Poll::Ready(DatagramEnd::Drained),
                (false, _) => Poll::Pending,
            }
        })
        .await
    }

    /// Carries what there is. Ready when the upstream refuses.
    fn poll(
        &mut self,
        upstream: &UdpSocket,
        attempt: &mut Attempt,
        tell: &mut impl FnMut(DatagramNews),
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        if let Poll::Ready(refused) = self.poll_up(upstream, attempt, cx) {
            return Poll::Ready(refused);
        }
        self.poll_down(upstream, tell, cx)
    }

    fn poll_up(&mut self, upstream: &UdpSocket, attempt: &mut Attempt, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(first) = &attempt.again {
            let sent = ready!(upstream.poll_send(cx, first));
            attempt.again = None;
            if let Err(refused) = sent.or_else(|error| dropped(&self.drops, error)) {
                return Poll::Ready(refused);
            }
            attempt.note_sent();
        }
        loop {
            if self.unsent.is_none() {
                // Its queue never ends before it does.
                let Some(next) = ready!(self.from_client.poll_recv(cx)) else { return Poll::Pending };
                self.unsent = Some(next);
                self.moved = true;
            }
            let Some(waiting) = &self.unsent else { continue };
            let sent = ready!(upstream.poll_send(cx, &waiting.bytes));
            let Some(Waiting { bytes, .. }) = self.unsent.take() else { continue };
            match sent.or_else(|error| dropped(&self.drops, error)) {
                Ok(0) if !bytes.is_empty() => {}
                Ok(_) => {
                    attempt.note_sent();
                    self.note_sent(&bytes);
                }
                Err(refused) => {
                    self.keep_first(&bytes);
                    return Poll::Ready(refused);
                }
            }
        }
    }

    fn note_sent(&mut self, bytes: &Bytes) {
        self.keep_first(bytes);
        self.carried.bytes.up_bytes += bytes.len() as u64;
        self.carried.datagrams.n_in += 1;
    }

    /// Keeps what may have to be sent once more, if it is the first and not long.
    fn keep_first(&mut self, bytes: &Bytes) {
        let is_first = self.carried.datagrams.n_in == 0 && self.first.is_none();
        if is_first && !self.answered && bytes.len() <= UDP_RESENT_BYTES_MAX {
            self.first = Some(bytes.clone());
        }
    }

    fn poll_down(
        &mut self,
        upstream: &UdpSocket,
        tell: &mut impl FnMut(DatagramNews),
        cx: &mut Context<'_>,
    ) -> Poll<io::Error> {
        loop {
            let received = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                let received = ready!(upstream.poll_recv(cx, &mut buffer));
                Poll::Ready(received.map(|()| self.answer(buffer.filled())))
            });
            match ready!(received) {
                Ok(()) if self.answered => {}
                Ok(()) => {
                    (self.answered, self.first) = (true, None);
                    tell(DatagramNews::Answered);
                }
                Err(error) => match dropped(&self.drops, error) {
                    Ok(_) => {}
                    Err(refused) => return Poll::Ready(refused),
                },
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        self.moved = true;
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return self.drops.count(Dropped::Size);
        }
        match self.to_client.answer(&self.flow, bytes) {
            Ok(()) => {
                self.carried.bytes.down_bytes += bytes.len() as u64;
                self.carried.datagrams.n_out += 1;
            }
            Err(error) if is_too_long(&error) => self.drops.count(Dropped::Size),
            Err(_) => self.drops.count(Dropped::Socket),
        }
    }
}

/// Waits for what the network says of datagrams that were sent, which nobody may be reading or writing for.
async fn refusal(upstream: &UdpSocket, drops: &DatagramDrops) -> io::Error {
    loop {
        let said = || upstream.take_error()?.ok_or_else(|| io::ErrorKind::WouldBlock.into());
        let error = match upstream.async_io(Interest::ERROR, said).await {
            Ok(error) | Err(error) => error,
        };
        if let Err(refused) = dropped(drops, error) {
            return refused;
        }
    }
}

/// What is wrong with one datagram drops that; anything else is told by the upstream, or on the way to it.
fn dropped(drops: &DatagramDrops, error: io::Error) -> io::Result<usize> {
    if is_too_long(&error) {
        drops.count(Dropped::Size);
    } else if error.raw_os_error() == Some(Errno::ENOBUFS as i32) {
        drops.count(Dropped::Socket);
    } else {
        return Err(error);
    }
    Ok(0)
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMSGSIZE as i32)
}

impl fmt::Debug for DatagramSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatagramSession({} -> {}, {:?})", self.flow.source, self.flow.destination, self.carried)
    }
}
