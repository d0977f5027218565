//! A sync that takes long: it stands at a gate while others go on, and goes through when they are done.
//!
//! Invariants: of the two threads one runs at a time, so what happens is decided by the seed alone.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Before,
    /// The sync stands here.
    At,
    Open,
    /// The job has ended, whether it synced or not.
    Ended,
}

/// See the module. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    shared: Arc<(Mutex<Stage>, Condvar)>,
}

impl Gate {
    fn say(&self, next: Stage) {
        *self.shared.0.lock() = next;
        self.shared.1.notify_all();
    }

    fn wait(&self, done: impl Fn(Stage) -> bool) -> Stage {
        let mut stage = self.shared.0.lock();
        while !done(*stage) {
            self.shared.1.wait(&mut stage);
        }
        *stage
    }

    /// The sync has begun; returns when it may end.
    pub(crate) fn stand(&self) {
        self.say(Stage::At);
        self.wait(|stage| stage == Stage::Open);
    }

    /// Runs a job; `meanwhile`, if it comes to stand at the gate. Returns whether it did.
    pub(crate) fn hold(&self, job: impl FnOnce() + Send, meanwhile: impl FnOnce()) -> bool {
        std::thread::scope(|scope| {
            let end = End(self.clone());
            scope.spawn(move || {
                job();
                drop(end);
            });
            // Opens even if `meanwhile` panics, or the scope would wait for ever.
            let _opens = Opens(self.clone());
            let stands = self.wait(|stage| matches!(stage, Stage::At | Stage::Ended)) == Stage::At;
            if stands {
                meanwhile();
            }
            stands
        })
    }
}

struct End(Gate);

impl Drop for End {
    fn drop(&mut self) {
        self.0.say(Stage::Ended);
    }
}

struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        let mut stage = self.0.shared.0.lock();
        if *stage == Stage::At {
            *stage = Stage::Open;
            self.0.shared.1.notify_all();
        }
    }
}
