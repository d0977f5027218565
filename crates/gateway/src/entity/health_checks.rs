//! Health checks of an upstream, with Kong's fields and defaults. A limit of 0 turns its counter off.

/// Kong's `healthchecks`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HealthChecks {
    /// Probes of our own.
    pub active: ActiveChecks,
    /// What the answers to real requests say.
    pub passive: PassiveChecks,
    /// Percent of weight, 0 to 100: an upstream with no more than that available answers 503. Default 0.
    pub threshold: f64,
}

/// Kong's `type` of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CheckKind {
    /// A connection is enough.
    Tcp,
    /// A request, plain.
    #[default]
    Http,
    /// A request over TLS.
    Https,
    /// The gRPC health service, plain.
    Grpc,
    /// The gRPC health service over TLS.
    Grpcs,
}

/// Probes of our own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActiveChecks {
    /// How a probe asks. Default http.
    pub kind: CheckKind,
    /// Time for a probe. Default 1 s, at most 65535 s.
    pub timeout_ms: u32,
    /// Probes of an upstream at a time. Default 10, at least 1.
    pub concurrency: u32,
    /// Path a probe asks for. Default `/`.
    pub http_path: String,
    /// Server name for TLS, instead of the target's.
    pub https_sni: Option<String>,
    /// Whether the certificate is checked. Default true.
    pub https_verify_certificate: bool,
    /// Headers of a probe.
    pub headers: Vec<(String, Vec<String>)>,
    /// What makes an unhealthy address healthy. Statuses default to 200, 302.
    pub healthy: SuccessLimit,
    /// What makes a healthy address unhealthy. Statuses default to 429, 404, 500 to 505.
    pub unhealthy: FailureLimits,
    /// How often; 0 turns probes off.
    pub intervals: Intervals,
}

/// Time between two probes of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Intervals {
    /// While it is healthy. Default 0, at most 65535 s.
    pub healthy_ms: u32,
    /// While it is unhealthy. Default 0, at most 65535 s.
    pub unhealthy_ms: u32,
}

/// What the answers to real requests say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassiveChecks {
    /// Kept and returned; an answer is judged the same way whatever it says. Default http.
    pub kind: CheckKind,
    /// What makes an unhealthy address healthy. Statuses default to 200 to 208, 226, 300 to 308.
    pub healthy: SuccessLimit,
    /// What makes a healthy address unhealthy. Statuses default to 429, 500, 503.
    pub unhealthy: FailureLimits,
}

/// What makes an unhealthy address healthy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SuccessLimit {
    /// Statuses that count as success.
    pub http_statuses: Vec<u16>,
    /// Successes needed. Default 0.
    pub successes: u8,
}

/// What makes a healthy address unhealthy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FailureLimits {
    /// Statuses that count as failure.
    pub http_statuses: Vec<u16>,
    /// Failing answers. Default 0.
    pub http_failures: u8,
    /// Connections that failed. Default 0.
    pub tcp_failures: u8,
    /// Timeouts. Default 0.
    pub timeouts: u8,
}

impl FailureLimits {
    /// Whether any counter is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.http_failures > 0 || self.tcp_failures > 0 || self.timeouts > 0
    }
}

impl Default for ActiveChecks {
    fn default() -> Self {
        Self {
            kind: CheckKind::Http,
            timeout_ms: 1_000,
            concurrency: 10,
            http_path: "/".to_owned(),
            https_sni: None,
            https_verify_certificate: true,
            headers: Vec::new(),
            healthy: SuccessLimit { http_statuses: vec![200, 302], successes: 0 },
            unhealthy: FailureLimits {
                http_statuses: vec![429, 404, 500, 501, 502, 503, 504, 505],
                ..FailureLimits::default()
            },
            intervals: Intervals::default(),
        }
    }
}

impl Default for PassiveChecks {
    fn default() -> Self {
        let successes = (200..=208).chain([226]).chain(300..=308);
        Self {
            kind: CheckKind::Http,
            healthy: SuccessLimit { http_statuses: successes.collect(), successes: 0 },
            unhealthy: FailureLimits { http_statuses: vec![429, 500, 503], ..FailureLimits::default() },
        }
    }
}

impl HealthChecks {
    /// Whether a check of either kind can change an address's health.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.probes() || self.passive.unhealthy.is_on() || self.passive.healthy.successes > 0
    }

    /// Whether there are probes.
    #[must_use]
    pub const fn probes(&self) -> bool {
        self.active.intervals.healthy_ms > 0 || self.active.intervals.unhealthy_ms > 0
    }
}
