//! The settings of a subscription (queue to HTTP service), resolved: every default is filled in, every value is valid.
//!
//! Names and defaults follow the bridge's specification. `config` makes these and reports mistakes with their position.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

/// A queue that is pushed to an HTTP service.
#[derive(Clone, PartialEq, Debug)]
pub struct SubscriptionSettings {
    /// Unique name.
    pub name: String,
    /// Virtual host of the queues. Default `/`.
    pub vhost: String,
    /// The broker's user whose permissions apply. Default `guest`.
    pub user: String,
    /// The queue to consume from; declared durable if absent.
    pub queue: String,
    /// Where each message is sent: absolute, `http` or `https`, with a host and without user information.
    pub url: Uri,
    /// Headers added to each request, in order. Never one that frames or routes the request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Time for one attempt, from connecting to the end of the answer. Default 15 s, at least 1 ms.
    pub timeout: Duration,
    /// Messages pushed at once, 1 to 10,000. Default 10.
    pub max_in_flight: u32,
    /// What happens after a failed attempt.
    pub retry: RetrySettings,
    /// The queue for messages whose attempts are used up; declared durable if absent. `None` drops them.
    pub dead_letter: Option<String>,
}

/// When a failed push is tried again: after `base * factor^(attempt - 1)`, at most `max`, `attempts` times in all.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetrySettings {
    /// The first wait. Default 1 s, at least 1 ms.
    pub base: Duration,
    /// Growth of the wait, 1 to 100. Default 2.
    pub factor: f64,
    /// The longest wait, not below `base`. Default 1 min.
    pub max: Duration,
    /// Attempts in all, 1 to 1,000. Default 10.
    pub attempts: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(60), attempts: 10 }
    }
}
