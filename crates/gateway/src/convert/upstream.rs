//! Upstreams and their targets.

use super::record::texts;
use super::resilience::resilience;
use super::{Record, Refusal};
use crate::entity::{
    ActiveChecks, Algorithm, Catalogue, CertificateId, CheckKind, Discovery, FailureLimits, HashInput, Hashing,
    HealthChecks, Intervals, PassiveChecks, Secret, SuccessLimit, Target, TargetAddress, TargetId, Upstream,
    UpstreamId,
};
use entities::{Kind, Store};
use serde_json::{Map, Value};

pub(super) fn upstream(record: &Record, store: &Store, refusals: &mut Vec<Refusal>) -> Option<Upstream> {
    Some(Upstream {
        id: UpstreamId(record.id),
        name: record.string("name")?,
        algorithm: algorithm(record),
        health_checks: health_checks(&Part::of(record.value("healthchecks"))),
        host_header: record.string("host_header"),
        client_certificate: record.reference("client_certificate").map(CertificateId),
        use_srv_name: record.flag("use_srv_name", false),
        resilience: resilience(record, store, refusals),
        discovery: discovery(record, refusals),
        tags: record.strings("tags"),
    })
}

pub(super) fn target(record: &Record, _: &Store, refusals: &mut Vec<Refusal>) -> Option<Target> {
    let text = record.text("target")?;
    let Some(address) = TargetAddress::parse(text) else {
        record.refuse(refusals, "target", None, format!("`{text}` is not a host and a port"));
        return None;
    };
    Some(Target {
        id: TargetId(record.id),
        upstream: UpstreamId(record.reference("upstream")?),
        address,
        weight: record.number("weight", 100),
        priority: record.number("priority", 0),
        tags: record.strings("tags"),
    })
}

/// `None` if there is none, or its address is no URL, which is refused.
fn discovery(record: &Record, refusals: &mut Vec<Refusal>) -> Option<Discovery> {
    let part = Part::of(Some(record.value("discovery")?));
    let (address, service) = (part.text("address")?, part.text("service")?);
    let found = match part.text("type") {
        Some("eureka") => Discovery::eureka(address, service),
        _ => Discovery::consul(address, service),
    };
    let Some(mut found) = found else {
        record.refuse(refusals, "discovery", None, format!("address: `{address}` is not the URL of a catalogue"));
        return None;
    };
    found.interval_ms = part.number("interval_ms", found.interval_ms);
    found.timeout_ms = part.number("timeout_ms", found.timeout_ms);
    if let Catalogue::Consul(consul) = &mut found.catalogue {
        consul.datacenter = part.text("datacenter").map(str::to_owned);
        consul.tags = texts(part.value("tags"));
        consul.token = part.text("token").map(|token| Secret::new(token.to_owned()));
    }
    Some(found)
}

/// Refuses a fallback that is not there any more.
pub(super) fn check_fallback(upstream: &Upstream, store: &Store, refusals: &mut Vec<Refusal>) {
    let Some(fallback) = upstream.resilience.fallback else { return };
    if store.get(Kind::Services, fallback.0).is_none() {
        refusals.push(Refusal {
            kind: Kind::Upstreams,
            id: upstream.id.0,
            field: Some("resilience"),
            index: None,
            reason: format!("fallback: there is no service `{fallback}`"),
        });
    }
}

fn algorithm(record: &Record) -> Algorithm {
    match record.text("algorithm") {
        Some("consistent-hashing") => Algorithm::ConsistentHashing(Hashing {
            on: hash_input(record, "hash_on", "hash_on"),
            fallback: hash_input(record, "hash_fallback", "hash_fallback"),
            slots: record.number("slots", 10_000),
        }),
        Some("least-connections") => Algorithm::LeastConnections,
        Some("latency") => Algorithm::Latency,
        _ => Algorithm::RoundRobin,
    }
}

/// What `field` hashes; the names of its companions begin with `prefix`.
fn hash_input(record: &Record, field: &str, prefix: &str) -> HashInput {
    let companion = |name: &str| record.string(&format!("{prefix}_{name}")).unwrap_or_default();
    match record.text(field) {
        Some("consumer") => HashInput::Consumer,
        Some("ip") => HashInput::Ip,
        Some("header") => HashInput::Header(companion("header")),
        Some("cookie") => HashInput::Cookie {
            name: record.string("hash_on_cookie").unwrap_or_default(),
            path: record.string("hash_on_cookie_path").unwrap_or_else(|| "/".to_owned()),
        },
        Some("path") => HashInput::Path,
        Some("query_arg") => HashInput::QueryArg(companion("query_arg")),
        Some("uri_capture") => HashInput::UriCapture(companion("uri_capture")),
        _ => HashInput::None,
    }
}

