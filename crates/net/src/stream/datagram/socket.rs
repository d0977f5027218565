//! A socket that datagrams come to: of each it is known which of our addresses it was sent to, and answers leave from there,
//! also where the socket is bound to all addresses.
//!
//! Invariants: what the system says of a datagram is used or the datagram is not; a datagram is never cut.

use model::limits::DATAGRAM_BYTES_MAX;
use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Between whom datagrams go: what tells sessions apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// The client.
    pub source: SocketAddr,
    /// Our address.
    pub destination: SocketAddr,
}

/// See the module.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    inner: UdpSocket,
    port: u16,
}

/// Where a datagram is received.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Box<[u8]>,
    control: Vec<u8>,
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// A datagram of so many bytes.
    Whole(Flow, usize),
    /// One that is longer than may be.
    TooLong,
    /// One that was sent to no address of ours alone, or of which that is not known.
    Stray,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; DATAGRAM_BYTES_MAX].into(), control: cmsg_space!(in6_pktinfo) }
    }

    /// The first bytes of what was received last.
    pub(super) fn bytes(&self, len: usize) -> &[u8] {
        self.bytes.get(..len).unwrap_or_default()
    }
}

impl DatagramSocket {
    /// Takes a bound socket that does not block. Has to be called on the event loop that is to serve it.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(Self { inner: UdpSocket::from_std(socket)?, port: address.port() })
    }

    /// Waits until something can be sent.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.inner.writable().await
    }

    /// Waits for a datagram. Nothing is lost if it is given up.
    pub(super) async fn receive(&self, incoming: &mut Incoming) -> io::Result<Received> {
        self.inner.async_io(Interest::READABLE, || self.receive_now(incoming)).await
    }

    fn receive_now(&self, incoming: &mut Incoming) -> io::Result<Received> {
        let mut parts = [IoSliceMut::new(&mut incoming.bytes)];
        let control = Some(incoming.control.as_mut_slice());
        let message = recvmsg::<SockaddrStorage>(self.inner.as_raw_fd(), &mut parts, control, MsgFlags::empty())?;
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Ok(Received::TooLong);
        }
        let destination = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => to_us_alone(&info).map(IpAddr::V4),
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
            _ => None,
        });
        let (Some(source), Some(ip)) = (message.address.as_ref().and_then(address), destination) else {
            return Ok(Received::Stray);
        };
        if ip.to_canonical().is_multicast() || ip.to_canonical() == Ipv4Addr::BROADCAST {
            return Ok(Received::Stray);
        }
        Ok(Received::Whole(Flow { source, destination: SocketAddr::new(ip, self.port) }, message.bytes))
    }

    /// Sends an answer now, from the address that the client had sent to.
    ///
    /// # Errors
    /// Whatever the system says, also that there is no room now.
    pub(super) fn answer(&self, flow: &Flow, bytes: &[u8]) -> io::Result<()> {
        let to = SockaddrStorage::from(flow.source);
        let send = |control: ControlMessage<'_>| {
            let send = || {
                let parts = [IoSlice::new(bytes)];
                let flags = MsgFlags::MSG_DONTWAIT;
                Ok(sendmsg(self.inner.as_raw_fd(), &parts, &[control], flags, Some(&to)).map(drop)?)
            };
            self.inner.try_io(Interest::WRITABLE, send)
        };
        match flow.destination.ip() {
            IpAddr::V4(ip) => {
                let (ipi_spec_dst, none) = (in_addr { s_addr: ip.to_bits().to_be() }, in_addr { s_addr: 0 });
                send(ControlMessage::Ipv4PacketInfo(&in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: none }))
            }
            IpAddr::V6(ip) => {
                let ipi6_addr = in6_addr { s6_addr: ip.octets() };
                send(ControlMessage::Ipv6PacketInfo(&in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 }))
            }
        }
    }
}

