//! One subscription at work: takes messages from its queue and pushes each until it is delivered or given up.
//!
//! ```text
//! feed -> ready -> attempt (at most max_in_flight) -> 2xx: ack
//!            ^                     |-> retry: waiting until its time -> ready
//!            |---------------------|-> given up: dead-letter queue, then ack
//! ```
//!
//! Invariants: one task owns the feed and all messages; attempts are tasks of its own that it joins. At most
//! `max_in_flight + WAITING_MAX` messages are unsettled, and none is taken while their bodies fill `HELD_BYTES_MAX`, so
//! a service that is down costs bounded memory.

use crate::attempt::{self, Failure, Verdict};
use crate::subscription::SubscriptionSettings;
use bytes::Bytes;
use http::Response;
use model::Principal;
use plugin::{Fed, FedId, Feed, Publish, PushServices, SendError, Services};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Messages that may wait for their next attempt besides those in flight.
const WAITING_MAX: u32 = 256;
/// Bytes of bodies in hand above which no further message is taken.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of an answer only the head matters; this much of its body is read so that the connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The pause before a feed that ended, or a dead letter that could not be published, is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a dead letter may take to be stored before it is tried again.
const DEAD_LETTER_TIMEOUT_MS: u32 = 30_000;

/// What a subscription has done since the process started.
#[derive(Debug, Default)]
pub struct PushCounts {
    /// Messages delivered.
    pub delivered: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Messages given up.
    pub dead_lettered: AtomicU64,
}

/// A message on its way.
struct Letter {
    fed: Fed,
    attempts: u32,
    first_ms: u64,
    /// Why it was given up; from then on it is only on its way to the dead-letter queue.
    given_up: Option<Failure>,
}

/// What came of an attempt.
enum Answer {
    /// The service answered, or did not.
    Service(Result<Response<Bytes>, SendError>),
    /// The dead letter was taken, or not.
    DeadLetter(Result<plugin::Published, plugin::PublishError>),
}

pub(crate) struct Push {
    settings: Arc<SubscriptionSettings>,
    principal: Principal,
    services: Arc<dyn Services>,
    push: Arc<dyn PushServices>,
    counts: Arc<PushCounts>,
    ready: VecDeque<Letter>,
    waiting: BTreeMap<(Instant, FedId), Letter>,
    attempts: JoinSet<(Letter, Answer)>,
    /// Bytes of the bodies of all letters.
    held_bytes: usize,
}

impl Push {
    pub(crate) fn new(
        settings: Arc<SubscriptionSettings>,
        services: Arc<dyn Services>,
        push: Arc<dyn PushServices>,
        counts: Arc<PushCounts>,
    ) -> Self {
        let principal = Principal { user: settings.user.as_str().into(), vhost: settings.vhost.as_str().into() };
        Self {
            settings,
            principal,
            services,
            push,
            counts,
            ready: VecDeque::new(),
            waiting: BTreeMap::new(),
            attempts: JoinSet::new(),
            held_bytes: 0,
        }
    }

