//! A listener of UDP: receives, and hands each datagram to its session.
//!
//! Invariants: a datagram that finds no room is dropped and counted; nothing else is said about it, so nobody can have lines
//! written or answers sent by forging addresses. When the server drains nothing is received any more, because another
//! process may be reading from the same socket; sessions go on until their answers have come.

use super::places::Places;
use super::session::{DatagramSession, TableEntry};
use super::socket::{DatagramSocket, Flow, Incoming, Received};
use super::table::SessionTable;
use crate::listener::ListenError;
use crate::shutdown::{Drain, Tasks};
use bytes::Bytes;
use gateway::stats::{DatagramDrops, Dropped};
use model::limits::{UDP_QUEUED_BYTES_MAX, UDP_SESSION_QUEUE_MAX, UDP_SESSION_QUEUED_BYTES_MAX, UDP_SESSIONS_MAX};
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A pause after receiving failed for lack of a resource, so that the loop does not spin.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);

pub(super) type SharedTable = Arc<Mutex<SessionTable<Queue>>>;

/// A datagram that waits for its session.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bytes: Bytes,
    _of_session: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// Where the datagrams of a session wait for it.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: mpsc::Sender<Waiting>,
    /// Room for their bytes, so that one session does not take that of all.
    bytes: Arc<Semaphore>,
}

impl Queue {
    fn new() -> (Self, mpsc::Receiver<Waiting>) {
        let (waiting, from_client) = mpsc::channel(UDP_SESSION_QUEUE_MAX);
        (Self { waiting, bytes: Arc::new(Semaphore::new(UDP_SESSION_QUEUED_BYTES_MAX)) }, from_client)
    }

    /// Adds a datagram, whose bytes need room among those of all as well.
    fn push(&self, bytes: &[u8], room: &DatagramRoom) -> Result<(), Dropped> {
        let len = u32::try_from(bytes.len()).map_err(|_| Dropped::Size)?;
        let take = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_many_owned(len).map_err(|_| Dropped::Queue);
        let place = self.waiting.try_reserve().map_err(|_| Dropped::Queue)?;
        let (of_session, of_all) = (take(&self.bytes)?, take(&room.bytes)?);
        place.send(Waiting { bytes: Bytes::copy_from_slice(bytes), _of_session: of_session, _of_all: of_all });
        Ok(())
    }
}

/// Room for the sessions of all listeners, and for what waits for them.
#[derive(Clone, Debug)]
pub struct DatagramRoom {
    places: Places,
    bytes: Arc<Semaphore>,
    drops: Arc<DatagramDrops>,
}

impl DatagramRoom {
    /// Room for as many sessions as there may be, and for no more than there can be sockets for: half of the files that may
    /// be open. What finds no room is counted.
    #[must_use]
    pub fn new(files_max: usize, drops: Arc<DatagramDrops>) -> Self {
        Self {
            places: Places::new(UDP_SESSIONS_MAX.min(files_max / 2)),
            bytes: Arc::new(Semaphore::new(UDP_QUEUED_BYTES_MAX)),
            drops,
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct DatagramListener {
    inner: UdpSocket,
}

impl DatagramListener {
    /// Binds an address; port 0 lets the system choose.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let inner = UdpSocket::bind(address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        inner.map(|inner| Self { inner }).map_err(|source| ListenError::new(address, source))
    }

    /// Takes a socket that another process has bound.
    ///
    /// # Errors
    /// Whatever the system says, also that it is a socket of another kind.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        if socket.r#type()? != socket2::Type::DGRAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is not one of datagrams"));
        }
        socket.set_nonblocking(true)?;
        Ok(Self { inner: socket.into() })
    }

    /// The socket, once more: for another process.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.inner.as_fd().try_clone_to_owned()
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Receives until draining begins and runs `serve` for each session, all on this event loop. Then waits for them, at
    /// most `patience` from when all is to end or until it is over, and returns how many it had to end.
    pub async fn run<F, S>(self, room: DatagramRoom, mut drain: Drain, patience: Duration, serve: S) -> usize
    where
        S: Fn(DatagramSession) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = match DatagramSocket::new(self.inner) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                tracing::error!(%error, "a listener of UDP cannot be served");
                return 0;
            }
        };
        let table = Arc::new(Mutex::new(SessionTable::new()));
        let mut sessions = Sessions { socket: Arc::clone(&socket), table, room, tasks: Tasks::new(), serve };
        let mut incoming = Incoming::new();
        // The event loop has to have heard that answers can be sent before one is.
        tokio::select! {
            () = drain.begun() => {}
            _ = socket.writable() => {}
        }
        loop {
            let received = tokio::select! {
                biased;
                () = drain.begun() => break,
                received = socket.receive(&mut incoming) => received,
            };
            let taken = match received {
                Ok(Received::Whole(flow, len)) => sessions.take(flow, incoming.bytes(len)),
                Ok(Received::TooLong) => Err(Dropped::Size),
                Ok(Received::Stray) => Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "receiving failed");
                    tokio::time::sleep(RECEIVE_PAUSE).await;
                    Ok(())
                }
            };
            if let Err(why) = taken {
                sessions.room.drops.count(why);
            }
        }
        let mut tasks = sessions.tasks;
        tokio::select! {
            () = tasks.ended() => {}
            () = drain.ending() => {}
        }
        tasks.join_until(drain.over(patience)).await
    }
}

