//! The part of an exchange between the access phase and the upstream's answer: which service and address, how often, and
//! what the client is told if nobody answers.
//!
//! ```text
//! forward() ─► gate ─► address ─► Proxy ─► plan() ─► upstream_answered() ─► upstream_head()
//!    ▲          │         │          ▲        └────► upstream_failed() ───► Respond
//!    │        Queue ─ turn()         └─ Again ◄─────────┤
//!    └─ fallback, once, if it may not go, or nobody answered ◄┘
//! ```
//!
//! A service without targets passes through here with one branch: no gate, no address, Kong's retries alone.

use crate::balancer::{Call, Gate, Granted, Member, NoPeer, Outcome, Peer, Verdict};
use crate::decision::{Decision, Lost, Next, Plan, UpstreamFailure};
use crate::error;
use crate::exchange::{Exchange, micros};
use crate::forward;
use crate::reason::Reason;
use crate::snapshot::{Target, Upstream};
use crate::uri;
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use http::uri::{PathAndQuery, Uri};
use http::{Response, StatusCode, request, response};
use http1::FieldLines;
use model::Now;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What a request without a healthy target is told.
const NO_PEER: &str = "failure to get a peer from the ring-balancer";

/// A try that was not the last, or not good.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    /// Where to, if the service has targets.
    pub(crate) member: Option<Arc<Member>>,
    /// How long it took, in microseconds.
    pub(crate) us: u64,
    /// How it ended.
    pub(crate) end: TryEnd,
}

/// How a try ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TryEnd {
    /// With a status that was worth another try.
    Status(u16),
    /// Without an answer.
    Failed(Reason),
    /// Another one was quicker.
    Lost,
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(member) = &self.member {
            write!(f, "{}:{}: ", member.address.key().host, member.address.key().port)?;
        }
        match self.end {
            TryEnd::Status(status) => write!(f, "{status}")?,
            TryEnd::Failed(reason) => reason.fmt(f)?,
            TryEnd::Lost => f.write_str("lost")?,
        }
        write!(f, " after {} ms", self.us / 1_000)
    }
}

impl Exchange {
    /// Sends the request where its route says.
    pub(crate) fn forward(&mut self) -> Decision {
        let Some(Target::Http(upstream)) = self.route().map(|route| &route.target) else {
            return Decision::Respond(self.internal_error());
        };
        let own = Arc::clone(upstream);
        let upstream = self.split().unwrap_or(own);
        self.enter(upstream)
    }

    /// Asks the gate of the service's upstream, if it has one.
    fn enter(&mut self, upstream: Arc<Upstream>) -> Decision {
        let Some(balancer) = &upstream.balancer else {
            self.retries_left = upstream.backend.retries;
            return self.send(upstream);
        };
        let random = self.cx.request_id.value();
        let request = self.hashed_request();
        let gate = Call::begin(balancer, &request, upstream.backend.retries, random, self.cx.now.mono);
        match gate {
            Gate::Open(call) => {
                self.call = Some(call);
                self.first_address(upstream)
            }
            Gate::Queued(call, queued, timeout_ms) => {
                self.call = Some(call);
                self.upstream = Some(upstream);
                Decision::Queue { queued, timeout_ms }
            }
            Gate::Closed(reason) => self.unavailable(&upstream, reason),
        }
    }

    /// Goes on after [`Decision::Queue`]: its turn came, or did not in time.
    pub fn turn(&mut self, granted: Option<Granted>, now: Now) -> Decision {
        self.cx.now = now;
        let Some(upstream) = self.upstream.take() else { return Decision::Respond(self.internal_error()) };
        match granted {
            Some(granted) => {
                if let Some(call) = &mut self.call {
                    call.granted(granted);
                }
                self.first_address(upstream)
            }
            None => self.unavailable(&upstream, Reason::QueueTimeout),
        }
    }

    /// Chooses the first address.
    fn first_address(&mut self, upstream: Arc<Upstream>) -> Decision {
        let Some(call) = &mut self.call else { return Decision::Respond(self.internal_error()) };
        match call.pick(self.cx.now.mono) {
            Ok(peer) => {
                self.peer = Some(peer);
                self.send(upstream)
            }
            Err(nobody) => self.unavailable(&upstream, no_peer(nobody)),
        }
    }

