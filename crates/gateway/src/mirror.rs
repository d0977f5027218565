//! Copies of requests for another service: which requests are copied, how many at a time, and what becomes of a copy.
//!
//! Invariants: a copy neither delays nor fails its request; what there is no room for is not copied, and counted. A copy is
//! sent once: it is not repeated, not mirrored, and nothing answers in its service's place. What it comes to is told to the
//! balancer of its service, as any request's is; until it is sent it holds nothing of that service's. Not here: sending it, and copying a body that streams.

use crate::balancer::{Call, Gate, Key, Peer, random};
use crate::decision::{Plan, UpstreamFailure};
use crate::entity::{Mirror as Settings, Share};
use crate::exchange::Exchange;
use crate::proxying;
use crate::snapshot::{ReadyServices, Target, Upstream};
use http::header::HOST;
use http::{Extensions, request, response};
use http1::{FieldLines, Upgrade};
use model::Now;
use model::limits::{MIRROR_BODIES_BYTES_MAX, MIRROR_BODY_BYTES_MAX, MIRRORS_MAX};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Keeps the numbers of mirrors apart from those of splits.
const OF_MIRRORS: u64 = 0x2545_f491_4f6c_dd1d;

/// A mirror, ready for use.
#[derive(Debug)]
pub(crate) struct Mirroring {
    to: Arc<Upstream>,
    share: Share,
}

impl Mirroring {
    /// None if its service is disabled.
    ///
    /// # Errors
    /// What is wrong with the service.
    pub(crate) fn new(settings: Settings, services: &ReadyServices) -> Result<Option<Self>, String> {
        match services.get(&settings.service) {
            Some((service, Target::Http(to))) => {
                Ok(service.enabled.then(|| Self { to: Arc::clone(to), share: settings.share }))
            }
            Some(_) => Err("mirror: not a service of protocol http, https, grpc or grpcs".to_owned()),
            None => Err("mirror: there is no such service".to_owned()),
        }
    }
}

/// The copies of a gateway.
#[derive(Debug, Default)]
pub struct Mirrors {
    under_way: AtomicUsize,
    bytes: AtomicUsize,
    answered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
}

impl Mirrors {
    /// Copies by how they ended: answered, failed, not made or given up for lack of room.
    #[must_use]
    pub fn ended(&self) -> [(&'static str, u64); 3] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("answered", count(&self.answered)), ("failed", count(&self.failed)), ("given_up", count(&self.given_up))]
    }

    fn place(self: &Arc<Self>) -> Option<Place> {
        let more = |n: usize| (n < MIRRORS_MAX).then_some(n + 1);
        if self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.given_up.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { mirrors: Arc::clone(self), bytes: 0, end: End::GivenUp })
    }
}

/// How a copy ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    GivenUp,
    Failed,
    Answered,
}

/// What a copy takes of the bounds; given back, and its end counted, when it is dropped.
#[derive(Debug)]
struct Place {
    mirrors: Arc<Mirrors>,
    bytes: usize,
    end: End,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mirrors = &self.mirrors;
        mirrors.under_way.fetch_sub(1, Ordering::Relaxed);
        mirrors.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let counter = match self.end {
            End::GivenUp => &mirrors.given_up,
            End::Failed => &mirrors.failed,
            End::Answered => &mirrors.answered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A copy of a request.
#[derive(Debug)]
pub struct Mirror {
    upstream: Arc<Upstream>,
    request: request::Parts,
    lines: FieldLines,
    /// Its value for consistent hashing, until it is sent.
    key: Key,
    random: u128,
    preserves_host: bool,
    began: Now,
    /// Its request and address, if its service has targets and it is sent.
    call: Option<(Call, Peer)>,
    place: Place,
}

impl Exchange {
    /// The copy of a request that is to be made when it is sent, after [`crate::Decision::Proxy`].
    #[must_use]
    pub fn mirror(&self) -> Option<Mirror> {
        let route = self.route()?;
        let Mirroring { to, share } = route.mirror.as_ref()?;
        let (random, request) = (self.cx.request_id.value(), &self.cx.request);
        #[allow(clippy::cast_possible_truncation)] // half of the random bits are enough
        let number = random::mix(random as u64 ^ OF_MIRRORS);
        if self.fell_back || !share.holds(number) || request.extensions.get::<Upgrade>().is_some() {
            return None;
        }
        let place = self.counters.mirrors.place()?;
        let key = to.balancer.as_ref().map(|balancer| Call::key(balancer, &self.hashed_request(), random));
        let original = self.asked.as_ref()?;
        let (target, _) = proxying::target(original, self.normal_path.as_deref(), self.strip(), to);
        let mut request = request.clone();
        request.uri = proxying::upstream_uri(original, &target)?;
        // What is there belongs to the request and its connection.
        request.extensions = Extensions::new();
        Some(Mirror {
            upstream: Arc::clone(to),
            request,
            lines: self.lines.clone(),
            key: key.unwrap_or_default(),
            random,
            preserves_host: route.preserve_host,
            began: self.cx.now,
            call: None,
            place,
        })
    }
}

impl Mirror {
    /// Makes room for more of its body; `false` if there is none, and it is to be dropped.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let place = &mut self.place;
        if place.bytes.saturating_add(bytes) > MIRROR_BODY_BYTES_MAX {
            return false;
        }
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= MIRROR_BODIES_BYTES_MAX);
        let grown = place.mirrors.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if grown {
            place.bytes += bytes;
        }
        grown
    }