    /// Runs until `stop`; then lets the attempts in flight end, each within its own timeout.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            match self.subscribe() {
                Ok(mut feed) => {
                    let stopped = tokio::select! {
                        () = &mut stop => true,
                        () = self.work(feed.as_mut()) => false,
                    };
                    if stopped {
                        self.finish(feed.as_mut()).await;
                        return;
                    }
                    tracing::warn!(subscription = %self.settings.name, "the queue is gone; trying again");
                }
                Err(why) => tracing::warn!(subscription = %self.settings.name, %why, "cannot consume; trying again"),
            }
            // What was taken from a feed that ended is back in its queue, if there still is one.
            self.ready.clear();
            self.waiting.clear();
            self.attempts.shutdown().await;
            self.held_bytes = 0;
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    fn subscribe(&self) -> Result<Box<dyn Feed>, String> {
        let prefetch = self.settings.max_in_flight.saturating_add(WAITING_MAX);
        let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX);
        self.push.subscribe(&self.principal, &self.settings.queue, prefetch)
    }

    /// Works until the feed ends.
    async fn work(&mut self, feed: &mut dyn Feed) {
        loop {
            self.start_attempts();
            let next_retry = self.waiting.keys().next().map(|(at, _)| *at);
            tokio::select! {
                fed = poll_fn(|cx| feed.poll_next(cx)), if self.held_bytes < HELD_BYTES_MAX => match fed {
                    Some(fed) => self.take(fed),
                    None => return,
                },
                Some(answer) = self.attempts.join_next() => {
                    if let Ok((letter, answer)) = answer {
                        self.conclude(feed, letter, answer);
                    }
                }
                () = sleep_until(next_retry) => {
                    if let Some((_, letter)) = self.waiting.pop_first() {
                        self.ready.push_back(letter);
                    }
                }
            }
        }
    }

    async fn finish(&mut self, feed: &mut dyn Feed) {
        while let Some(answer) = self.attempts.join_next().await {
            if let Ok((letter, answer)) = answer {
                self.conclude(feed, letter, answer);
            }
        }
    }

    fn take(&mut self, fed: Fed) {
        self.held_bytes += fed.body.len();
        let remembered = if fed.redelivered { self.push.recall(&self.key(&fed)) } else { None };
        let (attempts, first_ms) = remembered.as_deref().and_then(decode).unwrap_or((0, 0));
        self.ready.push_back(Letter { fed, attempts, first_ms, given_up: None });
    }

    fn start_attempts(&mut self) {
        while self.attempts.len() < self.settings.max_in_flight as usize {
            let Some(mut letter) = self.ready.pop_front() else { return };
            if let Some(failure) = &letter.given_up {
                let taken = self.services.publish(self.dead_letter(&letter, failure));
                self.attempts.spawn(async move { (letter, Answer::DeadLetter(taken.await)) });
                continue;
            }
            let now_ms = self.push.wall_ms();
            letter.attempts += 1;
            if letter.first_ms == 0 {
                letter.first_ms = now_ms;
            }
            let request = attempt::request(&self.settings, &letter.fed, letter.attempts, now_ms);
            let answer = self.push.send(request, self.settings.timeout, ANSWER_BYTES_MAX);
            self.attempts.spawn(async move { (letter, Answer::Service(answer.await)) });
        }
    }

    fn conclude(&mut self, feed: &mut dyn Feed, letter: Letter, answer: Answer) {
        let answer = match answer {
            Answer::Service(answer) => answer,
            Answer::DeadLetter(taken) => return self.buried(feed, letter, taken),
        };
        match attempt::judge(&answer) {
            Verdict::Delivered => {
                self.counts.delivered.fetch_add(1, Ordering::Relaxed);
                self.settle(feed, &letter, plugin::Verdict::Ack);
            }
            Verdict::Retry(failure, asked) if letter.attempts < self.settings.retry.attempts => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.try_again(letter, &failure, asked);
            }
            Verdict::Retry(failure, _) | Verdict::GiveUp(failure) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.give_up(feed, letter, failure);
            }
        }
    }

    fn try_again(&mut self, letter: Letter, failure: &Failure, asked: Option<Duration>) {
        tracing::debug!(
            subscription = %self.settings.name,
            message = %letter.fed.place,
            attempt = letter.attempts,
            reason = failure.reason,
            code = failure.code,
            "push failed; trying again"
        );
        self.push.remember(&self.key(&letter.fed), &encode(letter.attempts, letter.first_ms));
        let spread = spread(letter.fed.id, letter.attempts);
        let wait = attempt::backoff(&self.settings.retry, letter.attempts, asked, spread);
        self.waiting.insert((Instant::now() + wait, letter.fed.id), letter);
    }

    /// Sends the message on its way to the dead-letter queue; without one it is rejected.
    fn give_up(&mut self, feed: &mut dyn Feed, mut letter: Letter, failure: Failure) {
        if self.settings.dead_letter.is_some() {
            letter.given_up = Some(failure);
            self.ready.push_front(letter);
            return;
        }
        tracing::warn!(
            subscription = %self.settings.name,
            message = %letter.fed.place,
            attempts = letter.attempts,
            reason = failure.reason,
            code = failure.code,
            "given up without a dead_letter queue; rejected"
        );
        self.counts.dead_lettered.fetch_add(1, Ordering::Relaxed);
        self.settle(feed, &letter, plugin::Verdict::Reject);
    }

    /// The message is acknowledged only when the dead-letter queue has it.
    fn buried(&mut self, feed: &mut dyn Feed, letter: Letter, taken: Result<plugin::Published, plugin::PublishError>) {
        match taken {
            Ok(_) => {
                self.counts.dead_lettered.fetch_add(1, Ordering::Relaxed);
                self.settle(feed, &letter, plugin::Verdict::Ack);
            }
            Err(error) => {
                tracing::warn!(subscription = %self.settings.name, ?error, "the dead letter was not taken; trying again");
                self.waiting.insert((Instant::now() + PAUSE, letter.fed.id), letter);
            }
        }
    }

    fn dead_letter(&self, letter: &Letter, failure: &Failure) -> Publish {
        let (fed, queue) = (&letter.fed, &self.settings.queue);
        let now_ms = self.push.wall_ms();
        Publish {
            principal: self.principal.clone(),
            exchange: String::new(),
            routing_key: self.settings.dead_letter.clone().unwrap_or_default(),
            properties: attempt::dead_properties(fed, queue, failure, letter.attempts, letter.first_ms, now_ms),
            body: fed.body.clone(),
            mandatory: true,
            timeout_ms: DEAD_LETTER_TIMEOUT_MS,
        }
    }

    fn settle(&mut self, feed: &mut dyn Feed, letter: &Letter, verdict: plugin::Verdict) {
        self.held_bytes = self.held_bytes.saturating_sub(letter.fed.body.len());
        if letter.attempts > 1 {
            self.push.forget(&self.key(&letter.fed));
        }
        feed.settle(letter.fed.id, verdict);
    }

    fn key(&self, fed: &Fed) -> String {
        format!("push/{}/{}", self.settings.name, fed.place)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn encode(attempts: u32, first_ms: u64) -> [u8; 12] {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&attempts.to_le_bytes());
    value[4..].copy_from_slice(&first_ms.to_le_bytes());
    value
}

fn decode(value: &[u8]) -> Option<(u32, u64)> {
    let (attempts, first_ms) = value.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*attempts), u64::from_le_bytes(first_ms.try_into().ok()?)))
}

/// Spreads retries so that messages that failed together do not come back together. No secret, so no random number.
fn spread(id: FedId, attempt: u32) -> f64 {
    let mixed = (id.0.wrapping_mul(31).wrapping_add(attempt.into())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from(u32::try_from(mixed >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
