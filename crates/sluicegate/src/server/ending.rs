//! How the server ends: everything at once, or in two steps while another process takes over.
//!
//! Invariants: what is in flight has the time of `limits.drain_timeout`; the log is closed before the process says that
//! everything is on disk. Who waits for a promise until then is given it.

use super::listeners::Listeners;
use super::upgrade::{MOVE_TIME, PART_TIME, PUSHES_TIME, Upgrade};
use super::{Server, Signals, notify};
use crate::commands::{Failure, complain};
use net::{Drain, Shutdown};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long whoever reads the access log is waited for at the end.
const ACCESS_LOG_STOP: Duration = Duration::from_secs(2);

/// The signals of the end.
pub(super) struct Ends {
    /// To what serves HTTP by the gateway.
    pub(super) http: (Shutdown, Drain),
    /// To what needs the data directory.
    pub(super) stored: (Shutdown, Drain),
}

impl Ends {
    pub(super) fn new() -> Self {
        Self { http: Shutdown::new(), stored: Shutdown::new() }
    }
}

impl Server {
    /// Ends all.
    ///
    /// # Errors
    /// Not everything could be put on disk.
    pub(super) async fn stop(
        mut self,
        mut listeners: Listeners,
        ends: &Ends,
        upkeep: JoinHandle<()>,
    ) -> Result<(), Failure> {
        notify::stopping();
        self.state.ready.store(false, Ordering::Release);
        listeners.forget_sockets();
        ends.http.0.begin();
        ends.stored.0.begin();
        self.unbind_publishers()?;
        self.subscriptions.stop().await;
        warn_of(listeners.join_stored().await + listeners.join_http().await);
        listeners.stop().await;
        self.end_tasks(upkeep).await;
        self.close_engine().await?;
        self.stop_access_log().await;
        complain("sluicegate has stopped; everything is on disk");
        Ok(())
    }

    /// Lets another process have the sockets, then the data directory, and ends what is left of HTTP.
    ///
    /// # Errors
    /// Nobody has the data directory now.
    pub(super) async fn leave(
        mut self,
        upgrade: Upgrade,
        mut listeners: Listeners,
        ends: &Ends,
        upkeep: JoinHandle<()>,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        self.state.ready.store(false, Ordering::Release);
        listeners.forget_sockets();
        ends.http.0.leave();
        let _ = tokio::time::timeout(MOVE_TIME, listeners.join_http()).await;
        ends.stored.0.begin();
        self.unbind_publishers()?;
        let parted = async {
            // The other process waits for this: nobody may hold it up who is slow or silent.
            if tokio::time::timeout(PART_TIME, listeners.join_stored()).await.is_err() {
                ends.stored.0.cut();
                warn_of(listeners.join_stored().await);
            }
        };
        let (pushed, ()) = tokio::join!(tokio::time::timeout(PUSHES_TIME, self.subscriptions.stop()), parted);
        if pushed.is_err() {
            tracing::warn!("pushes were under way: they may be made again");
        }
        // What cannot be written was promised to nobody, and the other process is to have the rest.
        if let Err(error) = self.close_engine().await {
            tracing::error!(%error, "not everything is on disk");
        }
        let patience = self.front.settings.limits.drain_timeout;
        let http = async {
            tokio::select! {
                _ = listeners.join_http() => {}
                () = tokio::time::sleep(patience) => {}
                () = signals.stop() => {}
            }
            ends.http.0.begin();
            warn_of(listeners.join_http().await);
            listeners.stop().await;
        };
        let (finished, ()) = tokio::join!(upgrade.finish(&*self.engine), http);
        self.end_tasks(upkeep).await;
        self.stop_access_log().await;
        finished
    }

    /// What was read is taken in and confirmed, however fast; nothing more is.
    fn unbind_publishers(&self) -> Result<(), Failure> {
        self.broker.set_quotas(&[], self.front.clock.now()).map_err(Failure::new)
    }

    async fn end_tasks(&mut self, upkeep: JoinHandle<()>) {
        if upkeep.await.is_err() {
            tracing::error!("what keeps upstreams up to date had panicked");
        }
        if (&mut self.worker).await.is_err() {
            tracing::error!("what makes the changes of the Admin API had panicked");
        }
        if (&mut self.expiry).await.is_err() {
            tracing::error!("what takes away expired keys had panicked");
        }
        self.front.resolver.stop().await;
        self.pump.abort();
    }

    async fn close_engine(&self) -> Result<(), Failure> {
        let engine = Arc::clone(&self.engine);
        tokio::task::spawn_blocking(move || engine.close()).await.map_err(Failure::new)?.map_err(Failure::new)
    }

    async fn stop_access_log(&mut self) {
        let Some(access_log) = self.front.access_log.take() else { return };
        // Whoever reads it may have stopped reading; then the rest of it is lost, and nothing else.
        let stopped = tokio::task::spawn_blocking(move || access_log.stop());
        if tokio::time::timeout(ACCESS_LOG_STOP, stopped).await.is_err() {
            tracing::warn!("the access log could not be written to its end");
        }
    }
}

fn warn_of(ended: usize) {
    if ended > 0 {
        tracing::warn!(connections = ended, "had to be ended: they did not finish in time");
    }
}
