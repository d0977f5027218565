//! SIGHUP: read, check everything, then swap; a bad configuration changes nothing.

use super::Server;
use super::settings::load;
use crate::commands::complain;
use config::Settings;
use gateway::entity::Backend;

impl Server {
    /// Reads the configuration again. Whatever is wrong is said on stderr, and the old one stays in force.
    pub(super) async fn reload(&mut self) {
        let loaded = match load(self.config_file.as_deref()) {
            Ok(loaded) => loaded,
            Err(errors) => {
                complain(&format!("{errors}\nreload refused; the old configuration stays in force"));
                return;
            }
        };
        let settings = loaded.settings;
        let snapshot = match self.gateway.prepare(&settings.entities) {
            Ok(snapshot) => snapshot,
            Err(errors) => {
                for error in errors {
                    complain(&error.to_string());
                }
                complain("reload refused; the old configuration stays in force");
                return;
            }
        };
        if let Err(problems) = self.broker.apply_definitions(&settings.broker.definitions, self.clock.now()) {
            complain(&format!("{}\nreload refused; the old configuration stays in force", problems.join("\n")));
            return;
        }
        if let Err(failure) = self.ensure_queues(&settings).await {
            complain(&format!("{failure}\nreload refused; the old configuration stays in force"));
            return;
        }
        self.gateway.activate(snapshot);
        self.subscriptions.apply(&settings.subscriptions).await;
        let changes = config::diff(&self.settings, &settings);
        for what in &changes.restart_required {
            complain(&format!("`{what}` has changed: that takes effect at the next start"));
        }
        // What needs a restart keeps its old value, so that the next reload says so again.
        self.settings = Settings {
            listen: self.settings.listen.clone(),
            storage: self.settings.storage.clone(),
            limits: self.settings.limits.clone(),
            telemetry: self.settings.telemetry.clone(),
            ..settings
        };
        complain("configuration reloaded");
    }
}

/// The queues that services and subscriptions name, each with its vhost.
pub(super) fn named_queues(settings: &Settings) -> impl Iterator<Item = (&str, &str)> {
    let services = settings.entities.services.iter().filter_map(|service| match &service.backend {
        Backend::Queue(queue) => Some((queue.vhost.as_str(), queue.queue.as_str())),
        Backend::Http(_) => None,
    });
    let subscriptions = settings.subscriptions.iter().flat_map(|subscription| {
        let queues = std::iter::once(&subscription.queue).chain(&subscription.dead_letter);
        queues.map(|queue| (subscription.vhost.as_str(), queue.as_str()))
    });
    services.chain(subscriptions)
}
