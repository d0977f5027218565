//! A new connection to an upstream, TLS included.

use super::bounded::place;
use super::connection::{UpstreamConnection, UpstreamIo, UpstreamSocket};
use super::error::{Retry, UpstreamError, UpstreamErrorKind};
use super::pool::UpstreamTarget;
use crate::relay::Stream;
use crate::resolve::Resolver;
use gateway::balancer::Place;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection to carry exchanges over, in this place if it needs one.
pub(super) async fn connect(
    resolver: &Resolver,
    target: &UpstreamTarget,
    timeout_ms: u64,
    place: Option<Place>,
) -> Result<Box<UpstreamConnection>, UpstreamError> {
    let socket = connect_socket(resolver, target, timeout_ms).await?;
    Ok(Box::new(UpstreamConnection::new(UpstreamIo::new(socket, place))))
}

/// Connects to a target for a pair of byte streams, when there is a place for it.
///
/// # Errors
/// There was no place, the name has no address, nobody listens, the TLS handshake failed, or the time is up.
pub async fn connect_stream(
    resolver: &Resolver,
    target: &UpstreamTarget,
    timeout_ms: u64,
) -> Result<Box<dyn Stream>, UpstreamError> {
    let place = place(target).await?;
    Ok(Box::new(UpstreamIo::new(connect_socket(resolver, target, timeout_ms).await?, place)))
}

/// Connect to the first address of the target that answers, all within `timeout_ms`.
async fn connect_socket(
    resolver: &Resolver,
    target: &UpstreamTarget,
    timeout_ms: u64,
) -> Result<UpstreamSocket, UpstreamError> {
    let connected = async {
        let addresses = resolver
            .addresses(&target.host, target.port)
            .await
            .map_err(|error| UpstreamError::new(UpstreamErrorKind::Dns, Retry::Safe).because(error))?;
        let stream = first_that_answers(&addresses).await?;
        match &target.tls {
            None => Ok(UpstreamSocket::Plain(stream)),
            Some(_) => handshake(target, stream).await,
        }
    };
    tokio::time::timeout(Duration::from_millis(timeout_ms), connected)
        .await
        .unwrap_or_else(|_| Err(UpstreamError::new(UpstreamErrorKind::ConnectTimeout, Retry::Safe)))
}

async fn first_that_answers(addresses: &[SocketAddr]) -> Result<TcpStream, UpstreamError> {
    let mut error = UpstreamError::new(UpstreamErrorKind::Refused, Retry::Safe);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A socket that refuses the option still works, only slower.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(refused) => error = error.because(refused),
        }
    }
    Err(error)
}

async fn handshake(target: &UpstreamTarget, stream: TcpStream) -> Result<UpstreamSocket, UpstreamError> {
    let failed = || UpstreamError::new(UpstreamErrorKind::Tls, Retry::Safe);
    let Some(tls) = &target.tls else {
        return Ok(UpstreamSocket::Plain(stream));
    };
    let name = target.server_name.as_ref().unwrap_or(&target.host);
    let name = ServerName::try_from(name.to_string()).map_err(|error| failed().because(error))?;
    let connector = TlsConnector::from(std::sync::Arc::clone(&tls.config));
    let stream = connector.connect(name, stream).await.map_err(|error| failed().because(error))?;
    Ok(UpstreamSocket::Tls(Box::new(stream)))
}
