//! One attempt to push a message: the request it becomes, and what its answer means.

use crate::subscription::{RetrySettings, SubscriptionSettings};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use model::{Properties, Value};
use plugin::{Fed, SendError};
use std::time::Duration;

/// Message headers that travel as HTTP headers, besides those that begin with `ce-` (CloudEvents).
const FORWARDED: [&str; 5] = ["traceparent", "tracestate", "baggage", "x-request-id", "x-correlation-id"];

/// What an answer, or its absence, means for the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Delivered.
    Delivered,
    /// Try again, not before this if the service said so.
    Retry(Failure, Option<Duration>),
    /// Trying again would not help.
    GiveUp(Failure),
}

/// Why an attempt failed, in the words of the dead-letter headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// `status`, `timeout`, `connect`, `rejected` or `gone`.
    pub(crate) reason: &'static str,
    /// The status, if there was an answer.
    pub(crate) code: Option<u16>,
}

/// The request of an attempt.
pub(crate) fn request(settings: &SubscriptionSettings, fed: &Fed, attempt: u32, now_ms: u64) -> Request<Bytes> {
    let mut request = Request::new(fed.body.clone());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = settings.url.clone();
    let headers = request.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        // A property that is no header value is left out rather than mangled.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let properties = &fed.properties;
    let id = message_id(properties).unwrap_or(&fed.place);
    put("webhook-id", id);
    put("idempotency-key", id);
    put("webhook-timestamp", &(now_ms / 1000).to_string());
    put("webhook-attempt", &attempt.to_string());
    put("content-type", properties.content_type.as_deref().unwrap_or("application/octet-stream"));
    if let Some(encoding) = &properties.content_encoding {
        put("content-encoding", encoding);
    }
    if let Some(correlation) = &properties.correlation_id {
        put("x-correlation-id", correlation);
    }
    for (name, value) in properties.headers.iter().flat_map(model::Table::iter) {
        forward(headers, name, value);
    }
    for (name, value) in &settings.headers {
        headers.append(name.clone(), value.clone());
    }
    request
}

fn forward(headers: &mut http::HeaderMap, name: &str, value: &Value) {
    let lower = name.to_ascii_lowercase();
    if !(FORWARDED.contains(&lower.as_str()) || lower.starts_with("ce-")) {
        return;
    }
    let (Some(text), Ok(name)) = (value.as_str(), HeaderName::from_bytes(lower.as_bytes())) else { return };
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

fn message_id(properties: &Properties) -> Option<&str> {
    properties.message_id.as_deref().filter(|id| HeaderValue::from_str(id).is_ok() && !id.is_empty())
}

/// What an answer means (the bridge's specification, §4.5).
pub(crate) fn judge(answer: &Result<Response<Bytes>, SendError>) -> Verdict {
    let response = match answer {
        Ok(response) => response,
        Err(SendError::Timeout) => return Verdict::Retry(Failure { reason: "timeout", code: None }, None),
        Err(SendError::Connect(_) | SendError::Broken(_)) => {
            return Verdict::Retry(Failure { reason: "connect", code: None }, None);
        }
    };
    let status = response.status();
    let failure = |reason| Failure { reason, code: Some(status.as_u16()) };
    match status {
        _ if status.is_success() => Verdict::Delivered,
        StatusCode::GONE => Verdict::GiveUp(failure("gone")),
        StatusCode::NOT_FOUND
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Verdict::Retry(failure("status"), retry_after(response)),
        _ if status.is_client_error() => Verdict::GiveUp(failure("rejected")),
        // Redirects are failures: following them would send the message where nobody configured it to go.
        _ => Verdict::Retry(failure("status"), retry_after(response)),
    }
}

/// `Retry-After` in seconds; dates are not worth a clock here.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// How long to wait after the `attempt`-th attempt failed. `spread` in 0..1 moves it by up to a fifth either way.
pub(crate) fn backoff(retry: &RetrySettings, attempt: u32, asked: Option<Duration>, spread: f64) -> Duration {
    let max = retry.max.as_secs_f64();
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    let planned = (retry.base.as_secs_f64() * retry.factor.powi(exponent)).min(max);
    let spread = planned * (0.8 + 0.4 * spread.clamp(0.0, 1.0));
    let wait = Duration::from_secs_f64(spread.min(max));
    wait.max(asked.unwrap_or_default().min(retry.max))
}

/// The properties of the message in the dead-letter queue: its own, and why it is there.
pub(crate) fn dead_properties(
    fed: &Fed,
    queue: &str,
    failure: &Failure,
    attempts: u32,
    first_ms: u64,
    last_ms: u64,
) -> Properties {
    let mut properties = fed.properties.clone();
    properties.expiration = None;
    properties.delivery_mode = Some(2);
    let headers = properties.headers_mut();
    headers.set("deadletterqueue", Value::text(queue));
    headers.set("deadletterreason", Value::text(failure.reason));
    if let Some(code) = failure.code {
        headers.set("deadlettercode", Value::I32(code.into()));
    }
    headers.set("deadletterattempts", Value::I64(attempts.into()));
    headers.set("deadletterfirst", Value::Timestamp(first_ms / 1000));
    headers.set("deadletterlast", Value::Timestamp(last_ms / 1000));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Result<Response<Bytes>, SendError> {
        Ok(Response::builder().status(status).body(Bytes::new()).unwrap())
    }

    #[test]
    fn only_2xx_is_delivered_and_hopeless_answers_are_not_retried() {
        for status in [200, 201, 202, 204] {
            assert_eq!(judge(&answer(status)), Verdict::Delivered);
        }
        for status in [301, 302, 404, 408, 409, 425, 429, 500, 502, 503, 504] {
            assert!(matches!(judge(&answer(status)), Verdict::Retry(..)), "{status}");
        }
        for (status, reason) in [(400, "rejected"), (401, "rejected"), (403, "rejected"), (410, "gone")] {
            assert_eq!(judge(&answer(status)), Verdict::GiveUp(Failure { reason, code: Some(status) }));
        }
        assert!(matches!(judge(&Err(SendError::Timeout)), Verdict::Retry(f, None) if f.reason == "timeout"));
    }

    #[test]
    fn the_service_may_ask_for_more_time_but_not_for_ever() {
        let response = Response::builder().status(503).header("retry-after", "7").body(Bytes::new()).unwrap();
        let Verdict::Retry(_, asked) = judge(&Ok(response)) else { panic!("retried") };
        assert_eq!(asked, Some(Duration::from_secs(7)));
        let retry = RetrySettings::default();
        assert_eq!(backoff(&retry, 1, asked, 0.5), Duration::from_secs(7));
        assert_eq!(backoff(&retry, 1, Some(Duration::from_secs(3600)), 0.5), retry.max);
    }

    #[test]
    fn waits_grow_to_their_cap() {
        let retry = RetrySettings::default();
        let waits: Vec<u64> = (1..=8).map(|n| backoff(&retry, n, None, 0.5).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(&retry, 1, None, 0.0), Duration::from_millis(800));
        assert_eq!(backoff(&retry, 1000, None, 1.0), retry.max);
    }
}
