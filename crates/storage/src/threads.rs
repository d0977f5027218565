//! The threads that run the engine's jobs: two that write and sync in turn, one that keeps house, one that
//! reads, one that writes large bodies.
//!
//! Invariants: the threads decide nothing; each calls one step of the core whenever it is told that there is work.

use crate::core::Core;
use crate::disk::DiskError;
use crate::keeper::Left;
use crate::signal::Wake;
use crate::sync::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;

type Job = fn(&Core);

/// A thread that panics would leave everyone waiting: the process ends instead, and recovery runs.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// See the module.
pub(crate) struct Threads {
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// No threads: somebody runs the jobs by hand.
    #[cfg(feature = "sim")]
    pub(crate) fn none() -> Self {
        Self { handles: Mutex::new(Vec::new()) }
    }

    pub(crate) fn start(core: &Arc<Core>) -> Result<Self, DiskError> {
        let jobs: [(&str, Job); 5] = [
            ("storage-write-1", write),
            ("storage-write-2", write),
            ("storage-keep", keep),
            ("storage-read", read),
            ("storage-bodies", bodies),
        ];
        let threads = Self { handles: Mutex::new(Vec::new()) };
        for (name, job) in jobs {
            let core_of_job = core.clone();
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _end = AbortOnPanic;
                job(&core_of_job);
            });
            match spawned {
                Ok(handle) => threads.handles.lock().push(handle),
                Err(error) => {
                    threads.stop(core);
                    return Err(DiskError::Io(error.to_string()));
                }
            }
        }
        core.signals.keep.work();
        Ok(threads)
    }

    /// Ends all threads and waits for them.
    pub(crate) fn stop(&self, core: &Core) {
        core.signals.write.stop();
        core.signals.keep.stop();
        core.signals.read.stop();
        core.signals.bodies.stop();
        for handle in self.handles.lock().drain(..) {
            // A panic in one of them has been reported by the panic hook.
            let _ = handle.join();
        }
    }
}

pub(crate) fn write(core: &Core) {
    loop {
        let wake = core.signals.write.wait();
        if wake == Wake::Stop {
            return;
        }
        if core.sync_step(wake == Wake::Flush) {
            // The disk is full: tries again after a while, or when something else happens.
            core.signals.write.lazy();
        }
    }
}

fn keep(core: &Core) {
    while core.signals.keep.wait() != Wake::Stop {
        match core.keep_step() {
            Left::Nothing => {}
            Left::Later => core.signals.keep.lazy(),
            Left::Now => core.signals.keep.work(),
        }
    }
}

fn read(core: &Core) {
    while core.signals.read.wait() != Wake::Stop {
        while core.read_step() | core.read_piece_step() {}
    }
}

fn bodies(core: &Core) {
    while core.signals.bodies.wait() != Wake::Stop {
        while core.body_step() {}
    }
}
