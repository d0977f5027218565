//! A gateway with the real plugins, a broker that answers as told, and a client that speaks in text.

use bytes::Bytes;
use gateway::entity::{
    ApiConsumer, ApiConsumerId, Backend, CredentialId, Entities, HttpBackend, KeyAuthCredential, PluginConfig,
    PluginId, QueueBackend, Route, RouteId, RouteProtocols, Service, ServiceId,
};
use gateway::{Decision, Exchange, Gateway, Transferred};
use http::{HeaderMap, Response, request};
use model::{Mono, Now, Secret, Wall};
use plugin::{BoxFuture, Connection, Publish, PublishError, Published, Scheme, Services};
use std::future::{Future, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// A broker that stores everything.
#[derive(Default)]
pub(crate) struct Broker(pub(crate) Mutex<Vec<Publish>>);

impl Services for Broker {
    fn publish(&self, publish: Publish) -> BoxFuture<Result<Published, PublishError>> {
        self.0.lock().unwrap().push(publish);
        Box::pin(ready(Ok(Published { n_queues: 1 })))
    }
}

/// A gateway and what is around it.
pub(crate) struct Node {
    pub(crate) gateway: Gateway,
    pub(crate) broker: Arc<Broker>,
    pub(crate) http: Arc<Connection>,
    pub(crate) https: Arc<Connection>,
}

impl Node {
    pub(crate) fn new(entities: &Entities) -> Self {
        let broker = Arc::new(Broker::default());
        let services: Arc<dyn Services> = Arc::<Broker>::clone(&broker);
        let gateway = Gateway::new(plugins::registry(), services);
        gateway.load(entities).unwrap_or_else(|errors| panic!("{errors:?}"));
        let connection = |scheme, port| {
            let (peer, local) = (([10, 0, 0, 9], 4000).into(), ([10, 0, 0, 1], port).into());
            Arc::new(Connection::new(peer, local, scheme, None, 1))
        };
        let (http, https) = (connection(Scheme::Http, 8000), connection(Scheme::Https, 8443));
        Self { gateway, broker, http, https }
    }

    /// Begins a plain request at 1 s; `head` is `METHOD target` and header lines.
    pub(crate) fn begin(&self, head: &str) -> (Box<Exchange>, Decision) {
        self.gateway.begin(&self.http, 1, parts(head), at(1_000))
    }

    /// Runs a plain request until it is answered or proxied, with this body, and shows what happened.
    pub(crate) fn run(&self, head: &str, body: &'static str) -> String {
        let (mut exchange, mut decision) = self.begin(head);
        loop {
            decision = match decision {
                Decision::Respond(response) => {
                    exchange.finish(Transferred::default(), at(1_010));
                    return response_text(&response);
                }
                Decision::Proxy => {
                    let text = plan_text(&mut exchange);
                    exchange.finish(Transferred::default(), at(1_010));
                    return text;
                }
                Decision::Body { bytes_max } if body.len() > bytes_max => {
                    Decision::Respond(exchange.body_failed(gateway::BodyFailure::TooLarge, at(1_001)))
                }
                Decision::Body { .. } => exchange.body(Bytes::from_static(body.as_bytes()), at(1_001)),
                Decision::Queue { .. } => panic!("there is no bulkhead"),
                Decision::Wait(pending) => {
                    let Poll::Ready(then) = pin!(pending).poll(&mut Context::from_waker(Waker::noop())) else {
                        panic!("the broker answers at once")
                    };
                    exchange.resume(then, at(1_002))
                }
            };
        }
    }
}

/// The time this many milliseconds after the start.
pub(crate) fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1000), wall: Wall(1_772_366_430_000 + ms) }
}

pub(crate) fn parts(head: &str) -> request::Parts {
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut builder = http::Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        builder = builder.header(name, value);
    }
    builder.body(()).unwrap().into_parts().0
}

pub(crate) fn response_text(response: &Response<Bytes>) -> String {
    let body = String::from_utf8(response.body().to_vec()).unwrap();
    format!("{}\n{}\n{body}", response.status().as_u16(), headers_text(response.headers()))
}

pub(crate) fn plan_text(exchange: &mut Exchange) -> String {
    let plan = exchange.plan().unwrap();
    let backend = &plan.upstream.backend;
    let request = plan.request;
    plan.lines.append_to(&mut request.headers);
    format!(
        "-> {}:{}\n{} {}\n{}",
        backend.host,
        backend.port,
        request.method,
        request.uri,
        headers_text(&request.headers)
    )
}

/// Headers in lines, sorted; the request's id is shown as `ID`.
pub(crate) fn headers_text(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| match name.as_str() {
            "x-kong-request-id" => format!("{name}: ID({})\n", value.len()),
            _ => format!("{name}: {}\n", value.to_str().unwrap()),
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Replaces the id in an error's body.
pub(crate) fn without_id(text: &str) -> String {
    let digits = |word: &str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('"').map(|word| if digits(word) { "ID" } else { word }).collect::<Vec<_>>().join("\"")
}

pub(crate) fn service(name: &str, backend: Backend) -> Service {
    Service {
        id: ServiceId::derived(name),
        name: Some(name.to_owned()),
        backend,
        enabled: true,
        mirror: None,
        tags: Vec::new(),
    }
}

pub(crate) fn upstream(name: &str) -> Service {
    service(name, Backend::Http(HttpBackend::new(Scheme::Http, &format!("{name}.internal"), 9000)))
}

pub(crate) fn queue(name: &str) -> Service {
    service(name, Backend::Queue(QueueBackend::new(name)))
}

pub(crate) fn route(name: &str, service: Option<&str>, path: &str) -> Route {
    Route {
        name: Some(name.to_owned()),
        service: service.map(ServiceId::derived),
        paths: vec![path.to_owned()],
        ..Route::new(RouteId::derived(name))
    }
}

pub(crate) fn plugin_config(name: &str, config: serde_json::Value) -> PluginConfig {
    PluginConfig {
        id: PluginId::derived(&format!("{name}{config}")),
        name: name.to_owned(),
        instance_name: None,
        enabled: true,
        protocols: RouteProtocols::Both,
        config,
        route: None,
        service: None,
        consumer: None,
        tags: Vec::new(),
    }
}

pub(crate) fn consumer(entities: &mut Entities, name: &str) {
    let id = ApiConsumerId::derived(name);
    entities.consumers.push(ApiConsumer { id, username: Some(name.to_owned()), custom_id: None, tags: Vec::new() });
    entities.keyauth_credentials.push(KeyAuthCredential {
        id: CredentialId::derived(name),
        consumer: id,
        key: Secret::new(format!("{name}-key")),
        expires: None,
        tags: Vec::new(),
    });
}
