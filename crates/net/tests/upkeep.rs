//! What keeps upstreams up to date, over real sockets: names, probes, catalogues, and changes of configuration.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use bytes::Bytes;
use gateway::Gateway;
use gateway::balancer::Balancer;
use gateway::entity::{CheckKind, Discovery, Entities, Target, TargetAddress, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plugin::{BoxFuture, Publish, PublishError, Published, Registry, Services};
use sluicegate_net::http::{ServerSettings, ServerTls, TlsFiles, TlsSettings, TlsTrust, UpstreamTls};
use sluicegate_net::resolve::{Resolver, ResolverSettings};
use sluicegate_net::{Clock, Shutdown, Upkeep};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::fake_dns::{A, FakeDns, SRV, a, srv};
use support::{Collect, raw_upstream, read_head, start_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

struct NoBroker;

impl Services for NoBroker {
    fn publish(&self, _: Publish) -> BoxFuture<Result<Published, PublishError>> {
        Box::pin(std::future::ready(Err(PublishError::Busy)))
    }
}

/// A gateway whose upstreams are kept up to date.
struct Node {
    gateway: Arc<Gateway>,
    shutdown: Shutdown,
    upkeep: JoinHandle<()>,
}

impl Node {
    fn start(settings: &ResolverSettings) -> Self {
        let gateway = Arc::new(Gateway::new(Registry::new(Vec::new()), Arc::new(NoBroker)));
        let (shutdown, drain) = Shutdown::new();
        let upkeep = Upkeep::new(Arc::clone(&gateway), Resolver::new(settings), Clock::start());
        let upkeep = tokio::spawn(upkeep.run(drain));
        Self { gateway, shutdown, upkeep }
    }

    fn load(&self, upstream: &Upstream, targets: &[&str]) {
        let target = |text: &&str| Target::new(upstream.id, TargetAddress::parse(text).unwrap());
        let (upstreams, targets) = (vec![upstream.clone()], targets.iter().map(target).collect());
        self.gateway.load(&Entities { upstreams, targets, ..Entities::default() }).unwrap();
    }

    fn balancer(&self) -> Arc<Balancer> {
        self.gateway.balancers().pop().unwrap()
    }

    /// The addresses there are, with their weights.
    fn addresses(&self) -> Vec<String> {
        let members = self.balancer().members();
        let mut texts: Vec<String> = members
            .iter()
            .map(|member| format!("{}:{}x{}", member.address.key().host, member.address.key().port, member.weight))
            .collect();
        texts.sort_unstable();
        texts
    }

    async fn addresses_become(&self, expected: &[&str]) {
        until(|| self.addresses() == expected, || format!("{:?}, not {expected:?}", self.addresses())).await;
    }

    /// Which addresses are up.
    fn up(&self) -> Vec<bool> {
        self.balancer().members().iter().map(|member| member.address.is_up()).collect()
    }

    async fn up_becomes(&self, expected: &[bool]) {
        until(|| self.up() == expected, || format!("{:?}, not {expected:?}", self.up())).await;
    }

    async fn stop(self) {
        self.shutdown.begin();
        self.upkeep.await.unwrap();
    }
}

/// Waits for what another task does.
async fn until(holds: impl Fn() -> bool, why: impl Fn() -> String) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(ended.is_ok(), "{}", why());
}

fn nowhere() -> ResolverSettings {
    let file = || "/nonexistent".into();
    ResolverSettings { hosts_file: file(), resolv_conf: file(), ..ResolverSettings::default() }
}

fn asking(server: &FakeDns) -> ResolverSettings {
    ResolverSettings { servers: vec![server.address], timeout: Some(Duration::from_secs(10)), ..nowhere() }
}

/// An upstream that is probed every few milliseconds, one way or the other.
fn probed(kind: CheckKind) -> Upstream {
    let mut upstream = Upstream::new("orders");
    let active = &mut upstream.health_checks.active;
    active.kind = kind;
    active.timeout_ms = 2_000;
    (active.intervals.healthy_ms, active.intervals.unhealthy_ms) = (10, 10);
    active.healthy.successes = 2;
    (active.unhealthy.http_failures, active.unhealthy.tcp_failures, active.unhealthy.timeouts) = (2, 2, 1);
    upstream
}

/// An upstream that answers with this status, and counts.
async fn answering(good: Arc<AtomicBool>) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let address = raw_upstream(move |_, mut stream| {
        let (good, seen) = (Arc::clone(&good), Arc::clone(&seen));
        async move {
            if read_head(&mut stream).await {
                seen.fetch_add(1, Ordering::SeqCst);
                let status = if good.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (address.await, count)
}

#[tokio::test]
async fn targets_follow_their_names() {
    let server = FakeDns::start().await;
    server.records("web.example", A, &[a("web.example", 60, [10, 0, 0, 1]), a("web.example", 60, [10, 0, 0, 2])]);
    let node = Node::start(&asking(&server));
    let upstream = Upstream::new("orders");
    node.load(&upstream, &["web.example:80", "10.0.0.9:81"]);
    node.addresses_become(&["10.0.0.1:80x100", "10.0.0.2:80x100", "10.0.0.9:81x100"]).await;
    server.records("web.example", A, &[]);
    server.records("web.example", SRV, &[srv("web.example", 60, [1, 7, 8080], "one.example")]);
    server.records("one.example", A, &[a("one.example", 60, [10, 0, 0, 3])]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    node.addresses_become(&["10.0.0.3:8080x7", "10.0.0.9:81x100"]).await;
    node.load(&upstream, &["web.example:82", "web.example:80"]);
    node.addresses_become(&["10.0.0.3:8080x7", "10.0.0.3:8080x7"]).await;
    node.load(&upstream, &["gone.example:80", "10.0.0.9:81"]);
    node.addresses_become(&["10.0.0.9:81x100"]).await;
    node.stop().await;
}

#[tokio::test]
async fn a_probe_takes_an_address_out_and_brings_it_back() {
    let good = Arc::new(AtomicBool::new(true));
    let (address, probes) = answering(Arc::clone(&good)).await;
    let node = Node::start(&nowhere());
    node.load(&probed(CheckKind::Http), &[&address.to_string()]);
    until(|| probes.load(Ordering::SeqCst) > 3, || "no probes".to_owned()).await;
    assert_eq!(node.up(), [true]);
    good.store(false, Ordering::SeqCst);
    node.up_becomes(&[false]).await;
    good.store(true, Ordering::SeqCst);
    node.up_becomes(&[true]).await;
    node.stop().await;
}

#[tokio::test]
async fn an_interval_of_zero_leaves_an_address_where_it_is() {
    let good = Arc::new(AtomicBool::new(false));
    let (address, probes) = answering(Arc::clone(&good)).await;
    let node = Node::start(&nowhere());
    let mut upstream = probed(CheckKind::Http);
    upstream.health_checks.active.intervals.unhealthy_ms = 0;
    node.load(&upstream, &[&address.to_string()]);
    node.up_becomes(&[false]).await;
    let count = probes.load(Ordering::SeqCst);
    good.store(true, Ordering::SeqCst);
    // Unhealthy addresses are probed once their interval says so, under the same state: a reload keeps it.
    upstream.health_checks.active.intervals.healthy_ms = 20;
    node.load(&upstream, &[&address.to_string()]);
    assert_eq!((node.up(), probes.load(Ordering::SeqCst)), (vec![false], count));
    upstream.health_checks.active.intervals.unhealthy_ms = 10;
    node.load(&upstream, &[&address.to_string()]);
    node.up_becomes(&[true]).await;
    node.stop().await;
}

#[tokio::test]
async fn a_probe_asks_as_it_is_told() {
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let address = raw_upstream(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let _ = sender.send(String::from_utf8(head).unwrap());
        }
    })
    .await;
    let node = Node::start(&nowhere());
    let mut upstream = probed(CheckKind::Http);
    upstream.host_header = Some("orders.example".to_owned());
    upstream.health_checks.active.http_path = "/health?x=1".to_owned();
    upstream.health_checks.active.headers = vec![("x-probe".to_owned(), vec!["a".to_owned(), "b".to_owned()])];
    node.load(&upstream, &[&address.to_string()]);
    let head = tokio::time::timeout(Duration::from_secs(20), heads.recv()).await.unwrap().unwrap();
    assert!(head.starts_with("GET /health?x=1 HTTP/1.1\r\n"), "{head}");
    let port = address.port();
    for line in [format!("host: orders.example:{port}"), "x-probe: a".to_owned(), "x-probe: b".to_owned()] {
        assert!(head.contains(&format!("{line}\r\n")), "{head}");
    }
    node.up_becomes(&[false]).await;
    node.stop().await;
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp_and_none_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = closed.local_addr().unwrap();
    drop(closed);
    let node = Node::start(&nowhere());
    node.load(&probed(CheckKind::Tcp), &[&there.to_string(), &gone.to_string()]);
    node.up_becomes(&[true, false]).await;
    node.stop().await;
}

#[tokio::test]
async fn https_probes_check_the_certificate_when_told_to() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let files = TlsFiles { cert: fixture("cert.pem"), key: fixture("key.pem"), client_ca: None };
    let server =
        start_tls(Collect, ServerSettings::default(), Some(ServerTls::load(&files, &["http/1.1"], None).unwrap()));
    let node = Node::start(&nowhere());
    let mut upstream = probed(CheckKind::Https);
    upstream.health_checks.active.https_verify_certificate = false;
    upstream.health_checks.active.https_sni = Some("localhost".to_owned());
    // It is down to begin with, so that only a good probe makes it up.
    let set_down = |node: &Node| {
        let target = TargetAddress::parse(&server.address.to_string()).unwrap();
        assert!(node.balancer().set_healthy(&target, None, false, Clock::start().now().mono));
    };
    upstream.health_checks.active.intervals.healthy_ms = 0;
    node.load(&upstream, &[&server.address.to_string()]);
    set_down(&node);
    node.up_becomes(&[true]).await;
    upstream.health_checks.active.https_verify_certificate = true;
    upstream.health_checks.active.intervals.healthy_ms = 10;
    node.load(&upstream, &[&server.address.to_string()]);
    // Without trust anchors in the system there are no probes at all.
    if UpstreamTls::new(&TlsSettings { trust: TlsTrust::System, ..TlsSettings::default() }).is_ok() {
        node.up_becomes(&[false]).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_probe_of_grpc_closes_its_connection() {
    let (all, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, now) = (Arc::clone(&all), Arc::clone(&open));
    let address = raw_upstream(move |_, stream| {
        let (seen, now) = (Arc::clone(&seen), Arc::clone(&now));
        async move {
            now.fetch_add(1, Ordering::SeqCst);
            seen.fetch_add(1, Ordering::SeqCst);
            let serving = |_| async {
                let status = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
                let body = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
                let body = body.with_trailers(std::future::ready(Some(Ok::<_, Infallible>(status))));
                Ok::<_, Infallible>(Response::new(body))
            };
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service_fn(serving)).await;
            now.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let node = Node::start(&nowhere());
    let mut upstream = probed(CheckKind::Grpc);
    // It is probed until it is up, and then no more.
    (upstream.health_checks.active.intervals.healthy_ms, upstream.health_checks.active.healthy.successes) = (0, 1);
    node.load(&upstream, &[&address.to_string()]);
    let target = TargetAddress::parse(&address.to_string()).unwrap();
    assert!(node.balancer().set_healthy(&target, None, false, Clock::start().now().mono));
    node.up_becomes(&[true]).await;
    until(|| open.load(Ordering::SeqCst) == 0, || "a connection stays".to_owned()).await;
    assert!(all.load(Ordering::SeqCst) > 0);
    node.stop().await;
}

#[tokio::test]
async fn no_more_probes_are_under_way_than_allowed() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&open), Arc::clone(&most));
    let address = raw_upstream(move |_, mut stream| {
        let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // It never answers; the prober leaves.
            while stream.read_u8().await.is_ok() {}
            now.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let targets: Vec<String> = (1..=8).map(|n| format!("127.0.0.{n}:{}", address.port())).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let node = Node::start(&nowhere());
    let mut upstream = probed(CheckKind::Http);
    (upstream.health_checks.active.concurrency, upstream.health_checks.active.timeout_ms) = (2, 50);
    node.load(&upstream, &targets);
    // Only the first is listened on; the others are refused at once.
    node.up_becomes(&[false; 8]).await;
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_catalogue_s_instances_are_targets_for_as_long_as_it_is_configured() {
    let address = raw_upstream(move |_, mut stream| async move {
        while read_head(&mut stream).await {
            let body = r#"[{"Node":{"Address":"10.0.0.1"},"Service":{"Port":8001,"Weights":{"Passing":5}}}]"#;
            let head = format!("HTTP/1.1 200 OK\r\nx-consul-index: 1\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    })
    .await;
    let node = Node::start(&nowhere());
    let discovery = Discovery::consul(&format!("http://{address}"), "orders");
    let mut upstream = Upstream { discovery, ..Upstream::new("orders") };
    node.load(&upstream, &["10.0.0.9:81"]);
    node.addresses_become(&["10.0.0.1:8001x5", "10.0.0.9:81x100"]).await;
    let now = Clock::start().now().mono;
    let (kind, state) = node.balancer().view(now).catalogue.unwrap();
    assert_eq!((kind, state.instances, state.error), ("consul", Some(1), None));
    upstream.discovery = None;
    node.load(&upstream, &["10.0.0.9:81"]);
    node.addresses_become(&["10.0.0.9:81x100"]).await;
    node.stop().await;
}
