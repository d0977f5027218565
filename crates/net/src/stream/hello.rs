//! The ClientHello of a TLS connection (RFC 8446 §4.1.2), read before it is known who answers it: an upstream, which gets
//! the bytes as they are, or we.
//!
//! Invariants: what was read is kept, at most [`CLIENT_HELLO_BYTES_MAX`], and the whole handshake has one deadline. What
//! rustls does not take for a ClientHello, however it is cut into records and segments, is refused with its alert.

use crate::http::ServerTls;
use crate::listener::{Accepted, TLS_HANDSHAKE_TIMEOUT};
use bytes::BytesMut;
use model::limits::CLIENT_HELLO_BYTES_MAX;
use rustls::server::{Accepted as ClientHello, AcceptedAlert, Acceptor};
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::StartHandshake;

/// Bytes read at once; all of them are given to rustls before it is asked.
const READ_BYTES: usize = 4 * 1024;
/// A fatal alert `unrecognized_name` (RFC 6066 §3), in a record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A ClientHello.
pub struct Hello {
    hello: ClientHello,
    bytes: BytesMut,
    server_name: Option<Arc<str>>,
    deadline: Instant,
}

/// Why there is none.
#[derive(Debug)]
pub enum HelloError {
    /// It did not come in time.
    Timeout,
    /// The connection ended before it was whole.
    Closed(io::Error),
    /// It is too long.
    TooLong,
    /// It is something else.
    Malformed(rustls::Error),
}

impl Hello {
    /// Reads it. Who sends something else gets an alert.
    ///
    /// # Errors
    /// [`HelloError`].
    pub async fn read(stream: &mut TcpStream) -> Result<Self, HelloError> {
        let deadline = Instant::now() + TLS_HANDSHAKE_TIMEOUT;
        timeout_at(deadline, read(stream, deadline)).await.map_err(|_| HelloError::Timeout)?
    }

    /// The server name it asks for, in lower case.
    #[must_use]
    pub const fn server_name(&self) -> Option<&Arc<str>> {
        self.server_name.as_ref()
    }

    /// What was read, for an upstream to answer.
    #[must_use]
    pub fn into_bytes(self) -> BytesMut {
        self.bytes
    }

    /// Answers it, with the certificate of the listener.
    ///
    /// # Errors
    /// The handshake failed, or took too long.
    pub async fn accept(self, stream: TcpStream, tls: &ServerTls) -> io::Result<Accepted> {
        let handshake = StartHandshake::from_parts(self.hello, stream).into_stream(tls.current());
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timeout");
        let stream = timeout_at(self.deadline, handshake).await.map_err(late)??;
        Ok(Accepted::Tls(Box::new(stream)))
    }

    /// Tells the client that nobody answers to that name.
    pub async fn refuse(self, stream: &mut TcpStream) {
        // Who does not take seven bytes does not want to know.
        let _ = timeout_at(self.deadline, stream.write_all(&UNRECOGNIZED_NAME)).await;
    }
}

async fn read(stream: &mut TcpStream, deadline: Instant) -> Result<Hello, HelloError> {
    let (mut acceptor, mut bytes) = (Acceptor::default(), BytesMut::new());
    loop {
        let room = READ_BYTES.min(CLIENT_HELLO_BYTES_MAX - bytes.len());
        if room == 0 {
            return Err(HelloError::TooLong);
        }
        let before = bytes.len();
        bytes.reserve(room);
        let n_read = (&mut *stream).take(room as u64).read_buf(&mut bytes).await.map_err(HelloError::Closed)?;
        if n_read == 0 {
            return Err(HelloError::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut fresh = &bytes[before..];
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh).map_err(HelloError::Closed)?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(hello)) => {
                let server_name = hello.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
                return Ok(Hello { hello, bytes, server_name, deadline });
            }
            Err((error, alert)) => {
                send(stream, alert).await;
                return Err(HelloError::Malformed(error));
            }
        }
    }
}

async fn send(stream: &mut TcpStream, mut alert: AcceptedAlert) {
    let mut bytes = Vec::new();
    if alert.write_all(&mut bytes).is_ok() {
        // The connection ends anyhow.
        let _ = stream.write_all(&bytes).await;
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hello({:?})", self.server_name)
    }
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no ClientHello in time"),
            Self::Closed(error) => write!(f, "the connection ended before its ClientHello: {error}"),
            Self::TooLong => write!(f, "a ClientHello of more than {CLIENT_HELLO_BYTES_MAX} bytes"),
            Self::Malformed(error) => write!(f, "no ClientHello: {error}"),
        }
    }
}

impl std::error::Error for HelloError {}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    /// A real ClientHello.
    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake message in records of so many bytes.
    fn in_records(hello: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in hello[5..].chunks(len) {
            bytes.extend_from_slice(&[22, 3, 1]);
            bytes.extend_from_slice(&u16::try_from(piece.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    async fn read_from(bytes: &[u8], pieces: usize) -> (Result<Hello, HelloError>, Vec<u8>) {
        let (mut client, mut server) = pair().await;
        client.set_nodelay(true).unwrap();
        let write = async {
            for piece in bytes.chunks(pieces) {
                if client.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(Hello::read(&mut server), write);
        drop(server);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        (read, answer)
    }

    #[tokio::test]
    async fn it_is_found_however_it_is_cut() {
        let whole = hello("A.Test.example");
        for (bytes, pieces) in [
            (whole.clone(), whole.len()),
            (whole.clone(), 7),
            (in_records(&whole, 1), 1_000),
            (in_records(&whole, 100), 1),
        ] {
            let (read, _) = read_from(&bytes, pieces).await;
            let read = read.unwrap();
            assert_eq!(read.server_name().map(|name| &**name), Some("a.test.example"));
            assert!(bytes.starts_with(&read.into_bytes()), "nothing is lost");
        }
    }

    #[tokio::test]
    async fn what_is_none_is_refused_with_an_alert() {
        for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[22, 3, 1, 0, 4, 2, 0, 0, 0], &[0x80; 300]] {
            let (read, answer) = read_from(bytes, 1_000).await;
            assert!(matches!(read, Err(HelloError::Malformed(_))), "{read:?}");
            assert_eq!(answer.first(), Some(&21), "{bytes:?}");
        }
        let whole = hello("a.test");
        let (read, _) = read_from(&whole[..whole.len() - 1], 1_000).await;
        assert!(matches!(read, Err(HelloError::Closed(_))), "{read:?}");
    }

    #[tokio::test]
    async fn it_may_be_as_long_as_the_limit_and_no_longer() {
        // A handshake message that announces more than comes, in records of one byte: six bytes on the wire for each.
        let mut endless = vec![1, 0, 0x40, 0];
        endless.extend_from_slice(&[0; CLIENT_HELLO_BYTES_MAX]);
        let records = in_records(&[&[0; 5][..], &endless].concat(), 1);
        let (read, _) = read_from(&records[..CLIENT_HELLO_BYTES_MAX + 6], 5_000).await;
        assert!(matches!(read, Err(HelloError::TooLong)), "{read:?}");
        let (read, _) = read_from(&records[..CLIENT_HELLO_BYTES_MAX - 1], 5_000).await;
        assert!(matches!(read, Err(HelloError::Closed(_))), "{read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not_waited_for() {
        let (_client, mut server) = pair().await;
        assert!(matches!(Hello::read(&mut server).await, Err(HelloError::Timeout)));
    }
}
