//! What an upstream can do beyond Kong: the record `resilience`. Everything is off until it is named; names are Envoy's
//! where it has them.

use super::ServiceId;
use http::Method;

/// `resilience`
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Resilience {
    /// `outlier_detection`: an address that fails is left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// `breaker`: an upstream that fails is left alone for a while.
    pub breaker: Option<Breaker>,
    /// `fallback`: the service that answers while this upstream cannot be asked.
    pub fallback: Option<ServiceId>,
    /// `retry`: which answers are asked for again, and how often in all.
    pub retry: Option<Retry>,
    /// `hedge`: a second request if the first is slow.
    pub hedge: Option<Hedge>,
    /// `slow_start`: a new address gets its share step by step.
    pub slow_start: Option<SlowStart>,
    /// `panic_threshold`: percent of weight; with less than that available, health is not looked at. 0 is off.
    pub panic_threshold: u8,
    /// `bulkhead`: requests and connections at a time.
    pub bulkhead: Option<Bulkhead>,
}

/// An address that fails is ejected, and always comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutlierDetection {
    /// Answers of 5xx, or failures to get one, in a row. Default 5, at least 1.
    pub consecutive_5xx: u32,
    /// Time of the first ejection; the n-th in a row takes n times that. Default 30 s.
    pub base_ejection_time_ms: u32,
    /// The longest ejection. Default 300 s.
    pub max_ejection_time_ms: u32,
    /// Percent of the addresses that may be ejected at a time, but always one. Default 10.
    pub max_ejection_percent: u8,
}

/// The breaker of an upstream: closed, open, half-open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breaker {
    /// Percent of requests within `window_ms` that fail (5xx, timeout, no connection) before it opens. Default 50.
    pub failure_percent: u8,
    /// Requests within `window_ms` before the percentage counts. Default 20.
    pub minimum_requests: u32,
    /// How far back it looks. Default 10 s.
    pub window_ms: u32,
    /// How long it stays open before it tries. Default 5 s.
    pub open_ms: u32,
    /// Requests it lets through at a time while half-open; as many successes close it. Default 1.
    pub half_open_requests: u32,
}

/// Which answers are asked for again. Kong's retries of connections that fail stay as they are.
#[derive(Clone, PartialEq, Debug)]
pub struct Retry {
    /// Statuses worth another try. Default 502, 503, 504.
    pub http_statuses: Vec<u16>,
    /// Methods that may be sent again after an answer. Default GET, HEAD, OPTIONS, PUT, DELETE.
    pub methods: Vec<Method>,
    /// Time for one try, up to the head of its answer; 0 leaves it to the service's timeouts. Default 0.
    pub per_try_timeout_ms: u32,
    /// Retries under way, in percent of the requests under way. Default 20.
    pub budget_percent: u8,
    /// Retries under way that are always allowed. Default 3.
    pub min_retry_concurrency: u32,
    /// The longest wait before the first retry; it doubles with each. Default 25 ms; waits are random up to it.
    pub backoff_base_ms: u32,
    /// The longest wait. Default 250 ms.
    pub backoff_max_ms: u32,
    /// The longest `Retry-After` that is waited for; an answer that asks for more is final. Default 1 s.
    pub retry_after_max_ms: u32,
}

/// A second request if the first is slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hedge {
    /// How long the first may take before another is sent. At least 1.
    pub delay_ms: u32,
    /// Requests beside the first. Default 1, at most 3.
    pub extra_requests: u8,
}

/// A new address, or one that comes back, gets its share step by step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowStart {
    /// Time until it has all of its weight. At least 1.
    pub window_ms: u32,
    /// Percent of its weight that it begins with. Default 10, at least 1.
    pub min_weight_percent: u8,
}

/// Requests and connections at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bulkhead {
    /// Requests under way, at least 1. Default 1024.
    pub max_requests: u32,
    /// Connections to all targets together, idle ones too, at least 1. None bounds them not at all.
    pub max_connections: Option<u32>,
    /// Requests that wait for their turn, or for a connection. Default 0.
    pub max_pending_requests: u32,
    /// How long one waits. Default 1 s.
    pub queue_timeout_ms: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            base_ejection_time_ms: 30_000,
            max_ejection_time_ms: 300_000,
            max_ejection_percent: 10,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failure_percent: 50, minimum_requests: 20, window_ms: 10_000, open_ms: 5_000, half_open_requests: 1 }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            http_statuses: vec![502, 503, 504],
            methods: vec![Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE],
            per_try_timeout_ms: 0,
            budget_percent: 20,
            min_retry_concurrency: 3,
            backoff_base_ms: 25,
            backoff_max_ms: 250,
            retry_after_max_ms: 1_000,
        }
    }
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window_ms: 30_000, min_weight_percent: 10 }
    }
}

impl Default for Bulkhead {
    fn default() -> Self {
        Self { max_requests: 1_024, max_connections: None, max_pending_requests: 0, queue_timeout_ms: 1_000 }
    }
}
