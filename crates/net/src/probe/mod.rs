//! Active health checks: the probes of upstreams that want them, each upstream's in a task of its own.
//!
//! | file | holds |
//! |---|---|
//! | `schedule` | when each address is probed, without clock |
//! | `send`, `grpc` | one probe and what its answer means |
//! | `under_way` | probes that have not ended |
//! | here | the task of an upstream |
//!
//! Addresses that are up are probed at the interval of healthy ones only, others at that of unhealthy ones only, drained
//! ones not at all; at most `concurrency` at a time. What a probe says goes to the upstream's [`Balancer`], which judges.
//! A change of configuration that keeps the upstream keeps its task and its schedule.

mod grpc;
mod schedule;
mod send;
mod under_way;

use crate::Clock;
use crate::random::random;
use crate::resolve::Resolver;
use gateway::balancer::{AddressKey, Balancer, Member, Outcome};
use gateway::entity::ActiveChecks;
use schedule::Schedule;
use send::Probe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use under_way::UnderWay;

/// How often addresses are looked at for changes of their health.
const LOOK: Duration = Duration::from_millis(500);

/// How long what probes need is not made again after it could not be: the system's authorities are files.
const PREPARE_AGAIN: Duration = Duration::from_secs(1);

/// Probes one upstream until the sender of balancers is gone.
pub(crate) async fn probe_upstream(
    mut balancers: watch::Receiver<Arc<Balancer>>,
    resolver: Arc<Resolver>,
    clock: Clock,
) {
    let mut task = Task::new(Arc::clone(&balancers.borrow_and_update()), resolver, clock);
    loop {
        let next = task.begin_due();
        tokio::select! {
            changed = balancers.changed() => match changed {
                Ok(()) => task.change(Arc::clone(&balancers.borrow_and_update())),
                Err(_) => return,
            },
            (member, outcome) = task.under_way.next() => task.take(&member, outcome),
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

struct Task {
    balancer: Arc<Balancer>,
    resolver: Arc<Resolver>,
    clock: Clock,
    probe: Result<Probe, Failed>,
    schedule: Schedule<AddressKey>,
    under_way: UnderWay<Arc<Member>, Outcome>,
}

impl Task {
    fn new(balancer: Arc<Balancer>, resolver: Arc<Resolver>, clock: Clock) -> Self {
        let probe = prepare(&balancer, &resolver, None);
        Self { balancer, resolver, clock, probe, schedule: Schedule::new(), under_way: UnderWay::new() }
    }

    fn checks(&self) -> &ActiveChecks {
        &self.balancer.upstream().health_checks.active
    }

    fn change(&mut self, balancer: Arc<Balancer>) {
        let is_same = *self.checks() == balancer.upstream().health_checks.active
            && self.balancer.identity() == balancer.identity();
        if !is_same {
            self.probe = prepare(&balancer, &self.resolver, None);
        }
        self.balancer = balancer;
    }

    /// Begins what is due and there is room for; returns when to look again.
    fn begin_due(&mut self) -> Instant {
        let now = self.clock.now().mono;
        if let Err(failed) = &self.probe
            && failed.at.elapsed() >= PREPARE_AGAIN
        {
            self.probe = prepare(&self.balancer, &self.resolver, Some(failed));
        }
        let members = self.balancer.members();
        let probed = members.iter().filter(|member| member.weight > 0);
        let addresses: Vec<_> = probed.map(|member| (member.address.key().clone(), member.address.is_up())).collect();
        let (due, next) = self.schedule.due(&addresses, self.checks().intervals, now, random);
        let room = (self.checks().concurrency as usize).saturating_sub(self.under_way.len());
        for key in due.iter().take(room) {
            let member = members.iter().find(|member| member.address.key() == key);
            if let (Some(member), Ok(probe)) = (member.cloned(), self.probe.clone()) {
                self.schedule.begin(key, now);
                let sent = Arc::clone(&member);
                self.under_way.begin(member, async move { probe.send(&sent).await });
            }
        }
        let wait = next.map_or(LOOK, |next| next.since(now).min(LOOK));
        Instant::now() + wait
    }

    /// A probe has ended; without an outcome if it panicked, which says nothing of the address.
    fn take(&mut self, member: &Member, outcome: Option<Outcome>) {
        self.schedule.end(member.address.key());
        let Some(outcome) = outcome else { return };
        let was_up = member.address.is_up();
        self.balancer.probed(member, outcome, self.clock.now().mono);
        let is_up = member.address.is_up();
        if was_up != is_up {
            let (upstream, address) = (&self.balancer.upstream().name, member.address.key());
            let state = if is_up { "healthy" } else { "unhealthy" };
            tracing::info!(upstream, host = %address.host, port = address.port, ?outcome, state, "a probe says");
        }
    }
}

/// What probes need could not be made.
#[derive(Clone)]
struct Failed {
    why: String,
    at: Instant,
}

/// What probes need; of a failure that is like the last one nothing is said.
fn prepare(balancer: &Balancer, resolver: &Arc<Resolver>, last: Option<&Failed>) -> Result<Probe, Failed> {
    let upstream = balancer.upstream();
    Probe::new(&upstream.health_checks.active, balancer.identity(), resolver).map_err(|why| {
        if last.is_none_or(|last| last.why != why) {
            tracing::error!(upstream = upstream.name, error = why, "no probes are sent");
        }
        Failed { why, at: Instant::now() }
    })
}
