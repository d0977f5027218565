//! One request's life: routed, through the access phase, to the upstream or an answer, through the response phases, to
//! its log entry.
//!
//! Sans-IO: every step returns a [`Decision`] that says what whoever owns the sockets has to do next, and takes the time
//! as an argument.
//!
//! ```text
//! Gateway::begin ──► Body ── body() ───┐
//!        │           Wait ── resume() ─┼──► Proxy ── upstream_head() ──► stream the body ──┐
//!        │           Queue ─ turn() ───┤      └── more of it in `proxying` ──► Respond ────┼─► finish()
//!        └─────────────────────────────┴──► Respond ───────────────────────────────────────┘
//! ```
//!
//! Invariants: header filters run once, and the log phase once, on the configurations that the access phase chose. A
//! request keeps the snapshot it began with.

use crate::access_log::{self, Kept};
use crate::balancer::{Call, Peer};
use crate::chain::{Chain, Link};
use crate::decision::{BodyFailure, Decision, Transferred};
use crate::error;
use crate::forward;
use crate::gateway::Counters;
use crate::grpc;
use crate::proxying::{Try, all_fields};
use crate::reason::Reason;
use crate::router::Match;
use crate::snapshot::{CompiledRoute, Snapshot, Target, Upstream, needs_https};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, LOCATION};
use http::uri::{PathAndQuery, Uri};
use http::{Response, StatusCode, Version, response};
use http1::FieldLines;
use model::{Mono, Now};
use plugin::{Context, ErrorReply, Flow, LogRecord, Reply, ResponseHead, Source, Then, Timing};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Status logged for a client that left before its response began.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// One request under way.
pub struct Exchange {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cx: Context,
    /// The peer is a trusted proxy: what it says of the request is kept.
    pub(crate) is_trusted: bool,
    /// Place of the matched route in the snapshot.
    pub(crate) route_idx: Option<usize>,
    /// How the router found it.
    pub(crate) found: Option<Match>,
    /// The path in normal form, if the client's is not.
    pub(crate) normal_path: Option<String>,
    /// The host the client asked for, in lower case, without port.
    pub(crate) host: HeaderValue,
    /// Next plugin of the access phase.
    pub(crate) at: usize,
    /// What was chosen for each plugin, kept only where it depends on the consumer.
    pub(crate) chosen: Vec<Option<Link>>,
    pub(crate) status: u16,
    pub(crate) source: Source,
    /// When the request went to the upstream.
    pub(crate) proxied_at: Option<Mono>,
    /// When the response's head was known.
    pub(crate) head_at: Mono,
    /// From handing over to the upstream's head.
    pub(crate) upstream_us: Option<u64>,
    /// Headers we add: to the request once it is for the upstream, then to its response.
    pub(crate) lines: FieldLines,
    /// The service it goes to: its route's, or that one's fallback.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// Its target as the client sent it, once it was changed for a service.
    pub(crate) asked: Option<Uri>,
    /// It is for a fallback, which is asked once.
    pub(crate) fell_back: bool,
    /// The cookie that keeps the client with one of the services that share its route.
    pub(crate) cookie: Option<HeaderValue>,
    /// The request as its balancer knows it, if it goes to an upstream with targets.
    pub(crate) call: Option<Call>,
    /// The address it goes to, if it goes to an upstream with targets.
    pub(crate) peer: Option<Peer>,
    /// When the try under way began.
    pub(crate) tried_at: Now,
    /// Tries that failed or were not good enough.
    pub(crate) tries: Vec<Try>,
    /// Further tries a service without targets allows.
    pub(crate) retries_left: u16,
    /// Why it failed, if it did.
    pub(crate) reason: Option<Reason>,
    /// What its line of the access log needs, if there is one.
    pub(crate) kept: Option<Box<Kept>>,
    /// The upstream switched protocols.
    pub(crate) tunnel: bool,
    /// The log phase ran.
    pub(crate) finished: bool,
}

