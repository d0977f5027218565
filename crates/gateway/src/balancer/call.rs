//! One request to an upstream: let in or not, sent to one address after another, and its outcome told to all who learn
//! from it.
//!
//! Invariants: the breaker hears of a request once; one that ends without an outcome gives back what it held. Every try's
//! outcome is told to its address once. Whether an answer is good is known at its end: until then only a half-open breaker
//! hears of its status, which could not let anybody else through while an answer streams; an answer that breaks off then
//! counts against it like any failure.

use super::address::Outcome;
use super::balancer::{Balancer, NoPeer, Peer};
use super::breaker::Admission;
use super::bulkhead::{Entry, Granted, Place, Queued};
use super::hash_input::{self, HashedRequest, Key};
use super::random;
use super::retry::{self, UnderWay};
use super::table::{Choice, Member};
use crate::entity::{Algorithm, Hashing, Hedge};
use crate::reason::Reason;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use model::{Mono, Now};
use std::net::IpAddr;
use std::sync::Arc;

/// A request to an upstream.
#[derive(Debug)]
pub(crate) struct Call {
    balancer: Arc<Balancer>,
    admission: Admission,
    /// The breaker knows how it ended.
    told: bool,
    /// The final answer, while it is not known whether it comes to its end.
    answer: Option<StatusCode>,
    /// Hashed value of the request.
    key: u64,
    cookie: Option<HeaderValue>,
    random: u64,
    retries_left: u32,
    n_retries: u32,
    tried: Vec<Arc<Member>>,
    place: Option<Place>,
    retry: Option<UnderWay>,
    _request: UnderWay,
}

/// What a request that came is told.
#[derive(Debug)]
pub(crate) enum Gate {
    /// It may go.
    Open(Call),
    /// It waits for its turn, so long at most, and then may go.
    Queued(Call, Queued, u32),
    /// It may not.
    Closed(Reason),
}

/// What becomes of a request after a try.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The try's result is the request's.
    Final,
    /// So too, because of the budget of retries alone.
    OverBudget,
    /// Another try with this address, after that long.
    Again(Peer, u64),
}

impl Call {
    /// A request comes; `retries` is how often the service lets it be sent again.
    pub(crate) fn begin(
        balancer: &Arc<Balancer>,
        request: &HashedRequest<'_>,
        retries: u16,
        random: u128,
        now: Mono,
    ) -> Gate {
        Self::enter(balancer, retries, random, now, |hashing| hash_input::key(hashing, request, random))
    }

    /// The same for a request that was hashed before, see [`Call::key`].
    pub(crate) fn begin_hashed(balancer: &Arc<Balancer>, key: Key, random: u128, now: Mono) -> Gate {
        Self::enter(balancer, 0, random, now, |_| key)
    }

    /// The hashed value of a request, if its upstream hashes.
    pub(crate) fn key(balancer: &Balancer, request: &HashedRequest<'_>, random: u128) -> Key {
        match &balancer.upstream.algorithm {
            Algorithm::ConsistentHashing(hashing) => hash_input::key(hashing, request, random),
            _ => Key::default(),
        }
    }

    /// The same for a connection, of which only the client is known.
    pub(crate) fn begin_session(
        balancer: &Arc<Balancer>,
        client_ip: IpAddr,
        retries: u16,
        random: u128,
        now: Mono,
    ) -> Gate {
        Self::enter(balancer, retries, random, now, |hashing| hash_input::key_of_client(hashing, client_ip))
    }

