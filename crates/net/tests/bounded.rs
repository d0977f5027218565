//! Connections to an upstream that bounds them, over real sockets: the upstream counts those that are open at a time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use bytes::Bytes;
use gateway::Gateway;
use gateway::balancer::{Connections, Entry};
use gateway::entity::{Bulkhead, Entities, Retry as RetrySettings, Upstream};
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plugin::{BoxFuture, Publish, PublishError, Published, Registry, Services};
use sluicegate_net::http::{Timeouts, UpstreamErrorKind, UpstreamTarget};
use sluicegate_net::resolve::{Resolver, ResolverSettings};
use sluicegate_net::stream::connect_stream;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Proxy, get, raw_upstream, read_head, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

struct NoBroker;

impl Services for NoBroker {
    fn publish(&self, _: Publish) -> BoxFuture<Result<Published, PublishError>> {
        Box::pin(std::future::ready(Err(PublishError::Busy)))
    }
}

fn bulkhead(max_connections: u32, max_pending_requests: u32, queue_timeout_ms: u32) -> Bulkhead {
    let max_connections = Some(max_connections);
    Bulkhead { max_connections, max_pending_requests, queue_timeout_ms, ..Bulkhead::default() }
}

/// The places of an upstream with these settings, as a gateway hands them out.
fn places_of(gateway: &Gateway, change: impl FnOnce(&mut Upstream)) -> Connections {
    let mut upstream = Upstream::new("orders");
    change(&mut upstream);
    gateway.load(&Entities { upstreams: vec![upstream], ..Entities::default() }).unwrap();
    gateway.balancers().pop().unwrap().connections().unwrap()
}

fn gateway() -> Gateway {
    Gateway::new(Registry::new(Vec::new()), Arc::new(NoBroker))
}

fn places(settings: Bulkhead) -> Connections {
    places_of(&gateway(), |upstream| upstream.resilience.bulkhead = Some(settings))
}

/// A shard: a pool of its own, and a target whose upstream has these places.
fn shard(address: SocketAddr, places: &Connections) -> Arc<Proxy> {
    let mut proxy = Proxy::to(address);
    proxy.target.connections = Some(places.clone());
    Arc::new(proxy)
}

fn shard_http2(address: SocketAddr, places: &Connections) -> Arc<Proxy> {
    let proxy = shard(address, places);
    let target = UpstreamTarget { http2: true, ..proxy.target.clone() };
    Arc::new(Proxy { target, ..Arc::into_inner(proxy).unwrap() })
}

/// Connections that are open, the most at a time, and all there were.
#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

struct Open(Arc<Seen>);

impl Seen {
    fn opened(self: &Arc<Self>) -> Open {
        self.all.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Open(Arc::clone(self))
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    fn all(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers every request when there is a permit for it.
async fn counted(seen: &Arc<Seen>, permits: &Arc<Semaphore>) -> SocketAddr {
    let (seen, permits) = (Arc::clone(seen), Arc::clone(permits));
    raw_upstream(move |_, mut stream| {
        let (open, permits) = (seen.opened(), Arc::clone(&permits));
        async move {
            while read_head(&mut stream).await {
                permits.acquire().await.unwrap().forget();
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                    break;
                }
            }
            drop((stream, open));
        }
    })
    .await
}

/// The same by HTTP/2, without permits.
async fn counted_http2(seen: &Arc<Seen>) -> SocketAddr {
    let seen = Arc::clone(seen);
    raw_upstream(move |_, stream| {
        let open = seen.opened();
        async move {
            let answer = |_| async { Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("ok")))) };
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            drop(open);
        }
    })
    .await
}

fn always() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))
}

async fn ask(shard: &Proxy) -> Result<String, UpstreamErrorKind> {
    match shard.exchange(get("/")).await {
        Ok(response) => Ok(text(response).await),
        Err(error) => Err(error.kind),
    }
}

/// Lets other tasks go on until it holds.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_burst_over_several_shards_and_targets_has_no_more_connections_than_it_may() {
    let (seen, permits, places) = (Arc::<Seen>::default(), always(), places(bulkhead(2, 1_000, 60_000)));
    let (a, b) = (counted(&seen, &permits).await, counted(&seen, &permits).await);
    let shards = [shard(a, &places), shard(a, &places), shard(b, &places), shard(b, &places)];
    let asking: Vec<_> = (0..200)
        .map(|n: usize| {
            let shard = Arc::clone(&shards[n % shards.len()]);
            tokio::spawn(async move { ask(&shard).await })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap().unwrap(), "ok");
    }
    assert_eq!(seen.most(), 2);
}

#[tokio::test]
async fn who_waits_gets_the_connection_that_was_used_before_it() {
    let (seen, permits, places) = (Arc::<Seen>::default(), always(), places(bulkhead(2, 1_000, 60_000)));
    let shard = shard(counted(&seen, &permits).await, &places);
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let shard = Arc::clone(&shard);
            tokio::spawn(async move { ask(&shard).await.unwrap() })
        })
        .collect();
    for asked in asking {
        asked.await.unwrap();
    }
    assert_eq!((seen.most(), seen.all()), (2, 2));
}

