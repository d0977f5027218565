//! The locks of this crate, and the atomics by which its threads tell each other what they did.
//!
//! Built with `--cfg loom` they are those of a model checker, which runs what `handover` describes in every order of
//! steps that matters; otherwise they are the usual ones, by another name. Counters, and what is only an estimate, are
//! plain atomics: no order is claimed for them, and a model of them would only take time.

#[cfg(not(loom))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};

#[cfg(loom)]
pub(crate) use checked::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};

/// The model checker's locks, behind the names and signatures of the usual ones.
#[cfg(loom)]
mod checked {
    use loom::sync;
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    const POISONED: &str = "a model ends with the first panic";

    #[derive(Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    pub(crate) struct MutexGuard<'a, T> {
        of: &'a Mutex<T>,
        /// Empty only while it waits for a [`Condvar`].
        held: Option<sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { of: self, held: Some(self.0.lock().expect(POISONED)) }
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard { of: self, held: Some(guard) })
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().expect(POISONED)
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_ref().expect("held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("held")
        }
    }

    pub(crate) struct RwLock<T>(sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> sync::RwLockReadGuard<'_, T> {
            self.0.read().expect(POISONED)
        }

        pub(crate) fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
            self.0.write().expect(POISONED)
        }
    }

    #[derive(Default)]
    pub(crate) struct Condvar(sync::Condvar);

    pub(crate) struct TimedOut;

    impl TimedOut {
        #[allow(clippy::unused_self)]
        pub(crate) fn timed_out(&self) -> bool {
            true
        }
    }

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.held.take().expect("held");
            guard.held = Some(self.0.wait(held).expect(POISONED));
        }

        /// In a model the time is always up at once, though others may come first.
        #[allow(clippy::unused_self)]
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> TimedOut {
            guard.held = None;
            guard.held = guard.of.lock().held;
            TimedOut
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