    /// It is to be sent: the request to send, and where; none if nobody takes it now, and it is to be dropped.
    pub fn plan(&mut self, now: Now) -> Option<Plan<'_>> {
        if let Some(balancer) = &self.upstream.balancer {
            let key = std::mem::take(&mut self.key);
            let Gate::Open(mut call) = Call::begin_hashed(balancer, key, self.random, now.mono) else { return None };
            let peer = call.pick(now.mono).ok()?;
            self.call = Some((call, peer));
        }
        if !self.preserves_host {
            let scheme = self.upstream.backend.scheme;
            let host = self.call.as_ref().map_or(&self.upstream.host_value, |(_, peer)| peer.member.host_value(scheme));
            self.request.headers.insert(HOST, host.clone());
        }
        (self.began, self.place.end) = (now, End::Failed);
        Some(Plan {
            upstream: Arc::clone(&self.upstream),
            member: self.call.as_ref().map(|(_, peer)| Arc::clone(&peer.member)),
            per_try_timeout_ms: self.call.as_ref().map_or(0, |(call, _)| call.per_try_timeout_ms()),
            hedge: None,
            request: &mut self.request,
            lines: &self.lines,
        })
    }

    /// It was not answered.
    pub fn failed(mut self, failure: UpstreamFailure, now: Now) {
        if let Some((call, peer)) = &mut self.call {
            let _ = call.failed(peer, failure.outcome(), false, now.mono);
        }
    }

    /// It has an answer.
    pub fn answered(&mut self, head: &response::Parts, now: Now) {
        self.place.end = End::Answered;
        if let Some((call, peer)) = &mut self.call {
            let answer = (&self.request.method, head.status);
            let _ = call.answered(peer, answer, || head.headers.clone(), self.began.mono, false, now);
        }
    }

    /// Its answer came to its end, or `broke` off.
    pub fn ended(mut self, broke: Option<UpstreamFailure>, now: Now) {
        if broke.is_some() {
            self.place.end = End::Failed;
        }
        if let Some((call, peer)) = &mut self.call {
            call.ended(peer, broke.and_then(UpstreamFailure::outcome), now.mono);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::ServiceId;
    use crate::entity::{HttpBackend, Scheme};
    use crate::snapshot::Upstream;
    use http::HeaderValue;

    fn copy(mirrors: &Arc<Mirrors>) -> Option<Mirror> {
        let upstream = Arc::new(Upstream {
            service: ServiceId::derived("shadow"),
            backend: HttpBackend::new(Scheme::Http, "shadow", 80),
            ca_certificates: Vec::new(),
            identity: None,
            host_value: HeaderValue::from_static("shadow"),
            balancer: None,
            connector: std::sync::OnceLock::new(),
        });
        let (request, ()) = http::Request::new(()).into_parts();
        let lines = FieldLines::default();
        let (key, began) = (Key::default(), Now::default());
        let made = |place| Mirror {
            upstream,
            request,
            lines,
            key,
            random: 0,
            preserves_host: false,
            began,
            call: None,
            place,
        };
        mirrors.place().map(made)
    }

    #[test]
    fn copies_and_their_bytes_are_bounded_and_given_back() {
        let mirrors = Arc::<Mirrors>::default();
        let mut all: Vec<Mirror> = (0..MIRRORS_MAX).map(|_| copy(&mirrors).unwrap()).collect();
        assert!(copy(&mirrors).is_none());
        let most = MIRROR_BODIES_BYTES_MAX / MIRROR_BODY_BYTES_MAX;
        assert!(all[..most].iter_mut().all(|copy| copy.grow(MIRROR_BODY_BYTES_MAX)));
        assert!(!all[most].grow(1), "together they are too many");
        assert!(!all[0].grow(1), "it is too long");
        all.pop();
        let mut more = copy(&mirrors).unwrap();
        all.clear();
        assert!(more.grow(MIRROR_BODY_BYTES_MAX) && !more.grow(1));
        let _ = more.plan(Now::default());
        drop(more);
        assert_eq!(mirrors.ended(), [("answered", 0), ("failed", 1), ("given_up", MIRRORS_MAX as u64 + 1)]);
        assert_eq!(mirrors.bytes.load(Ordering::Relaxed), 0);
    }
}
