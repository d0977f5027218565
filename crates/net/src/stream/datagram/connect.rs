//! A socket to one address of an upstream. Nothing is sent for that, so nobody can say yet whether anybody is there.

use crate::resolve::{ResolveError, Resolver};
use nix::errno::Errno;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Why there is no socket.
#[derive(Debug)]
pub enum DatagramConnectError {
    /// The name has no address.
    Resolve(ResolveError),
    /// Its addresses were not found in time.
    Timeout,
    /// The system gives no socket; the upstream is not to blame.
    NoSocket(io::Error),
    /// There is no way to any of its addresses.
    Unreachable(io::Error),
}

/// A socket that sends to an upstream, and hears it alone, on the first of its addresses that there is a way to.
///
/// # Errors
/// [`DatagramConnectError`].
pub async fn connect_datagrams(
    resolver: &Resolver,
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<UdpSocket, DatagramConnectError> {
    let addresses = tokio::time::timeout(timeout, resolver.addresses(host, port)).await;
    let addresses = addresses.map_err(|_| DatagramConnectError::Timeout)?.map_err(DatagramConnectError::Resolve)?;
    let mut unreachable = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = match UdpSocket::bind(any).await {
            Ok(socket) => socket,
            Err(error) if is_shortage(&error) => return Err(DatagramConnectError::NoSocket(error)),
            // A system without IPv6 has no socket for it, and may have one for the next address.
            Err(error) => {
                unreachable = error;
                continue;
            }
        };
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => unreachable = error,
        }
    }
    Err(DatagramConnectError::Unreachable(unreachable))
}

/// Whether the system has no socket left, of whatever kind. Without a port that is free it says that the address is in use.
fn is_shortage(error: &io::Error) -> bool {
    let shortage = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EADDRINUSE];
    error.raw_os_error().is_some_and(|code| shortage.contains(&Errno::from_raw(code)))
}

impl fmt::Display for DatagramConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => error.fmt(f),
            Self::Timeout => f.write_str("its addresses were not found in time"),
            Self::NoSocket(error) => write!(f, "the system gives no socket: {error}"),
            Self::Unreachable(error) => write!(f, "no way to it: {error}"),
        }
    }
}

impl std::error::Error for DatagramConnectError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_ipv6_is_not_short_of_sockets() {
        let is_shortage = |errno: Errno| is_shortage(&io::Error::from_raw_os_error(errno as i32));
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EADDRINUSE] {
            assert!(is_shortage(errno), "{errno}");
        }
        assert!(!is_shortage(Errno::EAFNOSUPPORT) && !is_shortage(Errno::EADDRNOTAVAIL));
    }
}
