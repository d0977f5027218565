//! What a reload changes, and what of it needs a restart.

use crate::settings::Settings;

/// The difference between the settings in force and new ones.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Changes {
    /// Top-level keys whose new value is not taken over before a restart; to be told to the user.
    pub restart_required: Vec<&'static str>,
    /// The broker's definitions or quotas differ: what is new is to be declared.
    pub definitions: bool,
    /// Subscriptions to stop: removed ones, and the old form of changed ones.
    pub subscriptions_stopped: Vec<String>,
    /// Subscriptions to start: added ones, and the new form of changed ones.
    pub subscriptions_started: Vec<String>,
    /// The log's level differs.
    pub log_level: bool,
}

/// Compares two configurations. The gateway's entities are not compared: a new snapshot is built and swapped anyway.
#[must_use]
pub fn diff(old: &Settings, new: &Settings) -> Changes {
    let mut changes = Changes::default();
    let restart = [
        ("listen", old.listen != new.listen),
        ("storage", old.storage != new.storage),
        ("limits", old.limits != new.limits),
        ("telemetry.access_log", old.telemetry.access_log != new.telemetry.access_log),
        ("telemetry.proxy_status", old.telemetry.proxy_status != new.telemetry.proxy_status),
        ("telemetry.log.format", old.telemetry.log.format != new.telemetry.log.format),
    ];
    changes.restart_required.extend(restart.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key));
    changes.definitions = old.broker != new.broker;
    changes.log_level = old.telemetry.log.level != new.telemetry.log.level;
    for subscription in &old.subscriptions {
        if !new.subscriptions.contains(subscription) {
            changes.subscriptions_stopped.push(subscription.name.clone());
        }
    }
    for subscription in &new.subscriptions {
        if !old.subscriptions.contains(subscription) {
            changes.subscriptions_started.push(subscription.name.clone());
        }
    }
    changes
}
