//! A deadline that is moved at every request and almost never reached.
//!
//! Arming a timer takes the runtime's timer lock; moving a deadline later here is a store. The timer is armed
//! once, and when it fires early it is armed again for what the deadline has become.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A movable deadline.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer {
    deadline: Option<Instant>,
    armed: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    /// Move the deadline to `after` from now.
    pub(crate) fn set(&mut self, after: Duration) {
        self.deadline = Instant::now().checked_add(after);
    }

    /// Wait for nothing.
    pub(crate) fn clear(&mut self) {
        self.deadline = None;
    }

    /// Whether there is a deadline.
    pub(crate) fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let sleep = self.armed.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}
