//! What serves HTTP, with or without a data directory: the gateway and what it needs.
//!
//! When this process takes over from another, it serves HTTP before it has the data directory: by the file's entities and
//! those of the Admin API that the other one handed over. Whatever needs the broker waits in [`Services`].

use super::access_log::AccessLogWriter;
use super::listeners::Listeners;
use super::names;
use super::services::Services;
use super::settings::Source;
use crate::commands::Failure;
use admin::{Control, Kept, Reload, Worker};
use config::Settings;
use gateway::{Gateway, Telling};
use net::http::{PoolSettings, UpstreamPool};
use net::resolve::Resolver;
use net::{Clock, Drain, Upkeep};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// See the module.
pub(super) struct Front {
    pub(super) settings: Settings,
    pub(super) source: Source,
    pub(super) clock: Clock,
    pub(super) resolver: Arc<Resolver>,
    /// For requests that the program itself makes.
    pub(super) pool: Arc<UpstreamPool>,
    pub(super) services: Services,
    pub(super) access_log: Option<Arc<AccessLogWriter>>,
    pub(super) gateway: Arc<Gateway>,
}

impl Front {
    /// Without routes; the control brings them.
    pub(super) fn new(settings: Settings, source: Source) -> Result<(Self, Control, Worker), Failure> {
        let clock = Clock::start();
        let resolver = Resolver::new(&names::resolver_settings(&settings.dns));
        let pool = Arc::new(UpstreamPool::new(PoolSettings::default(), Arc::clone(&resolver)));
        let services = Services::new();
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
        let gateway = Gateway::new(plugins::registry(), Arc::new(services.clone())).telling(telling);
        let gateway = Arc::new(gateway);
        let now = Arc::new(move || clock.now());
        let (control, worker) = Control::new(Arc::clone(&gateway), now, |name| std::env::var(name).ok());
        Ok((Self { settings, source, clock, resolver, pool, services, access_log, gateway }, control, worker))
    }

    /// Serves HTTP, and keeps upstreams up to date meanwhile.
    pub(super) fn serve(&self, listeners: &mut Listeners, drain: &Drain) -> JoinHandle<()> {
        listeners.serve_http(drain);
        let upkeep = Upkeep::new(Arc::clone(&self.gateway), Arc::clone(&self.resolver), self.clock);
        tokio::spawn(upkeep.run(drain.clone()))
    }

    /// Prepares the file's entities, and those that are kept of the Admin API.
    pub(super) async fn prepare(
        &self,
        control: &Control,
        kept: impl FnOnce() -> Kept + Send + 'static,
    ) -> Result<Reload, Failure> {
        self.gateway.set_real_ip(self.settings.real_ip.clone());
        self.gateway.allow_debug_header(self.settings.allow_debug_header);
        self.gateway.pass_early_hints(self.settings.early_hints);
        control.reload(self.settings.store.clone(), kept).await.map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure::new(lines.join("\n"))
        })
    }
}
