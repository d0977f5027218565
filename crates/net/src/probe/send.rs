//! One probe of one address: what is asked, and what the answer means.

use super::grpc;
use crate::http::{
    FetchError, PoolSettings, TlsSettings, TlsTrust, UpstreamErrorKind, UpstreamPool, UpstreamTarget, UpstreamTls,
    fetch, fetch_head,
};
use crate::resolve::Resolver;
use gateway::balancer::{Member, Outcome};
use gateway::entity::{ActiveChecks, CheckKind, Scheme};
use gateway::tls::Identity;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri, request};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How an upstream is probed: its settings, made ready for use.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    kind: Kind,
    timeout: Duration,
    resolver: Arc<Resolver>,
}

#[derive(Clone, Debug)]
enum Kind {
    Tcp,
    Http(Arc<HttpProbe>),
    Grpc(Arc<HttpProbe>),
}

#[derive(Debug)]
struct HttpProbe {
    uri: Uri,
    headers: HeaderMap,
    tls: Option<UpstreamTls>,
    server_name: Option<Arc<str>>,
    /// Keeps no connection: a probe asks whether a new one can be had.
    pool: UpstreamPool,
}

impl Probe {
    /// What the settings say; an error says why it cannot be done.
    pub(super) fn new(
        checks: &ActiveChecks,
        identity: Option<&Arc<Identity>>,
        resolver: &Arc<Resolver>,
    ) -> Result<Self, String> {
        let kind = match checks.kind {
            CheckKind::Tcp => Kind::Tcp,
            CheckKind::Http => Kind::Http(Arc::new(HttpProbe::new(checks, None, resolver)?)),
            CheckKind::Https => Kind::Http(Arc::new(HttpProbe::new(checks, Some(tls(checks, identity)?), resolver)?)),
            CheckKind::Grpc => Kind::Grpc(Arc::new(HttpProbe::new(checks, None, resolver)?)),
            CheckKind::Grpcs => Kind::Grpc(Arc::new(HttpProbe::new(checks, Some(tls(checks, identity)?), resolver)?)),
        };
        let timeout = Duration::from_millis(checks.timeout_ms.into());
        Ok(Self { kind, timeout, resolver: Arc::clone(resolver) })
    }

    /// Probes an address.
    pub(super) async fn send(&self, member: &Member) -> Outcome {
        let until = Instant::now() + self.timeout;
        match &self.kind {
            Kind::Tcp => tokio::time::timeout_at(until, self.connect(member)).await.unwrap_or(Outcome::Timeout),
            Kind::Http(http) => http.send(member, until).await,
            Kind::Grpc(http) => {
                let outcome = http.ask_health(member, until).await;
                // The pool takes no second request over a connection, but would keep it.
                http.pool.sweep();
                outcome
            }
        }
    }

    async fn connect(&self, member: &Member) -> Outcome {
        let key = member.address.key();
        let Ok(addresses) = self.resolver.addresses(&key.host, key.port).await else { return Outcome::TcpFailure };
        match TcpStream::connect(addresses.as_slice()).await {
            Ok(_) => Outcome::Connected,
            Err(_) => Outcome::TcpFailure,
        }
    }
}

fn tls(checks: &ActiveChecks, identity: Option<&Arc<Identity>>) -> Result<UpstreamTls, String> {
    let trust = if checks.https_verify_certificate { TlsTrust::System } else { TlsTrust::Anyone };
    let http2 = checks.kind == CheckKind::Grpcs;
    let settings = TlsSettings { trust, identity: identity.cloned(), http2, ..TlsSettings::default() };
    UpstreamTls::new(&settings).map_err(|error| error.to_string())
}

impl HttpProbe {
    fn new(checks: &ActiveChecks, tls: Option<UpstreamTls>, resolver: &Arc<Resolver>) -> Result<Self, String> {
        let uri = checks.http_path.parse().map_err(|error| format!("http_path: {error}"))?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("sluicegate-probe"));
        for (name, values) in &checks.headers {
            let name = HeaderName::try_from(name).map_err(|error| format!("headers: {error}"))?;
            headers.remove(&name);
            for value in values {
                let value = HeaderValue::try_from(value).map_err(|error| format!("headers: {error}"))?;
                headers.append(&name, value);
            }
        }
        let settings = PoolSettings { idle_max: 0, idle_timeout_ms: 0, requests_max: 1 };
        let server_name = checks.https_sni.as_deref().map(Into::into);
        let pool = UpstreamPool::new(settings, Arc::clone(resolver));
        Ok(Self { uri, headers, tls, server_name, pool })
    }

    async fn send(&self, member: &Member, until: Instant) -> Outcome {
        match fetch_head(&self.pool, &self.target(member, Version::One), self.head(member), until).await {
            Ok(head) => Outcome::Status(head.status.as_u16()),
            Err(error) => failed(error),
        }
    }

    /// Asks gRPC's health service.
    async fn ask_health(&self, member: &Member, until: Instant) -> Outcome {
        let (target, mut head) = (self.target(member, Version::Two), self.head(member));
        let question = grpc::ask(&mut head);
        match fetch(&self.pool, &target, head, question, until, grpc::ANSWER_BYTES_MAX).await {
            Ok(answer) if grpc::serves(&answer) => Outcome::Connected,
            Ok(_) => Outcome::Garbage,
            Err(error) => failed(error),
        }
    }

    fn target(&self, member: &Member, version: Version) -> UpstreamTarget {
        let server_name = self.server_name.clone().unwrap_or_else(|| Arc::clone(&member.server_name));
        let key = member.address.key();
        let (host, port, tls) = (Arc::clone(&key.host), key.port, self.tls.clone());
        UpstreamTarget {
            host,
            port,
            tls,
            server_name: Some(server_name),
            http2: version == Version::Two,
            connections: None,
        }
    }

    fn head(&self, member: &Member) -> request::Parts {
        let scheme = if self.tls.is_some() { Scheme::Https } else { Scheme::Http };
        let (mut head, ()) = Request::new(()).into_parts();
        (head.method, head.uri, head.headers) = (Method::GET, self.uri.clone(), self.headers.clone());
        head.headers.entry(HOST).or_insert_with(|| member.host_value(scheme).clone());
        head
    }
}

/// The version of HTTP that is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

fn failed(error: FetchError) -> Outcome {
    match error {
        FetchError::Timeout => Outcome::Timeout,
        FetchError::Upstream(error) => outcome(error.kind),
        FetchError::Broken(_) | FetchError::TooLarge(_) => Outcome::Garbage,
    }
}

/// What a failure says of an address, as Kong counts it: a handshake that fails is no connection.
const fn outcome(kind: UpstreamErrorKind) -> Outcome {
    match kind {
        UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::WriteTimeout | UpstreamErrorKind::ReadTimeout => {
            Outcome::Timeout
        }
        UpstreamErrorKind::Dns | UpstreamErrorKind::Refused | UpstreamErrorKind::Tls | UpstreamErrorKind::Reset => {
            Outcome::TcpFailure
        }
        UpstreamErrorKind::InvalidResponse
        | UpstreamErrorKind::RequestBody
        // Probes need no place.
        | UpstreamErrorKind::BulkheadFull
        | UpstreamErrorKind::QueueTimeout => Outcome::Garbage,
    }
}
