//! What passes between two processes when one takes over from the other.
//!
//! ```text
//! old -> new   an inheritance: entities of the Admin API, what the broker consists of, listening sockets
//! new -> old   Ready    it can serve HTTP, and does from now on
//! old -> new   Yours    the data directory is closed
//! new -> old   Open     it serves everything
//! ```
//!
//! Invariants: nothing is waited for without a deadline. If either process ends, the other one sees the end of the stream.

use model::limits::HANDED_OVER_BYTES_MAX;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde_json::{Value, json};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is written changes its meaning with this number.
const FORMAT: u64 = 1;
/// How long the inheritance may take to be written and read.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
/// What a socket is sent along with: a message of its own.
const SOCKET: u8 = b's';

/// What a socket of datagrams is handed over as: its port is none of TCP.
pub(crate) const UDP: &str = "udp";

/// What a process leaves to the next.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    /// What is kept of the Admin API and of what the broker consists of: names and values of the engine's metadata. A process
    /// of an older version leaves the first alone.
    pub(crate) metas: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it listens on.
    pub(crate) sockets: Vec<Socket>,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// What is served on it.
    pub(crate) name: String,
    /// The address as it was configured: with the port 0 if the system chose one.
    pub(crate) address: SocketAddr,
    /// The socket.
    pub(crate) socket: OwnedFd,
}

/// A step that one process tells the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Ready = b'r' as isize,
    Yours = b'y' as isize,
    Open = b'o' as isize,
}

impl Inheritance {
    /// Writes all of it. Blocks.
    ///
    /// # Errors
    /// The other process does not read it, or it is too large.
    pub(super) fn send(&self, mut to: &UnixStream) -> io::Result<()> {
        to.set_write_timeout(Some(TRANSFER_TIMEOUT))?;
        let sockets: Vec<Value> = self
            .sockets
            .iter()
            .map(|socket| json!({ "name": socket.name, "address": socket.address.to_string() }))
            .collect();
        let head = json!({ "format": FORMAT, "entities": self.metas.len(), "sockets": sockets });
        write_piece(&mut to, head.to_string().as_bytes())?;
        for (name, value) in &self.metas {
            write_piece(&mut to, name)?;
            write_piece(&mut to, value)?;
        }
        self.sockets.iter().try_for_each(|socket| send_socket(to, &socket.socket))
    }

    /// Reads all of it. Blocks.
    ///
    /// # Errors
    /// The other process does not write it, or writes something else.
    pub(super) fn receive(mut from: &UnixStream) -> io::Result<Self> {
        from.set_read_timeout(Some(TRANSFER_TIMEOUT))?;
        let head: Value = serde_json::from_slice(&read_piece(&mut from)?)?;
        if head["format"].as_u64() != Some(FORMAT) {
            return Err(unknown("what the running process hands over is of another format"));
        }
        let mut inheritance = Self::default();
        for _ in 0..head["entities"].as_u64().unwrap_or(0) {
            inheritance.metas.push((read_piece(&mut from)?, read_piece(&mut from)?));
        }
        for described in head["sockets"].as_array().into_iter().flatten() {
            let text = |field: &str| described[field].as_str().unwrap_or_default();
            let address = text("address").parse().map_err(|_| unknown("a socket without an address"))?;
            let (name, socket) = (text("name").to_owned(), receive_socket(from)?);
            inheritance.sockets.push(Socket { name, address, socket });
        }
        Ok(inheritance)
    }

    /// The socket to listen on for this, if there is one; the same name first, since the same port may be served otherwise
    /// now. Where the system chose the port only the name tells sockets apart.
    pub(crate) fn take_socket(&mut self, name: &str, address: SocketAddr) -> Option<OwnedFd> {
        let place = self
            .sockets
            .iter()
            .position(|socket| socket.address == address && socket.name == name)
            .or_else(|| self.sockets.iter().position(|socket| socket.may_serve(name, address)))?;
        Some(self.sockets.remove(place).socket)
    }
}

impl Socket {
    /// Whether it can be listened on for something else than it was.
    fn may_serve(&self, name: &str, address: SocketAddr) -> bool {
        self.address == address && address.port() != 0 && (self.name == UDP) == (name == UDP)
    }
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn write_piece(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "an entity is too large to be handed over");
    let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= HANDED_OVER_BYTES_MAX).ok_or_else(too_large)?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(bytes)
}

fn read_piece(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > HANDED_OVER_BYTES_MAX {
        return Err(unknown("an entity that is too large"));
    }
    let mut bytes = Vec::new();
    let read = from.take(len.into()).read_to_end(&mut bytes)?;
    if read < len as usize { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

fn send_socket(to: &UnixStream, socket: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)), "the space is for one");
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(to, &[IoSlice::new(&[SOCKET])], &mut control, SendFlags::NOSIGNAL))?;
    if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn receive_socket(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let socket = sockets.next().and_then(|mut sockets| sockets.next());
    socket.ok_or_else(|| unknown("a socket was announced and did not come"))
}

/// Whether the other process has ended, perhaps without having read all.
pub(super) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// The stream over which steps are told.
#[derive(Debug)]
pub(super) struct Channel(tokio::net::UnixStream);

