//! The composition root: makes the parts, joins them, and takes them down in order.
//!
//! ```text
//! storage -> broker -> services -> gateway, subscriptions -> listeners -> ready
//! ```
//!
//! Down the other way: not ready, nothing new accepted, what is in flight ends, subscriptions stop, the log is synced.

mod access_log;
mod feed;
mod gateway_service;
mod hedging;
mod listeners;
mod mirroring;
mod names;
mod pages;
mod protocols;
mod proxy;
mod pump;
mod reload;
mod sender;
mod services;
pub(crate) mod settings;

use crate::commands::{Failure, complain};
use access_log::AccessLogWriter;
use admin::{Control, Role, State, Tokens};
use arc_swap::ArcSwap;
use bridge::Subscriptions;
use broker::Broker;
use config::{AdminRole, Settings};
use engine::{Engine, Ticket};
use gateway::{Gateway, Telling};
use listeners::Listeners;
use model::MessageArena;
use net::http::{PoolSettings, UpstreamPool};
use net::resolve::Resolver;
use net::{Clock, Shutdown, Upkeep};
use parking_lot::Mutex;
use protocol::Formats;
use pump::Announcements;
use sender::Sender;
use services::Services;
use settings::Source;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use storage::Storage;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long whoever reads the access log is waited for at the end.
const ACCESS_LOG_STOP: Duration = Duration::from_secs(2);
/// How often idle upstream connections are looked through.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);

/// What is running.
struct Server {
    settings: Settings,
    source: Source,
    engine: Arc<dyn Engine>,
    broker: Arc<Broker>,
    gateway: Arc<Gateway>,
    clock: Clock,
    subscriptions: Subscriptions,
    state: Arc<State>,
    pool: Arc<UpstreamPool>,
    resolver: Arc<Resolver>,
    access_log: Option<Arc<AccessLogWriter>>,
}

/// Runs the server until it is told to stop and has stopped.
pub(crate) fn run(settings: Settings, source: Source, started: Instant) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::new)?;
    let result = runtime.block_on(serve(settings, source, started));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(settings: Settings, source: Source, started: Instant) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let announcements = Arc::new(Announcements::default());
    let mut server = Server::open(settings, source, &announcements)?;
    let (shutdown, drain) = Shutdown::new();
    let pump = tokio::spawn(pump::pump(announcements, Arc::clone(&server.broker), server.clock));
    server.ensure_queues(&server.settings).await?;
    server.load_gateway().await?;
    let listeners = Listeners::bind(&server, &drain)?;
    let upkeep = Upkeep::new(Arc::clone(&server.gateway), Arc::clone(&server.resolver), server.clock);
    let upkeep = tokio::spawn(upkeep.run(drain.clone()));
    server.subscriptions.apply(&server.settings.subscriptions).await;
    server.state.ready.store(true, Ordering::Release);
    complain(&format!(
        "sluicegate {} ready in {} ms: {}, data in {}",
        env!("CARGO_PKG_VERSION"),
        started.elapsed().as_millis(),
        listeners.describe(),
        server.settings.storage.path.display()
    ));
    server.attend(&mut signals, &listeners).await;

    server.state.ready.store(false, Ordering::Release);
    shutdown.begin();
    // What was read is taken in and confirmed, however fast; nothing more is.
    server.broker.set_quotas(&[], server.clock.now()).map_err(Failure::new)?;
    server.subscriptions.stop().await;
    let ended = listeners.join().await;
    if ended > 0 {
        tracing::warn!(connections = ended, "had to be ended: they did not finish in time");
    }
    if upkeep.await.is_err() {
        tracing::error!("what keeps upstreams up to date had panicked");
    }
    server.resolver.stop().await;
    pump.abort();
    let engine = Arc::clone(&server.engine);
    tokio::task::spawn_blocking(move || engine.close()).await.map_err(Failure::new)?.map_err(Failure::new)?;
    if let Some(access_log) = server.access_log.take() {
        // Whoever reads it may have stopped reading; then the rest of it is lost, and nothing else.
        let stopped = tokio::task::spawn_blocking(move || access_log.stop());
        if tokio::time::timeout(ACCESS_LOG_STOP, stopped).await.is_err() {
            tracing::warn!("the access log could not be written to its end");
        }
    }
    complain("sluicegate has stopped; everything is on disk");
    Ok(())
}

