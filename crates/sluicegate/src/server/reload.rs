//! SIGHUP: read, check everything, then swap; a bad configuration changes nothing.

use super::Server;
use super::names::resolver_settings;
use crate::commands::complain;
use config::{Log, Settings, Telemetry};
use std::sync::Arc;

impl Server {
    /// Reads the configuration again. Whatever is wrong is said on stderr, and the old one stays in force.
    pub(super) async fn reload(&mut self) {
        let loaded = match self.front.source.load() {
            Ok(loaded) => loaded,
            Err(errors) => {
                complain(&format!("{errors}\nreload refused; the old configuration stays in force"));
                return;
            }
        };
        let settings = loaded.settings;
        // Until the end nothing is written through the Admin API: what is prepared is what will be in force.
        let prepared = match self.state.control.reload(settings.store.clone(), self.kept()).await {
            Ok(prepared) => prepared,
            Err(errors) => {
                for error in errors {
                    complain(&error.to_string());
                }
                complain("reload refused; the old configuration stays in force");
                return;
            }
        };
        if let Err(problems) = self.broker.apply_definitions(&settings.broker.definitions, self.front.clock.now()) {
            complain(&format!("{}\nreload refused; the old configuration stays in force", problems.join("\n")));
            return;
        }
        if let Err(problem) = self.broker.set_quotas(&settings.broker.quotas, self.front.clock.now()) {
            complain(&format!("{problem}\nreload refused; the old configuration stays in force"));
            return;
        }
        if let Err(failure) = self.ensure_queues(&settings).await {
            complain(&format!("{failure}\nreload refused; the old configuration stays in force"));
            return;
        }
        if let Err(failure) = self.ensure_named(&prepared.named_queues()).await {
            complain(&format!("{failure}\nreload refused; the old configuration stays in force"));
            return;
        }
        self.front.resolver.reload(&resolver_settings(&settings.dns));
        self.front.gateway.set_real_ip(settings.real_ip.clone());
        self.front.gateway.allow_debug_header(settings.allow_debug_header);
        self.front.gateway.pass_early_hints(settings.early_hints);
        prepared.commit();
        self.state.tokens.store(Arc::new(super::tokens(&settings)));
        if let Some(access_log) = &self.front.access_log {
            access_log.reopen();
        }
        self.subscriptions.apply(&settings.subscriptions).await;
        let changes = config::diff(&self.front.settings, &settings);
        for what in &changes.restart_required {
            complain(&format!("`{what}` has changed: that takes effect at the next start"));
        }
        if changes.log_level {
            crate::logging::set_level(settings.telemetry.log.level);
        }
        // What needs a restart keeps its old value, so that the next reload says so again.
        let log = Log { format: self.front.settings.telemetry.log.format, ..settings.telemetry.log };
        let telemetry = Telemetry { log, ..self.front.settings.telemetry.clone() };
        self.front.settings = Settings {
            listen: self.front.settings.listen.clone(),
            storage: self.front.settings.storage.clone(),
            limits: self.front.settings.limits.clone(),
            telemetry,
            ..settings
        };
        complain("configuration reloaded");
    }
}
