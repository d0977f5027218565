//! The tries of one proxied request: performs what the exchange plans, and tells it how each try ended.

use super::hedging;
use bytes::Bytes;
use gateway::balancer::Member;
use gateway::{Decision, Exchange, Next, Plan, Upstream, UpstreamFailure};
use http::request;
use http1::FieldLines;
use net::Clock;
use net::http::{
    Answer, Body, Timeouts, TlsSettings, TlsTrust, UpstreamError, UpstreamErrorKind, UpstreamPool, UpstreamTarget,
};
use plugin::Scheme;
use std::sync::Arc;
use std::time::Duration;

/// A try that ended without an answer.
pub(super) struct Failed {
    pub(super) failure: UpstreamFailure,
    /// The request can be sent again without harm.
    pub(super) may_repeat: bool,
}

/// Where a try goes and how long it may take.
pub(super) struct Attempt {
    pub(super) target: UpstreamTarget,
    pub(super) timeouts: Timeouts,
    pub(super) per_try_timeout_ms: u32,
}

/// Asks the upstream, and again as long as the exchange says so. An error is what to do if it did not answer.
pub(super) async fn proxy(
    pool: &UpstreamPool,
    exchange: &mut Exchange,
    body: &mut Body,
    clock: Clock,
) -> Result<Box<Answer>, Decision> {
    if let Some(collected) = &exchange.context().body {
        *body = Body::from(collected.clone());
    }
    loop {
        let wait_ms = match attempt(pool, exchange, body, clock).await {
            Ok(mut answer) => {
                let may_repeat = !matches!(body, Body::Taken);
                let now = clock.after(exchange.context().received);
                match exchange.upstream_answered(&answer.head, &answer.lines, may_repeat, now) {
                    None => {
                        let lines = std::mem::take(&mut answer.lines);
                        answer.lines = exchange.upstream_head(&mut answer.head, lines, now);
                        return Ok(answer);
                    }
                    Some(wait_ms) => wait_ms,
                }
            }
            Err(Failed { failure, may_repeat }) => match exchange.upstream_failed(failure, may_repeat, clock.now()) {
                Next::Otherwise(decision) => {
                    tracing::info!(tries = %exchange.tries(), "the upstream did not answer");
                    return Err(decision);
                }
                Next::Again { wait_ms } => wait_ms,
            },
        };
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        exchange.try_begins(clock.now());
    }
}

async fn attempt(
    pool: &UpstreamPool,
    exchange: &mut Exchange,
    body: &mut Body,
    clock: Clock,
) -> Result<Box<Answer>, Failed> {
    let gone = || Failed { failure: UpstreamFailure::Unavailable, may_repeat: false };
    let plan = exchange.plan().ok_or_else(gone)?;
    if let Some(hedge) = plan.hedge
        && body.is_replayable()
        && plan.request.method.is_idempotent()
    {
        return hedging::attempt(pool, exchange, hedge, body.copy(), clock).await;
    }
    send(pool, plan, body).await
}

/// Sends a request as it is planned, once.
pub(super) async fn send(pool: &UpstreamPool, plan: Plan<'_>, body: &mut Body) -> Result<Box<Answer>, Failed> {
    let Plan { request, lines, upstream, member, per_try_timeout_ms, .. } = plan;
    let target = match target(pool, &upstream) {
        Ok(target) => target,
        Err(error) => {
            tracing::warn!(host = %upstream.backend.host, %error, "TLS to the upstream");
            return Err(Failed { failure: UpstreamFailure::Unavailable, may_repeat: false });
        }
    };
    let timeouts = timeouts(&upstream);
    if let Some(member) = member {
        let attempt = Attempt { target: at(target, &member), timeouts, per_try_timeout_ms };
        return once(pool, &attempt, request, lines, body).await;
    }
    let asked = pool.exchange(target, request, lines, body, timeouts).await;
    asked.map_err(|error| failed(&error, request, target))
}

/// One try.
pub(super) async fn once(
    pool: &UpstreamPool,
    attempt: &Attempt,
    request: &mut request::Parts,
    lines: &FieldLines,
    body: &mut Body,
) -> Result<Box<Answer>, Failed> {
    let Attempt { target, timeouts, per_try_timeout_ms } = attempt;
    let is_idempotent = request.method.is_idempotent();
    let asked = pool.exchange(target, request, lines, body, *timeouts);
    if *per_try_timeout_ms == 0 {
        return asked.await.map_err(|error| failed(&error, request, target));
    }
    match tokio::time::timeout(Duration::from_millis((*per_try_timeout_ms).into()), asked).await {
        Ok(result) => result.map_err(|error| failed(&error, request, target)),
        Err(_) => {
            let may_repeat = is_idempotent && !matches!(body, Body::Taken);
            Err(Failed { failure: UpstreamFailure::PerTryTimeout, may_repeat })
        }
    }
}