impl Channel {
    /// A stream over which the inheritance has gone.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream).map(Self)
    }

    pub(super) async fn tell(&mut self, step: Step) -> io::Result<()> {
        self.0.write_all(&[step as u8]).await
    }

    /// Waits for a step.
    ///
    /// # Errors
    /// It did not come in time, something else did, or the other process has ended.
    pub(super) async fn hear(&mut self, step: Step, timeout: Duration) -> io::Result<()> {
        let byte = tokio::time::timeout(timeout, self.0.read_u8()).await??;
        if byte == step as u8 { Ok(()) } else { Err(unknown("a step out of turn")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn socket(name: &str, address: &str) -> (Socket, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = listener.local_addr().unwrap();
        (Socket { name: name.to_owned(), address: address.parse().unwrap(), socket: listener.into() }, bound)
    }

    fn address(socket: OwnedFd) -> SocketAddr {
        TcpListener::from(socket).local_addr().unwrap()
    }

    fn passed(inheritance: Inheritance) -> io::Result<Inheritance> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || inheritance.send(&ours));
        let received = Inheritance::receive(&theirs);
        drop(theirs);
        let sent = sender.join().unwrap();
        received.and_then(|received| sent.map(|()| received))
    }

    #[test]
    fn entities_and_sockets_arrive_as_they_were() {
        let entities = vec![(b"services/1".to_vec(), vec![0, 255]), (b"hash".to_vec(), vec![b'x'; 3_000_000])];
        let (http, http_at) = socket("http", "127.0.0.1:80");
        let (admin, admin_at) = socket("admin", "[::1]:0");
        let sent = Inheritance { metas: entities.clone(), sockets: vec![http, admin] };
        let mut received = passed(sent).unwrap();
        assert_eq!(received.metas, entities);
        assert_eq!(received.take_socket("admin", "[::1]:0".parse().unwrap()).map(address), Some(admin_at));
        assert_eq!(received.take_socket("http", "127.0.0.1:80".parse().unwrap()).map(address), Some(http_at));
        assert!(received.take_socket("http", "127.0.0.1:80".parse().unwrap()).is_none(), "each goes once");
    }

    #[test]
    fn a_socket_is_found_by_its_name_first_and_then_by_its_address() {
        let (http, http_at) = socket("http", "127.0.0.1:80");
        let (chosen, chosen_at) = socket("http", "127.0.0.1:0");
        let (amqp, amqp_at) = socket("amqp", "127.0.0.1:0");
        let mut inheritance = Inheritance { metas: Vec::new(), sockets: vec![http, chosen, amqp] };
        let mut take = |name, at: &str| inheritance.take_socket(name, at.parse().unwrap()).map(address);
        assert_eq!(take("amqp", "127.0.0.1:0"), Some(amqp_at));
        assert_eq!(take("https", "127.0.0.1:80"), Some(http_at), "the port speaks TLS now");
        assert_eq!(take("https", "127.0.0.1:0"), None, "another port than the one that was chosen would do as well");
        assert_eq!(take("http", "127.0.0.1:81"), None);
        assert_eq!(take("http", "127.0.0.1:0"), Some(chosen_at));
    }

    #[test]
    fn a_port_of_udp_is_none_of_tcp() {
        let (tcp, tcp_at) = socket("tcp", "127.0.0.1:53");
        let (udp, udp_at) = socket(UDP, "127.0.0.1:53");
        let mut inheritance = Inheritance { metas: Vec::new(), sockets: vec![udp, tcp] };
        let mut take = |name, at: &str| inheritance.take_socket(name, at.parse().unwrap()).map(address);
        assert_eq!(take("tls", "127.0.0.1:53"), Some(tcp_at));
        assert_eq!(take("tcp", "127.0.0.1:53"), None);
        assert_eq!(take(UDP, "127.0.0.1:53"), Some(udp_at));
    }

    #[test]
    fn what_is_too_large_is_not_handed_over_and_the_largest_is() {
        let of = |len: u32| Inheritance { metas: vec![(Vec::new(), vec![0; len as usize])], sockets: Vec::new() };
        assert!(passed(of(HANDED_OVER_BYTES_MAX)).is_ok());
        assert!(passed(of(HANDED_OVER_BYTES_MAX + 1)).is_err());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&(HANDED_OVER_BYTES_MAX + 1).to_le_bytes()).unwrap();
        assert_eq!(Inheritance::receive(&theirs).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_refused() {
        for text in ["", "x", "{}", r#"{"format":2}"#, r#"{"format":1,"entities":1}"#, r#"{"format":1,"sockets":[{}]}"#]
        {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            write_piece(&mut ours, text.as_bytes()).unwrap();
            drop(ours);
            assert!(Inheritance::receive(&theirs).is_err(), "{text}");
        }
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let head = r#"{"format":1,"sockets":[{"name":"http","address":"127.0.0.1:80"}]}"#;
        write_piece(&mut ours, head.as_bytes()).unwrap();
        ours.write_all(&[SOCKET]).unwrap();
        assert_eq!(Inheritance::receive(&theirs).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn steps_come_in_turn_and_the_end_of_a_process_is_heard() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut ours, mut theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let patience = Duration::from_secs(5);
        ours.tell(Step::Ready).await.unwrap();
        theirs.hear(Step::Ready, patience).await.unwrap();
        ours.tell(Step::Open).await.unwrap();
        assert_eq!(theirs.hear(Step::Yours, patience).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(theirs.hear(Step::Ready, Duration::ZERO).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(ours);
        assert_eq!(theirs.hear(Step::Ready, patience).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
