//! Catalogues over real sockets: what Consul and Eureka say, what they say wrong, and what stays then.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use gateway::balancer::CatalogueState;
use gateway::entity::{Catalogue, Discovery};
use parking_lot::Mutex;
use sluicegate_net::discovery::Follower;
use sluicegate_net::http::{PoolSettings, UpstreamPool};
use sluicegate_net::resolve::{Resolver, ResolverSettings};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::raw_upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A request a catalogue got; it is answered by what is sent back.
struct Query {
    head: String,
    answer: tokio::sync::oneshot::Sender<String>,
}

impl Query {
    fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    fn consul(self, index: u64, body: &str) {
        self.with("200 OK", &format!("x-consul-index: {index}\r\n"), body);
    }

    fn ok(self, body: &str) {
        self.with("200 OK", "", body);
    }

    fn with(self, status: &str, headers: &str, body: &str) {
        let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        self.raw(&answer);
    }

    fn raw(self, answer: &str) {
        let _ = self.answer.send(answer.to_owned());
    }
}

/// A catalogue whose every answer the test decides.
async fn catalogue() -> (SocketAddr, mpsc::Receiver<Query>) {
    let (sender, queries) = mpsc::channel(1);
    let serve = move |_, mut stream: TcpStream| {
        let sender = sender.clone();
        async move {
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let (answer, decided) = tokio::sync::oneshot::channel();
                let query = Query { head: String::from_utf8(head).unwrap(), answer };
                if sender.send(query).await.is_err() {
                    return;
                }
                let Ok(answer) = decided.await else { return };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    };
    (raw_upstream(serve).await, queries)
}

/// A follower at work, and what it publishes.
struct Following {
    published: mpsc::UnboundedReceiver<Vec<String>>,
    state: Arc<Mutex<CatalogueState>>,
    task: JoinHandle<()>,
}

fn follow(discovery: Discovery) -> Following {
    let nowhere = ResolverSettings { resolv_conf: "/nonexistent".into(), ..ResolverSettings::default() };
    let resolver = Resolver::new(&nowhere);
    let pool = Arc::new(UpstreamPool::new(PoolSettings::default(), Arc::clone(&resolver)));
    let state = Arc::<Mutex<CatalogueState>>::default();
    let follower = Follower::new(discovery, resolver, pool, Arc::clone(&state));
    let (sender, published) = mpsc::unbounded_channel();
    let task = tokio::spawn(follower.run(move |endpoints| {
        let texts = endpoints.iter().map(|e| format!("{}:{}x{}", e.ip, e.port.unwrap(), e.weight.unwrap()));
        let _ = sender.send(texts.collect());
    }));
    Following { published, state, task }
}

impl Following {
    async fn next(&mut self) -> Vec<String> {
        tokio::time::timeout(Duration::from_secs(20), self.published.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn next(queries: &mut mpsc::Receiver<Query>) -> Query {
    tokio::time::timeout(Duration::from_secs(20), queries.recv()).await.unwrap().unwrap()
}

fn consul(address: SocketAddr) -> Discovery {
    Discovery::consul(&format!("http://{address}"), "orders").unwrap()
}

fn entry(host: &str, port: u16, weight: u16) -> String {
    format!(
        r#"{{"Node":{{"Address":"192.0.2.1"}},"Service":{{"Address":"{host}","Port":{port},"Weights":{{"Passing":{weight},"Warning":1}}}},"Checks":[]}}"#
    )
}

#[tokio::test]
async fn consul_s_instances_follow_its_blocking_queries() {
    let (address, mut queries) = catalogue().await;
    let mut discovery = consul(address);
    if let Catalogue::Consul(settings) = &mut discovery.catalogue {
        settings.token = Some(model::Secret::new("s3cret".to_owned()));
        settings.datacenter = Some("dc1".to_owned());
    }
    let mut following = follow(discovery);
    let first = next(&mut queries).await;
    assert_eq!(first.target(), "/v1/health/service/orders?passing=1&dc=dc1");
    assert!(first.head.contains("x-consul-token: s3cret\r\n"), "{}", first.head);
    first.consul(10, &format!("[{},{}]", entry("10.0.0.1", 80, 3), entry("localhost", 81, 1)));
    assert_eq!(following.next().await, ["10.0.0.1:80x3", "127.0.0.1:81x1"]);
    let second = next(&mut queries).await;
    assert_eq!(second.target(), "/v1/health/service/orders?passing=1&dc=dc1&index=10&wait=30s");
    second.consul(11, &format!("[{}]", entry("10.0.0.2", 80, 1)));
    assert_eq!(following.next().await, ["10.0.0.2:80x1"]);
    next(&mut queries).await.consul(12, "[]");
    assert_eq!(following.next().await, [""; 0], "the catalogue says that there are none");
    assert_eq!(following.state.lock().instances, Some(0));
}

#[tokio::test]
async fn garbage_and_failures_leave_the_last_targets_and_say_why() {
    let (address, mut queries) = catalogue().await;
    let mut following = follow(consul(address));
    next(&mut queries).await.consul(10, &format!("[{}]", entry("10.0.0.1", 80, 1)));
    assert_eq!(following.next().await, ["10.0.0.1:80x1"]);
    next(&mut queries).await.with("500 Internal Server Error", "", "no leader");
    let anew = next(&mut queries).await;
    assert_eq!(following.state.lock().error.as_deref(), Some("it answered 500 Internal Server Error"));
    assert_eq!(anew.target(), "/v1/health/service/orders?passing=1", "after a failure a query does not wait");
    anew.consul(11, "<html>");
    next(&mut queries).await.raw("no HTTP at all\r\n\r\n");
    next(&mut queries).await.consul(12, &format!("[{}]", entry("10.0.0.9", 80, 1)));
    assert_eq!(following.next().await, ["10.0.0.9:80x1"], "nothing was published between");
    let state = following.state.lock().clone();
    assert_eq!((state.answers, state.failures, state.error), (2, 3, None));
}

#[tokio::test]
async fn an_answer_without_end_or_with_too_many_instances_is_refused() {
    let (address, mut queries) = catalogue().await;
    let following = follow(consul(address));
    let endless = model::limits::CATALOGUE_BODY_BYTES_MAX + 1;
    let body = " ".repeat(endless);
    next(&mut queries).await.consul(1, &body);
    let many = vec![entry("10.0.0.1", 80, 1); model::limits::CATALOGUE_INSTANCES_MAX + 1].join(",");
    next(&mut queries).await.consul(1, &format!("[{many}]"));
    assert!(following.state.lock().error.as_deref().unwrap().starts_with("the answer has more than"));
    let _third = next(&mut queries).await;
    assert!(following.state.lock().error.as_deref().unwrap().contains("instances; the limit is"));
    assert_eq!(following.state.lock().instances, None);
}

#[tokio::test]
async fn a_catalogue_that_says_nothing_is_asked_again() {
    let (address, mut queries) = catalogue().await;
    let following = follow(Discovery { timeout_ms: 50, ..consul(address) });
    let _silent = next(&mut queries).await;
    let again = next(&mut queries).await;
    assert_eq!(following.state.lock().error.as_deref(), Some("no answer in time"));
    drop(again);
}

#[tokio::test]
async fn eureka_is_fetched_and_then_followed_by_its_deltas() {
    let (address, mut queries) = catalogue().await;
    let discovery = Discovery::eureka(&format!("http://{address}/eureka"), "orders").unwrap();
    let mut following = follow(Discovery { interval_ms: 1, ..discovery });
    let instance = |ip: &str, status: &str, action: &str| {
        format!(
            r#"{{"instanceId":"{ip}","hostName":"h","app":"ORDERS","ipAddr":"{ip}","status":"{status}","actionType":"{action}","port":{{"$":8080,"@enabled":"true"}},"securePort":{{"$":443,"@enabled":"false"}}}}"#
        )
    };
    let all = next(&mut queries).await;
    assert_eq!(all.target(), "/eureka/apps/ORDERS");
    assert!(all.head.contains("accept: application/json\r\n"));
    all.ok(&format!(r#"{{"application":{{"name":"ORDERS","instance":[{}]}}}}"#, instance("10.0.0.1", "UP", "ADDED")));
    assert_eq!(following.next().await, ["10.0.0.1:8080x1"]);
    let delta = next(&mut queries).await;
    assert_eq!(delta.target(), "/eureka/apps/delta");
    let changed = format!("{},{}", instance("10.0.0.2", "UP", "ADDED"), instance("10.0.0.1", "DOWN", "MODIFIED"));
    delta.ok(&format!(r#"{{"applications":{{"application":[{{"name":"ORDERS","instance":[{changed}]}}]}}}}"#));
    assert_eq!(following.next().await, ["10.0.0.2:8080x1"]);
    next(&mut queries).await.with("403 Forbidden", "", "");
    let anew = next(&mut queries).await;
    assert_eq!(anew.target(), "/eureka/apps/ORDERS", "without deltas all is fetched");
    anew.with("404 Not Found", "", "");
    assert_eq!(following.next().await, [""; 0]);
}