    fn enter(
        balancer: &Arc<Balancer>,
        retries: u16,
        random: u128,
        now: Mono,
        key: impl FnOnce(&Hashing) -> Key,
    ) -> Gate {
        let resilience = &balancer.upstream.resilience;
        let admission = match &resilience.breaker {
            None => Admission::Pass,
            Some(settings) => match balancer.state.breaker.admit(settings, now) {
                Admission::Refused { retry_after_ms } => return Gate::Closed(Reason::BreakerOpen { retry_after_ms }),
                admitted => admitted,
            },
        };
        let key = match &balancer.upstream.algorithm {
            Algorithm::ConsistentHashing(hashing) => key(hashing),
            _ => Key::default(),
        };
        #[allow(clippy::cast_possible_truncation)] // half of the random bits are enough
        let low = random as u64;
        let mut call = Self {
            balancer: Arc::clone(balancer),
            admission,
            told: false,
            answer: None,
            key: key.hash,
            cookie: key.cookie,
            random: low,
            retries_left: retries.into(),
            n_retries: 0,
            tried: Vec::new(),
            place: None,
            retry: None,
            _request: balancer.state.load.begin(),
        };
        let Some(settings) = &resilience.bulkhead else { return Gate::Open(call) };
        match balancer.state.bulkhead.enter(settings) {
            Entry::Free(place) => {
                call.place = Some(place);
                Gate::Open(call)
            }
            Entry::Queued(queued) => Gate::Queued(call, queued, settings.queue_timeout_ms),
            Entry::Full => Gate::Closed(Reason::BulkheadFull),
        }
    }

    /// Its turn has come.
    pub(crate) fn granted(&mut self, Granted(place): Granted) {
        self.place = Some(place);
    }

    /// The cookie that makes the client stick to its address, if it has none yet.
    pub(crate) fn take_cookie(&mut self) -> Option<HeaderValue> {
        self.cookie.take()
    }

    /// How a slow try is helped.
    pub(crate) fn hedge(&self) -> Option<&Hedge> {
        self.balancer.upstream.resilience.hedge.as_ref()
    }

    /// Time for one try, up to the head of its answer; 0 is not limited.
    pub(crate) fn per_try_timeout_ms(&self) -> u32 {
        self.balancer.upstream.resilience.retry.as_ref().map_or(0, |retry| retry.per_try_timeout_ms)
    }

    /// An address for the next try; those tried already only if there is no other.
    pub(crate) fn pick(&mut self, now: Mono) -> Result<Peer, NoPeer> {
        self.random = random::mix(self.random.wrapping_add(1));
        // A half-open breaker is the only gate: its probe goes to some address, whatever health checks think.
        let any = matches!(self.admission, Admission::Probe { .. });
        let choice =
            Choice { now, random: self.random, key: self.key, tried: &self.tried, panic: false, any, slow_start: None };
        self.balancer.pick(choice)
    }

    /// A try had an answer. `may_repeat` says whether the request could be sent again at all.
    pub(crate) fn answered(
        &mut self,
        peer: &Peer,
        (method, status): (&Method, StatusCode),
        headers: impl FnOnce() -> HeaderMap,
        began: Mono,
        may_repeat: bool,
        now: Now,
    ) -> Verdict {
        #[allow(clippy::cast_precision_loss)] // an average needs no more than 24 bits
        peer.member.address.observe(now.mono.since(began).as_micros() as f32 / 1000.0, now.mono);
        let settings = self.balancer.upstream.resilience.retry.as_ref();
        let verdict = match settings {
            Some(settings) if may_repeat && retry::is_retriable(settings, method, status) => {
                let asked_ms = retry::retry_after_ms(&headers(), now.wall);
                self.try_again(peer, asked_ms, now.mono)
            }
            _ => Verdict::Final,
        };
        if matches!(verdict, Verdict::Again(..)) {
            self.balancer.report(&peer.member, Outcome::Status(status.as_u16()), now.mono);
            return verdict;
        }
        self.answer = Some(status);
        if matches!(self.admission, Admission::Probe { .. }) {
            self.tell(status.as_u16() < 500, now.mono);
        }
        verdict
    }

    /// The request is over. Its answer, if it had one, came to its end, or as much of it as the client wanted; or it `broke`.
    pub(crate) fn ended(&mut self, peer: &Peer, broke: Option<Outcome>, now: Mono) {
        let Some(status) = self.answer.take() else { return };
        self.balancer.report(&peer.member, broke.unwrap_or(Outcome::Status(status.as_u16())), now);
        let success = broke.is_none() && status.as_u16() < 500;
        if self.told && !success && status.as_u16() < 500 {
            // A half-open breaker took it for good.
            self.told = false;
        }
        self.tell(success, now);
    }

