//! Catalogues as sources of targets: Consul by blocking queries, Eureka by polling.
//!
//! | file | holds |
//! |---|---|
//! | `consul`, `eureka` | what is asked and what an answer says, without IO |
//! | `backoff` | how long to wait after failures |
//! | here | the loop that asks, and what became of it for people |
//!
//! Invariants: only a good answer changes targets; whatever else a catalogue does, the last good ones stay. An answer is
//! read up to [`CATALOGUE_BODY_BYTES_MAX`], and has at most [`CATALOGUE_INSTANCES_MAX`] instances, at as many addresses. Every
//! wait has a deadline.

mod backoff;
mod consul;
mod eureka;
mod places;

use crate::http::{FetchError, Fetched, TlsSettings, TlsTrust, UpstreamPool, UpstreamTarget, UpstreamTls, fetch};
use crate::random::random;
use crate::resolve::{Endpoint, Resolver};
use backoff::Backoff;
use consul::Consul;
use eureka::Eureka;
use gateway::balancer::CatalogueState;
use gateway::entity::{Catalogue, CatalogueAddress, Discovery, Scheme};
use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use model::limits::{CATALOGUE_BODY_BYTES_MAX, CATALOGUE_INSTANCES_MAX};
use parking_lot::Mutex;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two queries that wait for changes: a service that changes all the time is not asked all the time.
const QUERY_PAUSE: Duration = Duration::from_millis(500);
/// Names of instances are resolved again after that time, if no answer came meanwhile.
const NAMES_AGAIN: Duration = Duration::from_secs(10);

/// An instance of a service, as a catalogue lists it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Instance {
    /// Name or IP address.
    host: String,
    port: u16,
    /// At least 1.
    weight: u16,
}

/// A request to a catalogue.
#[derive(Debug)]
struct Asked {
    /// Path and query below the catalogue's address.
    target: String,
    headers: HeaderMap,
    /// Time for the answer.
    patience: Duration,
}

/// Why there is no good answer.
#[derive(Debug)]
enum Failure {
    Fetch(FetchError),
    Tls(String),
    Status(StatusCode),
    Garbage(String),
    TooMany(usize),
    TooManyAddresses(usize),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => error.fmt(f),
            Self::Tls(why) => f.write_str(why),
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Garbage(why) => write!(f, "its answer cannot be read: {why}"),
            Self::TooMany(count) => write!(f, "it lists {count} instances; the limit is {CATALOGUE_INSTANCES_MAX}"),
            Self::TooManyAddresses(count) => {
                write!(f, "its instances have {count} addresses; the limit is {CATALOGUE_INSTANCES_MAX}")
            }
        }
    }
}

/// Follows one service of a catalogue for as long as it is polled.
#[derive(Debug)]
pub struct Follower {
    discovery: Discovery,
    resolver: Arc<Resolver>,
    pool: Arc<UpstreamPool>,
    state: Arc<Mutex<CatalogueState>>,
    catalogue: Asking,
    backoff: Backoff,
    /// The last good ones.
    instances: Vec<Instance>,
}

#[derive(Debug)]
enum Asking {
    Consul(Consul),
    Eureka(Eureka),
}

impl Follower {
    /// Follows what `discovery` says; requests go through `pool`, and `state` tells how it goes.
    #[must_use]
    pub fn new(
        discovery: Discovery,
        resolver: Arc<Resolver>,
        pool: Arc<UpstreamPool>,
        state: Arc<Mutex<CatalogueState>>,
    ) -> Self {
        let catalogue = match &discovery.catalogue {
            Catalogue::Consul(settings) => Asking::Consul(Consul::new(settings.clone())),
            Catalogue::Eureka => Asking::Eureka(Eureka::default()),
        };
        Self { discovery, resolver, pool, state, catalogue, backoff: Backoff::default(), instances: Vec::new() }
    }

