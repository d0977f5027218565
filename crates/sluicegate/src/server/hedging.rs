//! A try with help: if it is slow, the same request goes to another address too, and the first good answer counts.
//!
//! Invariants: what loses is given up at once, its connection closed. An answer of 5xx counts only if no other try is
//! left.

use super::proxy::{Attempt, Failed, once, planned};
use gateway::balancer::Peer;
use gateway::entity::Hedge;
use gateway::{Exchange, Lost, UpstreamFailure};
use http::request;
use http1::FieldLines;
use model::Now;
use net::Clock;
use net::http::{Answer, Body, UpstreamPool};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Box<Answer>, Failed>> + Send + 'a>>;

/// Where a try goes and when it began; none is the exchange's own address.
type Beside = Option<(Peer, Now)>;

/// A try under way.
struct Try<'a> {
    peer: Beside,
    running: Running<'a>,
}

/// The tries of a request that are over.
#[derive(Default)]
struct Over {
    /// How the first one ended.
    first: Lost,
    others: Vec<(Peer, Lost)>,
    /// An answer to fall back to.
    answer: Option<(Beside, Box<Answer>)>,
}

/// Asks one address, and more of them while none has answered.
pub(super) async fn attempt(
    pool: &UpstreamPool,
    exchange: &mut Exchange,
    hedge: Hedge,
    body: Body,
    clock: Clock,
) -> Result<Box<Answer>, Failed> {
    let gone = || Failed { failure: UpstreamFailure::Unavailable, may_repeat: false };
    let (attempt, head, lines) = {
        let plan = exchange.plan().ok_or_else(gone)?;
        let attempt = plan.member.as_ref().and_then(|member| planned(pool, &plan, member)).ok_or_else(gone)?;
        (attempt, plan.request.clone(), plan.lines.clone())
    };
    let mut tries = vec![Try { peer: None, running: run(pool, attempt, head, lines, body.copy()) }];
    let (mut extra, mut over) = (hedge.extra_requests, Over::default());
    loop {
        let delay = tokio::time::sleep(Duration::from_millis(hedge.delay_ms.into()));
        tokio::select! {
            (tried, result) = first_to_end(&mut tries) => {
                match result {
                    Ok(answer) if answer.head.status.as_u16() < 500 || tries.is_empty() && over.answer.is_none() => {
                        return Ok(win(exchange, (tried.peer, answer), tries, over, clock));
                    }
                    Ok(answer) if over.answer.is_none() => over.answer = Some((tried.peer, answer)),
                    Ok(answer) => over.lose(tried.peer, Lost::Answered(answer.head.status)),
                    // The last failure is told as that of the exchange's own address; the others are told here.
                    Err(failed) if tries.is_empty() && over.answer.is_none() => {
                        exchange.hedged(tried.peer, over.first, over.others, clock.now());
                        return Err(failed);
                    }
                    Err(failed) => over.lose(tried.peer, Lost::Failed(failed.failure)),
                }
                if tries.is_empty() && let Some(answer) = over.answer.take() {
                    return Ok(win(exchange, answer, tries, over, clock));
                }
            }
            () = delay, if extra > 0 => {
                extra -= 1;
                let Some(peer) = exchange.hedge(clock.now()) else { extra = 0; continue };
                let Some(plan) = exchange.plan() else { continue };
                let Some(attempt) = planned(pool, &plan, &peer.member) else { continue };
                let mut head = plan.request.clone();
                let lines = plan.lines.clone();
                exchange.address_to(&mut head, &peer);
                tries.push(Try { peer: Some((peer, clock.now())), running: run(pool, attempt, head, lines, body.copy()) });
            }
        }
    }
}

fn run<'a>(
    pool: &'a UpstreamPool,
    attempt: Attempt,
    mut head: request::Parts,
    lines: FieldLines,
    mut body: Body,
) -> Running<'a> {
    Box::pin(async move { once(pool, &attempt, &mut head, &lines, &mut body).await })
}

/// Waits until one of the tries has ended, and takes it out.
async fn first_to_end<'a>(tries: &mut Vec<Try<'a>>) -> (Try<'a>, Result<Box<Answer>, Failed>) {
    poll_fn(|cx| {
        for at in 0..tries.len() {
            if let Poll::Ready(result) = tries[at].running.as_mut().poll(cx) {
                return Poll::Ready((tries.swap_remove(at), result));
            }
        }
        Poll::Pending
    })
    .await
}

impl Over {
    fn lose(&mut self, peer: Beside, lost: Lost) {
        match peer {
            None => self.first = lost,
            Some((peer, _)) => self.others.push((peer, lost)),
        }
    }
}

/// One answer counts; the rest is given up.
fn win(
    exchange: &mut Exchange,
    (winner, answer): (Beside, Box<Answer>),
    tries: Vec<Try<'_>>,
    mut over: Over,
    clock: Clock,
) -> Box<Answer> {
    if let Some((answered, worse)) = over.answer.take() {
        over.lose(answered, Lost::Answered(worse.head.status));
    }
    for tried in tries {
        over.lose(tried.peer, Lost::GivenUp);
    }
    exchange.hedged(winner, over.first, over.others, clock.now());
    answer
}
