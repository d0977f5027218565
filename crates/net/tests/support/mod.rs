//! What the HTTP tests share: a server on a port the system chose, services, and a client that speaks raw bytes.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

pub(crate) mod fake_dns;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http1::FieldLines;
use sluicegate_net::http::{
    Answer, Body, HttpService, PoolSettings, Refusal, ServerSettings, ServerTls, Timeouts, UpstreamError, UpstreamPool,
    UpstreamTarget, serve_connection,
};
use sluicegate_net::resolve::{Resolver, ResolverSettings};
use sluicegate_net::{Listener, Peer, Place, Shutdown};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) ended: JoinHandle<usize>,
}

pub(crate) fn start<S: HttpService>(service: S, settings: ServerSettings) -> Server {
    start_tls(service, settings, None)
}

pub(crate) fn start_tls<S: HttpService>(service: S, settings: ServerSettings, tls: Option<Arc<ServerTls>>) -> Server {
    start_on(Listener::bind(([127, 0, 0, 1], 0).into(), tls).unwrap(), service, settings)
}

pub(crate) fn start_on<S: HttpService>(listener: Listener, service: S, settings: ServerSettings) -> Server {
    let address = listener.address().unwrap();
    let (shutdown, drain) = Shutdown::new();
    let (service, seen) = (Arc::new(service), drain.clone());
    let serve = move |io, peer| serve_connection(io, peer, Arc::clone(&service), settings, seen.clone());
    let ended = tokio::spawn(listener.run(1_000, Place::Here, drain, Duration::from_secs(5), serve));
    Server { address, shutdown, ended }
}

/// Reads the whole body and sends it back, with method and target in the header.
pub(crate) struct Collect;

impl HttpService for Collect {
    async fn call(&self, request: Request<Body>, _: &Peer) -> Box<Answer> {
        let (head, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(fault) => Bytes::from(fault.to_string()),
        };
        Response::builder()
            .header("x-method", head.method.as_str())
            .header("x-target", head.uri.path_and_query().map_or("*", |target| target.as_str()).as_bytes())
            .header("x-host", head.headers.get("host").cloned().unwrap_or(http::HeaderValue::from_static("")))
            .body(Body::from(body))
            .unwrap()
            .into()
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        refuse(refusal, peer)
    }
}

pub(crate) fn refuse(refusal: &Refusal, _: &Peer) -> Response<Body> {
    Response::new(Body::from(Bytes::from(format!("refused: {refusal}"))))
}

/// Sends every request to one upstream.
pub(crate) struct Proxy {
    pub(crate) pool: UpstreamPool,
    pub(crate) target: UpstreamTarget,
    pub(crate) timeouts: Timeouts,
}

impl Proxy {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self {
            pool: UpstreamPool::new(PoolSettings::default(), Resolver::new(&ResolverSettings::default())),
            target: target(address),
            timeouts: Timeouts { connect_ms: 5_000, write_ms: 5_000, read_ms: 5_000 },
        }
    }

    pub(crate) async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        let (mut head, mut body) = request.into_parts();
        self.pool
            .exchange(&self.target, &mut head, &FieldLines::default(), &mut body, self.timeouts)
            .await
            .map(|answer| answer.into_response())
    }
}

pub(crate) fn target(address: SocketAddr) -> UpstreamTarget {
    let host = address.ip().to_string().into();
    UpstreamTarget { host, port: address.port(), tls: None, server_name: None, http2: false, connections: None }
}

impl HttpService for Proxy {
    async fn call(&self, request: Request<Body>, _: &Peer) -> Box<Answer> {
        let response = self.exchange(request).await.unwrap_or_else(|error| {
            let mut response = Response::new(Body::from(Bytes::from(error.to_string())));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        });
        response.into()
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        refuse(refusal, peer)
    }
}

/// Send bytes, then read until the server closes.
pub(crate) async fn send_and_read_to_end(address: SocketAddr, raw: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(raw).await.unwrap();
    read_to_end(&mut stream).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    String::from_utf8_lossy(&received).into_owned()
}

/// Read one response with a content-length.
pub(crate) async fn read_response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap_or_else(|error| panic!("{error} after {head:?}"));
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

/// An upstream that gives each connection, by its number, to `script`.
pub(crate) async fn raw_upstream<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(script(number, stream));
        }
    });
    address
}

/// Read a head and drop it; `false` at the end of the stream.
pub(crate) async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

pub(crate) fn get(target: &str) -> Request<Body> {
    Request::builder().uri(target).header("host", "a").body(Body::Empty).unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
