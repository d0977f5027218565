//! A request context, a setup and a broker that remembers, for the tests of plugins.

use bytes::Bytes;
use model::{Mono, Now, Secret, Wall};
use plugin::{
    BoxFuture, Connection, Consumer, Context, Credential, Directory, Flow, Handler, Id, Plugin, Publish, PublishError,
    Published, Reply, RequestId, Scheme, Services, Setup, Then,
};
use std::future::{Future, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

/// A broker that answers each publish with the same result.
pub(crate) struct Broker {
    pub(crate) published: Mutex<Vec<Publish>>,
    pub(crate) result: Result<Published, PublishError>,
}

impl Broker {
    pub(crate) fn answering(result: Result<Published, PublishError>) -> Arc<Self> {
        Arc::new(Self { published: Mutex::default(), result })
    }
}

impl Services for Broker {
    fn publish(&self, publish: Publish) -> BoxFuture<Result<Published, PublishError>> {
        self.published.lock().unwrap().push(publish);
        Box::pin(ready(self.result.clone()))
    }
}

pub(crate) fn id(n: u8) -> Id {
    Id::from_bytes([n; 16])
}

/// Consumers `ann` (id 1, key `ann-key`) and `nobody` (id 2).
pub(crate) fn setup(services: Arc<dyn Services>) -> Setup {
    let mut directory = Directory::default();
    directory.add_consumer(Arc::new(Consumer::new(id(1), Some("ann"), Some("17"))));
    directory.add_consumer(Arc::new(Consumer::new(id(2), Some("nobody"), None)));
    assert!(directory.add_key(&Secret::new("ann-key".to_owned()), Credential::new(id(7)), id(1)));
    Setup { directory: Arc::new(directory), services, config_id: id(9) }
}

/// The handler of a configuration without a broker.
pub(crate) fn handler(plugin: &dyn Plugin, config: &serde_json::Value) -> Arc<dyn Handler> {
    handler_with(plugin, config, Broker::answering(Err(PublishError::NotRouted)))
}

pub(crate) fn handler_with(
    plugin: &dyn Plugin,
    config: &serde_json::Value,
    services: Arc<dyn Services>,
) -> Arc<dyn Handler> {
    let config = plugin.schema().resolve(config).unwrap();
    plugin.configure(&config, &setup(services)).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The problems of a configuration, as text.
pub(crate) fn problems(plugin: &dyn Plugin, config: &serde_json::Value) -> Vec<String> {
    match plugin.schema().resolve(config) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A request from 10.0.0.1 at 2026-03-01 12:00:30 UTC.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Context {
    let mut builder = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (request, ()) = builder.body(()).unwrap().into_parts();
    let address = |text: &str| text.parse().unwrap();
    let now = Now { mono: Mono(5_000_000), wall: Wall(1_772_366_430_250) };
    Context {
        request,
        body: None,
        connection: Arc::new(Connection::new(
            address("10.0.0.1:4000"),
            address("10.0.0.2:8000"),
            Scheme::Http,
            None,
            12,
        )),
        request_number: 3,
        client_ip: "10.0.0.1".parse().unwrap(),
        request_id: RequestId::new(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        route: None,
        service: None,
        queue: None,
        consumer: None,
        credential: None,
        correlation_id: None,
        response_headers: model::FieldLines::default(),
        received: now,
        now,
    }
}

/// What a phase answered: nothing, or status, headers and body (or error message) as text.
pub(crate) fn outcome(flow: Flow) -> String {
    match flow {
        Flow::Continue => "continue".to_owned(),
        Flow::Respond(reply) => reply_text(reply),
        Flow::Wait(pending) => match pin!(pending).poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(Then::Continue) => "continue".to_owned(),
            Poll::Ready(Then::Respond(reply)) => reply_text(reply),
            Poll::Pending => "pending".to_owned(),
        },
    }
}

fn reply_text(reply: Reply) -> String {
    let (status, headers, body) = match reply {
        Reply::Error(error) => (error.status, error.headers, error.message.into_owned()),
        Reply::Full(response) => {
            let (head, body) = response.into_parts();
            let headers = head.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            (head.status, headers, text(&body))
        }
    };
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    format!("{}\n{}{body}", status.as_u16(), lines.collect::<String>())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A header of the request, or `-`.
pub(crate) fn header<'a>(cx: &'a Context, name: &str) -> &'a str {
    cx.request.headers.get(name).map_or("-", |value| value.to_str().unwrap())
}
