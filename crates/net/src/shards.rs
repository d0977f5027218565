//! Threads that each run the connections given to them, alone: one event loop a thread, nothing stolen between them.
//!
//! HTTP connections run here. A proxied request is two sockets that answer in microseconds; on a runtime that moves
//! tasks between threads a third of its cost was waking threads (`docs/ARCHITECTURE.md` has the figures).
//!
//! Invariants: a connection stays on its shard for life, and so do the upstream connections it uses. Connections are
//! dealt out in turn. The threads end when they are told to, after the connections have.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Event loops, one a thread.
#[derive(Debug)]
pub struct Shards {
    handles: Vec<Handle>,
    stops: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    next: AtomicUsize,
}

impl Shards {
    /// Starts `count` of them, at least one.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let mut shards =
            Self { handles: Vec::new(), stops: Vec::new(), threads: Vec::new(), next: AtomicUsize::new(0) };
        for shard in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (stop, stopped) = oneshot::channel();
            shards.handles.push(runtime.handle().clone());
            shards.stops.push(stop);
            let run = move || {
                // A dropped sender stops it too.
                let _ = runtime.block_on(stopped);
            };
            shards.threads.push(std::thread::Builder::new().name(format!("http-{shard}")).spawn(run)?);
        }
        Ok(shards)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// The shard whose turn it is.
    pub(crate) fn next(&self) -> (usize, &Handle) {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        (shard, &self.handles[shard])
    }

    /// The event loop of the shard whose turn it is.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        self.next().1
    }

    /// Ends the threads. Blocks until they have ended; connections still on them end where they are.
    pub fn stop(self) {
        drop(self.stops);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("an HTTP thread panicked");
            }
        }
    }
}
