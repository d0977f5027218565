//! HTTP/2 in front of the same service: prior knowledge on a plain connection, and ALPN over TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sluicegate_net::Peer;
use sluicegate_net::http::{Answer, Body, HttpService, Refusal, ServerSettings, ServerTls, TlsFiles};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::{Collect, Proxy, refuse, start, start_tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> http2::SendRequest<Full<Bytes>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(uri: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    Request::post(uri).body(Full::new(Bytes::from_static(body))).unwrap()
}

#[tokio::test]
async fn prior_knowledge_reaches_the_service_in_origin_form() {
    let server = start(Collect, ServerSettings::default());
    let mut sender = client(TcpStream::connect(server.address).await.unwrap()).await;
    for n in 0..20 {
        let response = sender.send_request(post(&format!("http://a.example:8000/{n}?q"), b"body")).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        assert_eq!(response.headers()["x-target"], format!("/{n}?q"));
        assert_eq!(response.headers()["x-host"], "a.example:8000");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    }
}

#[tokio::test]
async fn http2_is_proxied_to_an_http1_upstream() {
    let upstream = start(Collect, ServerSettings::default());
    let server = start(Proxy::to(upstream.address), ServerSettings::default());
    let sender = client(TcpStream::connect(server.address).await.unwrap()).await;
    let requests = (0..20).map(|n| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let response = sender.send_request(post(&format!("http://a/{n}"), b"body")).await.unwrap();
            assert_eq!(response.headers()["x-target"], format!("/{n}"));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn host_that_differs_from_the_authority_is_refused() {
    let server = start(Collect, ServerSettings::default());
    let mut sender = client(TcpStream::connect(server.address).await.unwrap()).await;
    let mut request = post("http://a/", b"");
    request.headers_mut().insert("host", http::HeaderValue::from_static("b"));
    assert_eq!(sender.send_request(request).await.unwrap().status(), 400);
}

#[tokio::test]
async fn preface_split_into_bytes_is_still_http2() {
    let server = start(Collect, ServerSettings::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        stream.write_u8(*byte).await.unwrap();
    }
    // An empty SETTINGS frame is answered with the server's own.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
}

#[tokio::test]
async fn alpn_chooses_between_http2_and_http1() {
    let files = TlsFiles { cert: fixture("cert.pem"), key: fixture("key.pem"), client_ca: None };
    let config = ServerTls::load(&files, &["h2", "http/1.1"], None).unwrap();
    let server = start_tls(Collect, ServerSettings::default(), Some(config));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = async |alpn: &[&str]| {
        let mut config = config.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    };
    let mut sender = client(connect(&["h2"]).await).await;
    let response = sender.send_request(post("https://localhost/x", b"body")).await.unwrap();
    assert_eq!(response.headers()["x-target"], "/x");

    let mut stream = connect(&["http/1.1"]).await;
    stream.write_all(b"GET /y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).await.unwrap();
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n") && received.contains("x-target: /y\r\n"), "{received}");
}

#[tokio::test]
async fn idle_connections_end_and_stalled_bodies_fail() {
    let settings = ServerSettings { keep_alive_timeout_ms: 50, body_idle_timeout_ms: 50, ..ServerSettings::default() };
    let server = start(Collect, settings);
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) = http2::handshake::<_, _, Stalled>(TokioExecutor::new(), io).await.unwrap();
    let ended = tokio::spawn(connection);
    let response = sender.send_request(Request::post("http://a/").body(Stalled).unwrap()).await.unwrap();
    assert_eq!(response.status(), 408);
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn body_without_a_length_is_bounded_too() {
    let server = start(Collect, ServerSettings { body_bytes_max: 4, ..ServerSettings::default() });
    let mut sender = client(TcpStream::connect(server.address).await.unwrap()).await;
    let response = sender.send_request(post("http://a/", b"abcde")).await.unwrap();
    assert_eq!(response.status(), 413);
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let unannounced = post("http://a/", b"abcde").map(|body| Unannounced(body.boxed_unsync()));
    assert_eq!(sender.send_request(unannounced).await.unwrap().status(), 413);
}

/// Answers with more than sockets hold.
struct Large;

impl HttpService for Large {
    async fn call(&self, _: Request<Body>, _: &Peer) -> Box<Answer> {
        Response::new(Body::from(Bytes::from(vec![b'x'; 64 << 20]))).into()
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        refuse(refusal, peer)
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let server = start(Large, ServerSettings { body_idle_timeout_ms: 50, ..ServerSettings::default() });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // SETTINGS with the largest window of a stream, WINDOW_UPDATE to the largest of the connection, GET http://a/.
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    request.extend(b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0");
    request.extend(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a");
    stream.write_all(&request).await.unwrap();
    let ping = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let cut_off = async {
        while stream.write_all(ping).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cut_off).await.unwrap();
}

/// A body that does not tell its length.
struct Unannounced(http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>);

impl http_body::Body for Unannounced {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// A body that never comes.
struct Stalled;

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}
