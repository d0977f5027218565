//! The client side over real sockets: kept connections, stale ones, garbage, deadlines, TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::limits::HTTP_INTERIM_RESPONSES_MAX;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sluicegate_net::Peer;
use sluicegate_net::http::{
    Answer, Body, HttpService, PoolSettings, Refusal, Retry, ServerSettings, ServerTls, TlsSettings, TlsTrust,
    UpstreamErrorKind, UpstreamPool, UpstreamTls,
};
use sluicegate_net::resolve::{Resolver, ResolverSettings};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use support::fake_dns::{A, AAAA, FakeDns, SRV, a, aaaa, srv};
use support::{Collect, Proxy, get, raw_upstream, read_head, read_response, start, start_tls, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

fn post(body: &'static [u8]) -> Request<Body> {
    Request::builder().method("POST").uri("/").header("host", "a").body(Body::from(Bytes::from_static(body))).unwrap()
}

fn resolver() -> Arc<Resolver> {
    Resolver::new(&ResolverSettings::default())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Answers every request with this, over however many connections.
async fn fixed_upstream(answer: &'static str) -> SocketAddr {
    raw_upstream(move |_, mut stream| async move {
        while read_head(&mut stream).await {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let address = raw_upstream(move |_, mut stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            while read_head(&mut stream).await {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let proxy = Proxy::to(address);
    for _ in 0..20 {
        assert_eq!(text(proxy.exchange(get("/")).await.unwrap()).await, "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(proxy.pool.n_idle(), 1);
}

#[tokio::test]
async fn connection_ends_after_its_requests_and_its_idle_time() {
    let address = fixed_upstream("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let mut proxy = Proxy::to(address);
    proxy.pool = UpstreamPool::new(PoolSettings { requests_max: 2, ..PoolSettings::default() }, resolver());
    for expected in [1, 0, 1, 0] {
        text(proxy.exchange(get("/")).await.unwrap()).await;
        assert_eq!(proxy.pool.n_idle(), expected);
    }
    proxy.pool = UpstreamPool::new(PoolSettings { idle_timeout_ms: 0, ..PoolSettings::default() }, resolver());
    text(proxy.exchange(get("/")).await.unwrap()).await;
    assert_eq!(proxy.pool.n_idle(), 1);
    proxy.pool.sweep();
    assert_eq!(proxy.pool.n_idle(), 0);
}

#[tokio::test]
async fn a_name_that_has_ipv6_addresses_too_is_reached_without_ipv6() {
    let address = fixed_upstream("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let names = FakeDns::start().await;
    // Nobody listens there, whether the machine has IPv6 or not.
    for name in ["web.example", "six.example"] {
        names.records(name, AAAA, &[aaaa(name, 60, Ipv6Addr::LOCALHOST)]);
    }
    for name in ["web.example", "four.example"] {
        names.records(name, A, &[a(name, 60, [127, 0, 0, 1])]);
    }
    let places = ["six.example", "four.example"].map(|target| srv("both.example", 60, [1, 1, address.port()], target));
    names.records("both.example", SRV, &places);
    let missing = PathBuf::from("/nonexistent");
    let settings = ResolverSettings {
        servers: vec![names.address],
        hosts_file: missing.clone(),
        resolv_conf: missing,
        ..ResolverSettings::default()
    };
    let mut proxy = Proxy::to(address);
    // Every exchange connects anew, so that each of the addresses has its turn to be the first.
    let pool = PoolSettings { requests_max: 1, ..PoolSettings::default() };
    proxy.pool = UpstreamPool::new(pool, Resolver::new(&settings));
    for host in ["web.example", "both.example"] {
        proxy.target.host = host.into();
        for _ in 0..8 {
            let response = proxy.exchange(get("/")).await.unwrap_or_else(|error| panic!("{host}: {error}"));
            assert_eq!(text(response).await, "ok");
        }
    }
}

#[tokio::test]
async fn upstream_that_closes_kept_connections_is_not_noticed() {
    let address = raw_upstream(|_, mut stream| async move {
        if read_head(&mut stream).await {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::to(address);
    for n in 0..50 {
        let response = proxy.exchange(get("/")).await.unwrap_or_else(|error| panic!("request {n}: {error}"));
        assert_eq!(text(response).await, "ok");
    }
}

/// The first connection answers once, then swallows the next request and closes; later ones answer.
async fn swallowing_upstream() -> SocketAddr {
    raw_upstream(|number, mut stream| async move {
        while read_head(&mut stream).await {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            if number == 0 {
                read_head(&mut stream).await;
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn stale_connection_is_replaced_for_an_idempotent_request_only() {
    let proxy = Proxy::to(swallowing_upstream().await);
    text(proxy.exchange(get("/")).await.unwrap()).await;
    assert_eq!(text(proxy.exchange(get("/")).await.unwrap()).await, "ok");

    let proxy = Proxy::to(swallowing_upstream().await);
    text(proxy.exchange(get("/")).await.unwrap()).await;
    let error = proxy.exchange(post(b"x")).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (UpstreamErrorKind::Reset, Retry::IfIdempotent));
    assert!(!error.may_retry(&http::Method::POST));
}

#[tokio::test]
async fn ambiguous_and_malformed_responses_are_invalid() {
    for answer in [
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let proxy = Proxy::to(fixed_upstream(answer).await);
        let error = proxy.exchange(get("/")).await.unwrap_err();
        assert_eq!((error.kind, error.retry), (UpstreamErrorKind::InvalidResponse, Retry::Never), "{answer:?}");
        assert_eq!(proxy.pool.n_idle(), 0);
    }
}

#[tokio::test]
async fn bytes_after_a_response_end_its_connection() {
    let proxy = Proxy::to(fixed_upstream("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n").await);
    assert_eq!(text(proxy.exchange(get("/")).await.unwrap()).await, "ok");
    assert_eq!(proxy.pool.n_idle(), 0);
}

#[tokio::test]
async fn bodies_by_chunks_by_close_and_none_are_read() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let proxy = Proxy::to(fixed_upstream(chunked).await);
    assert_eq!(text(proxy.exchange(get("/")).await.unwrap()).await, "ok");
    assert_eq!(proxy.pool.n_idle(), 1);
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let proxy = Proxy::to(fixed_upstream(interim).await);
    assert_eq!(proxy.exchange(get("/")).await.unwrap().status(), 204);
    assert_eq!(proxy.pool.n_idle(), 1);
    let address = raw_upstream(|_, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
    })
    .await;
    assert_eq!(text(Proxy::to(address).exchange(get("/")).await.unwrap()).await, "until the end");
}

#[tokio::test]
async fn response_cut_short_is_a_fault_of_its_body() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n",
    ] {
        let address = raw_upstream(move |_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let proxy = Proxy::to(address);
        let response = proxy.exchange(get("/")).await.unwrap();
        assert!(response.into_body().collect().await.is_err(), "{answer:?}");
        assert_eq!(proxy.pool.n_idle(), 0);
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Proxy::to(unused).exchange(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (UpstreamErrorKind::Refused, Retry::Safe));

    let mut proxy = Proxy::to(unused);
    proxy.target.host = "no-such-name.invalid".into();
    proxy.timeouts.connect_ms = 60_000;
    let error = proxy.exchange(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (UpstreamErrorKind::Dns, Retry::Safe));

    let silent = raw_upstream(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let mut proxy = Proxy::to(silent);
    proxy.timeouts.read_ms = 50;
    let error = proxy.exchange(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (UpstreamErrorKind::ReadTimeout, Retry::IfIdempotent));

    let mut proxy = Proxy::to(silent);
    proxy.timeouts.write_ms = 50;
    let error = proxy.exchange(post(Box::leak(vec![0; 50_000_000].into_boxed_slice()))).await.unwrap_err();
    assert_eq!(error.kind, UpstreamErrorKind::WriteTimeout);

    let mut proxy = Proxy::to(silent);
    proxy.timeouts.connect_ms = 50;
    proxy.target.tls = Some(UpstreamTls::new(&TlsSettings::default()).unwrap());
    let error = proxy.exchange(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (UpstreamErrorKind::ConnectTimeout, Retry::Safe));

    let closing = raw_upstream(|_, mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let error = Proxy::to(closing).exchange(get("/")).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (UpstreamErrorKind::Reset, Retry::IfIdempotent));
}

#[tokio::test]
async fn answer_before_the_request_was_read_is_passed_on() {
    let address = raw_upstream(|_, mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        stream.write_all(answer).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let response = Proxy::to(address).exchange(post(&[0; 8 << 20])).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "big");
}

#[tokio::test]
async fn bad_body_of_the_client_is_the_clients_fault() {
    let upstream = start(Collect, ServerSettings::default());
    let server = start(Proxy::to(upstream.address), ServerSettings::default());
    let raw = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n";
    let received = support::send_and_read_to_end(server.address, raw).await;
    assert!(received.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{received}");
}

#[tokio::test]
async fn proxied_requests_lose_hop_by_hop_fields_and_keep_the_rest() {
    let address = raw_upstream(|_, mut stream| async move {
        use tokio::io::AsyncReadExt;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = format!("HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nX-Kept: 1\r\nContent-Length: {}\r\n\r\n", head.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.write_all(&head).await.unwrap();
    })
    .await;
    let server = start(Proxy::to(address), ServerSettings::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let raw = "GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: x-mine\r\nX-Mine: 1\r\nTE: trailers\r\nKeep-Alive: 1\r\nX-Yours: 2\r\n\r\n";
    stream.write_all(raw.as_bytes()).await.unwrap();
    let (head, forwarded) = read_response(&mut stream).await;
    assert!(head.contains("x-kept: 1\r\n") && !head.contains("keep-alive"), "{head}");
    let forwarded = String::from_utf8(forwarded).unwrap();
    assert_eq!(forwarded, "GET /a?b HTTP/1.1\r\nhost: a\r\nx-yours: 2\r\nte: trailers\r\n\r\n");
}

fn trusting(trust: TlsTrust) -> TlsSettings {
    TlsSettings { trust, ..TlsSettings::default() }
}

/// A proxy whose clients get interim responses.
struct Passing(Proxy);

impl HttpService for Passing {
    async fn call(&self, request: Request<Body>, peer: &Peer) -> Box<Answer> {
        self.0.call(request, peer).await
    }

    fn passes_interims(&self) -> bool {
        true
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        self.0.refuse(refusal, peer)
    }
}

#[tokio::test]
async fn early_hints_reach_the_client_before_the_answer_where_a_service_passes_them() {
    let seen = Arc::new(Notify::new());
    let told = Arc::clone(&seen);
    let address = raw_upstream(move |_, mut stream| {
        let seen = Arc::clone(&told);
        async move {
            while read_head(&mut stream).await {
                let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: 1\r\n\r\n";
                stream.write_all(hints.as_bytes()).await.unwrap();
                seen.notified().await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let server = start(Passing(Proxy::to(address)), ServerSettings::default());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (hints, _) = read_response(&mut client).await;
        assert_eq!(hints.to_ascii_lowercase(), "http/1.1 103 early hints\r\nlink: </a.css>\r\n\r\n");
        // It came before there was an answer.
        seen.notify_one();
        let (head, body) = read_response(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == b"ok", "{head}");
    }
    for (server, head) in [
        (start(Proxy::to(address), ServerSettings::default()), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (start(Passing(Proxy::to(address)), ServerSettings::default()), "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    ] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        seen.notify_one();
        let (head, _) = read_response(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "not asked for, or not understood: {head}");
    }
}

#[tokio::test]
async fn interim_responses_have_an_end() {
    for (count, is_answered) in [(HTTP_INTERIM_RESPONSES_MAX, true), (HTTP_INTERIM_RESPONSES_MAX + 1, false)] {
        let answer = "HTTP/1.1 102 Processing\r\n\r\n".repeat(count) + "HTTP/1.1 204 No Content\r\n\r\n";
        let proxy = Proxy::to(fixed_upstream(Box::leak(answer.into_boxed_str())).await);
        match proxy.exchange(get("/")).await {
            Ok(response) => assert!(is_answered && response.status() == 204),
            Err(error) => assert!(!is_answered && error.kind == UpstreamErrorKind::InvalidResponse, "{error}"),
        }
    }
}

/// A body of no known length.
struct Frames(std::vec::IntoIter<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (sender, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let address = raw_upstream(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            while read_head(&mut stream).await {
                let mut body = Vec::new();
                while !body.ends_with(b"\r\n\r\n") {
                    body.push(stream.read_u8().await.unwrap());
                }
                let _ = sender.send(String::from_utf8(body).unwrap());
                let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Down: 2\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let server = start(Proxy::to(address), ServerSettings::default());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let ask = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Up: 1\r\n\r\n";
    for _ in 0..2 {
        client.write_all(ask.as_bytes()).await.unwrap();
        assert_eq!(bodies.recv().await.unwrap(), "3\r\nabc\r\n0\r\nx-up: 1\r\n\r\n");
        let mut answer = Vec::new();
        while !answer.ends_with(b"x-down: 2\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("\r\n\r\n2\r\nok\r\n0\r\nx-down: 2\r\n\r\n"), "{answer}");
    }

    // The same from a client of HTTP/2.
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let up = HeaderMap::from_iter([(HeaderName::from_static("x-up"), HeaderValue::from_static("1"))]);
    let frames = vec![Frame::data(Bytes::from_static(b"abc")), Frame::trailers(up)];
    let body = Frames(frames.into_iter());
    let response = sender.send_request(Request::post("http://a/").body(body).unwrap()).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-down"], "2");
    assert_eq!(collected.to_bytes(), "ok");
    assert_eq!(bodies.recv().await.unwrap(), "3\r\nabc\r\n0\r\nx-up: 1\r\n\r\n");
}

#[tokio::test]
async fn trailers_behind_a_length_end_at_an_upstream_of_http1() {
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let address = raw_upstream(move |number, mut stream| {
        let sender = sender.clone();
        async move {
            loop {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\nabc") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                let _ = sender.send((number, String::from_utf8(request).unwrap()));
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let server = start(Proxy::to(address), ServerSettings::default());
    let stream = TcpStream::connect(server.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    // The second over the same connection: nothing is left of the first.
    for _ in 0..2 {
        let up = HeaderMap::from_iter([(HeaderName::from_static("x-up"), HeaderValue::from_static("1"))]);
        let frames = vec![Frame::data(Bytes::from_static(b"abc")), Frame::trailers(up)];
        let request = Request::post("http://a/").header("content-length", "3").header("trailer", "x-up");
        let response = sender.send_request(request.body(Frames(frames.into_iter())).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        let (number, request) = seen.recv().await.unwrap();
        assert_eq!(number, 0);
        assert!(request.contains("content-length: 3\r\n") && !request.contains("chunked"), "{request}");
    }
}

#[tokio::test]
async fn tls_to_upstreams_is_checked_when_asked_for() {
    let files = sluicegate_net::http::TlsFiles { cert: fixture("cert.pem"), key: fixture("key.pem"), client_ca: None };
    let config = ServerTls::load(&files, &["h2", "http/1.1"], None).unwrap();
    let upstream = start_tls(Collect, ServerSettings::default(), Some(config));
    let with = |trust| {
        let mut proxy = Proxy::to(upstream.address);
        proxy.target.tls = Some(UpstreamTls::new(&trusting(trust)).unwrap());
        proxy
    };
    let ca = vec![CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()];
    for trust in [TlsTrust::Anyone, TlsTrust::Authorities(ca.clone())] {
        assert_eq!(text(with(trust).exchange(post(b"secret")).await.unwrap()).await, "secret");
    }
    // The system trusts other authorities, if any.
    if let Ok(tls) = UpstreamTls::new(&trusting(TlsTrust::System)) {
        let mut proxy = Proxy::to(upstream.address);
        proxy.target.tls = Some(tls);
        assert_eq!(proxy.exchange(get("/")).await.unwrap_err().kind, UpstreamErrorKind::Tls);
    }
    let mut proxy = with(TlsTrust::Authorities(ca));
    proxy.target.server_name = Some("other.example".into());
    assert_eq!(proxy.exchange(get("/")).await.unwrap_err().kind, UpstreamErrorKind::Tls);
    let mut proxy = Proxy::to(fixed_upstream("HTTP/1.1 400 Bad Request\r\n\r\n").await);
    proxy.target.tls = Some(UpstreamTls::new(&TlsSettings::default()).unwrap());
    proxy.timeouts.connect_ms = 200;
    let kind = proxy.exchange(get("/")).await.unwrap_err().kind;
    assert!(matches!(kind, UpstreamErrorKind::Tls | UpstreamErrorKind::ConnectTimeout), "{kind}");
}

#[test]
fn bad_tls_files_are_named() {
    let files = |cert: &str, key: &str| sluicegate_net::http::TlsFiles {
        cert: fixture(cert),
        key: fixture(key),
        client_ca: None,
    };
    for (files, named) in [
        (files("missing.pem", "key.pem"), "missing.pem"),
        (files("cert.pem", "missing.pem"), "missing.pem"),
        (files("key.pem", "key.pem"), "key.pem"),
        (files("cert.pem", "cert.pem"), "cert.pem"),
    ] {
        let error = ServerTls::load(&files, &[], None).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}