#[tokio::test]
async fn an_idle_connection_makes_way_though_nobody_may_wait() {
    let (seen, places) = (Arc::<Seen>::default(), places(bulkhead(1, 0, 1)));
    let (a, b) = (counted(&seen, &always()).await, counted(&seen, &always()).await);
    let (a, b) = (shard(a, &places), shard(b, &places));
    for _ in 0..10 {
        assert_eq!((ask(&a).await.unwrap(), ask(&b).await.unwrap()), ("ok".to_owned(), "ok".to_owned()));
    }
    assert_eq!(seen.all(), 20);
}

#[tokio::test]
async fn what_may_not_wait_is_refused_and_what_waits_too_long_too() {
    let (seen, permits, gateway) = (Arc::<Seen>::default(), Arc::new(Semaphore::new(0)), gateway());
    let with = |settings| places_of(&gateway, |upstream| upstream.resilience.bulkhead = Some(settings));
    let address = counted(&seen, &permits).await;
    let first = shard(address, &with(bulkhead(1, 0, 60_000)));
    let asked = tokio::spawn({
        let first = Arc::clone(&first);
        async move { ask(&first).await }
    });
    until(|| seen.all() == 1).await;
    assert_eq!(ask(&first).await, Err(UpstreamErrorKind::BulkheadFull));
    // Places are the upstream's, whatever changed about it.
    let patient = shard(address, &with(bulkhead(1, 1, 20)));
    assert_eq!(ask(&patient).await, Err(UpstreamErrorKind::QueueTimeout));
    permits.add_permits(1);
    assert_eq!(asked.await.unwrap().unwrap(), "ok");
    permits.add_permits(1);
    assert_eq!(ask(&patient).await.unwrap(), "ok");
    assert_eq!(seen.most(), 1);
}

#[tokio::test]
async fn a_new_limit_holds_at_once() {
    let (seen, permits, gateway) = (Arc::<Seen>::default(), Arc::new(Semaphore::new(0)), gateway());
    let with = |settings| places_of(&gateway, |upstream| upstream.resilience.bulkhead = Some(settings));
    let shard = shard(counted(&seen, &permits).await, &with(bulkhead(1, 9, 60_000)));
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let shard = Arc::clone(&shard);
            tokio::spawn(async move { ask(&shard).await.unwrap() })
        })
        .collect();
    until(|| seen.all() == 1).await;
    let _ = with(bulkhead(3, 9, 60_000));
    until(|| seen.all() == 3).await;
    permits.add_permits(3);
    for asked in asking {
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn http2_makes_no_more_connections_than_it_may() {
    let (seen, places) = (Arc::<Seen>::default(), places(bulkhead(1, 100, 60_000)));
    let (a, b) = (counted_http2(&seen).await, counted_http2(&seen).await);
    let (a, b) = (shard_http2(a, &places), shard_http2(b, &places));
    for shard in [&a, &b, &a] {
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let shard = Arc::clone(shard);
                tokio::spawn(async move { ask(&shard).await.unwrap() })
            })
            .collect();
        for asked in asking {
            assert_eq!(asked.await.unwrap(), "ok");
        }
    }
    assert_eq!(seen.all(), 3);
}

#[tokio::test]
async fn who_waits_for_http2_waits_no_longer_than_the_queue_however_many_wait() {
    let places = places(bulkhead(1, 100, 100));
    let Entry::Free(_place) = places.enter(None) else { panic!("it is free") };
    let proxy = Arc::into_inner(shard_http2(counted_http2(&Arc::default()).await, &places)).unwrap();
    // One after another, half of them would wait longer than this.
    let timeouts = Timeouts { connect_ms: 1_000, ..proxy.timeouts };
    let shard = Arc::new(Proxy { timeouts, ..proxy });
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let shard = Arc::clone(&shard);
            tokio::spawn(async move { ask(&shard).await })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Err(UpstreamErrorKind::QueueTimeout));
    }
}

#[tokio::test]
async fn a_pair_of_streams_has_its_place_until_it_ends() {
    let (seen, places) = (Arc::<Seen>::default(), places(bulkhead(1, 1, 20)));
    let address = raw_upstream({
        let seen = Arc::clone(&seen);
        move |_, mut stream: TcpStream| {
            let open = seen.opened();
            async move {
                let _ = stream.read_u8().await;
                drop((stream, open));
            }
        }
    })
    .await;
    let (shard, resolver) = (shard(address, &places), Resolver::new(&ResolverSettings::default()));
    let first = connect_stream(&resolver, &shard.target, 5_000).await.unwrap();
    let second = connect_stream(&resolver, &shard.target, 5_000).await;
    assert_eq!(second.err().map(|error| error.kind), Some(UpstreamErrorKind::QueueTimeout));
    drop(first);
    connect_stream(&resolver, &shard.target, 5_000).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_not_made_gives_its_place_back() {
    let (seen, places) = (Arc::<Seen>::default(), places(bulkhead(1, 0, 1)));
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(ask(&shard(nobody, &places)).await, Err(UpstreamErrorKind::Refused));
    assert_eq!(ask(&shard(counted(&seen, &always()).await, &places)).await.unwrap(), "ok");
}

#[test]
fn a_try_whose_time_is_limited_waits_half_of_it() {
    let wait = |per_try_timeout_ms| {
        let places = places_of(&gateway(), |upstream| {
            upstream.resilience.bulkhead = Some(bulkhead(1, 1, 100));
            upstream.resilience.retry = Some(RetrySettings { per_try_timeout_ms, ..RetrySettings::default() });
        });
        places.queue_timeout_ms()
    };
    assert_eq!([wait(0), wait(100), wait(500)], [100, 50, 100]);
}
