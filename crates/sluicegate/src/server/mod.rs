//! The composition root: makes the parts, joins them, and takes them down in order.
//!
//! ```text
//! front (gateway, services) -> storage -> broker -> control, subscriptions -> listeners -> ready
//! ```
//!
//! Down the other way: not ready, nothing new accepted, what is in flight ends, subscriptions stop, the log is synced. If
//! another process takes over, HTTP is served on that side before there is storage, and ends on this side after it
//! ([`upgrade`]).

mod access_log;
mod datagram_service;
mod ending;
mod feed;
mod front;
mod gateway_service;
mod hedging;
mod listeners;
mod mirroring;
mod names;
mod notify;
mod open;
mod pages;
mod protocols;
mod proxy;
mod pump;
mod reload;
mod sender;
mod services;
pub(crate) mod settings;
mod signals;
mod stream_service;
pub(crate) mod upgrade;

use crate::commands::{Failure, complain};
use admin::{Control, Kept, Role, State, Tokens, Worker};
use arc_swap::ArcSwap;
use bridge::Subscriptions;
use broker::Broker;
use config::{AdminRole, Settings};
use ending::Ends;
use engine::{Engine, Ticket};
use front::Front;
use listeners::Listeners;
use model::MessageArena;
use parking_lot::Mutex;
use protocol::Formats;
use pump::Announcements;
use sender::Sender;
use services::Stored;
use settings::Source;
use signals::{Asked, Signals};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinHandle;
use upgrade::{Inheritance, Met, Program, Upgrade};

/// How often idle upstream connections are looked through.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);

/// What is running.
struct Server {
    front: Front,
    program: Program,
    engine: Arc<dyn Engine>,
    broker: Arc<Broker>,
    stored: Arc<Stored>,
    subscriptions: Subscriptions,
    state: Arc<State>,
    /// Makes the changes of the Admin API.
    worker: JoinHandle<()>,
    /// Takes away what has expired.
    expiry: JoinHandle<()>,
    pump: JoinHandle<()>,
}

/// Runs the server until it is told to stop and has stopped, or another process has taken over. `met` is the process that
/// this one takes over from.
pub(crate) fn run(
    settings: Settings,
    source: Source,
    program: Program,
    met: Option<Met>,
    started: Instant,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::new)?;
    let result = runtime.block_on(serve(settings, source, program, met, started));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(
    settings: Settings,
    source: Source,
    program: Program,
    met: Option<Met>,
    started: Instant,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let (front, control, worker) = Front::new(settings, source)?;
    let ends = Ends::new();
    let before = match met {
        None => None,
        Some(met) => {
            let (mut predecessor, Inheritance { metas, sockets }) = met.begin()?;
            let of_api = metas.clone();
            let prepared = front.prepare(&control, || Kept::read(of_api)).await?;
            // Whoever has the data now goes on if this process could not.
            open::rehearse(&front, metas, prepared.named_queues()).await?;
            prepared.commit();
            let mut listeners = Listeners::bind(&front, Inheritance { sockets, ..Inheritance::default() })?;
            let upkeep = front.serve(&mut listeners, &ends.http.1);
            predecessor.replace().await?;
            Some((predecessor, listeners, upkeep))
        }
    };
    let mut server = Server::open(front, program, (control, worker), &ends, before.is_some()).await?;
    server.load_gateway().await?;
    let (predecessor, mut listeners, upkeep) = match before {
        Some((predecessor, listeners, upkeep)) => (Some(predecessor), listeners, upkeep),
        None => {
            let mut listeners = Listeners::bind(&server.front, Inheritance::default())?;
            let upkeep = server.front.serve(&mut listeners, &ends.http.1);
            (None, listeners, upkeep)
        }
    };
    listeners.serve_stored(&server, &ends.stored.1);
    server.subscriptions.apply(&server.front.settings.subscriptions).await;
    server.state.ready.store(true, Ordering::Release);
    complain(&format!(
        "sluicegate {} ready in {} ms: {}, data in {}",
        env!("CARGO_PKG_VERSION"),
        started.elapsed().as_millis(),
        listeners.describe(),
        server.front.settings.storage.path.display()
    ));
    notify::ready();
    if let Some(predecessor) = predecessor {
        predecessor.thank().await;
    }
    match server.attend(&mut signals, &listeners).await {
        None => server.stop(listeners, &ends, upkeep).await,
        Some(upgrade) => server.leave(upgrade, listeners, &ends, upkeep, &mut signals).await,
    }
}

