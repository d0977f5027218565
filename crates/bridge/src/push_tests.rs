//! A subscription against a scripted feed and service, on a paused clock.

use super::*;
use crate::subscription::RetrySettings;
use http::Request;
use model::Properties;
use parking::Shared;
use plugin::{BoxFuture, PublishError, Published};
use std::collections::HashMap;
use std::sync::Mutex;
use std::task::{Context, Poll};

/// What the fakes have seen and hold.
mod parking {
    use super::*;

    #[derive(Default)]
    pub(super) struct Shared {
        pub(super) queue: Mutex<VecDeque<Fed>>,
        pub(super) settled: Mutex<Vec<(FedId, plugin::Verdict)>>,
        pub(super) requests: Mutex<Vec<Request<Bytes>>>,
        pub(super) statuses: Mutex<VecDeque<u16>>,
        pub(super) published: Mutex<Vec<Publish>>,
        pub(super) publish_fails: Mutex<u32>,
        pub(super) memory: Mutex<HashMap<String, Vec<u8>>>,
        pub(super) in_flight: AtomicU64,
        pub(super) in_flight_max: AtomicU64,
    }
}

struct FakeFeed(Arc<Shared>);

impl Feed for FakeFeed {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Fed>> {
        self.0.queue.lock().unwrap().pop_front().map_or(Poll::Pending, |fed| Poll::Ready(Some(fed)))
    }

    fn settle(&mut self, id: FedId, verdict: plugin::Verdict) {
        self.0.settled.lock().unwrap().push((id, verdict));
    }
}

struct Fakes(Arc<Shared>);

impl Services for Fakes {
    fn publish(&self, publish: Publish) -> BoxFuture<Result<Published, PublishError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let mut fails = shared.publish_fails.lock().unwrap();
            if *fails > 0 {
                *fails -= 1;
                return Err(PublishError::Busy);
            }
            shared.published.lock().unwrap().push(publish);
            Ok(Published { n_queues: 1 })
        })
    }
}

impl PushServices for Fakes {
    fn subscribe(&self, _: &Principal, _: &str, _: u16) -> Result<Box<dyn Feed>, String> {
        Ok(Box::new(FakeFeed(Arc::clone(&self.0))))
    }

    fn send(&self, request: Request<Bytes>, _: Duration, _: usize) -> BoxFuture<Result<Response<Bytes>, SendError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            shared.requests.lock().unwrap().push(request);
            let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            shared.in_flight_max.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            shared.in_flight.fetch_sub(1, Ordering::SeqCst);
            let status = shared.statuses.lock().unwrap().pop_front().unwrap_or(200);
            Ok(Response::builder().status(status).body(Bytes::new()).unwrap())
        })
    }

    fn remember(&self, key: &str, value: &[u8]) {
        self.0.memory.lock().unwrap().insert(key.to_owned(), value.to_vec());
    }

    fn recall(&self, key: &str) -> Option<Vec<u8>> {
        self.0.memory.lock().unwrap().get(key).cloned()
    }

    fn forget(&self, key: &str) {
        self.0.memory.lock().unwrap().remove(key);
    }

    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

fn settings(attempts: u32, dead_letter: Option<&str>) -> SubscriptionSettings {
    SubscriptionSettings {
        name: "fulfil".into(),
        vhost: "/".into(),
        user: "guest".into(),
        queue: "orders".into(),
        url: "http://127.0.0.1:9001/fulfil".parse().unwrap(),
        headers: Vec::new(),
        timeout: Duration::from_secs(1),
        max_in_flight: 3,
        retry: RetrySettings { attempts, ..RetrySettings::default() },
        dead_letter: dead_letter.map(str::to_owned),
    }
}

fn fed(id: u64, redelivered: bool) -> Fed {
    Fed {
        id: FedId(id),
        place: format!("1-{id}"),
        properties: Properties { content_type: Some("application/json".into()), ..Properties::default() },
        body: Bytes::from(format!("message {id}")),
        redelivered,
    }
}

/// Runs a subscription for a while of virtual time, then stops it.
async fn run(shared: &Arc<Shared>, settings: SubscriptionSettings, seconds: u64) -> Arc<PushCounts> {
    let counts = Arc::new(PushCounts::default());
    let fakes = Arc::new(Fakes(Arc::clone(shared)));
    let push = Push::new(Arc::new(settings), fakes.clone(), fakes, Arc::clone(&counts));
    push.run(tokio::time::sleep(Duration::from_secs(seconds))).await;
    counts
}