impl Server {
    fn open(settings: Settings, source: Source, announcements: &Arc<Announcements>) -> Result<Self, Failure> {
        let clock = Clock::start();
        let options = storage::Options {
            resident_bytes_max: settings.limits.memory_max,
            disk_free_limit: settings.limits.disk_free_limit as u64,
            ..storage::Options::default()
        };
        let storage = Storage::open(&settings.storage.path, options, Arc::clone(announcements) as _)
            .map_err(|error| Failure::new(format!("{}: {error}", settings.storage.path.display())))?;
        let engine: Arc<dyn Engine> = Arc::new(storage);
        let timer: Arc<dyn broker::Wake> = Arc::clone(announcements) as _;
        let broker = Broker::open(
            Arc::clone(&engine),
            formats(),
            &settings.broker.definitions,
            broker::Settings { timer: Some(timer) },
            clock.now(),
        )
        .map_err(Failure::new)?;
        broker.set_quotas(&settings.broker.quotas, clock.now()).map_err(Failure::new)?;
        let resolver = Resolver::new(&names::resolver_settings(&settings.dns));
        let pool = Arc::new(UpstreamPool::new(PoolSettings::default(), Arc::clone(&resolver)));
        let services = Arc::new(Services {
            broker: Arc::clone(&broker),
            engine: Arc::clone(&engine),
            formats: Arc::new(formats()),
            sender: Sender::new(Arc::clone(&pool)),
            clock,
            message_bytes_max: settings.limits.message_size_max,
            arena: Mutex::new(MessageArena::new()),
        });
        let access_log = match &settings.telemetry.access_log {
            None => None,
            Some(to) => Some(Arc::new(
                AccessLogWriter::start(to).map_err(|error| Failure::new(format!("telemetry.access_log: {error}")))?,
            )),
        };
        let telling = Telling {
            proxy_status: settings.telemetry.proxy_status,
            access_log: access_log.clone().map(|log| log as Arc<dyn gateway::AccessLog>),
        };
        let gateway = Gateway::new(plugins::registry(), Arc::clone(&services) as _).telling(telling);
        let gateway = Arc::new(gateway);
        let of_lines = access_log.clone();
        let (control, worker) = Control::open(
            Arc::clone(&engine),
            Arc::clone(&broker),
            Arc::clone(&gateway),
            Arc::new(move || clock.now()),
        );
        tokio::spawn(worker.work());
        let state = Arc::new(State {
            broker: Arc::clone(&broker),
            engine: Arc::clone(&engine),
            gateway: Arc::clone(&gateway),
            control,
            parse_yaml: |text| config::parse(text.to_owned()),
            tokens: ArcSwap::from_pointee(tokens(&settings)),
            ready: AtomicBool::new(false),
            started_at: SystemTime::now(),
            now: Box::new(move || clock.now()),
            log_lines_dropped: Box::new(move || of_lines.as_ref().map_or(0, |log| log.dropped())),
            version: env!("CARGO_PKG_VERSION"),
        });
        let subscriptions = Subscriptions::new(Arc::clone(&services) as _, services);
        Ok(Self { settings, source, engine, broker, gateway, clock, subscriptions, state, pool, resolver, access_log })
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
                .ensure_queue(vhost, queue, self.clock.now())
                .map_err(|refusal| Failure::new(format!("queue `{queue}`: {refusal}")))?;
            last = last.max(ticket);
        }
        services::durable(&self.broker, last).await;
        Ok(())
    }

    /// Puts the file's entities in force, and those that are kept of the Admin API.
    async fn load_gateway(&self) -> Result<(), Failure> {
        self.gateway.set_real_ip(self.settings.real_ip.clone());
        self.gateway.allow_debug_header(self.settings.allow_debug_header);
        let prepared = self.state.control.reload(self.settings.store.clone()).await.map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure::new(lines.join("\n"))
        })?;
        self.ensure_named(&prepared.named_queues()).await?;
        prepared.commit();
        Ok(())
    }

    /// Reloads on SIGHUP; returns on SIGTERM or Ctrl-C.
    async fn attend(&mut self, signals: &mut Signals, listeners: &Listeners) {
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hang_up.recv() => {
                    listeners.reload_certificates();
                    self.reload().await;
                }
                _ = sweep.tick() => {
                    self.pool.sweep();
                    listeners.sweep();
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

/// The signals the server answers to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Only listened to: a limit of file sizes (`ulimit -f`) is then a full disk and not the end of the process.
    _file_size: Signal,
}

/// SIGXFSZ, which has no name in tokio.
const FILE_SIZE: i32 = 25;

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            _file_size: listen(SignalKind::from_raw(FILE_SIZE))?,
        })
    }
}
