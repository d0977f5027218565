//! What keeps upstreams up to date: the addresses of targets that are names, probes, and catalogues.
//!
//! One task follows the gateway's upstreams and gives each name, each upstream with probes and each with a catalogue a
//! task of its own, which lives as long as somebody uses it: a change of configuration tells it what is new and does not
//! start it anew. What they find out goes to the gateway.
//!
//! Invariants: every task is owned and joined; each ends when whoever tells it is gone. A name is looked at again at the
//! end of its answer, and at least every [`LOOK_AGAIN`], which costs nothing while the answer is known.

use crate::clock::Clock;
use crate::discovery::Follower;
use crate::http::{PoolSettings, UpstreamPool};
use crate::probe::probe_upstream;
use crate::resolve::{Endpoint, ResolveError, Resolver};
use crate::shutdown::{Drain, Tasks};
use gateway::Gateway;
use gateway::balancer::{Balancer, Resolution, ResolvedAddress};
use gateway::entity::{Discovery, TargetAddress, UpstreamId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often the gateway is looked at for other upstreams.
const LOOK: Duration = Duration::from_millis(250);
/// The longest a name is not looked at: others may have asked for it meanwhile, or the resolver's settings changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The shortest.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(100);
/// Time for what is under way when all ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// The targets that have a name.
type Users = Vec<(UpstreamId, TargetAddress)>;

/// Follows the upstreams of a gateway.
pub struct Upkeep {
    gateway: Arc<Gateway>,
    resolver: Arc<Resolver>,
    clock: Clock,
    /// For catalogues.
    pool: Arc<UpstreamPool>,
    tasks: Tasks,
    /// Those of the last look.
    balancers: Vec<Arc<Balancer>>,
    names: HashMap<String, watch::Sender<Users>>,
    probes: HashMap<UpstreamId, watch::Sender<Arc<Balancer>>>,
    catalogues: HashMap<UpstreamId, (Discovery, watch::Sender<()>)>,
}

impl Upkeep {
    /// Follows nothing yet.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, resolver: Arc<Resolver>, clock: Clock) -> Self {
        let pool = Arc::new(UpstreamPool::new(PoolSettings::default(), Arc::clone(&resolver)));
        Self {
            gateway,
            resolver,
            clock,
            pool,
            tasks: Tasks::new(),
            balancers: Vec::new(),
            names: HashMap::new(),
            probes: HashMap::new(),
            catalogues: HashMap::new(),
        }
    }

    /// Follows until all is to end, and until it has.
    pub async fn run(mut self, mut drain: Drain) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = drain.ending() => break,
                _ = look.tick() => self.look(),
            }
        }
        let Self { tasks, names, probes, catalogues, .. } = self;
        drop((names, probes, catalogues));
        tasks.join(PATIENCE).await;
    }

    fn look(&mut self) {
        self.pool.sweep();
        let mut balancers = self.gateway.balancers();
        balancers.sort_unstable_by_key(|balancer| balancer.upstream().id);
        let same = |(a, b): (&Arc<Balancer>, &Arc<Balancer>)| Arc::ptr_eq(a, b);
        if balancers.len() == self.balancers.len() && balancers.iter().zip(&self.balancers).all(same) {
            return;
        }
        self.balancers = balancers;
        self.follow_names();
        self.follow_probes();
        self.follow_catalogues();
    }

    fn follow_names(&mut self) {
        let mut wanted: HashMap<String, Users> = HashMap::new();
        for balancer in &self.balancers {
            for target in balancer.names() {
                wanted.entry(target.host.clone()).or_default().push((balancer.upstream().id, target.clone()));
            }
        }
        self.names.retain(|host, _| wanted.contains_key(host));
        for (host, users) in wanted {
            if let Some(sender) = self.names.get(&host) {
                sender.send_if_modified(|before| {
                    let differs = *before != users;
                    *before = users;
                    differs
                });
                continue;
            }
            let (sender, receiver) = watch::channel(users);
            let (gateway, resolver) = (Arc::clone(&self.gateway), Arc::clone(&self.resolver));
            self.tasks.spawn(follow_name(host.clone(), receiver, resolver, gateway));
            self.names.insert(host, sender);
        }
    }

    fn follow_probes(&mut self) {
        let probed = |balancer: &&Arc<Balancer>| balancer.upstream().health_checks.probes();
        let wanted: HashMap<UpstreamId, Arc<Balancer>> =
            self.balancers.iter().filter(probed).map(|b| (b.upstream().id, Arc::clone(b))).collect();
        self.probes.retain(|id, _| wanted.contains_key(id));
        for (id, balancer) in wanted {
            if let Some(sender) = self.probes.get(&id) {
                sender.send_if_modified(|before| {
                    let differs = !Arc::ptr_eq(before, &balancer);
                    *before = balancer;
                    differs
                });
                continue;
            }
            let (sender, receiver) = watch::channel(balancer);
            self.tasks.spawn(probe_upstream(receiver, Arc::clone(&self.resolver), self.clock));
            self.probes.insert(id, sender);
        }
    }

    fn follow_catalogues(&mut self) {
        let mut before = std::mem::take(&mut self.catalogues);
        for balancer in &self.balancers {
            let Some((discovery, target)) = balancer.discovery() else { continue };
            let id = balancer.upstream().id;
            if let Some(same) = before.remove(&id).filter(|(known, _)| known == discovery) {
                self.catalogues.insert(id, same);
                continue;
            }
            let (resolver, pool) = (Arc::clone(&self.resolver), Arc::clone(&self.pool));
            let state = Arc::clone(balancer.catalogue_state());
            let follower = Follower::new(discovery.clone(), resolver, pool, state);
            let (gateway, target) = (Arc::clone(&self.gateway), target.clone());
            let publish = move |endpoints: Vec<Endpoint>| {
                let addresses = endpoints.iter().map(resolved).collect();
                gateway.set_addresses(id, &target, Resolution::Addresses(addresses));
            };
            let (sender, mut ended) = watch::channel(());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = follower.run(publish) => {}
                    _ = ended.changed() => {}
                }
            });
            self.catalogues.insert(id, (discovery.clone(), sender));
        }
    }
}

/// Tells what a name resolves to, again and again, to the targets that have it.
async fn follow_name(host: String, mut users: watch::Receiver<Users>, resolver: Arc<Resolver>, gateway: Arc<Gateway>) {
    let mut failed = None;
    loop {
        let answer = resolver.answer(&host).await;
        let now = Instant::now();
        let (resolution, until) = match &answer {
            Ok(answer) => (Resolution::Addresses(answer.endpoints.iter().map(resolved).collect()), answer.until),
            Err(_) => (Resolution::Failed, now + LOOK_AGAIN),
        };
        let error = answer.err();
        if error != failed {
            report(&host, error);
            failed = error;
        }
        for (upstream, target) in &*users.borrow_and_update() {
            gateway.set_addresses(*upstream, target, resolution.clone());
        }
        let again = until.clamp(now + LOOK_AGAIN_MIN, now + LOOK_AGAIN);
        tokio::select! {
            changed = users.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(again) => {}
        }
    }
}

fn report(host: &str, error: Option<ResolveError>) {
    match error {
        Some(error) => tracing::warn!(host, %error, "a target's name is not resolved"),
        None => tracing::info!(host, "a target's name is resolved again"),
    }
}

fn resolved(endpoint: &Endpoint) -> ResolvedAddress {
    let Endpoint { ip, port, weight, name } = endpoint.clone();
    ResolvedAddress { ip, port, weight, name }
}