impl Exchange {
    /// What plugins see; for logs.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.cx
    }

    /// Goes on with the collected body.
    pub fn body(&mut self, body: Bytes, now: Now) -> Decision {
        self.cx.now = now;
        self.cx.body = Some(body);
        self.access()
    }

    /// Answers a request whose body could not be collected.
    pub fn body_failed(&mut self, failure: BodyFailure, now: Now) -> Response<Bytes> {
        self.cx.now = now;
        let (status, reason) = match failure {
            BodyFailure::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Reason::RequestTooLarge),
            BodyFailure::Malformed => (StatusCode::BAD_REQUEST, Reason::RequestBody),
            BodyFailure::Timeout => (StatusCode::REQUEST_TIMEOUT, Reason::RequestTimeout),
            BodyFailure::Overload => (StatusCode::SERVICE_UNAVAILABLE, Reason::Overload),
        };
        self.refuse(reason, status, error::message_of(status))
    }

    /// Goes on after a plugin waited.
    pub fn resume(&mut self, then: Then, now: Now) -> Decision {
        self.cx.now = now;
        match then {
            Then::Continue => self.access(),
            Then::Respond(reply) => Decision::Respond(self.reply(reply)),
        }
    }

    /// Turns the head of the upstream's response, whose further fields are in `lines`, into the client's; returns further
    /// fields of that. Of 1xx only for 101.
    pub fn upstream_head(&mut self, head: &mut response::Parts, mut lines: FieldLines, now: Now) -> FieldLines {
        self.cx.now = now;
        self.source = Source::Service;
        self.status = head.status.as_u16();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            self.tunnel = true;
            self.upstream_ended(None);
            self.counters.n_tunnels.fetch_add(1, Ordering::Relaxed);
        }
        self.head_at = now.mono;
        let handed_over = self.proxied_at.unwrap_or(now.mono);
        let upstream_us = micros(handed_over, now.mono);
        self.upstream_us = Some(upstream_us);
        let proxy_us = micros(self.cx.received.mono, handed_over);
        self.filter_head(head, &mut lines);
        forward::from_upstream(&mut head.headers, &mut lines, upstream_us / 1000, proxy_us / 1000);
        forward::put_request_id(&mut lines, &self.cx.request_id);
        lines
    }

    /// Ends the request: the log phase runs and it is counted.
    pub fn finish(mut self: Box<Self>, transferred: Transferred, now: Now) {
        self.cx.now = now;
        self.log(transferred);
    }

    /// From the request's head to that of its response.
    pub(crate) const fn until_head_us(&self) -> u64 {
        micros(self.cx.received.mono, self.head_at)
    }

    fn log(&mut self, transferred: Transferred) {
        self.finished = true;
        self.upstream_ended(None);
        if std::thread::panicking() {
            self.reason = Some(Reason::Internal);
        }
        if self.tunnel {
            self.counters.n_tunnels.fetch_sub(1, Ordering::Relaxed);
        }
        let now = self.cx.now;
        let total_us = micros(self.cx.received.mono, now.mono);
        let until_head_us = self.until_head_us();
        let mut record = LogRecord {
            status: self.status,
            source: self.source,
            timing: Timing {
                total_us,
                upstream_us: self.upstream_us,
                kong_us: until_head_us.saturating_sub(self.upstream_us.unwrap_or(0)),
            },
            bytes_in: transferred.bytes_in,
            bytes_out: transferred.bytes_out,
            export: plugin::Export::default(),
        };
        if self.status == CLIENT_CLOSED_REQUEST && self.reason.is_none() {
            self.reason = Some(Reason::ClientLeft);
        }
        self.complete_choice();
        // After a plugin's panic none is asked again: a second panic would end the process.
        let plugins = if std::thread::panicking() { 0 } else { self.chain().len() };
        for n in 0..plugins {
            if let Some(link) = self.chosen(n) {
                link.handler.log(&self.cx, &mut record);
            }
        }
        if let (Some(kept), Some(log)) = (&self.kept, &self.counters.telling.access_log) {
            log.write(&access_log::line(self, kept, &record));
        }
        let consumer = self.cx.consumer.as_ref().and_then(|consumer| consumer.username.as_deref());
        match self.route() {
            Some(route) => route.stats.record(&record, consumer, self.reason),
            None => self.counters.stats.unmatched().record(&record, consumer, self.reason),
        }
    }

    /// The first step: what can be said before any plugin runs.
    pub(crate) fn start(&mut self) -> Decision {
        let Some(route) = self.route() else {
            return Decision::Respond(self.refuse(
                Reason::NoRoute,
                StatusCode::NOT_FOUND,
                "no Route matched with those values",
            ));
        };
        let told = if self.is_trusted { forward::scheme_told(&self.cx.request.headers) } else { None };
        let needs_https = needs_https(route, told.unwrap_or(self.cx.connection.scheme));
        if route.grpc {
            if let Some(response) = self.refuse_what_is_not_grpc(needs_https) {
                return Decision::Respond(response);
            }
        } else if needs_https {
            let code = route.redirect.code();
            return Decision::Respond(self.redirect_to_https(code));
        }
        let route = &self.snapshot.routes[self.route_idx.unwrap_or_default()];
        self.cx.route = Some(Arc::clone(&route.info));
        self.cx.service = route.service.clone();
        if let Target::Queue(queue) = &route.target {
            self.cx.queue = Some(Arc::clone(queue));
        }
        self.access()
    }

    /// Runs the access phase from where it stands.
    fn access(&mut self) -> Decision {
        while self.at < self.chain().len() {
            let n = self.at;
            self.choose(n);
            let handler = match self.chosen(n) {
                Some(link) if link.handler.applies(&self.cx) => Arc::clone(&link.handler),
                _ => {
                    self.at += 1;
                    continue;
                }
            };
            if let Some(bytes_max) = handler.body_bytes_max() {
                match &self.cx.body {
                    None => return Decision::Body { bytes_max },
                    Some(body) if body.len() > bytes_max => {
                        return Decision::Respond(self.body_failed(BodyFailure::TooLarge, self.cx.now));
                    }
                    Some(_) => {}
                }
            }
            self.at += 1;
            match handler.access(&mut self.cx) {
                Flow::Continue => {}
                Flow::Respond(reply) => return Decision::Respond(self.reply(reply)),
                Flow::Wait(pending) => return Decision::Wait(pending),
            }
        }
        self.after_access()
    }

    fn after_access(&mut self) -> Decision {
        let target = self.route().map_or(&Target::None, |route| &route.target);
        match target {
            Target::Http(_) => self.forward(),
            // A service for connections never gets here: a snapshot with such a route is not built.
            Target::None | Target::Stream(_) => {
                let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, "no Service found with those values");
                Decision::Respond(self.refuse(Reason::NoService, status, message))
            }
            // The queue's plugin is configured for other schemes than this request's.
            Target::Queue(_) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let message = "the queue takes no requests of this scheme";
                Decision::Respond(self.refuse(Reason::NoService, status, message))
            }
        }
    }

    /// An error of the gateway's own.
    pub(crate) fn refuse(&mut self, reason: Reason, status: StatusCode, message: &'static str) -> Response<Bytes> {
        self.source = Source::Error;
        self.reason = Some(reason);
        let mut response = error::response(status, message, &self.cx.request_id, &self.cx.request.headers);
        if self.counters.telling.proxy_status {
            forward::add_proxy_status(response.headers_mut(), reason);
        }
        self.answer(response)
    }

    fn redirect_to_https(&mut self, code: u16) -> Response<Bytes> {
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::UPGRADE_REQUIRED);
        if status == StatusCode::UPGRADE_REQUIRED {
            self.source = Source::Error;
            let message = "Please use HTTPS protocol";
            let mut response = error::response(status, message, &self.cx.request_id, &self.cx.request.headers);
            response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
            response.headers_mut().insert(http::header::UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
            return self.answer(response);
        }
        self.source = Source::Exit;
        let target = self.cx.request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let location = format!("https://{}{target}", self.host.to_str().unwrap_or_default());
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(LOCATION, location);
        }
        self.answer(response)
    }

    /// What a route of gRPC says to everything else; `None` to gRPC.
    fn refuse_what_is_not_grpc(&mut self, needs_https: bool) -> Option<Response<Bytes>> {
        if self.cx.request.version != Version::HTTP_2 {
            self.source = Source::Error;
            self.reason = Some(Reason::BadRequest);
            let (status, message) = (StatusCode::UPGRADE_REQUIRED, "Please use HTTP2 protocol");
            let mut response = error::response(status, message, &self.cx.request_id, &self.cx.request.headers);
            response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
            response.headers_mut().insert(http::header::UPGRADE, HeaderValue::from_static("HTTP/2"));
            return Some(self.answer(response));
        }
        if !grpc::is_grpc(&self.cx.request.headers) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Some(self.refuse(Reason::BadRequest, status, "Non-gRPC request matched gRPC route"));
        }
        needs_https.then(|| {
            self.source = Source::Exit;
            let response = grpc::response(StatusCode::OK, grpc::CANCELLED, "gRPC request matched gRPCs route");
            self.answer(response)
        })
    }

    /// A plugin's answer.
    fn reply(&mut self, reply: Reply) -> Response<Bytes> {
        self.source = Source::Exit;
        let response = match reply {
            Reply::Full(response) if grpc::is_grpc(&self.cx.request.headers) => grpc::translated(response),
            Reply::Full(response) => response,
            Reply::Error(ErrorReply { status, message, headers }) => {
                let mut response = error::response(status, &message, &self.cx.request_id, &self.cx.request.headers);
                response.headers_mut().extend(headers);
                response
            }
        };
        self.answer(response)
    }

    /// The response phases of an answer made here.
    pub(crate) fn answer(&mut self, response: Response<Bytes>) -> Response<Bytes> {
        let (mut head, body) = response.into_parts();
        self.status = head.status.as_u16();
        self.head_at = self.cx.now.mono;
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.len()));
        let mut lines = FieldLines::default();
        self.filter_head(&mut head, &mut lines);
        lines.append_to(&mut head.headers);
        let response_ms = micros(self.cx.received.mono, self.cx.now.mono) / 1000;
        forward::from_us(&mut head.headers, response_ms);
        forward::set_request_id(&mut head.headers, &self.cx.request_id);
        Response::from_parts(head, body)
    }

    /// Runs the header filters, and sets what plugins set.
    fn filter_head(&mut self, head: &mut response::Parts, lines: &mut FieldLines) {
        self.complete_choice();
        for n in 0..self.chain().len() {
            if let Some(handler) = self.chosen(n).map(|link| Arc::clone(&link.handler)) {
                handler.header_filter(&mut self.cx, &mut ResponseHead::new(head, lines));
            }
        }
        if self.counters.allow_debug_header.load(Ordering::Relaxed) {
            self.tell_debug();
        }
        forward::set_all(&mut head.headers, lines, &self.cx.response_headers);
        if let Some(kept) = &mut self.kept {
            kept.response_headers = all_fields(head, lines);
        }
        let cookies = [self.cookie.take(), self.call.as_mut().and_then(Call::take_cookie)];
        for cookie in cookies.into_iter().flatten() {
            forward::set_cookie(&mut ResponseHead::new(head, lines).parts().headers, cookie);
        }
    }

    /// Which route and service took the request, if the client asks.
    fn tell_debug(&mut self) {
        let Some(at) = self.route_idx.filter(|_| forward::asks_for_debug(&self.cx.request.headers)) else { return };
        let route = &self.snapshot.routes[at];
        let service = self.cx.service.as_ref().or(route.service.as_ref());
        forward::add_debug(&mut self.cx.response_headers, &route.info, service.map(|service| &**service));
    }

    pub(crate) fn route(&self) -> Option<&CompiledRoute> {
        self.route_idx.map(|at| &self.snapshot.routes[at])
    }

    fn chain(&self) -> &Chain {
        self.route().map_or(&self.snapshot.common.unmatched, |route| &route.chain)
    }

    /// Fixes the choice for plugin `n`, with the consumer as known now.
    fn choose(&mut self, n: usize) {
        if !self.chain().is_by_consumer() || n < self.chosen.len() {
            return;
        }
        let consumer = self.cx.consumer.as_ref().map(|consumer| consumer.id);
        let link = self.chain().choose(&self.snapshot.common.links, n, consumer).cloned();
        self.chosen.push(link);
    }

    /// Fixes the choice for the plugins that the access phase did not reach.
    fn complete_choice(&mut self) {
        for n in self.chosen.len()..self.chain().len() {
            self.choose(n);
        }
    }

    fn chosen(&self, n: usize) -> Option<&Link> {
        let chain = self.chain();
        let link = if chain.is_by_consumer() {
            self.chosen.get(n)?.as_ref()
        } else {
            chain.choose(&self.snapshot.common.links, n, None)
        };
        link.filter(|link| link.protocols.includes(self.cx.connection.scheme))
    }
}

pub(crate) const fn micros(from: Mono, to: Mono) -> u64 {
    to.0.saturating_sub(from.0)
}

/// A request whose task was given up, because the client left, is counted too, with the time of its last step.
impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.finished {
            self.log(Transferred::default());
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({} {}, route {:?})", self.cx.request.method, self.cx.request.uri, self.route_idx)
    }
}