#[tokio::test(start_paused = true)]
async fn delivered_messages_are_acknowledged_and_concurrency_is_bounded() {
    let shared = Arc::new(Shared::default());
    shared.queue.lock().unwrap().extend((1..=20).map(|id| fed(id, false)));
    let counts = run(&shared, settings(10, None), 5).await;
    assert_eq!(counts.delivered.load(Ordering::Relaxed), 20);
    let settled = shared.settled.lock().unwrap();
    assert_eq!(settled.len(), 20);
    assert!(settled.iter().all(|(_, verdict)| *verdict == plugin::Verdict::Ack));
    assert_eq!(shared.in_flight_max.load(Ordering::SeqCst), 3);
    let requests = shared.requests.lock().unwrap();
    let headers = requests[0].headers();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["webhook-id"], "1-1");
    assert_eq!(headers["webhook-attempt"], "1");
    assert_eq!(headers["webhook-timestamp"], "1700000000");
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_and_then_dead_lettered_with_the_reason() {
    let shared = Arc::new(Shared::default());
    shared.queue.lock().unwrap().push_back(fed(1, false));
    shared.statuses.lock().unwrap().extend([500, 503, 500]);
    *shared.publish_fails.lock().unwrap() = 1;
    let counts = run(&shared, settings(3, Some("orders.dead")), 60).await;
    assert_eq!(shared.requests.lock().unwrap().len(), 3, "a refused dead letter is not pushed again");
    assert_eq!(counts.dead_lettered.load(Ordering::Relaxed), 1);
    assert_eq!(shared.published.lock().unwrap().len(), 1);
    assert_eq!(*shared.settled.lock().unwrap(), [(FedId(1), plugin::Verdict::Ack)]);

    let shared = Arc::new(Shared::default());
    shared.queue.lock().unwrap().push_back(fed(1, false));
    shared.statuses.lock().unwrap().extend([500, 503, 500]);
    run(&shared, settings(3, Some("orders.dead")), 60).await;
    let published = shared.published.lock().unwrap();
    assert_eq!(published[0].routing_key, "orders.dead");
    assert_eq!(published[0].body, "message 1");
    let headers = published[0].properties.headers.clone().unwrap();
    assert_eq!(headers.get("deadletterreason").and_then(|v| v.as_str()), Some("status"));
    assert_eq!(headers.get("deadlettercode").and_then(model::Value::as_integer), Some(500));
    assert_eq!(headers.get("deadletterattempts").and_then(model::Value::as_integer), Some(3));
    assert_eq!(*shared.settled.lock().unwrap(), [(FedId(1), plugin::Verdict::Ack)]);
    assert!(shared.memory.lock().unwrap().is_empty(), "attempts are forgotten with the message");
}

#[tokio::test(start_paused = true)]
async fn hopeless_messages_are_given_up_at_once() {
    let shared = Arc::new(Shared::default());
    shared.queue.lock().unwrap().push_back(fed(1, false));
    shared.statuses.lock().unwrap().push_back(400);
    run(&shared, settings(10, None), 60).await;
    assert_eq!(shared.requests.lock().unwrap().len(), 1);
    assert_eq!(*shared.settled.lock().unwrap(), [(FedId(1), plugin::Verdict::Reject)]);
}

#[tokio::test(start_paused = true)]
async fn attempts_survive_a_restart() {
    let shared = Arc::new(Shared::default());
    shared.queue.lock().unwrap().push_back(fed(1, false));
    shared.statuses.lock().unwrap().extend([500; 10]);
    // Stopped while it waits for its third attempt: it is not settled, so the queue still has it.
    run(&shared, settings(4, Some("dead")), 2).await;
    assert_eq!(shared.requests.lock().unwrap().len(), 2);
    assert!(shared.settled.lock().unwrap().is_empty());
    shared.queue.lock().unwrap().push_back(fed(1, true));
    run(&shared, settings(4, Some("dead")), 60).await;
    let requests = shared.requests.lock().unwrap();
    let attempts: Vec<_> = requests.iter().map(|r| r.headers()["webhook-attempt"].to_str().unwrap()).collect();
    assert_eq!(attempts, ["1", "2", "3", "4"]);
    assert_eq!(shared.published.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_down_does_not_fill_the_memory_with_large_messages() {
    let shared = Arc::new(Shared::default());
    let body = Bytes::from(vec![b'.'; HELD_BYTES_MAX / 4]);
    shared.queue.lock().unwrap().extend((1..=20).map(|id| Fed { body: body.clone(), ..fed(id, false) }));
    shared.statuses.lock().unwrap().extend([500; 1000]);
    run(&shared, settings(1000, None), 30).await;
    assert_eq!(shared.queue.lock().unwrap().len(), 16, "four fill what may be held");

    // Once they are delivered, the others follow.
    shared.statuses.lock().unwrap().clear();
    shared.queue.lock().unwrap().extend((1..=4).map(|id| Fed { body: body.clone(), ..fed(id, true) }));
    run(&shared, settings(1000, None), 30).await;
    assert_eq!(shared.queue.lock().unwrap().len(), 0);
    assert_eq!(shared.settled.lock().unwrap().len(), 20);
}