    /// Asks again and again; each time the addresses are known anew, `publish` gets them all. Never returns.
    pub async fn run(mut self, mut publish: impl FnMut(Vec<Endpoint>) + Send) {
        let mut known = None;
        loop {
            let pause = match known.take().map_or_else(|| upstream_target(&self.discovery.address), Ok) {
                Ok(target) => {
                    let pause = self.ask_once(&target, &mut publish).await;
                    known = Some(target);
                    pause
                }
                Err(why) => self.failed(&Failure::Tls(why)),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One query; returns how long to wait before the next.
    async fn ask_once(
        &mut self,
        target: &UpstreamTarget,
        publish: &mut (impl FnMut(Vec<Endpoint>) + Send),
    ) -> Duration {
        let (discovery, pool, resolver) = (&self.discovery, &self.pool, &self.resolver);
        let asked = self.catalogue.ask(discovery);
        let mut answer = Box::pin(get(pool, target, &discovery.address, asked));
        let answered = loop {
            // Addresses of names may change while a query waits.
            match tokio::time::timeout(NAMES_AGAIN, &mut answer).await {
                Ok(answered) => break answered,
                Err(_) if self.instances.iter().any(|instance| instance.host.parse::<IpAddr>().is_err()) => {
                    if let Err(failure) = publish_places(resolver, &self.instances, publish).await {
                        tracing::warn!(error = %failure, "the last targets stay");
                    }
                }
                Err(_) => {}
            }
        };
        drop(answer);
        match answered.and_then(|(status, headers, body)| self.take(status, &headers, &body)) {
            Ok(instances) => match publish_places(&self.resolver, &instances, publish).await {
                Ok(()) => {
                    self.succeeded(instances);
                    self.catalogue.pause(&self.discovery)
                }
                Err(failure) => self.failed(&failure),
            },
            Err(failure) => self.failed(&failure),
        }
    }

    fn take(&mut self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Instance>, Failure> {
        let mut instances = match (&mut self.catalogue, status) {
            (Asking::Consul(consul), StatusCode::OK) => consul.take(headers, body)?,
            (Asking::Eureka(eureka), StatusCode::OK) => eureka.take(&self.discovery.service, body)?,
            (Asking::Eureka(eureka), StatusCode::NOT_FOUND) => eureka.unknown().ok_or(Failure::Status(status))?,
            _ => return Err(Failure::Status(status)),
        };
        if instances.len() > CATALOGUE_INSTANCES_MAX {
            return Err(Failure::TooMany(instances.len()));
        }
        instances.sort_unstable();
        instances.dedup();
        Ok(instances)
    }

    fn succeeded(&mut self, instances: Vec<Instance>) {
        let Discovery { service, .. } = &self.discovery;
        if self.backoff.failures() > 0 {
            tracing::info!(catalogue = self.discovery.kind(), service, "the catalogue answers again");
        }
        self.backoff.succeed();
        let mut state = self.state.lock();
        state.answers += 1;
        (state.instances, state.error) = (Some(instances.len()), None);
        drop(state);
        self.instances = instances;
    }

    fn failed(&mut self, failure: &Failure) -> Duration {
        self.catalogue.begin_anew();
        let mut state = self.state.lock();
        state.failures += 1;
        state.error = Some(failure.to_string());
        drop(state);
        let (kind, service) = (self.discovery.kind(), &self.discovery.service);
        if self.backoff.failures() == 0 {
            tracing::warn!(catalogue = kind, service, error = %failure, "no good answer; the last targets stay");
        } else {
            tracing::debug!(catalogue = kind, service, error = %failure, "still no good answer");
        }
        self.backoff.fail(random())
    }
}

impl Asking {
    fn ask(&self, discovery: &Discovery) -> Asked {
        match self {
            Self::Consul(consul) => consul.ask(discovery),
            Self::Eureka(eureka) => eureka.ask(discovery),
        }
    }

    /// The time from a good answer to the next query.
    fn pause(&self, discovery: &Discovery) -> Duration {
        match self {
            Self::Consul(consul) if consul.waits() => QUERY_PAUSE,
            _ => Duration::from_millis(discovery.interval_ms.into()),
        }
    }

    fn begin_anew(&mut self) {
        match self {
            Self::Consul(consul) => consul.begin_anew(),
            Self::Eureka(eureka) => eureka.begin_anew(),
        }
    }
}

/// Sends a request and collects its answer.
async fn get(
    pool: &UpstreamPool,
    target: &UpstreamTarget,
    address: &CatalogueAddress,
    asked: Asked,
) -> Result<(StatusCode, HeaderMap, bytes::Bytes), Failure> {
    let path = format!("{}{}", address.path, asked.target);
    let request = Request::builder().method(Method::GET).uri(path).body(());
    let request = request.map_err(|error| Failure::Garbage(error.to_string()))?;
    let (mut head, ()) = request.into_parts();
    head.headers = asked.headers;
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    if let Ok(host) = HeaderValue::try_from(format!("{host}:{}", address.port)) {
        head.headers.insert(HOST, host);
    }
    let until = Instant::now() + asked.patience;
    let fetched = fetch(pool, target, head, bytes::Bytes::new(), until, CATALOGUE_BODY_BYTES_MAX).await;
    let Fetched { head, body, .. } = fetched.map_err(Failure::Fetch)?;
    Ok((head.status, head.headers, body))
}

fn upstream_target(address: &CatalogueAddress) -> Result<UpstreamTarget, String> {
    let tls = match address.scheme {
        Scheme::Http => None,
        Scheme::Https => {
            let settings = TlsSettings { trust: TlsTrust::System, ..TlsSettings::default() };
            Some(UpstreamTls::new(&settings).map_err(|error| error.to_string())?)
        }
    };
    Ok(UpstreamTarget {
        host: address.host.as_str().into(),
        port: address.port,
        tls,
        server_name: None,
        http2: false,
        connections: None,
    })
}

/// Publishes the addresses of instances. One whose name has none now is left out; if that leaves nothing, what was there
/// before stays.
async fn publish_places(
    resolver: &Arc<Resolver>,
    instances: &[Instance],
    publish: &mut (impl FnMut(Vec<Endpoint>) + Send),
) -> Result<(), Failure> {
    let found = places::resolve(resolver, instances).await;
    let endpoints = places::of(instances, &found);
    if endpoints.len() > CATALOGUE_INSTANCES_MAX {
        return Err(Failure::TooManyAddresses(endpoints.len()));
    }
    if instances.is_empty() || !endpoints.is_empty() {
        publish(endpoints);
    }
    Ok(())
}
