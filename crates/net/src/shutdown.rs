//! Stopping: one signal that everybody sees, and the tasks that must have ended before the process does.
//!
//! There are two ways to stop. At the end of a server ([`Shutdown::begin`]) idle connections are closed at once. When another
//! process takes over ([`Shutdown::leave`]) they may stay until their next request, whose answer sends the client to the
//! other one: to close a connection on which a request may be on its way is to lose it.

use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Serving,
    /// Nothing new is accepted; who is idle may stay.
    Leaving,
    /// Who is idle goes.
    Ending,
    /// Who is still there is not waited for.
    Over,
}

/// The hand that gives the signal.
#[derive(Debug)]
pub struct Shutdown {
    sender: watch::Sender<Phase>,
}

/// An eye on the signal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    receiver: watch::Receiver<Phase>,
}

impl Shutdown {
    /// A signal not given yet, and an eye on it.
    #[must_use]
    pub fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self { sender }, Drain { receiver })
    }

    /// Gives the signal: accept nothing new, finish what is in flight, close what is idle.
    pub fn begin(&self) {
        self.advance(Phase::Ending);
    }

    /// Says that it is over: what has not finished is ended.
    pub fn cut(&self) {
        self.advance(Phase::Over);
    }

    /// Gives half of it: accept nothing new, and let each answer be the last of its connection. What is idle may stay until
    /// [`Shutdown::begin`].
    pub fn leave(&self) {
        self.advance(Phase::Leaving);
    }

    fn advance(&self, to: Phase) {
        self.sender.send_if_modified(|phase| {
            let is_news = *phase < to;
            *phase = (*phase).max(to);
            is_news
        });
    }
}

impl Drain {
    /// Whether the signal was given, or half of it.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.receiver.borrow() >= Phase::Leaving
    }

    /// Waits for the signal, or half of it. Also returns if nobody can give it any more.
    pub async fn begun(&mut self) {
        let _ = self.receiver.wait_for(|phase| *phase >= Phase::Leaving).await;
    }

    /// Waits for the whole signal: what is idle goes now. Also returns if nobody can give it any more.
    pub async fn ending(&mut self) {
        let _ = self.receiver.wait_for(|phase| *phase >= Phase::Ending).await;
    }

    /// Waits until it is over, at most for `patience`.
    pub async fn over(&mut self, patience: Duration) {
        let over = async {
            if self.receiver.wait_for(|phase| *phase == Phase::Over).await.is_err() {
                // Nobody can say so any more.
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(patience, over).await;
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

    /// Waits until all have ended. Nothing is lost if it is given up.
    pub async fn ended(&mut self) {
        while let Some(ended) = self.set.join_next().await {
            log_panic(ended);
        }
    }

    /// Waits until all have ended, at most `patience`; then ends the rest. Returns how many had to be ended.
    pub async fn join(self, patience: Duration) -> usize {
        self.join_until(tokio::time::sleep(patience)).await
    }

    /// The same, at most until something has happened.
    pub async fn join_until(mut self, enough: impl Future<Output = ()>) -> usize {
        tokio::select! {
            // Who has ended is not counted among those who had to be.
            biased;
            () = self.ended() => {}
            () = enough => {}
        }
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
