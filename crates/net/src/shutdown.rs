//! Stopping: one signal that everybody sees, and the tasks that must have ended before the process does.

use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The hand that gives the signal.
#[derive(Debug)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
}

/// An eye on the signal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    /// A signal not given yet, and an eye on it.
    #[must_use]
    pub fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(false);
        (Self { sender }, Drain { receiver })
    }

    /// Gives the signal: accept nothing new, finish what is in flight.
    pub fn begin(&self) {
        self.sender.send_replace(true);
    }
}

impl Drain {
    /// Whether the signal was given.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Waits for the signal. Also returns if nobody can give it any more.
    pub async fn begun(&mut self) {
        let _ = self.receiver.wait_for(|draining| *draining).await;
    }
}

/// Tasks with an owner.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
}

impl Tasks {
    /// Owns nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task and owns it. A panic in it is logged and ends only it.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
        self.reap();
    }

    /// The same on another runtime.
    pub fn spawn_on(&mut self, task: impl Future<Output = ()> + Send + 'static, runtime: &tokio::runtime::Handle) {
        self.set.spawn_on(task, runtime);
        self.reap();
    }

    fn reap(&mut self) {
        while let Some(ended) = self.set.try_join_next() {
            log_panic(ended);
        }
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether all have ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Waits until all have ended, at most `patience`; then ends the rest. Returns how many had to be ended.
    pub async fn join(mut self, patience: Duration) -> usize {
        let all = async {
            while let Some(ended) = self.set.join_next().await {
                log_panic(ended);
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
        let left = self.set.len();
        self.set.shutdown().await;
        left
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; only that connection ended");
    }
}
