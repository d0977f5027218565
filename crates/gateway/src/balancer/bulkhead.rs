//! Requests at a time to one upstream: so many under way, so many waiting, in the order in which they came.
//!
//! Invariants: a place is given back when its [`Place`] is dropped, and goes to the one who waits longest; a waiting
//! request that is given up leaves the queue. A new limit holds at once: more places go to who waits, and of fewer none is
//! handed on while too many are taken. Not here: how long one waits, which is up to who polls.

use crate::entity::Bulkhead as Settings;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The places of an upstream.
#[derive(Debug, Default)]
pub(super) struct Bulkhead(Mutex<Places>);

#[derive(Debug)]
struct Places {
    /// How many there are.
    max: u32,
    under_way: u32,
    waiting: VecDeque<Arc<Mutex<Turn>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { max: u32::MAX, under_way: 0, waiting: VecDeque::new() }
    }
}

/// How far a waiting request has come.
#[derive(Debug)]
enum Turn {
    Waiting(Option<Waker>),
    Granted,
}

/// What a request that came is told.
#[derive(Debug)]
pub(super) enum Entry {
    /// It may go.
    Free(Place),
    /// It has to wait for its turn.
    Queued(Queued),
    /// Too many wait already.
    Full,
}

/// A place; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    bulkhead: Arc<Bulkhead>,
}

/// A request that waits for its turn; resolves to its place. Dropped, it no longer waits.
#[derive(Debug)]
pub struct Queued {
    bulkhead: Arc<Bulkhead>,
    /// None once the place was handed out.
    turn: Option<Arc<Mutex<Turn>>>,
}

/// Its turn has come.
#[derive(Debug)]
pub struct Granted(pub(crate) Place);

impl Bulkhead {
    /// Asks for a place.
    pub(super) fn enter(self: &Arc<Self>, settings: &Settings) -> Entry {
        let mut places = self.0.lock();
        if places.under_way < places.max && places.waiting.is_empty() {
            places.under_way += 1;
            return Entry::Free(Place { bulkhead: Arc::clone(self) });
        }
        if places.waiting.len() >= settings.max_pending_requests as usize {
            return Entry::Full;
        }
        let turn = Arc::new(Mutex::new(Turn::Waiting(None)));
        places.waiting.push_back(Arc::clone(&turn));
        Entry::Queued(Queued { bulkhead: Arc::clone(self), turn: Some(turn) })
    }

    /// Requests under way and waiting.
    pub(super) fn load(&self) -> (u32, usize) {
        let places = self.0.lock();
        (places.under_way, places.waiting.len())
    }

    /// There are so many places from now on.
    pub(super) fn resize(&self, max: u32) {
        let mut places = self.0.lock();
        if places.max != max {
            places.max = max;
            hand_out(places);
        }
    }

    /// Gives a place back.
    fn leave(&self) {
        let mut places = self.0.lock();
        places.under_way = places.under_way.saturating_sub(1);
        hand_out(places);
    }
}

/// Gives the places that are free to those who wait.
fn hand_out(mut places: MutexGuard<'_, Places>) {
    let mut wakers = Vec::new();
    while places.under_way < places.max
        && let Some(next) = places.waiting.pop_front()
    {
        places.under_way += 1;
        // Granted before the lock is let go, so that who gives up now knows of the place.
        if let Turn::Waiting(Some(waker)) = std::mem::replace(&mut *next.lock(), Turn::Granted) {
            wakers.push(waker);
        }
    }
    drop(places);
    wakers.into_iter().for_each(Waker::wake);
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bulkhead.leave();
    }
}

impl Future for Queued {
    type Output = Granted;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Granted> {
        if let Some(turn) = &self.turn
            && let Turn::Waiting(waker) = &mut *turn.lock()
        {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.turn = None;
        Poll::Ready(Granted(Place { bulkhead: Arc::clone(&self.bulkhead) }))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let mut places = self.bulkhead.0.lock();
        places.waiting.retain(|other| !Arc::ptr_eq(other, &turn));
        drop(places);
        let unused = matches!(&*turn.lock(), Turn::Granted);
        if unused {
            self.bulkhead.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    const SETTINGS: Settings = Settings { max_requests: 2, max_pending_requests: 2, queue_timeout_ms: 1 };

    fn two() -> Arc<Bulkhead> {
        let bulkhead = Arc::new(Bulkhead::default());
        bulkhead.resize(2);
        bulkhead
    }

    fn free(bulkhead: &Arc<Bulkhead>) -> Place {
        match bulkhead.enter(&SETTINGS) {
            Entry::Free(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn queued(bulkhead: &Arc<Bulkhead>) -> Queued {
        match bulkhead.enter(&SETTINGS) {
            Entry::Queued(queued) => queued,
            other => panic!("{other:?}"),
        }
    }

    fn poll(queued: &mut Queued) -> Option<Granted> {
        match pin!(queued).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(granted) => Some(granted),
            Poll::Pending => None,
        }
    }

    #[test]
    fn places_then_a_queue_then_no_more() {
        let bulkhead = two();
        let (a, _b) = (free(&bulkhead), free(&bulkhead));
        let (mut c, mut d) = (queued(&bulkhead), queued(&bulkhead));
        assert!(matches!(bulkhead.enter(&SETTINGS), Entry::Full));
        assert_eq!(bulkhead.load(), (2, 2));
        assert!(poll(&mut c).is_none());
        drop(a);
        assert!(poll(&mut d).is_none(), "c came first");
        let c = poll(&mut c).expect("its turn");
        assert_eq!(bulkhead.load(), (2, 1));
        drop(c);
        drop(poll(&mut d).expect("its turn"));
        assert_eq!(bulkhead.load(), (1, 0));
    }

    #[test]
    fn one_that_gives_up_leaves_no_trace() {
        let bulkhead = two();
        let (a, b) = (free(&bulkhead), free(&bulkhead));
        let (c, d) = (queued(&bulkhead), queued(&bulkhead));
        drop(c);
        assert_eq!(bulkhead.load(), (2, 1));
        drop(a);
        drop(d); // granted, but never told
        assert_eq!(bulkhead.load(), (1, 0));
        drop(b);
        assert_eq!(bulkhead.load(), (0, 0));
    }

    #[test]
    fn who_comes_later_does_not_overtake() {
        let bulkhead = two();
        let (a, _b) = (free(&bulkhead), free(&bulkhead));
        let mut c = queued(&bulkhead);
        drop(a);
        let d = queued(&bulkhead);
        assert!(poll(&mut c).is_some());
        drop(d);
    }

    #[test]
    fn a_new_limit_holds_at_once() {
        let bulkhead = two();
        let (a, b) = (free(&bulkhead), free(&bulkhead));
        let (mut c, mut d) = (queued(&bulkhead), queued(&bulkhead));
        bulkhead.resize(3);
        let c = poll(&mut c).expect("there is one place more");
        assert!(poll(&mut d).is_none());
        bulkhead.resize(1);
        drop((a, b));
        assert!(poll(&mut d).is_none(), "one is under way, and that is all there may be");
        drop(c);
        assert!(poll(&mut d).is_some());
    }
}
