//! One question to the name servers: by UDP, by TCP if the answer does not fit, the next server if one fails.
//!
//! Each try has a socket of its own, so that its port is as unforeseeable as its id; the socket is connected, so that the
//! system takes datagrams of that server only. What then arrives and is not the answer is ignored until the try's time is
//! over (RFC 5452).

use super::error::ResolveError;
use super::message::{Kind, Message, Rcode, decode, encode};
use super::name::Name;
use super::settings::Config;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Bytes of a datagram; servers send 512 to those who do not offer more.
const DATAGRAM_BYTES_MAX: usize = 4_096;

/// Knows which server to begin with.
#[derive(Debug, Default)]
pub(super) struct Client {
    first: AtomicUsize,
}

impl Client {
    /// Asks until a server says something of the name, good or bad. A server that fails is asked again only if another
    /// gave no answer at all: what it says it will say again.
    pub(super) async fn query(&self, config: &Config, name: &Name, kind: Kind) -> Result<Message, ResolveError> {
        let count = config.servers.len();
        if config.rotate {
            self.first.fetch_add(1, Ordering::Relaxed);
        }
        let mut error = ResolveError::Timeout;
        for _ in 0..config.attempts {
            let first = self.first.load(Ordering::Relaxed);
            let mut silent = false;
            for n in 0..count {
                let server = config.servers[first.wrapping_add(n) % count];
                match tokio::time::timeout(config.timeout, ask(server, name, kind)).await {
                    Ok(Ok(message)) => match message.rcode {
                        Rcode::Ok | Rcode::NameError => {
                            // The next question begins with the server that answered.
                            self.first.store(first.wrapping_add(n), Ordering::Relaxed);
                            return Ok(message);
                        }
                        Rcode::Failure(code) => error = ResolveError::ServerFailure(code),
                    },
                    Ok(Err(unreachable)) => error = ResolveError::Unreachable(unreachable.kind()),
                    Err(_) => {
                        (silent, error) = (true, ResolveError::Timeout);
                    }
                }
            }
            if !silent {
                break;
            }
        }
        Err(error)
    }
}

/// Asks one server.
async fn ask(server: SocketAddr, name: &Name, kind: Kind) -> io::Result<Message> {
    let message = ask_udp(server, name, kind).await?;
    if message.truncated { ask_tcp(server, name, kind).await } else { Ok(message) }
}

async fn ask_udp(server: SocketAddr, name: &Name, kind: Kind) -> io::Result<Message> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let (id, mut question) = (fresh_id()?, Vec::with_capacity(512));
    encode(id, name, kind, &mut question);
    socket.send(&question).await?;
    let mut datagram = [0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut datagram).await?;
        match decode(&datagram[..length], id, name, kind) {
            Ok(message) => return Ok(message),
            Err(why) => tracing::debug!(%server, %name, ?why, "not the answer; ignored"),
        }
    }
}

/// The same over TCP, each message behind its length (RFC 7766).
async fn ask_tcp(server: SocketAddr, name: &Name, kind: Kind) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, mut question) = (fresh_id()?, vec![0, 0]);
    encode(id, name, kind, &mut question);
    let length = u16::try_from(question.len() - 2).unwrap_or(u16::MAX);
    question[..2].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&question).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    match decode(&answer, id, name, kind) {
        // What does not fit into a TCP message fits nowhere.
        Ok(message) if !message.truncated => Ok(message),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn fresh_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u16::from_be_bytes(bytes))
}
