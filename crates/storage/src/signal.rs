//! How work wakes the background threads.
//!
//! Invariants: a signal given before its thread waits is not lost. Without threads nobody waits, so signals cost a
//! short lock and do nothing.

use crate::Options;
use crate::canary::Canary;
use crate::sync::{Condvar, Mutex};
use engine::Durability;
use std::time::Duration;

/// Work that may wait, and that nothing else carries to the disk, waits this long. Half of what is promised: other work
/// that comes just before the end begins the wait anew, once.
const FLUSH: Duration = Duration::from_millis(Durability::INTERVAL_MS / 2);

/// Why a thread woke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wake {
    Work,
    /// The time for lazy work has come.
    Flush,
    Stop,
}

#[derive(Default)]
struct State {
    work: bool,
    lazy: bool,
    stop: bool,
    waiting: usize,
}

/// Wakes the threads of one job.
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
    /// See [`Canary::SleepLater`].
    sleeps_later: bool,
}

impl Signal {
    fn new(options: &Options) -> Self {
        let sleeps_later = options.plants(Canary::SleepLater);
        Self { state: Mutex::default(), changed: Condvar::default(), sleeps_later }
    }

    /// There is work.
    pub(crate) fn work(&self) {
        let mut state = self.state.lock();
        state.work = true;
        if state.waiting > 0 {
            self.changed.notify_one();
        }
    }

    /// There is work that may wait a while.
    pub(crate) fn lazy(&self) {
        let mut state = self.state.lock();
        if !state.lazy {
            state.lazy = true;
            if state.waiting > 0 {
                self.changed.notify_one();
            }
        }
    }

    /// All threads must end.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits for any of these.
    pub(crate) fn wait(&self) -> Wake {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return Wake::Stop;
            }
            if state.work {
                state.work = false;
                return Wake::Work;
            }
            if self.sleeps_later {
                drop(state);
                state = self.state.lock();
            }
            state.waiting += 1;
            let late = if state.lazy {
                self.changed.wait_for(&mut state, FLUSH).timed_out()
            } else {
                self.changed.wait(&mut state);
                false
            };
            state.waiting -= 1;
            if late && state.lazy && !state.stop {
                state.lazy = false;
                return Wake::Flush;
            }
        }
    }
}

/// One signal a job.
pub(crate) struct Signals {
    pub(crate) write: Signal,
    pub(crate) keep: Signal,
    pub(crate) read: Signal,
    pub(crate) bodies: Signal,
}

impl Signals {
    pub(crate) fn new(options: &Options) -> Self {
        let signal = || Signal::new(options);
        Self { write: signal(), keep: signal(), read: signal(), bodies: signal() }
    }
}
