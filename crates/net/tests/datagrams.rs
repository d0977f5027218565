//! UDP over real sockets: who gets what, how sessions end, and what is dropped.

// Helpers of a test are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::panic)]

extern crate sluicegate_net as net;

use gateway::stats::DatagramDrops;
use model::limits::{DATAGRAM_BYTES_MAX, TUNNEL_DRAIN_IDLE_MS, UDP_RESENT_BYTES_MAX, UDP_SESSION_QUEUE_MAX};
use net::Shutdown;
use net::stream::{
    CarriedDatagrams, DatagramEnd, DatagramListener, DatagramNews, DatagramPatience, DatagramRoom, DatagramSession,
};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(60);
/// Within which an upstream refuses.
const REFUSAL: Duration = Duration::from_secs(5);

/// How a session ended, whether it was answered, and what it carried.
type Ended = (DatagramEnd, bool, CarriedDatagrams);

/// A listener whose sessions try these upstreams, one after another.
struct Rig {
    at: SocketAddr,
    drops: Arc<DatagramDrops>,
    shutdown: Shutdown,
    ended: mpsc::UnboundedReceiver<Ended>,
    news: mpsc::UnboundedReceiver<DatagramNews>,
    task: JoinHandle<usize>,
}

impl Rig {
    fn new(upstreams: Vec<SocketAddr>, idle: Duration) -> Self {
        let listener = DatagramListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (at, drops) = (listener.address().unwrap(), Arc::<DatagramDrops>::default());
        let (shutdown, drain) = Shutdown::new();
        let (tell, ended) = mpsc::unbounded_channel();
        let (hear, news) = mpsc::unbounded_channel();
        let (seen, patience) = (drain.clone(), DatagramPatience { idle, refusal: REFUSAL });
        let serve = move |mut session: DatagramSession| {
            let (tell, hear, upstreams, mut drain) = (tell.clone(), hear.clone(), upstreams.clone(), seen.clone());
            async move {
                for upstream in upstreams {
                    let socket = connected(upstream).await;
                    let draining = pin!(drain.begun());
                    let end = session.carry(&socket, patience, draining, |news| hear.send(news).unwrap()).await;
                    tell.send((end, session.is_answered(), session.carried())).unwrap();
                }
            }
        };
        let room = DatagramRoom::new(usize::MAX, Arc::clone(&drops));
        let task = tokio::spawn(listener.run(room, drain, LONG, serve));
        Self { at, drops, shutdown, ended, news, task }
    }
}

async fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

async fn connected(to: SocketAddr) -> UdpSocket {
    let (socket, _) = bound().await;
    socket.connect(to).await.unwrap();
    socket
}

/// An address that nobody has.
async fn dead() -> SocketAddr {
    bound().await.1
}

async fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX + 1];
    let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
    bytes.truncate(len);
    (bytes, from)
}

#[tokio::test]
async fn each_client_gets_its_own_answers() {
    let (upstream, at) = bound().await;
    let rig = Rig::new(vec![at], LONG);
    let (one, other) = (connected(rig.at).await, connected(rig.at).await);
    one.send(b"one").await.unwrap();
    other.send(b"other").await.unwrap();
    let (first, second) = (next(&upstream).await, next(&upstream).await);
    assert_eq!((&*first.0, &*second.0), (&b"one"[..], &b"other"[..]));
    assert_ne!(first.1, second.1, "each has a socket to the upstream");
    upstream.send_to(b"to other", second.1).await.unwrap();
    upstream.send_to(b"to one", first.1).await.unwrap();
    assert_eq!((next(&one).await.0, next(&other).await.0), (b"to one".to_vec(), b"to other".to_vec()));
    one.send(b"again").await.unwrap();
    assert_eq!(next(&upstream).await, (b"again".to_vec(), first.1));
}