    /// Turns to the fallback, or refuses.
    fn unavailable(&mut self, upstream: &Upstream, reason: Reason) -> Decision {
        if let Some(decision) = self.fall_back(upstream) {
            return decision;
        }
        self.call = None;
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let message = match reason {
            Reason::NoTarget | Reason::NoHealthyTarget | Reason::NameResolution => NO_PEER,
            _ => error::message_of(status),
        };
        let mut response = self.refuse(reason, status, message);
        if let Reason::BreakerOpen { retry_after_ms } = reason {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_ms.div_ceil(1_000)));
        }
        Decision::Respond(response)
    }

    /// Turns to the service's fallback, if it has one and this is not it.
    fn fall_back(&mut self, upstream: &Upstream) -> Option<Decision> {
        let fallback = upstream.balancer.as_ref()?.upstream().resilience.fallback?;
        let service = Arc::clone(self.snapshot.common.fallbacks.get(&fallback).filter(|_| !self.fell_back)?);
        self.fell_back = true;
        (self.call, self.peer) = (None, None);
        Some(self.enter(service))
    }

    /// Turns the client's request into the upstream's.
    fn send(&mut self, upstream: Arc<Upstream>) -> Decision {
        let Some(route) = self.route() else { return Decision::Respond(self.internal_error()) };
        let (strip, preserve_host) = (self.strip(), route.preserve_host);
        let host = match &self.peer {
            _ if preserve_host => None,
            Some(peer) => Some(peer.member.host_value(upstream.backend.scheme)),
            None => Some(&upstream.host_value),
        };
        let sent = self.asked.take();
        let was_sent = sent.is_some();
        let original = sent.unwrap_or_else(|| self.cx.request.uri.clone());
        let (target, stripped) = target(&original, self.normal_path.as_deref(), strip, &upstream);
        if was_sent {
            // What is said of the client was said.
            if let Some(host) = host {
                self.cx.request.headers.insert(HOST, host.clone());
            }
        } else {
            let seen = forward::Seen { host: &self.host, stripped: &stripped, is_trusted: self.is_trusted };
            forward::to_upstream(&mut self.cx, &mut self.lines, host, &seen);
        }
        match upstream_uri(&original, &target) {
            Some(uri) => self.cx.request.uri = uri,
            None => {
                let status = StatusCode::BAD_REQUEST;
                return Decision::Respond(self.refuse(Reason::BadRequest, status, error::message_of(status)));
            }
        }
        self.asked = Some(original);
        self.upstream = Some(upstream);
        self.proxied_at = Some(self.cx.now.mono);
        self.tried_at = self.cx.now;
        Decision::Proxy
    }

    /// How much of the path is to be taken off, if any is.
    pub(crate) fn strip(&self) -> Option<Option<usize>> {
        self.route()?.strip_path.then_some(self.found.and_then(|found| found.matched_len))
    }

    /// The request for the upstream, after [`Decision::Proxy`] and [`Next::Again`].
    #[must_use]
    pub fn plan(&mut self) -> Option<Plan<'_>> {
        Some(Plan {
            upstream: Arc::clone(self.upstream.as_ref()?),
            member: self.peer.as_ref().map(|peer| Arc::clone(&peer.member)),
            per_try_timeout_ms: self.call.as_ref().map_or(0, Call::per_try_timeout_ms),
            hedge: self.call.as_ref().and_then(|call| call.hedge().copied()),
            request: &mut self.cx.request,
            lines: &self.lines,
        })
    }

    /// A try has an answer, with further fields in `lines`: what to do, if it is not good enough. `may_repeat` says whether
    /// its body can be sent again.
    pub fn upstream_answered(
        &mut self,
        head: &response::Parts,
        lines: &FieldLines,
        may_repeat: bool,
        now: Now,
    ) -> Option<u64> {
        let (Some(call), Some(peer)) = (&mut self.call, &self.peer) else { return None };
        self.cx.now = now;
        let answer = (&self.cx.request.method, head.status);
        let headers = || all_fields(head, lines);
        match call.answered(peer, answer, headers, self.tried_at.mono, may_repeat, now) {
            Verdict::Again(next, wait_ms) => {
                self.note(TryEnd::Status(head.status.as_u16()), now);
                self.next(next);
                Some(wait_ms)
            }
            Verdict::OverBudget => {
                self.reason = Some(Reason::RetryBudget);
                None
            }
            Verdict::Final => None,
        }
    }

    /// A try failed. `may_repeat` says whether the request can be sent again without harm.
    pub fn upstream_failed(&mut self, failure: UpstreamFailure, may_repeat: bool, now: Now) -> Next {
        self.cx.now = now;
        self.note(TryEnd::Failed(failure.reason()), now);
        let again = may_repeat && failure.may_differ_elsewhere();
        let verdict = match (&mut self.call, &self.peer) {
            (Some(call), Some(peer)) => call.failed(peer, failure.outcome(), again, now.mono),
            _ if again && self.retries_left > 0 => {
                self.retries_left -= 1;
                return Next::Again { wait_ms: 0 };
            }
            _ => Verdict::Final,
        };
        match verdict {
            Verdict::Again(next, wait_ms) => {
                self.next(next);
                Next::Again { wait_ms }
            }
            Verdict::Final => Next::Otherwise(self.nobody_answered(failure, failure.reason(), may_repeat)),
            Verdict::OverBudget => Next::Otherwise(self.nobody_answered(failure, Reason::RetryBudget, may_repeat)),
        }
    }

    /// Another address for the same request while the first is slow.
    pub fn hedge(&mut self, now: Now) -> Option<Peer> {
        self.call.as_mut()?.hedged_pick(self.peer.as_ref()?, now.mono)
    }

    /// Makes a request that goes to another address than the plan's.
    pub fn address_to(&self, head: &mut request::Parts, peer: &Peer) {
        if let Some(host) = self.host_for(peer) {
            head.headers.insert(HOST, host);
        }
    }

    /// The `Host` an address is asked by; none if the client's is kept.
    fn host_for(&self, peer: &Peer) -> Option<HeaderValue> {
        let upstream = self.upstream.as_ref().filter(|_| !self.route().is_some_and(|route| route.preserve_host))?;
        Some(peer.member.host_value(upstream.backend.scheme).clone())
    }

    /// Several tries are over: `won` counts, and when it began, or the first one if none; what it came to, an answer or a
    /// failure, is told as any try's. `first` is how the first ended, if another won; the others as they say.
    pub fn hedged(&mut self, won: Option<(Peer, Now)>, first: Lost, others: Vec<(Peer, Lost)>, now: Now) {
        let us = micros(self.tried_at.mono, now.mono);
        let replaced = won.and_then(|(won, began)| {
            self.tried_at = began;
            self.peer.replace(won)
        });
        for (peer, lost) in replaced.map(|peer| (peer, first)).into_iter().chain(others) {
            let (outcome, end) = match lost {
                Lost::GivenUp => (None, TryEnd::Lost),
                Lost::Failed(failure) => (failure.outcome(), TryEnd::Failed(failure.reason())),
                Lost::Answered(status) => (Some(Outcome::Status(status.as_u16())), TryEnd::Status(status.as_u16())),
            };
            if let Some(call) = &mut self.call {
                call.lost(&peer, outcome, now.mono);
            }
            self.tries.push(Try { member: Some(peer.member), us, end });
        }
    }

    /// The tries that failed or were not good enough, for people.
    #[must_use]
    pub fn tries(&self) -> String {
        self.tries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The upstream's answer broke off.
    pub fn upstream_broke(&mut self, failure: UpstreamFailure, now: Now) {
        self.cx.now = now;
        self.reason = Some(failure.reason());
        self.upstream_ended(failure.outcome());
    }

    /// The upstream's answer came to its end.
    pub fn upstream_done(&mut self, now: Now) {
        self.cx.now = now;
        self.upstream_ended(None);
    }

    /// The upstream's answer, if there is one, is over, or broke off.
    pub(crate) fn upstream_ended(&mut self, broke: Option<Outcome>) {
        if let (Some(call), Some(peer)) = (&mut self.call, &self.peer) {
            call.ended(peer, broke, self.cx.now.mono);
        }
    }

    /// The next try, when it begins; what concerns the address alone is changed.
    pub fn try_begins(&mut self, now: Now) {
        self.cx.now = now;
        self.tried_at = now;
    }

    fn next(&mut self, peer: Peer) {
        if let Some(host) = self.host_for(&peer) {
            self.cx.request.headers.insert(HOST, host);
        }
        self.peer = Some(peer);
    }

    fn note(&mut self, end: TryEnd, now: Now) {
        let member = self.peer.as_ref().map(|peer| Arc::clone(&peer.member));
        let us = micros(self.tried_at.mono, now.mono);
        self.tries.push(Try { member, us, end });
    }

    /// The last try failed: the fallback is asked, if that can do no harm.
    fn nobody_answered(&mut self, failure: UpstreamFailure, reason: Reason, may_repeat: bool) -> Decision {
        let upstream = self.upstream.clone().filter(|_| may_repeat);
        match upstream.and_then(|upstream| self.fall_back(&upstream)) {
            Some(decision) => decision,
            None => Decision::Respond(self.give_up(failure, reason)),
        }
    }

    /// Answers a request whose upstream did not.
    fn give_up(&mut self, failure: UpstreamFailure, reason: Reason) -> Response<Bytes> {
        self.upstream_us = self.proxied_at.map(|at| micros(at, self.cx.now.mono));
        let status = match failure {
            UpstreamFailure::Resolve
            | UpstreamFailure::Unavailable
            | UpstreamFailure::NoConnection
            | UpstreamFailure::NoConnectionInTime => StatusCode::SERVICE_UNAVAILABLE,
            UpstreamFailure::Refused
            | UpstreamFailure::Tls
            | UpstreamFailure::Reset
            | UpstreamFailure::BadResponse
            | UpstreamFailure::RequestBody => StatusCode::BAD_GATEWAY,
            UpstreamFailure::ConnectTimeout
            | UpstreamFailure::WriteTimeout
            | UpstreamFailure::ReadTimeout
            | UpstreamFailure::PerTryTimeout => StatusCode::GATEWAY_TIMEOUT,
        };
        let message = match failure {
            UpstreamFailure::Resolve => "name resolution failed",
            _ => error::message_of(status),
        };
        self.refuse(reason, status, message)
    }

    fn internal_error(&mut self) -> Response<Bytes> {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        self.refuse(Reason::Internal, status, error::message_of(status))
    }
}

