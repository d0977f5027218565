//! How other threads wake the task of a connection.
//!
//! Invariants: a ring is never lost; rings before the task looks are one ring. Ringing a bell that already rang costs
//! one atomic exchange.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// Wakes one task.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    /// A bell that has not rung.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rings it.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let waker = self.waker.lock().clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Ready once it has rung; the next ring is another one.
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        {
            let mut waker = self.waker.lock();
            match &mut *waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        // It may have rung between the look and the registration.
        if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl broker::Wake for Bell {
    fn wake(&self) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn rings_are_not_lost_and_not_counted_twice() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let bell = Bell::new();
        bell.ring();
        assert!(bell.poll_rung(&mut cx).is_ready(), "a ring before the first look is seen");
        assert!(bell.poll_rung(&mut cx).is_pending());
        bell.ring();
        bell.ring();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(bell.poll_rung(&mut cx).is_ready());
        assert!(bell.poll_rung(&mut cx).is_pending());
    }
}
