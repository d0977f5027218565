//! The end of a listener: who has not come to its protocol is not waited for, and `cut` ends whoever is still there.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use sluicegate_net::http::{ServerTls, TlsFiles};
use sluicegate_net::{Listener, Place, Shutdown};
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

/// Longer than a test may take.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// A listener whose connections never end of themselves; says when one has come to its protocol.
struct Served {
    address: SocketAddr,
    shutdown: Shutdown,
    arrived: UnboundedReceiver<()>,
    ended: JoinHandle<usize>,
}

fn serve(tls: Option<Arc<ServerTls>>) -> Served {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls).unwrap();
    let address = listener.address().unwrap();
    let ((shutdown, drain), (sender, arrived)) = (Shutdown::new(), unbounded_channel());
    let endless = move |io, _| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(());
            pending::<()>().await;
            drop(io);
        }
    };
    let ended = tokio::spawn(listener.run(10, Place::Here, drain, FOR_EVER, endless));
    Served { address, shutdown, arrived, ended }
}

async fn soon<T>(awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), awaited).await.unwrap()
}

/// The beginning of a TLS record that holds a handshake, and no more.
async fn begin_handshake(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    stream
}

#[tokio::test]
async fn who_is_in_a_tls_handshake_when_the_server_ends_is_not_waited_for() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let files = TlsFiles { cert: fixture("cert.pem"), key: fixture("key.pem"), client_ca: None };
    // As AMQPS has it: no protocol is agreed on.
    let mut served = serve(Some(ServerTls::load(&files, &[], None).unwrap()));
    let mut stream = begin_handshake(served.address).await;
    // Whoever connected after it was accepted after it.
    let mut later = begin_handshake(served.address).await;
    later.write_all(&[0xff; 8]).await.unwrap();
    let mut alert = Vec::new();
    soon(later.read_to_end(&mut alert)).await.unwrap();
    served.shutdown.begin();
    assert_eq!(soon(served.ended).await.unwrap(), 0, "nothing had to be ended");
    assert!(!matches!(soon(stream.read_u8()).await, Ok(0x16)), "it is not served");
    assert!(served.arrived.try_recv().is_err());
}

#[tokio::test]
async fn who_has_not_ended_is_waited_for_until_it_is_cut() {
    let mut served = serve(None);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    soon(served.arrived.recv()).await.unwrap();
    served.shutdown.begin();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!served.ended.is_finished());
    served.shutdown.cut();
    assert_eq!(soon(served.ended).await.unwrap(), 1);
    assert!(!matches!(soon(stream.read(&mut [0])).await, Ok(1..)));
}

#[tokio::test]
async fn a_cut_says_all_that_was_not_said_before() {
    let mut served = serve(None);
    let stream = TcpStream::connect(served.address).await.unwrap();
    soon(served.arrived.recv()).await.unwrap();
    served.shutdown.cut();
    // Too late to go back.
    served.shutdown.begin();
    served.shutdown.leave();
    assert_eq!(soon(served.ended).await.unwrap(), 1);
    drop(stream);
}
