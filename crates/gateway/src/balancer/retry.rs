//! Whether and when an answer is asked for again: statuses, methods, a budget, and how long to wait before.
//!
//! Invariants: retries under way are never more than the budget's share of the requests under way, or the minimum it
//! grants; a wait is random up to a bound that doubles (full jitter). Retries of connections that failed, which Kong has
//! too, and requests beside a slow one take from the same budget once there is one.

use super::random;
use crate::entity::Retry as Settings;
use http::header::{DATE, HeaderMap, RETRY_AFTER};
use http::{Method, StatusCode};
use model::Wall;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// Requests and retries under way to one upstream.
#[derive(Debug, Default)]
pub(super) struct Load {
    requests: AtomicU32,
    retries: AtomicU32,
}

/// A request or a retry under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    load: Arc<Load>,
    is_retry: bool,
}

impl Load {
    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay { load: Arc::clone(self), is_retry: false }
    }

    /// A retry asks to begin.
    pub(super) fn begin_retry(self: &Arc<Self>, settings: &Settings) -> Option<UnderWay> {
        let share = self.requests.load(Ordering::Relaxed).saturating_mul(settings.budget_percent.into()) / 100;
        let most = share.max(settings.min_retry_concurrency);
        let grow = |retries: u32| (retries < most).then_some(retries + 1);
        self.retries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).ok()?;
        Some(UnderWay { load: Arc::clone(self), is_retry: true })
    }

    /// Requests and retries under way.
    pub(super) fn under_way(&self) -> (u32, u32) {
        (self.requests.load(Ordering::Relaxed), self.retries.load(Ordering::Relaxed))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let counter = if self.is_retry { &self.load.retries } else { &self.load.requests };
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an answer with this status to this method is worth another try.
pub(super) fn is_retriable(settings: &Settings, method: &Method, status: StatusCode) -> bool {
    settings.http_statuses.contains(&status.as_u16()) && settings.methods.contains(method)
}

/// How long to wait before the `n`-th retry, counted from 1; none if the answer `asked` for more than may be waited.
pub(super) fn wait_ms(settings: &Settings, n: u32, asked_ms: Option<u64>, random: u64) -> Option<u64> {
    let doubled = u64::from(settings.backoff_base_ms) << (n - 1).min(20);
    let most = doubled.min(settings.backoff_max_ms.into());
    let backoff = random::below(random, usize::try_from(most).unwrap_or_default() + 1) as u64;
    match asked_ms {
        Some(asked) if asked > settings.retry_after_max_ms.into() => None,
        // What comes back all at once is spread a little, too.
        Some(asked) => Some(asked + backoff),
        None => Some(backoff),
    }
}

/// How long an answer asks to wait (RFC 9110 §10.2.3). A date is seen from the answer's own `Date`, since clocks differ; from
/// our clock if it has none.
pub(super) fn retry_after_ms(headers: &HeaderMap, now: Wall) -> Option<u64> {
    let asked = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = asked.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let (asked, said) = (date_ms(asked)?, headers.get(DATE).and_then(|date| date_ms(date.to_str().ok()?)));
    Some(asked.saturating_sub(said.unwrap_or(now.0)))
}

/// An HTTP date, in milliseconds since 1970.
fn date_ms(text: &str) -> Option<u64> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_budget_is_a_share_of_what_is_under_way_but_never_less_than_its_minimum() {
        let settings = Settings { budget_percent: 20, min_retry_concurrency: 2, ..Settings::default() };
        let load = Arc::new(Load::default());
        let requests: Vec<_> = (0..20).map(|_| load.begin()).collect();
        let retries: Vec<_> = std::iter::from_fn(|| load.begin_retry(&settings)).collect();
        assert_eq!(retries.len(), 4);
        drop(requests);
        drop(retries);
        assert_eq!(load.under_way(), (0, 0));
        assert_eq!(std::iter::from_fn(|| load.begin_retry(&settings)).take(9).collect::<Vec<_>>().len(), 2);
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_random_below_it() {
        let settings = Settings { backoff_base_ms: 10, backoff_max_ms: 50, ..Settings::default() };
        let longest = |n| wait_ms(&settings, n, None, u64::MAX).unwrap();
        assert_eq!([1, 2, 3, 4, 40].map(longest), [10, 20, 40, 50, 50]);
        assert_eq!(wait_ms(&settings, 3, None, 0), Some(0));
        assert_eq!(wait_ms(&settings, 3, None, u64::MAX / 2), Some(20));
    }

    #[test]
    fn an_answer_may_ask_for_a_wait_within_reason() {
        let settings = Settings { retry_after_max_ms: 2_000, backoff_base_ms: 0, ..Settings::default() };
        assert_eq!(wait_ms(&settings, 1, Some(2_000), 0), Some(2_000));
        assert_eq!(wait_ms(&settings, 1, Some(2_001), 0), None);
        assert_eq!(wait_ms(&settings, 1, None, 0), Some(0));
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_as_a_date() {
        let of = |pairs: &[(_, &'static str)]| {
            let headers = pairs.iter().cloned().map(|(name, value)| (name, HeaderValue::from_static(value)));
            // Ten seconds before ten to nine.
            retry_after_ms(&HeaderMap::from_iter(headers), Wall(784_111_790_000))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(RETRY_AFTER, "2")]), Some(2_000));
        assert_eq!(of(&[(RETRY_AFTER, "soon")]), None);
        let date = "Sun, 06 Nov 1994 08:50:00 GMT";
        assert_eq!(of(&[(RETRY_AFTER, date)]), Some(10_000));
        assert_eq!(of(&[(RETRY_AFTER, date), (DATE, "Sun, 06 Nov 1994 08:49:57 GMT")]), Some(3_000), "its own clock");
        assert_eq!(of(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(0), "it is over");
    }

    #[test]
    fn a_status_is_retried_only_for_the_methods_named() {
        let settings = Settings::default();
        assert!(is_retriable(&settings, &Method::GET, StatusCode::SERVICE_UNAVAILABLE));
        assert!(!is_retriable(&settings, &Method::POST, StatusCode::SERVICE_UNAVAILABLE));
        assert!(!is_retriable(&settings, &Method::GET, StatusCode::INTERNAL_SERVER_ERROR));
    }
}
