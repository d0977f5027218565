//! A deadline that is moved at every request and almost never reached.
//!
//! Arming a timer takes the runtime's timer lock; moving a deadline later here is a store. The timer is armed
//! once, and when it fires early it is armed again for what the deadline has become. Patience begins when somebody first
//! has to wait: what needs no waiting reads no clock.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A movable deadline.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer {
    waiting: Waiting,
    armed: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Waiting {
    /// Without end.
    #[default]
    Forever,
    /// So long, once it begins.
    For(Duration),
    /// It has begun.
    Until(Instant),
}

impl LazyTimer {
    /// Move the deadline to `patience` after the next wait begins.
    pub(crate) fn set(&mut self, patience: Duration) {
        self.waiting = Waiting::For(patience);
    }

    /// Wait for nothing.
    pub(crate) fn clear(&mut self) {
        self.waiting = Waiting::Forever;
    }

    /// Whether there is a deadline.
    pub(crate) fn is_set(&self) -> bool {
        !matches!(self.waiting, Waiting::Forever)
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = match self.waiting {
            Waiting::Forever => return false,
            Waiting::Until(deadline) => deadline,
            Waiting::For(patience) => match Instant::now().checked_add(patience) {
                Some(deadline) => {
                    self.waiting = Waiting::Until(deadline);
                    deadline
                }
                None => {
                    self.waiting = Waiting::Forever;
                    return false;
                }
            },
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