/// The sessions of a listener.
struct Sessions<S> {
    socket: Arc<DatagramSocket>,
    table: SharedTable,
    room: DatagramRoom,
    tasks: Tasks,
    serve: S,
}

impl<S, F> Sessions<S>
where
    S: Fn(DatagramSession) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    /// Hands a datagram to its session, which begins if there is none.
    fn take(&mut self, flow: Flow, bytes: &[u8]) -> Result<(), Dropped> {
        // One that has just ended takes nothing more.
        let known = self
            .table
            .lock()
            .get(&flow)
            .filter(|queue| !queue.waiting.is_closed())
            .map(|queue| queue.push(bytes, &self.room));
        known.unwrap_or_else(|| self.open(flow, bytes))
    }

    fn open(&mut self, flow: Flow, first: &[u8]) -> Result<(), Dropped> {
        let place = self.room.places.take(flow.source.ip())?;
        let (queue, from_client) = Queue::new();
        queue.push(first, &self.room)?;
        let id = self.table.lock().open(flow, queue);
        let entry = TableEntry { table: Arc::clone(&self.table), flow, id };
        let session =
            DatagramSession::new(from_client, Arc::clone(&self.socket), Arc::clone(&self.room.drops), entry, place);
        self.tasks.spawn((self.serve)(session));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::limits::DATAGRAM_BYTES_MAX;

    #[test]
    fn so_many_bytes_of_a_session_wait_and_no_more() {
        let room = DatagramRoom::new(usize::MAX, Arc::default());
        let (queue, mut from_client) = Queue::new();
        let longest = vec![0; DATAGRAM_BYTES_MAX];
        for _ in 0..UDP_SESSION_QUEUED_BYTES_MAX / DATAGRAM_BYTES_MAX {
            queue.push(&longest, &room).unwrap();
        }
        let left = UDP_SESSION_QUEUED_BYTES_MAX % DATAGRAM_BYTES_MAX;
        assert_eq!(queue.push(&longest[..=left], &room), Err(Dropped::Queue));
        queue.push(&longest[..left], &room).unwrap();
        assert_eq!(queue.push(b"x", &room), Err(Dropped::Queue));
        assert_eq!(room.bytes.available_permits(), UDP_QUEUED_BYTES_MAX - UDP_SESSION_QUEUED_BYTES_MAX);
        assert_eq!(queue.push(b"", &room), Ok(()), "it takes no room");
        from_client.try_recv().unwrap();
        assert_eq!(queue.push(b"x", &room), Ok(()), "what has gone makes room");
    }

    #[test]
    fn so_many_bytes_of_all_wait_and_no_more() {
        let room = DatagramRoom::new(usize::MAX, Arc::default());
        let whole = vec![0; UDP_SESSION_QUEUED_BYTES_MAX / 8];
        let mut full: Vec<_> = (0..UDP_QUEUED_BYTES_MAX / UDP_SESSION_QUEUED_BYTES_MAX).map(|_| Queue::new()).collect();
        for (queue, _) in &full {
            (0..8).for_each(|_| queue.push(&whole, &room).unwrap());
        }
        let (other, _from_client) = Queue::new();
        assert_eq!(other.push(b"x", &room), Err(Dropped::Queue));
        full.pop();
        assert_eq!(other.push(b"x", &room), Ok(()), "what has gone makes room");
    }

    #[test]
    fn there_are_sessions_for_half_of_the_files_and_never_more_than_the_limit() {
        let sessions = |files_max| DatagramRoom::new(files_max, Arc::default()).places.left();
        assert_eq!(sessions(1_024), 512);
        assert_eq!(sessions(2 * UDP_SESSIONS_MAX - 2), UDP_SESSIONS_MAX - 1);
        assert_eq!(sessions(usize::MAX), UDP_SESSIONS_MAX);
    }

    #[test]
    fn a_socket_of_another_kind_is_not_taken() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(DatagramListener::adopt(tcp.into()).is_err());
        let udp = DatagramListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let adopted = DatagramListener::adopt(udp.socket().unwrap()).unwrap();
        assert_eq!(adopted.address().unwrap(), udp.address().unwrap());
    }
}