    /// A try has a connection, or its first datagram back, which is all that is known of a session's.
    pub(crate) fn connected(&mut self, peer: &Peer, began: Mono, now: Mono) {
        #[allow(clippy::cast_precision_loss)] // an average needs no more than 24 bits
        peer.member.address.observe(now.since(began).as_micros() as f32 / 1000.0, now);
        self.balancer.report(&peer.member, Outcome::Connected, now);
        self.tell(true, now);
    }

    /// A try failed. `may_repeat` says whether the request could be sent again at all.
    pub(crate) fn failed(&mut self, peer: &Peer, outcome: Option<Outcome>, may_repeat: bool, now: Mono) -> Verdict {
        if let Some(outcome) = outcome {
            self.balancer.report(&peer.member, outcome, now);
        }
        let verdict = if may_repeat { self.try_again(peer, None, now) } else { Verdict::Final };
        if outcome.is_some() && !matches!(verdict, Verdict::Again(..)) {
            self.tell(false, now);
        }
        verdict
    }

    /// Nothing came back, and nothing says that nobody is there: of datagrams that need no answer there is no better news.
    pub(crate) fn not_refused(&mut self, now: Mono) {
        self.tell(true, now);
    }

    /// A try ended that decides nothing: a hedged one failed, was answered in vain or given up, while another goes on; or what
    /// a session sent was refused after an answer.
    pub(crate) fn lost(&mut self, peer: &Peer, outcome: Option<Outcome>, now: Mono) {
        if let Some(outcome) = outcome {
            self.balancer.report(&peer.member, outcome, now);
        }
    }

    /// Another address is tried beside this one.
    pub(crate) fn also_tries(&mut self, peer: &Peer) {
        self.tried.push(Arc::clone(&peer.member));
    }

    /// Another address for a try beside that of `peer`; none if there is none, or the budget of retries has no room.
    pub(crate) fn hedged_pick(&mut self, peer: &Peer, now: Mono) -> Option<Peer> {
        let settings = self.balancer.upstream.resilience.retry.as_ref();
        let room = settings.map(|settings| self.balancer.state.load.begin_retry(settings));
        if matches!(room, Some(None)) {
            return None;
        }
        self.also_tries(peer);
        let mut other = self.pick(now).ok().filter(|other| !Arc::ptr_eq(&other.member, &peer.member))?;
        other.extra = room.flatten();
        self.also_tries(&other);
        Some(other)
    }

    fn try_again(&mut self, peer: &Peer, asked_ms: Option<u64>, now: Mono) -> Verdict {
        if self.retries_left == 0 {
            return Verdict::Final;
        }
        self.random = random::mix(self.random.wrapping_add(1));
        let mut wait_ms = 0;
        self.retry = None;
        if let Some(settings) = &self.balancer.upstream.resilience.retry {
            let Some(ms) = retry::wait_ms(settings, self.n_retries + 1, asked_ms, self.random) else {
                return Verdict::Final;
            };
            let Some(under_way) = self.balancer.state.load.begin_retry(settings) else { return Verdict::OverBudget };
            (self.retry, wait_ms) = (Some(under_way), ms);
        }
        self.tried.push(Arc::clone(&peer.member));
        match self.pick(now) {
            Ok(next) => {
                self.retries_left -= 1;
                self.n_retries += 1;
                Verdict::Again(next, wait_ms)
            }
            Err(_) => Verdict::Final,
        }
    }

    fn tell(&mut self, success: bool, now: Mono) {
        if let Some(settings) = &self.balancer.upstream.resilience.breaker
            && !self.told
        {
            self.balancer.state.breaker.report(settings, self.admission, Some(success), now);
        }
        self.told = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(settings) = &self.balancer.upstream.resilience.breaker
            && !self.told
        {
            // Without an outcome only its place is given back, which takes no time.
            self.balancer.state.breaker.report(settings, self.admission, None, Mono(0));
        }
    }
}