impl Server {
    async fn open(
        front: Front,
        program: Program,
        (control, worker): (Control, Worker),
        ends: &Ends,
        takes_over: bool,
    ) -> Result<Self, Failure> {
        let announcements = Arc::new(Announcements::default());
        let (engine, broker) = open::broker(&front, &announcements, takes_over).await?;
        let (settings, clock) = (&front.settings, front.clock);
        let pump = tokio::spawn(pump::pump(announcements, Arc::clone(&broker), clock));
        let stored = Arc::new(Stored {
            broker: Arc::clone(&broker),
            engine: Arc::clone(&engine),
            formats: Arc::new(formats()),
            sender: Sender::new(Arc::clone(&front.pool)),
            clock,
            message_bytes_max: settings.limits.message_size_max,
            arena: Mutex::new(MessageArena::new()),
        });
        let mut stop = ends.stored.1.clone();
        let stop = async move { stop.begun().await };
        let worker = tokio::spawn(worker.work(Arc::clone(&engine), Arc::clone(&broker), stop));
        let of_lines = front.access_log.clone();
        let state = Arc::new(State {
            broker: Arc::clone(&broker),
            engine: Arc::clone(&engine),
            gateway: Arc::clone(&front.gateway),
            control,
            parse_yaml: |text| config::parse(text.to_owned()),
            tokens: ArcSwap::from_pointee(tokens(settings)),
            ready: AtomicBool::new(false),
            started_at: SystemTime::now(),
            now: Box::new(move || clock.now()),
            log_lines_dropped: Box::new(move || of_lines.as_ref().map_or(0, |log| log.dropped())),
            version: env!("CARGO_PKG_VERSION"),
        });
        let subscriptions = Subscriptions::new(Arc::clone(&stored) as _, Arc::clone(&stored) as _);
        let (expiring, mut stop) = (Arc::clone(&state), ends.stored.1.clone());
        let expiry = tokio::spawn(async move { expiring.control.forget_expired(stop.begun()).await });
        Ok(Self { front, program, engine, broker, stored, subscriptions, state, worker, expiry, pump })
    }

    /// Declares the queues that services and subscriptions of the file name, and waits until that is durable.
    async fn ensure_queues(&self, settings: &Settings) -> Result<(), Failure> {
        let named = settings.named_queues();
        let named: Vec<_> = named.into_iter().map(|(vhost, queue)| (vhost.to_owned(), queue.to_owned())).collect();
        self.ensure_named(&named).await
    }

    /// Declares queues by vhost and name, and waits until that is durable.
    async fn ensure_named(&self, named: &[(String, String)]) -> Result<(), Failure> {
        let mut last = Ticket::NONE;
        for (vhost, queue) in named {
            let ticket = self
                .broker
                .ensure_queue(vhost, queue, self.front.clock.now())
                .map_err(|refusal| Failure::new(format!("queue `{queue}`: {refusal}")))?;
            last = last.max(ticket);
        }
        services::durable(&self.broker, last).await;
        Ok(())
    }

    /// Puts the file's entities in force, and those that are kept of the Admin API; then messages are taken.
    async fn load_gateway(&self) -> Result<(), Failure> {
        self.ensure_queues(&self.front.settings).await?;
        let prepared = self.front.prepare(&self.state.control, self.kept()).await?;
        self.ensure_named(&prepared.named_queues()).await?;
        prepared.commit();
        self.front.services.open(Arc::clone(&self.stored));
        Ok(())
    }

    /// Reads what is kept of the Admin API.
    fn kept(&self) -> impl FnOnce() -> Kept + Send + use<> {
        let engine = Arc::clone(&self.engine);
        move || Kept::read(engine.metas())
    }

    /// Reloads on SIGHUP; returns on SIGTERM or Ctrl-C, or when another process has been started on SIGUSR2 to take over.
    async fn attend(&mut self, signals: &mut Signals, listeners: &Listeners) -> Option<Upgrade> {
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        loop {
            let asked = tokio::select! {
                asked = signals.next() => asked,
                _ = sweep.tick() => {
                    self.front.pool.sweep();
                    listeners.sweep();
                    continue;
                }
            };
            match asked {
                Asked::Stop => return None,
                Asked::Reload => {
                    listeners.reload_certificates();
                    self.reload().await;
                }
                Asked::Upgrade => {
                    let begun = tokio::select! {
                        begun = Upgrade::begin(self, listeners) => begun,
                        () = signals.stop() => return None,
                    };
                    match begun {
                        Ok(upgrade) => return Some(upgrade),
                        Err(failure) => complain(&format!("upgrade refused, this process goes on: {failure}")),
                    }
                }
            }
        }
    }
}

/// Who may use the Admin API.
fn tokens(settings: &Settings) -> Tokens {
    Tokens::new(settings.admin.tokens.iter().map(|token| {
        let role = match token.role {
            AdminRole::Read => Role::Read,
            AdminRole::Write => Role::Write,
        };
        (token.token.reveal(), role)
    }))
}

/// The formats of every protocol that has one.
fn formats() -> Formats {
    Formats::new(vec![Box::new(amqp::Amqp091Format)])
}
