//! All subscriptions: starts, stops and replaces their pushes as the configuration changes.

use crate::push::{Push, PushCounts};
use crate::subscription::SubscriptionSettings;
use plugin::{PushServices, Services};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The subscriptions that run. Dropping it without [`Subscriptions::stop`] ends them where they are; nothing is lost.
pub struct Subscriptions {
    services: Arc<dyn Services>,
    push: Arc<dyn PushServices>,
    running: BTreeMap<String, Running>,
}

struct Running {
    settings: Arc<SubscriptionSettings>,
    counts: Arc<PushCounts>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Subscriptions {
    /// None yet.
    #[must_use]
    pub fn new(services: Arc<dyn Services>, push: Arc<dyn PushServices>) -> Self {
        Self { services, push, running: BTreeMap::new() }
    }

    /// Makes what runs equal to `wanted`: those that did not change go on untouched.
    pub async fn apply(&mut self, wanted: &[SubscriptionSettings]) {
        let unchanged = |name: &str, running: &Running| {
            wanted.iter().any(|settings| settings.name == name && *settings == *running.settings)
        };
        let ended: Vec<String> =
            self.running.iter().filter(|(name, running)| !unchanged(name, running)).map(|(n, _)| n.clone()).collect();
        for name in ended {
            if let Some(running) = self.running.remove(&name) {
                running.stop().await;
            }
        }
        for settings in wanted {
            if !self.running.contains_key(&settings.name) {
                self.start(settings.clone());
            }
        }
    }

    /// Stops all, letting attempts in flight end.
    pub async fn stop(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.stop().await;
        }
    }

    /// What each subscription has done.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, Arc<PushCounts>)> {
        self.running.iter().map(|(name, running)| (name.clone(), Arc::clone(&running.counts))).collect()
    }

    fn start(&mut self, settings: SubscriptionSettings) {
        let settings = Arc::new(settings);
        let counts = Arc::new(PushCounts::default());
        let push =
            Push::new(Arc::clone(&settings), Arc::clone(&self.services), Arc::clone(&self.push), Arc::clone(&counts));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(push.run(async {
            // A dropped sender stops it too.
            let _ = stopped.await;
        }));
        self.running.insert(settings.name.clone(), Running { settings, counts, stop, task });
    }
}

impl Running {
    async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(subscription = %self.settings.name, %error, "the push ended badly");
        }
    }
}
