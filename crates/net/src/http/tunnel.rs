//! Two connections that became one pair of byte streams: after 101, or an accepted extended CONNECT. How bytes go is
//! [`crate::relay`]'s.
//!
//! Invariants: whoever wants to know how many were carried is told exactly once, however the tunnel ends.

use crate::relay::{Carried, Relay, RelayEnd, Stream};
use bytes::BytesMut;
use http1::Upgrade;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// The upstream's end of a tunnel, to be joined with the client's.
pub struct Tunnel {
    upstream: Box<dyn Stream>,
    protocol: Upgrade,
    relay: Relay,
    on_end: Option<Box<dyn FnOnce(Carried) + Send>>,
}

impl Tunnel {
    /// `read` was read from the upstream already. `idle` is the time in which something has to move.
    pub(crate) fn new(upstream: Box<dyn Stream>, read: BytesMut, protocol: Upgrade, idle: Duration) -> Self {
        let mut relay = Relay::new(idle);
        relay.from_upstream(read);
        Self { upstream, protocol, relay, on_end: None }
    }

    /// What the connection now speaks.
    #[must_use]
    pub fn protocol(&self) -> &Upgrade {
        &self.protocol
    }

    /// Has this called when the tunnel ends.
    pub fn on_end(&mut self, tell: impl FnOnce(Carried) + Send + 'static) {
        self.on_end = Some(Box::new(tell));
    }

    /// Carry bytes until both directions have ended, one side fails, or time is up. `read` was read from the client
    /// already; `begun` is ready when the server drains.
    pub(crate) async fn carry(
        mut self,
        read: BytesMut,
        client: &mut dyn Stream,
        draining: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
    ) {
        self.relay.from_client(read);
        let end = self.relay.carry(client, &mut self.upstream, draining).await;
        if !matches!(end, RelayEnd::Ended) {
            tracing::debug!(?end, "tunnel ended early");
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(tell) = self.on_end.take() {
            tell(self.relay.carried());
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({:?})", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::limits::TUNNEL_DRAIN_IDLE_MS;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// What is between the two ends that a test holds, and what it said at its end.
    struct Carrying {
        client: DuplexStream,
        upstream: DuplexStream,
        task: tokio::task::JoinHandle<()>,
        carried: Arc<Mutex<Option<Carried>>>,
    }

    fn carry(idle_ms: u64, buffer_bytes: usize, draining: impl Future<Output = ()> + Send + 'static) -> Carrying {
        let ((client, mut near), (upstream, far)) = (duplex(buffer_bytes), duplex(buffer_bytes));
        let idle = Duration::from_millis(idle_ms);
        let mut tunnel = Tunnel::new(Box::new(far), BytesMut::from("early "), Upgrade::websocket(), idle);
        let carried = Arc::new(Mutex::new(None));
        let told = Arc::clone(&carried);
        tunnel.on_end(move |bytes| *told.lock() = Some(bytes));
        let task = tokio::spawn(async move {
            let draining = std::pin::pin!(draining);
            tunnel.carry(BytesMut::from("ahead "), &mut near, draining).await;
        });
        Carrying { client, upstream, task, carried }
    }

    #[tokio::test]
    async fn both_directions_are_carried_to_their_own_ends() {
        let Carrying { mut client, mut upstream, task, carried } = carry(60_000, 64, std::future::pending());
        client.write_all(b"up").await.unwrap();
        client.shutdown().await.unwrap();
        let mut up = String::new();
        upstream.read_to_string(&mut up).await.unwrap();
        assert_eq!(up, "ahead up");
        // Its direction has ended; the other goes on, more than any buffer holds.
        let large = vec![b'x'; 1 << 20];
        let (written, mut down) = (large.clone(), String::new());
        let writer = tokio::spawn(async move {
            upstream.write_all(&written).await.unwrap();
            upstream.shutdown().await.unwrap();
        });
        client.read_to_string(&mut down).await.unwrap();
        assert_eq!(down.len(), "early ".len() + large.len());
        writer.await.unwrap();
        task.await.unwrap();
        assert_eq!(*carried.lock(), Some(Carried { up_bytes: 8, down_bytes: 6 + (1 << 20) }));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_so_does_a_drain() {
        let Carrying { mut client, upstream, task, carried } = carry(20, 64, std::future::pending());
        task.await.unwrap();
        let mut down = String::new();
        client.read_to_string(&mut down).await.unwrap();
        assert_eq!((down.as_str(), carried.lock().is_some()), ("early ", true));
        drop(upstream);
        let Carrying { client, upstream, task, .. } = carry(60_000, 64, std::future::ready(()));
        tokio::time::timeout(Duration::from_millis(4 * TUNNEL_DRAIN_IDLE_MS), task).await.unwrap().unwrap();
        drop((client, upstream));
    }

    #[tokio::test]
    async fn an_end_that_is_gone_ends_it() {
        let Carrying { mut client, upstream, task, carried } = carry(60_000, 64, std::future::pending());
        drop(upstream);
        // Whoever writes finds out; a socket would have said so by a reset.
        client.write_all(&[0; 32]).await.unwrap();
        task.await.unwrap();
        assert!(carried.lock().is_some());
    }
}