/// The fields of a head in one map; for what is seldom asked.
pub(crate) fn all_fields(head: &response::Parts, lines: &FieldLines) -> HeaderMap {
    let mut headers = head.headers.clone();
    lines.append_to(&mut headers);
    headers
}

pub(crate) const fn no_peer(nobody: NoPeer) -> Reason {
    match nobody {
        NoPeer::NoTargets => Reason::NoTarget,
        NoPeer::NotResolved => Reason::NameResolution,
        NoPeer::Unhealthy => Reason::NoHealthyTarget,
    }
}

/// The path that a service is asked for, and what of the client's was taken off it.
pub(crate) fn target<'a>(
    original: &'a Uri,
    normal_path: Option<&'a str>,
    strip: Option<Option<usize>>,
    upstream: &Upstream,
) -> (Cow<'a, str>, Cow<'a, str>) {
    let path = normal_path.unwrap_or_else(|| original.path());
    let stripped = strip.flatten().map_or("", |len| &path[..len]);
    let target = uri::upstream_path(upstream.backend.path.as_deref().unwrap_or("/"), path, strip);
    // Only what was brought to normal form can have characters that HTTP must not see.
    match normal_path {
        None => (target, Cow::Borrowed(stripped)),
        Some(_) => (Cow::Owned(uri::escape(&target).into_owned()), uri::escape(stripped)),
    }
}

/// The upstream's target in origin form; the query is kept as it is, an empty one too.
pub(crate) fn upstream_uri(original: &Uri, path: &str) -> Option<Uri> {
    let unchanged = original.path() == path && original.authority().is_none();
    if unchanged {
        return Some(original.clone());
    }
    let text = match original.path_and_query().and_then(|target| target.as_str().split_once('?')) {
        Some((_, query)) => {
            let mut text = String::with_capacity(path.len() + 1 + query.len());
            text.push_str(path);
            text.push('?');
            text.push_str(query);
            text
        }
        None => path.to_string(),
    };
    PathAndQuery::try_from(text).ok().map(Uri::from)
}
