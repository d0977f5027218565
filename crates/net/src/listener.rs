//! Listening sockets: binding with errors that help, accepting without ever stopping, the PROXY header and TLS before the
//! protocol.

use crate::http::ServerTls;
use crate::proxy_protocol;
use crate::shards::Shards;
use crate::shutdown::{Drain, Tasks};
use plugin::TlsHandshake;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;
/// What a client has for its TLS handshake (RabbitMQ's figure).
pub(crate) const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A pause after `accept` failed for lack of a resource, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    tls: Option<Arc<ServerTls>>,
    proxy_protocol: bool,
}

/// Who connected, and how.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub address: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The proxy that said so in a PROXY header.
    pub via: Option<SocketAddr>,
    /// The application protocol TLS agreed on; `None` without TLS or agreement.
    pub alpn: Option<Vec<u8>>,
    /// The server name the client asked for.
    pub sni: Option<String>,
    /// What TLS agreed on, if it is on.
    pub tls: Option<Arc<TlsHandshake>>,
    /// The shard that serves it; 0 without shards.
    pub shard: usize,
}

/// Where the connections of a listener run.
#[derive(Clone, Debug)]
pub enum Place {
    /// On the runtime that accepts them.
    Here,
    /// Dealt out to these.
    Spread(Arc<Shards>),
}

/// A socket, with or without TLS.
#[derive(Debug)]
pub enum Accepted {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A listener could not be bound.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    pub(crate) const fn new(address: SocketAddr, source: io::Error) -> Self {
        Self { address, source }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.source)?;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => f.write_str(" (another program, or another sluicegate, has this port)"),
            io::ErrorKind::PermissionDenied => f.write_str(" (ports below 1024 need the right to bind them)"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Listener {
    /// Binds an address; port 0 lets the system choose.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(address: SocketAddr, tls: Option<Arc<ServerTls>>) -> Result<Self, ListenError> {
        let bind = || -> io::Result<TcpListener> {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(address),
                socket2::Type::STREAM,
                Some(socket2::Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        let inner = bind().map_err(|source| ListenError::new(address, source))?;
        Ok(Self { inner, tls, proxy_protocol: false })
    }

    /// Takes a socket that another process has bound and listens on.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn adopt(socket: OwnedFd, tls: Option<Arc<ServerTls>>) -> io::Result<Self> {
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { inner: TcpListener::from_std(socket)?, tls, proxy_protocol: false })
    }

    /// The socket, once more: for another process to listen on.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.inner.as_fd().try_clone_to_owned()
    }

    /// Has every connection begin with a PROXY header. Whoever can reach such a listener can say where it comes from.
    #[must_use]
    pub fn with_proxy_protocol(mut self, proxy_protocol: bool) -> Self {
        self.proxy_protocol = proxy_protocol;
        self
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Accepts until draining begins and runs `serve` for each connection, at most `connections_max` at a time; more
    /// wait in the backlog. Then waits for them, at most `patience` from when all is to end or until it is over, and returns
    /// how many it had to end; who has not come to its protocol by then is not waited for.
    pub async fn run<F, S>(
        self,
        connections_max: usize,
        place: Place,
        mut drain: Drain,
        patience: Duration,
        serve: S,
    ) -> usize
    where
        S: Fn(Accepted, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = Tasks::new();
        let places = Arc::new(Semaphore::new(connections_max));
        loop {
            let accepted = tokio::select! {
                () = drain.begun() => break,
                accepted = self.accept_one(&places) => accepted,
            };
            let (stream, address, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, serve, proxy_protocol) = (self.tls.clone(), serve.clone(), self.proxy_protocol);
            let turn = match &place {
                Place::Here => None,
                Place::Spread(shards) => Some(shards.next()),
            };
            let shard = turn.map_or(0, |(shard, _)| shard);
            // A socket belongs to the event loop it was accepted on until it is taken off.
            let stream = if turn.is_some() { stream.into_std().map(Err) } else { Ok(Ok(stream)) };
            let mut seen = drain.clone();
            let task = async move {
                let _permit = permit;
                let prepared = tokio::select! {
                    biased;
                    prepared = prepare(stream, address, tls, proxy_protocol, shard) => prepared,
                    () = seen.ending() => Err(io::Error::new(io::ErrorKind::Interrupted, "the server ends")),
                };
                match prepared {
                    Ok((io, peer)) => serve(io, peer).await,
                    Err(error) => tracing::debug!(peer = %address, %error, "the connection ended before its protocol"),
                }
            };
            match turn {
                Some((_, runtime)) => tasks.spawn_on(task, runtime),
                None => tasks.spawn(task),
            }
        }
        drop(self.inner);
        tokio::select! {
            () = tasks.ended() => {}
            () = drain.ending() => {}
        }
        tasks.join_until(drain.over(patience)).await
    }

    async fn accept_one(
        &self,
        places: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, address) = self.inner.accept().await?;
        Ok((stream, address, place))
    }
}

/// Sets the socket up, reads the PROXY header and does the TLS handshake.
async fn prepare(
    stream: io::Result<Result<TcpStream, std::net::TcpStream>>,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    proxy_protocol: bool,
    shard: usize,
) -> io::Result<(Accepted, Peer)> {
    let mut stream = stream?.or_else(TcpStream::from_std)?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut peer = Peer { address, local, via: None, alpn: None, sni: None, tls: None, shard };
    if proxy_protocol && let Some(announced) = proxy_protocol::read(&mut stream).await? {
        (peer.address, peer.local, peer.via) = (announced.source, announced.destination, Some(address));
    }
    let Some(tls) = tls else {
        return Ok((Accepted::Plain(stream), peer));
    };
    let handshake = TlsAcceptor::from(tls.current()).accept(stream);
    let stream = tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timeout"))??;
    let (_, session) = stream.get_ref();
    peer.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    peer.sni = session.server_name().map(str::to_owned);
    peer.tls = Some(Arc::new(gateway::tls::handshake(session)));
    Ok((Accepted::Tls(Box::new(stream)), peer))
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
