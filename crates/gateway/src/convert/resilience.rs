//! What an upstream can do beyond Kong.

use super::record::texts;
use super::upstream::Part;
use super::{Record, Refusal};
use crate::entity::{Breaker, Bulkhead, Hedge, OutlierDetection, Resilience, Retry, ServiceId, SlowStart};
use entities::{Kind, Store};
use http::Method;

pub(super) fn resilience(record: &Record, store: &Store, refusals: &mut Vec<Refusal>) -> Resilience {
    let all = Part::of(record.value("resilience"));
    let part = |field: &str| Some(all.part(field)).filter(Part::is_there);
    let fallback = all.text("fallback").and_then(|name| {
        let found = store.find(Kind::Services, name).ok().flatten().map(|service| ServiceId(service.id()));
        if found.is_none() {
            record.refuse(refusals, "resilience", None, format!("fallback: there is no service `{name}`"));
        }
        found
    });
    Resilience {
        outlier_detection: part("outlier_detection").map(|part| outlier_detection(&part)),
        breaker: part("breaker").map(|part| breaker(&part)),
        fallback,
        retry: part("retry").map(|part| retry(&part)),
        hedge: part("hedge").map(|part| Hedge {
            delay_ms: part.number("delay_ms", 1),
            extra_requests: part.number("extra_requests", 1),
        }),
        slow_start: part("slow_start").map(|part| {
            let defaults = SlowStart::default();
            SlowStart {
                window_ms: part.number("window_ms", defaults.window_ms),
                min_weight_percent: part.number("min_weight_percent", defaults.min_weight_percent),
            }
        }),
        panic_threshold: all.number("panic_threshold", 0),
        bulkhead: part("bulkhead").map(|part| bulkhead(&part)),
    }
}

fn outlier_detection(part: &Part<'_>) -> OutlierDetection {
    let defaults = OutlierDetection::default();
    OutlierDetection {
        consecutive_5xx: part.number("consecutive_5xx", defaults.consecutive_5xx),
        base_ejection_time_ms: part.number("base_ejection_time_ms", defaults.base_ejection_time_ms),
        max_ejection_time_ms: part.number("max_ejection_time_ms", defaults.max_ejection_time_ms),
        max_ejection_percent: part.number("max_ejection_percent", defaults.max_ejection_percent),
    }
}

fn breaker(part: &Part<'_>) -> Breaker {
    let defaults = Breaker::default();
    Breaker {
        failure_percent: part.number("failure_percent", defaults.failure_percent),
        minimum_requests: part.number("minimum_requests", defaults.minimum_requests),
        window_ms: part.number("window_ms", defaults.window_ms),
        open_ms: part.number("open_ms", defaults.open_ms),
        half_open_requests: part.number("half_open_requests", defaults.half_open_requests),
    }
}

fn retry(part: &Part<'_>) -> Retry {
    let defaults = Retry::default();
    let methods = part.value("methods").map(|methods| {
        texts(Some(methods)).iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect()
    });
    Retry {
        http_statuses: part.statuses().unwrap_or(defaults.http_statuses),
        methods: methods.unwrap_or(defaults.methods),
        per_try_timeout_ms: part.number("per_try_timeout_ms", defaults.per_try_timeout_ms),
        budget_percent: part.number("budget_percent", defaults.budget_percent),
        min_retry_concurrency: part.number("min_retry_concurrency", defaults.min_retry_concurrency),
        backoff_base_ms: part.number("backoff_base_ms", defaults.backoff_base_ms),
        backoff_max_ms: part.number("backoff_max_ms", defaults.backoff_max_ms),
        retry_after_max_ms: part.number("retry_after_max_ms", defaults.retry_after_max_ms),
    }
}

fn bulkhead(part: &Part<'_>) -> Bulkhead {
    let defaults = Bulkhead::default();
    Bulkhead {
        max_requests: part.number("max_requests", defaults.max_requests),
        max_connections: Some(part.number("max_connections", 0)).filter(|max| *max > 0),
        max_pending_requests: part.number("max_pending_requests", defaults.max_pending_requests),
        queue_timeout_ms: part.number("queue_timeout_ms", defaults.queue_timeout_ms),
    }
}
