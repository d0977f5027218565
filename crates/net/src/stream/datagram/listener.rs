//! A listener of UDP: receives, and hands each datagram to its session.
//!
//! Invariants: a datagram that finds no room is dropped and counted; nothing else is said about it, so nobody can have lines
//! written or answers sent by forging addresses. When the server drains nothing is received any more, because another
//! process may be reading from the same socket; sessions go on until their answers have come.

use super::session::{DatagramSession, TableEntry};
use super::socket::{DatagramSocket, Flow, Incoming, Received};
use super::table::SessionTable;
use crate::listener::ListenError;
use crate::shutdown::{Drain, Tasks};
use bytes::Bytes;
use gateway::stats::{DatagramDrops, Dropped};
use model::limits::{UDP_LISTENER_SESSIONS_MAX, UDP_QUEUED_BYTES_MAX, UDP_SESSION_QUEUE_MAX, UDP_SESSIONS_MAX};
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A pause after receiving failed for lack of a resource, so that the loop does not spin.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);

pub(super) type SharedTable = Arc<Mutex<SessionTable<mpsc::Sender<Waiting>>>>;

/// A datagram that waits for its session.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Room for the sessions of all listeners, and for what waits for them.
#[derive(Clone, Debug)]
pub struct DatagramRoom {
    sessions: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    drops: Arc<DatagramDrops>,
}

impl DatagramRoom {
    /// Room for as many sessions as there may be, and for no more than there can be sockets for: half of the files that may
    /// be open. What finds no room is counted.
    #[must_use]
    pub fn new(files_max: usize, drops: Arc<DatagramDrops>) -> Self {
        Self {
            sessions: Arc::new(Semaphore::new(UDP_SESSIONS_MAX.min(files_max / 2))),
            bytes: Arc::new(Semaphore::new(UDP_QUEUED_BYTES_MAX)),
            drops,
        }
    }

    fn waiting(&self, bytes: &[u8]) -> Result<Waiting, Dropped> {
        let len = u32::try_from(bytes.len()).map_err(|_| Dropped::Size)?;
        let room = Arc::clone(&self.bytes).try_acquire_many_owned(len).map_err(|_| Dropped::Queue)?;
        Ok(Waiting { bytes: Bytes::copy_from_slice(bytes), _room: room })
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
        let table = Arc::new(Mutex::new(SessionTable::new(UDP_LISTENER_SESSIONS_MAX)));
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
        let waiting = self.room.waiting(bytes)?;
        let sent = match self.table.lock().get(&flow) {
            Some(queue) => queue.try_send(waiting),
            None => Err(TrySendError::Closed(waiting)),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Dropped::Queue),
            // There is none, or it has just ended.
            Err(TrySendError::Closed(waiting)) => self.open(flow, waiting),
        }
    }

    fn open(&mut self, flow: Flow, first: Waiting) -> Result<(), Dropped> {
        let place = Arc::clone(&self.room.sessions).try_acquire_owned().map_err(|_| Dropped::Sessions)?;
        let (queue, from_client) = mpsc::channel(UDP_SESSION_QUEUE_MAX);
        queue.try_send(first).map_err(|_| Dropped::Queue)?;
        let id = self.table.lock().open(flow, queue)?;
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
    fn so_many_bytes_wait_and_no_more() {
        let room = DatagramRoom::new(usize::MAX, Arc::default());
        let longest = vec![0; DATAGRAM_BYTES_MAX];
        let mut waiting: Vec<_> =
            (0..UDP_QUEUED_BYTES_MAX / DATAGRAM_BYTES_MAX).map(|_| room.waiting(&longest).unwrap()).collect();
        let left = UDP_QUEUED_BYTES_MAX % DATAGRAM_BYTES_MAX;
        assert_eq!(room.waiting(&longest[..=left]).err(), Some(Dropped::Queue));
        waiting.push(room.waiting(&longest[..left]).unwrap());
        assert_eq!(room.waiting(b"x").err(), Some(Dropped::Queue));
        assert!(room.waiting(b"").is_ok(), "it takes no room");
        waiting.pop();
        assert!(room.waiting(b"x").is_ok(), "what has gone makes room");
    }

    #[test]
    fn there_are_sessions_for_half_of_the_files_and_never_more_than_the_limit() {
        let sessions = |files_max| DatagramRoom::new(files_max, Arc::default()).sessions.available_permits();
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