fn health_checks(checks: &Part<'_>) -> HealthChecks {
    let (active, passive) = (checks.part("active"), checks.part("passive"));
    let defaults = (ActiveChecks::default(), PassiveChecks::default());
    let (healthy, unhealthy) = (active.part("healthy"), active.part("unhealthy"));
    HealthChecks {
        active: ActiveChecks {
            kind: active.kind(),
            timeout_ms: active.milliseconds("timeout").unwrap_or(defaults.0.timeout_ms),
            concurrency: active.number("concurrency", defaults.0.concurrency),
            http_path: active.text("http_path").unwrap_or("/").to_owned(),
            https_sni: active.text("https_sni").map(str::to_owned),
            https_verify_certificate: active.value("https_verify_certificate").and_then(Value::as_bool).unwrap_or(true),
            headers: active.headers(),
            intervals: Intervals {
                healthy_ms: healthy.milliseconds("interval").unwrap_or(0),
                unhealthy_ms: unhealthy.milliseconds("interval").unwrap_or(0),
            },
            healthy: healthy.successes(defaults.0.healthy),
            unhealthy: unhealthy.failures(defaults.0.unhealthy),
        },
        passive: PassiveChecks {
            kind: passive.kind(),
            healthy: passive.part("healthy").successes(defaults.1.healthy),
            unhealthy: passive.part("unhealthy").failures(defaults.1.unhealthy),
        },
        threshold: checks.value("threshold").and_then(Value::as_f64).unwrap_or(0.0),
    }
}

/// A record within a record; one that is not there has no values.
pub(super) struct Part<'r>(Option<&'r Map<String, Value>>);

impl<'r> Part<'r> {
    pub(super) fn of(value: Option<&'r Value>) -> Self {
        Self(value.and_then(Value::as_object))
    }

    pub(super) const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn value(&self, field: &str) -> Option<&'r Value> {
        self.0?.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn part(&self, field: &str) -> Self {
        Self::of(self.value(field))
    }

    pub(super) fn text(&self, field: &str) -> Option<&'r str> {
        self.value(field)?.as_str()
    }

    pub(super) fn number<N: TryFrom<i64>>(&self, field: &str, default: N) -> N {
        self.value(field).and_then(Value::as_i64).and_then(|number| N::try_from(number).ok()).unwrap_or(default)
    }

    pub(super) fn statuses(&self) -> Option<Vec<u16>> {
        let items = self.value("http_statuses")?.as_array()?;
        Some(items.iter().filter_map(Value::as_u64).filter_map(|status| u16::try_from(status).ok()).collect())
    }

    /// Kong's seconds, which may have a fraction.
    fn milliseconds(&self, field: &str) -> Option<u32> {
        let seconds = self.value(field)?.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 65535 seconds, and saturates"
        )]
        let milliseconds = (seconds * 1_000.0).ceil() as u32;
        Some(milliseconds)
    }

    fn kind(&self) -> CheckKind {
        match self.text("type") {
            Some("tcp") => CheckKind::Tcp,
            Some("https") => CheckKind::Https,
            Some("grpc") => CheckKind::Grpc,
            Some("grpcs") => CheckKind::Grpcs,
            _ => CheckKind::Http,
        }
    }

    fn headers(&self) -> Vec<(String, Vec<String>)> {
        let map = self.value("headers").and_then(Value::as_object).into_iter().flatten();
        map.map(|(name, values)| (name.clone(), texts(Some(values)))).collect()
    }

    fn successes(&self, defaults: SuccessLimit) -> SuccessLimit {
        SuccessLimit {
            http_statuses: self.statuses().unwrap_or(defaults.http_statuses),
            successes: self.number("successes", 0),
        }
    }

    fn failures(&self, defaults: FailureLimits) -> FailureLimits {
        FailureLimits {
            http_statuses: self.statuses().unwrap_or(defaults.http_statuses),
            http_failures: self.number("http_failures", 0),
            tcp_failures: self.number("tcp_failures", 0),
            timeouts: self.number("timeouts", 0),
        }
    }
}
