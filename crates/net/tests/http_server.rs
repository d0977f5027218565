//! The server side over real sockets: persistence, pipelining, deadlines, limits, draining, shutdown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use sluicegate_net::http::{Answer, Body, BodyFault, HttpService, Refusal, ServerSettings};
use sluicegate_net::{Listener, Peer};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use support::{Collect, read_response, read_to_end, refuse, send_and_read_to_end, start, start_on};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Answers without reading the body.
struct Ignore;

impl HttpService for Ignore {
    async fn call(&self, _: Request<Body>, _: &Peer) -> Box<Answer> {
        Response::new(Body::from(Bytes::from_static(b"ignored"))).into()
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        refuse(refusal, peer)
    }
}

/// Answers with a body of unknown length in two pieces.
struct Streamed;

impl HttpService for Streamed {
    async fn call(&self, _: Request<Body>, _: &Peer) -> Box<Answer> {
        let pieces = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        Response::new(Body::Boxed(Pieces(pieces.into_iter()).boxed_unsync())).into()
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        refuse(refusal, peer)
    }
}

struct Pieces(std::vec::IntoIter<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyFault>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

/// Answers when told to.
struct Gated {
    arrived: Arc<Notify>,
    gate: Arc<Notify>,
}

impl HttpService for Gated {
    async fn call(&self, _: Request<Body>, _: &Peer) -> Box<Answer> {
        self.arrived.notify_one();
        self.gate.notified().await;
        Response::new(Body::from(Bytes::from_static(b"done"))).into()
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        refuse(refusal, peer)
    }
}

#[tokio::test]
async fn connection_is_kept_between_requests() {
    let server = start(Collect, ServerSettings::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for n in 0..100 {
        let raw = format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        stream.write_all(raw.as_bytes()).await.unwrap();
        let (head, body) = read_response(&mut stream).await;
        assert!(head.contains(&format!("x-target: /{n}\r\n")), "{head}");
        assert!(head.contains("\r\ndate: "), "{head}");
        assert_eq!(body, b"body");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start(Collect, ServerSettings::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut raw = String::new();
    for n in 0..50 {
        raw += &format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
        raw += &format!("POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
    }
    stream.write_all(raw.as_bytes()).await.unwrap();
    for n in 0..50 {
        for (method, body) in [("GET", &b""[..]), ("POST", b"ab")] {
            let (head, received) = read_response(&mut stream).await;
            assert!(head.contains(&format!("x-method: {method}\r\nx-target: /{n}\r\n")), "{head}");
            assert_eq!(received, body);
        }
    }
}

#[tokio::test]
async fn connection_close_and_http10_end_the_connection() {
    let server = start(Collect, ServerSettings::default());
    let received =
        send_and_read_to_end(server.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(received.contains("\r\nconnection: close\r\n"), "{received}");
    let received = send_and_read_to_end(server.address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let (head, _) = read_response(&mut stream).await;
        assert!(head.contains("\r\nconnection: keep-alive\r\n"), "{head}");
    }
}

#[tokio::test]
async fn unknown_length_is_chunked_or_ends_by_closing() {
    let server = start(Streamed, ServerSettings::default());
    let raw = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let received = send_and_read_to_end(server.address, raw).await;
    assert!(received.contains("transfer-encoding: chunked\r\n"), "{received}");
    assert!(received.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{received}");
    let received = send_and_read_to_end(server.address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(!received.contains("transfer-encoding"), "{received}");
    assert!(received.ends_with("\r\n\r\nonetwo"), "{received}");
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let server = start(Ignore, ServerSettings::default());
    let raw = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let received = send_and_read_to_end(server.address, raw).await;
    assert!(received.contains("content-length: 7\r\n"), "{received}");
    assert!(received.ends_with("\r\n\r\n"), "{received}");
}

#[tokio::test]
async fn slow_heads_are_answered_408_and_silent_clients_closed() {
    let settings = ServerSettings { head_timeout_ms: 50, keep_alive_timeout_ms: 50, ..ServerSettings::default() };
    let server = start(Collect, settings);
    let received = send_and_read_to_end(server.address, b"GET / HTTP/1.1\r\nHost").await;
    assert!(received.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{received}");

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let received = read_to_end(&mut stream).await;
    assert_eq!(received.matches("HTTP/1.1 ").count(), 1, "an idle connection ends without a word: {received}");
}

#[tokio::test]
async fn a_client_that_never_says_a_word_waits_for_a_head_only_once() {
    let settings = ServerSettings { head_timeout_ms: 1_000, ..ServerSettings::default() };
    let server = start(Collect, settings);
    for word in [&b""[..], b"PRI * HT"] {
        let started = std::time::Instant::now();
        assert_eq!(send_and_read_to_end(server.address, word).await, "");
        let waited_ms = started.elapsed().as_millis();
        assert!((900..1_900).contains(&waited_ms), "{word:?} was closed after {waited_ms} ms");
    }
}

#[tokio::test]
async fn trickling_head_is_cut_off_at_the_deadline_of_its_first_byte() {
    let settings = ServerSettings { head_timeout_ms: 200, ..ServerSettings::default() };
    let server = start(Collect, settings);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let started = std::time::Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
    let trickle = async {
        loop {
            ticks.tick().await;
            if writer.write_all(b"X: y\r\n").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut first = [0; 12];
    tokio::select! {
        () = trickle => unreachable!(),
        read = reader.read_exact(&mut first) => { read.unwrap(); }
    }
    assert_eq!(&first, b"HTTP/1.1 408");
    assert!(started.elapsed().as_millis() < 2_000);
}

#[tokio::test]
async fn stalled_body_is_answered_408() {
    let settings = ServerSettings { body_idle_timeout_ms: 50, ..ServerSettings::default() };
    let server = start(Collect, settings);
    let raw = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    let received = send_and_read_to_end(server.address, raw).await;
    assert!(received.starts_with("HTTP/1.1 408 "), "{received}");
}

#[tokio::test]
async fn body_over_the_limit_is_answered_413() {
    let settings = ServerSettings { body_bytes_max: 4, ..ServerSettings::default() };
    let server = start(Collect, settings);
    for raw in [
        &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"[..],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    ] {
        let received = send_and_read_to_end(server.address, raw).await;
        assert!(received.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{received}");
    }
}

#[tokio::test]
async fn oversize_head_and_target_are_answered_and_closed() {
    let server = start(Collect, ServerSettings::default());
    let long = "x".repeat(70_000);
    let received = send_and_read_to_end(server.address, format!("GET /{long} HTTP/1.1\r\n").as_bytes()).await;
    assert!(received.starts_with("HTTP/1.1 414 "), "{received}");
    let received =
        send_and_read_to_end(server.address, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n").as_bytes()).await;
    assert!(received.starts_with("HTTP/1.1 431 "), "{received}");
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted() {
    let server = start(Collect, ServerSettings::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    assert_eq!(read_response(&mut stream).await.1, b"abc");
}

#[tokio::test]
async fn body_nobody_wants_after_expect_ends_the_connection() {
    let server = start(Ignore, ServerSettings::default());
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let received = send_and_read_to_end(server.address, head).await;
    assert!(received.starts_with("HTTP/1.1 200 "), "{received}");
    assert!(received.contains("\r\nconnection: close\r\n"), "{received}");
}

#[tokio::test]
async fn unread_body_is_drained_within_the_limit_and_the_connection_kept() {
    let settings = ServerSettings { drain_bytes_max: 100_000, ..ServerSettings::default() };
    let server = start(Ignore, settings);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        let mut raw = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n".to_vec();
        raw.resize(raw.len() + 90_000, b'x');
        stream.write_all(&raw).await.unwrap();
        assert_eq!(read_response(&mut stream).await.1, b"ignored");
    }
    let mut raw = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 110000\r\n\r\n".to_vec();
    raw.resize(raw.len() + 110_000, b'x');
    stream.write_all(&raw).await.unwrap();
    let received = read_to_end(&mut stream).await;
    assert!(received.contains("\r\nconnection: close\r\n"), "{received}");
}

#[tokio::test]
async fn a_service_that_does_not_upgrade_answers_as_if_it_had_not_been_asked() {
    let server = start(Collect, ServerSettings::default());
    let raw = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n";
    let received = send_and_read_to_end(server.address, raw).await;
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n") && !received.contains("upgrade"), "{received}");
}

#[tokio::test]
async fn shutdown_finishes_the_request_in_flight_and_closes_idle_connections() {
    let (arrived, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = Gated { arrived: Arc::clone(&arrived), gate: Arc::clone(&gate) };
    let server = start(service, ServerSettings::default());
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    gate.notify_one();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_response(&mut idle).await;
    arrived.notified().await;

    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    arrived.notified().await;
    server.shutdown.begin();
    assert_eq!(read_to_end(&mut idle).await, "");
    gate.notify_one();
    let received = read_to_end(&mut busy).await;
    assert!(received.ends_with("\r\n\r\ndone"), "{received}");
    assert!(received.contains("\r\nconnection: close\r\n"), "{received}");
    drop((idle, busy));
    assert_eq!(server.ended.await.unwrap(), 0, "nobody had to be ended by force");
}

#[tokio::test]
async fn who_leaves_answers_once_more_on_idle_connections_and_another_listens_on_the_socket() {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None).unwrap();
    let (address, socket) = (listener.address().unwrap(), listener.socket().unwrap());
    let old = start_on(listener, Collect, ServerSettings::default());
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut idle, mut silent) =
        (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
    for stream in [&mut idle, &mut silent] {
        stream.write_all(get).await.unwrap();
        read_response(stream).await;
    }
    old.shutdown.leave();

    let new = start_on(Listener::adopt(socket, None).unwrap(), Ignore, ServerSettings::default());
    let mut fresh = TcpStream::connect(address).await.unwrap();
    fresh.write_all(get).await.unwrap();
    assert_eq!(read_response(&mut fresh).await.1, b"ignored", "the new one has accepted it");
    idle.write_all(get).await.unwrap();
    let received = read_to_end(&mut idle).await;
    assert!(
        received.starts_with("HTTP/1.1 200 OK\r\n") && received.contains("\r\nconnection: close\r\n"),
        "{received}"
    );

    old.shutdown.begin();
    old.shutdown.leave();
    assert_eq!(read_to_end(&mut silent).await, "", "at the end the idle go, and no half signal takes that back");
    drop((idle, silent));
    assert_eq!(old.ended.await.unwrap(), 0);
    new.shutdown.begin();
    assert_eq!(new.ended.await.unwrap(), 0);
}