#[tokio::test]
async fn an_empty_one_and_the_longest_go_both_ways_as_they_are() {
    let (upstream, at) = bound().await;
    let rig = Rig::new(vec![at], LONG);
    let client = connected(rig.at).await;
    for len in [0, 1, DATAGRAM_BYTES_MAX] {
        let sent: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        client.send(&sent).await.unwrap();
        let (got, from) = next(&upstream).await;
        assert!(got == sent, "{len}");
        upstream.send_to(&got, from).await.unwrap();
        assert!(next(&client).await.0 == sent, "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_session_and_the_next_datagram_begins_another() {
    let (upstream, at) = bound().await;
    let mut rig = Rig::new(vec![at], Duration::from_secs(2));
    let client = connected(rig.at).await;
    client.send(b"one").await.unwrap();
    let (_, from) = next(&upstream).await;
    upstream.send_to(b"answer", from).await.unwrap();
    next(&client).await;
    let began = Instant::now();
    let (end, answered, carried) = rig.ended.recv().await.unwrap();
    assert!(matches!(end, DatagramEnd::Silent) && answered, "{end:?}");
    assert!((1_900..2_100).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!((carried.bytes.up_bytes, carried.bytes.down_bytes), (3, 6));
    assert_eq!((carried.datagrams.n_in, carried.datagrams.n_out), (1, 1));
    client.send(b"two").await.unwrap();
    let (got, fresh) = next(&upstream).await;
    assert_eq!(got, b"two");
    assert_ne!(fresh, from);
}

/// Its time begins with the first datagram, and nothing that the client sends afterwards moves its end.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_silent_is_told_of_while_the_client_goes_on() {
    let (upstream, at) = bound().await;
    let mut rig = Rig::new(vec![at], Duration::from_secs(2));
    let client = connected(rig.at).await;
    let mut turn = tokio::time::interval(Duration::from_secs(1));
    let began = Instant::now();
    let news = loop {
        tokio::select! {
            news = rig.news.recv() => break news.unwrap(),
            _ = turn.tick() => {
                client.send(b"log").await.unwrap();
                assert_eq!(next(&upstream).await.0, b"log");
            }
            ended = rig.ended.recv() => panic!("{ended:?}"),
        }
        assert!(began.elapsed() < 2 * REFUSAL, "nothing was told");
    };
    assert_eq!(news, DatagramNews::NotRefused);
    let (_, from) = next_after(&client, &upstream).await;
    upstream.send_to(b"at last", from).await.unwrap();
    next(&client).await;
    assert_eq!(rig.news.recv().await, Some(DatagramNews::Answered));
}

/// What comes when the client sends once more.
async fn next_after(client: &UdpSocket, upstream: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    client.send(b"more").await.unwrap();
    next(upstream).await
}

#[tokio::test]
async fn what_a_dead_upstream_refuses_goes_to_the_next_one() {
    let (upstream, at) = bound().await;
    let mut rig = Rig::new(vec![dead().await, at], LONG);
    for (len, comes) in [(UDP_RESENT_BYTES_MAX, true), (UDP_RESENT_BYTES_MAX + 1, false)] {
        let client = connected(rig.at).await;
        client.send(&vec![1; len]).await.unwrap();
        let (end, answered, _) = rig.ended.recv().await.unwrap();
        assert!(matches!(end, DatagramEnd::Refused(_)) && !answered, "{end:?}");
        client.send(b"more").await.unwrap();
        let got = next(&upstream).await.0;
        assert_eq!(if comes { got.len() } else { got.len() + len - 4 }, len, "kept up to the limit");
        if comes {
            assert_eq!(next(&upstream).await.0, b"more");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_answered_and_is_gone_is_told_of() {
    let (upstream, at) = bound().await;
    let mut rig = Rig::new(vec![at], LONG);
    let client = connected(rig.at).await;
    client.send(b"one").await.unwrap();
    let (_, from) = next(&upstream).await;
    upstream.send_to(b"answer", from).await.unwrap();
    next(&client).await;
    drop(upstream);
    client.send(b"two").await.unwrap();
    let (end, answered, _) = rig.ended.recv().await.unwrap();
    assert!(matches!(end, DatagramEnd::Refused(_)) && answered, "{end:?}");
}

#[tokio::test]
async fn so_many_wait_for_their_session_and_no_more() {
    let listener = DatagramListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let (at, drops) = (listener.address().unwrap(), Arc::<DatagramDrops>::default());
    let (_shutdown, drain) = Shutdown::new();
    let (begun, mut sessions) = mpsc::unbounded_channel();
    let room = DatagramRoom::new(8, Arc::clone(&drops));
    let serve = move |session| {
        let begun = begun.clone();
        async move { begun.send(session).unwrap() }
    };
    tokio::spawn(listener.run(room, drain, LONG, serve));
    let (waiting, other, third) = (connected(at).await, connected(at).await, connected(at).await);
    for _ in 0..UDP_SESSION_QUEUE_MAX + 3 {
        waiting.send(b"x").await.unwrap();
    }
    other.send(b"x").await.unwrap();
    let held = (sessions.recv().await.unwrap(), sessions.recv().await.unwrap());
    let dropped = |word| drops.counts().find(|(named, _)| *named == word).unwrap().1;
    assert_eq!((dropped("queue"), dropped("share")), (3, 0));
    // There are four places, two of them for this address; once it leaves one, its next client has it.
    third.send(b"x").await.unwrap();
    while dropped("share") == 0 {
        tokio::task::yield_now().await;
    }
    drop(held);
    third.send(b"z").await.unwrap();
    sessions.recv().await.unwrap();
    assert_eq!((dropped("share"), dropped("sessions")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drains_takes_nothing_more_and_passes_on_what_comes_back() {
    let (upstream, at) = bound().await;
    let mut rig = Rig::new(vec![at], LONG);
    let client = connected(rig.at).await;
    client.send(b"one").await.unwrap();
    let (_, from) = next(&upstream).await;
    rig.shutdown.begin();
    upstream.send_to(b"answer", from).await.unwrap();
    assert_eq!(next(&client).await.0, b"answer");
    let began = Instant::now();
    let (end, ..) = rig.ended.recv().await.unwrap();
    assert!(matches!(end, DatagramEnd::Drained), "{end:?}");
    assert!(began.elapsed() <= Duration::from_millis(TUNNEL_DRAIN_IDLE_MS + 100), "{:?}", began.elapsed());
    assert_eq!((rig.task.await.unwrap(), rig.drops.counts().map(|(_, n)| n).sum::<u64>()), (0, 0));
}
