//! Why a request failed: in the counters, in `Proxy-Status` (RFC 9209) and in the access log.
//!
//! Invariants: a request has at most one reason, the last; an answer that an upstream gave is no failure of ours, whatever
//! its status. Words are stable: people alert on them.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $({ $field:ident: $type:ty })? = $word:literal, $error:literal;)*) => {
        /// Why a request failed.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Reason {
            $($(#[$doc])* $name $({
                /// What it carries.
                $field: $type
            })?,)*
        }

        impl Reason {
            /// The words of all reasons, in the order of [`Reason::index`].
            pub const WORDS: &[&str] = &[$($word),*];

            /// Its word in counters and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name $({ $field: _ })? => $word,)*
                }
            }

            /// The error type of RFC 9209 that is nearest.
            #[must_use]
            pub const fn proxy_error(self) -> &'static str {
                match self {
                    $(Self::$name $({ $field: _ })? => $error,)*
                }
            }
        }
    };
}

reasons! {
    /// Nothing matches the request.
    NoRoute = "no_route", "destination_not_found";
    /// The route has no service.
    NoService = "no_service", "destination_not_found";
    /// The upstream has no target that takes requests.
    NoTarget = "no_target", "destination_unavailable";
    /// Health checks and ejections left no target.
    NoHealthyTarget = "no_healthy_target", "destination_unavailable";
    /// The name has no address, or asking for it failed.
    NameResolution = "name_resolution", "dns_error";
    /// Nobody listens there.
    ConnectRefused = "connect_refused", "connection_refused";
    /// No connection in time.
    ConnectTimeout = "connect_timeout", "connection_timeout";
    /// The TLS handshake failed, or could not be begun.
    TlsFailed = "tls_failed", "tls_protocol_error";
    /// The connection ended before the answer did.
    UpstreamReset = "upstream_reset", "connection_terminated";
    /// The upstream did not take the request in time.
    WriteTimeout = "write_timeout", "connection_write_timeout";
    /// The upstream did not answer, or stopped answering, in time.
    ReadTimeout = "read_timeout", "connection_read_timeout";
    /// A try took longer than it may.
    PerTryTimeout = "per_try_timeout", "http_response_timeout";
    /// The answer was no HTTP, or ambiguous.
    InvalidResponse = "invalid_response", "http_protocol_error";
    /// The breaker of the upstream is open.
    BreakerOpen { retry_after_ms: u64 } = "breaker_open", "destination_unavailable";
    /// As many requests as may are under way and waiting.
    BulkheadFull = "bulkhead_full", "connection_limit_reached";
    /// Its turn did not come in time.
    QueueTimeout = "queue_timeout", "connection_limit_reached";
    /// It was worth another try, but too many are under way.
    RetryBudget = "retry_budget", "connection_limit_reached";
    /// The request's body broke off, or was malformed.
    RequestBody = "request_body", "http_request_error";
    /// The request's body is larger than it may be.
    RequestTooLarge = "request_too_large", "http_request_error";
    /// The client sent its body too slowly.
    RequestTimeout = "request_timeout", "http_request_error";
    /// Too much is being collected of other requests.
    Overload = "overload", "connection_limit_reached";
    /// The request cannot be read, or is not one we take.
    BadRequest = "bad_request", "http_request_error";
    /// The client left before its answer began, or broke off its connection.
    ClientLeft = "client_left", "http_request_error";
    /// The client's TLS handshake failed; only of connections that are not HTTP's.
    ClientTls = "client_tls", "tls_protocol_error";
    /// Nothing moved for as long as may be; only of connections that are not HTTP's.
    IdleTimeout = "idle_timeout", "connection_read_timeout";
    /// The gateway stopped, and the connection did not end in time; only of connections that are not HTTP's.
    Shutdown = "shutdown", "destination_unavailable";
    /// Our own fault.
    Internal = "internal", "proxy_internal_error";
}

impl Reason {
    /// Its place among [`Reason::WORDS`].
    #[must_use]
    pub fn index(self) -> usize {
        Self::WORDS.iter().position(|word| *word == self.as_str()).unwrap_or_default()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_unique() {
        assert_eq!(Reason::WORDS.iter().collect::<BTreeSet<_>>().len(), Reason::WORDS.len());
        assert_eq!(Reason::WORDS[Reason::BreakerOpen { retry_after_ms: 1 }.index()], "breaker_open");
    }
}