/// The plan of a try to one address, for a service with targets.
pub(super) fn planned(pool: &UpstreamPool, plan: &Plan<'_>, member: &Member) -> Option<Attempt> {
    let target = at(target(pool, &plan.upstream).ok()?, member);
    Some(Attempt { target, timeouts: timeouts(&plan.upstream), per_try_timeout_ms: plan.per_try_timeout_ms })
}

pub(super) fn at(target: &UpstreamTarget, member: &Member) -> UpstreamTarget {
    let key = member.address.key();
    UpstreamTarget {
        host: Arc::clone(&key.host),
        port: key.port,
        server_name: Some(Arc::clone(&member.server_name)),
        ..target.clone()
    }
}

fn timeouts(upstream: &Upstream) -> Timeouts {
    let backend = &upstream.backend;
    Timeouts {
        connect_ms: backend.connect_timeout_ms.into(),
        write_ms: backend.write_timeout_ms.into(),
        read_ms: backend.read_timeout_ms.into(),
    }
}

fn failed(error: &UpstreamError, request: &request::Parts, target: &UpstreamTarget) -> Failed {
    tracing::debug!(host = %target.host, port = target.port, %error, "a try failed");
    Failed { failure: failure(error.kind), may_repeat: error.may_retry(&request.method) }
}

pub(super) const fn failure(kind: UpstreamErrorKind) -> UpstreamFailure {
    match kind {
        UpstreamErrorKind::Dns => UpstreamFailure::Resolve,
        UpstreamErrorKind::Refused => UpstreamFailure::Refused,
        UpstreamErrorKind::Tls => UpstreamFailure::Tls,
        UpstreamErrorKind::Reset => UpstreamFailure::Reset,
        UpstreamErrorKind::ConnectTimeout => UpstreamFailure::ConnectTimeout,
        UpstreamErrorKind::WriteTimeout => UpstreamFailure::WriteTimeout,
        UpstreamErrorKind::ReadTimeout => UpstreamFailure::ReadTimeout,
        UpstreamErrorKind::InvalidResponse => UpstreamFailure::BadResponse,
        UpstreamErrorKind::RequestBody => UpstreamFailure::RequestBody,
        UpstreamErrorKind::BulkheadFull => UpstreamFailure::NoConnection,
        UpstreamErrorKind::QueueTimeout => UpstreamFailure::NoConnectionInTime,
    }
}

pub(super) fn full(bytes: Bytes) -> Body {
    if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
}

fn target<'u>(pool: &UpstreamPool, upstream: &'u Upstream) -> Result<&'u UpstreamTarget, String> {
    kept(upstream, || make(pool, upstream))
}

/// The upstream as the pool knows it, made when it is first asked and kept with it. What could not be made is not kept: the
/// next try makes it, as soon as the pool can.
pub(super) fn kept(
    upstream: &Upstream,
    make: impl FnOnce() -> Result<UpstreamTarget, String>,
) -> Result<&UpstreamTarget, String> {
    let made = match upstream.connector.get() {
        Some(made) => made,
        None => {
            let target = make()?;
            upstream.connector.get_or_init(|| Box::new(target))
        }
    };
    made.downcast_ref().ok_or_else(|| "its connector is somebody else's".to_owned())
}

pub(super) fn make(pool: &UpstreamPool, upstream: &Upstream) -> Result<UpstreamTarget, String> {
    let backend = &upstream.backend;
    let http2 = backend.http2;
    let tls = match backend.scheme {
        Scheme::Http => None,
        Scheme::Https => {
            let trust = match backend.tls_verify {
                Some(true) if upstream.ca_certificates.is_empty() => TlsTrust::System,
                Some(true) => TlsTrust::Authorities(upstream.ca_certificates.clone()),
                Some(false) | None => TlsTrust::Anyone,
            };
            let (depth_max, identity) = (backend.tls_verify_depth, upstream.identity.clone());
            let settings = TlsSettings { trust, depth_max, identity, http2 };
            Some(pool.tls(settings).map_err(|error| error.to_string())?)
        }
    };
    let connections = upstream.balancer.as_ref().and_then(|balancer| balancer.connections());
    Ok(UpstreamTarget {
        host: backend.host.as_str().into(),
        port: backend.port,
        tls,
        server_name: None,
        http2,
        connections,
    })
}
