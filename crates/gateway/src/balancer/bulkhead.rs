//! Places at an upstream, for requests under way and for connections: so many taken, so many waiting for either, each kind
//! in the order in which they came.
//!
//! Invariants: a place is given back when its [`Place`] is dropped, and goes to the one who waits longest; a waiting
//! request that is given up leaves the queue. A new limit holds at once: more places go to who waits, and of fewer none is
//! handed on while too many are taken. Not here: how long one waits, which is up to who polls; and idle connections, see
//! `connections`.

use super::connections::Keeper;
use crate::entity::Bulkhead as Settings;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

/// The places of an upstream.
#[derive(Debug, Default)]
pub(super) struct Bulkhead {
    places: Mutex<Places>,
    /// Who keeps idle connections to the upstream.
    pub(super) keepers: Mutex<Vec<Weak<dyn Keeper>>>,
}

/// What a place is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Of {
    Request,
    Connection,
}

#[derive(Debug, Default)]
struct Places {
    requests: Room,
    connections: Room,
}

/// The places of one kind.
#[derive(Debug)]
struct Room {
    /// How many there are.
    max: u32,
    taken: u32,
    waiting: VecDeque<Arc<Waiting>>,
}

/// Who waits.
#[derive(Debug)]
pub(super) struct Waiting {
    turn: Mutex<Turn>,
    /// Whose idle connection would do as well.
    pub(super) keeper: Option<Weak<dyn Keeper>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { max: u32::MAX, taken: 0, waiting: VecDeque::new() }
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
pub enum Entry {
    /// It may go.
    Free(Place),
    /// It has to wait for its turn.
    Queued(Queued),
    /// Too many wait already.
    Full,
}

/// A place; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    bulkhead: Arc<Bulkhead>,
    of: Of,
}

/// A request that waits for its turn; resolves to its place. Dropped, it no longer waits.
#[derive(Debug)]
pub struct Queued {
    bulkhead: Arc<Bulkhead>,
    of: Of,
    /// None once the place was handed out.
    waiting: Option<Arc<Waiting>>,
}

/// Its turn has come.
#[derive(Debug)]
pub struct Granted(pub(crate) Place);

impl Granted {
    /// The place.
    #[must_use]
    pub fn into_place(self) -> Place {
        self.0
    }
}

impl Bulkhead {
    /// Asks for a place for a request.
    pub(super) fn enter(self: &Arc<Self>, settings: &Settings) -> Entry {
        self.take(Of::Request).map_or_else(|| self.queue(Of::Request, None, settings.max_pending_requests), Entry::Free)
    }

    /// A place, if one is free and nobody waits for it.
    pub(super) fn take(self: &Arc<Self>, of: Of) -> Option<Place> {
        let mut places = self.places.lock();
        let room = places.room(of);
        let is_free = room.taken < room.max && room.waiting.is_empty();
        is_free.then(|| {
            room.taken += 1;
            Place { bulkhead: Arc::clone(self), of }
        })
    }

    /// Takes a place in the queue, unless `waiting_max` are in it; what was freed meanwhile comes at once.
    pub(super) fn queue(self: &Arc<Self>, of: Of, keeper: Option<Weak<dyn Keeper>>, waiting_max: u32) -> Entry {
        let mut places = self.places.lock();
        if places.waiting() >= waiting_max as usize {
            return Entry::Full;
        }
        let waiting = Arc::new(Waiting { turn: Mutex::new(Turn::Waiting(None)), keeper });
        places.room(of).waiting.push_back(Arc::clone(&waiting));
        hand_out(places);
        Entry::Queued(Queued { bulkhead: Arc::clone(self), of, waiting: Some(waiting) })
    }

    /// Whether no place is free for who comes now.
    pub(super) fn is_full(&self, of: Of) -> bool {
        let mut places = self.places.lock();
        let room = places.room(of);
        room.taken >= room.max || !room.waiting.is_empty()
    }

    /// Requests under way, and what waits.
    pub(super) fn load(&self) -> (u32, usize) {
        let places = self.places.lock();
        (places.requests.taken, places.waiting())
    }

    /// Who waits longest for a connection.
    pub(super) fn first_for_connection(&self) -> Option<Arc<Waiting>> {
        self.places.lock().connections.waiting.front().cloned()
    }

    /// There are so many places from now on.
    pub(super) fn resize(&self, settings: Option<&Settings>) {
        let mut places = self.places.lock();
        places.requests.max = settings.map_or(u32::MAX, |settings| settings.max_requests);
        places.connections.max = settings.and_then(|settings| settings.max_connections).unwrap_or(u32::MAX);
        hand_out(places);
    }

    /// Gives a place back.
    fn leave(&self, of: Of) {
        let mut places = self.places.lock();
        let room = places.room(of);
        room.taken = room.taken.saturating_sub(1);
        hand_out(places);
    }
}

impl Places {
    const fn room(&mut self, of: Of) -> &mut Room {
        match of {
            Of::Request => &mut self.requests,
            Of::Connection => &mut self.connections,
        }
    }

    fn waiting(&self) -> usize {
        self.requests.waiting.len() + self.connections.waiting.len()
    }
}

impl Waiting {
    /// Has it look whether there is something for it.
    pub(super) fn nudge(&self) {
        let waker = match &*self.turn.lock() {
            Turn::Waiting(waker) => waker.clone(),
            Turn::Granted => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Gives the places that are free to those who wait.
fn hand_out(mut places: MutexGuard<'_, Places>) {
    let mut wakers = Vec::new();
    for of in [Of::Request, Of::Connection] {
        let room = places.room(of);
        while room.taken < room.max
            && let Some(next) = room.waiting.pop_front()
        {
            room.taken += 1;
            // Granted before the lock is let go, so that who gives up now knows of the place.
            if let Turn::Waiting(Some(waker)) = std::mem::replace(&mut *next.turn.lock(), Turn::Granted) {
                wakers.push(waker);
            }
        }
    }
    drop(places);
    wakers.into_iter().for_each(Waker::wake);
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bulkhead.leave(self.of);
    }
}

impl Future for Queued {
    type Output = Granted;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Granted> {
        if let Some(waiting) = &self.waiting
            && let Turn::Waiting(waker) = &mut *waiting.turn.lock()
        {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.waiting = None;
        Poll::Ready(Granted(Place { bulkhead: Arc::clone(&self.bulkhead), of: self.of }))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let mut places = self.bulkhead.places.lock();
            places.room(self.of).waiting.retain(|other| !Arc::ptr_eq(other, &waiting));
            drop(places);
            let unused = matches!(&*waiting.turn.lock(), Turn::Granted);
            if unused {
                self.bulkhead.leave(self.of);
            }
        }
        if self.of == Of::Connection {
            // The next in the queue may take what this one was told of, or left.
            self.bulkhead.relieve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    const SETTINGS: Settings =
        Settings { max_requests: 2, max_connections: None, max_pending_requests: 2, queue_timeout_ms: 1 };

    fn two() -> Arc<Bulkhead> {
        let bulkhead = Arc::new(Bulkhead::default());
        bulkhead.resize(Some(&SETTINGS));
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
        bulkhead.resize(Some(&Settings { max_requests: 3, ..SETTINGS }));
        let c = poll(&mut c).expect("there is one place more");
        assert!(poll(&mut d).is_none());
        bulkhead.resize(Some(&Settings { max_requests: 1, ..SETTINGS }));
        drop((a, b));
        assert!(poll(&mut d).is_none(), "one is under way, and that is all there may be");
        drop(c);
        assert!(poll(&mut d).is_some());
    }
}