/// Our address that a datagram was sent to. One for many was sent to another than the one the system would answer it from.
fn to_us_alone(info: &in_pktinfo) -> Option<Ipv4Addr> {
    let sent_to = of_v4(info.ipi_addr);
    (sent_to == of_v4(info.ipi_spec_dst)).then_some(sent_to)
}

fn of_v4(address: in_addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be(address.s_addr))
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::from(*address));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::from(*address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str) -> (DatagramSocket, u16) {
        let socket = std::net::UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        (DatagramSocket::new(socket).unwrap(), port)
    }

    /// A client's question from `from` to `to`, and the answer as the client gets it, with who sent it.
    async fn asked(socket: &DatagramSocket, from: &str, to: SocketAddr) -> (Received, SocketAddr) {
        let client = UdpSocket::bind(from).await.unwrap();
        client.send_to(b"question", to).await.unwrap();
        let mut incoming = Incoming::new();
        let received = socket.receive(&mut incoming).await.unwrap();
        let Received::Whole(flow, len) = received else { panic!("{received:?}") };
        assert_eq!(incoming.bytes(len), b"question");
        assert_eq!(flow.source.port(), client.local_addr().unwrap().port());
        socket.writable().await.unwrap();
        socket.answer(&flow, b"answer").unwrap();
        let mut answer = [0; 16];
        let (len, by) = client.recv_from(&mut answer).await.unwrap();
        assert_eq!(&answer[..len], b"answer");
        (received, by)
    }

    #[tokio::test]
    async fn answers_come_from_where_the_question_went() {
        let (socket, port) = bound("0.0.0.0:0");
        for ip in ["127.0.0.1", "127.0.0.2", "127.8.9.10"] {
            let to = SocketAddr::new(ip.parse().unwrap(), port);
            let (received, by) = asked(&socket, "127.0.0.1:0", to).await;
            assert_eq!(by, to);
            assert!(matches!(received, Received::Whole(flow, 8) if flow.destination == to), "{received:?}");
        }
    }

    #[tokio::test]
    async fn so_do_those_of_ipv6_and_of_ipv4_over_it() {
        let (socket, port) = bound("[::]:0");
        let to = SocketAddr::new("::1".parse().unwrap(), port);
        assert_eq!(asked(&socket, "[::1]:0", to).await.1, to);
        let to = SocketAddr::new("127.0.0.2".parse().unwrap(), port);
        let (received, by) = asked(&socket, "127.0.0.1:0", to).await;
        assert_eq!(by, to);
        assert!(matches!(received, Received::Whole(flow, _) if flow.destination.ip().to_canonical() == to.ip()));
    }

    #[test]
    fn what_was_sent_to_many_was_not_sent_to_us_alone() {
        let of = |ip: Ipv4Addr| in_addr { s_addr: ip.to_bits().to_be() };
        let ours = Ipv4Addr::new(192, 0, 2, 1);
        let sent_to = |ip| to_us_alone(&in_pktinfo { ipi_ifindex: 1, ipi_spec_dst: of(ours), ipi_addr: of(ip) });
        assert_eq!(sent_to(ours), Some(ours));
        for many in [Ipv4Addr::BROADCAST, Ipv4Addr::new(192, 0, 2, 255), Ipv4Addr::new(224, 0, 0, 1)] {
            assert_eq!(sent_to(many), None, "{many}");
        }
    }

    #[tokio::test]
    async fn a_datagram_is_as_long_as_may_be_and_no_longer() {
        let (socket, port) = bound("[::1]:0");
        let client = UdpSocket::bind("[::1]:0").await.unwrap();
        let mut incoming = Incoming::new();
        for len in [0, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX + 1] {
            client.send_to(&vec![7; len], ("::1", port)).await.unwrap();
            match socket.receive(&mut incoming).await.unwrap() {
                Received::Whole(_, taken) => assert!(taken == len && incoming.bytes(taken).len() == len),
                other => assert_eq!((other, len), (Received::TooLong, DATAGRAM_BYTES_MAX + 1)),
            }
        }
    }
}
