//! The entities of the file and of the API, and the one place where they change.
//!
//! ```text
//! change -> next store -> next snapshot -> on disk -> in force -> answer
//! ```
//!
//! Invariants: changes happen one after another, and what is answered is in force: the next request through the proxy sees
//! it. What cannot be built changes nothing. Changes that wait for each other share one snapshot and one record of the log;
//! if that cannot be built, each is tried alone. What the file owns is not in the log, and no change of the API touches it.
//! Building is done on threads that serve nobody.

mod reload;
mod worker;

use super::answer::{Answer, message};
use super::hash;
use super::keep::Kept;
use arc_swap::ArcSwap;
use axum::http::{HeaderMap, StatusCode, header};
use entities::{Change, Entity, Error, Kind, Origin, Store, Write};
use gateway::convert::{Converter, Refusal, Sources};
use gateway::{BuildError, Gateway, Snapshot};
use model::Now;
use model::limits::{ADMIN_BODIES_BYTES_MAX, ADMIN_BODY_BYTES_MAX};
use parking_lot::Mutex;
use plugin::{Id, Problem, ProblemKind};
pub use reload::Reload;
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
pub use worker::Worker;

/// Changes that wait to be let in; whoever comes later waits in front.
const WAITING_MAX: usize = 1_024;
/// Bytes of a KiB.
const KIB: usize = 1_024;
/// What tells the time.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;
/// What knows the environment, for references to vaults.
pub type Variable = fn(&str) -> Option<String>;

/// What a change of entities comes to.
pub(crate) struct Altered {
    /// The store after it.
    pub(crate) store: Store,
    /// What is new or different.
    pub(crate) put: Vec<Arc<Entity>>,
    /// What is gone.
    pub(crate) removed: Vec<Arc<Entity>>,
    /// The hash of the declarative configuration that all the API's entities are now, if they are one.
    pub(crate) hash: Option<String>,
    /// The answer when it is in force.
    pub(crate) answer: Answer,
}

impl Altered {
    /// What a change of a store comes to.
    pub(crate) fn of(change: Change, answer: Answer) -> Self {
        let Change { store, put, removed, .. } = change;
        Self { store, put, removed, hash: None, answer }
    }
}

/// What a change begins with.
#[derive(Clone, Copy)]
pub(crate) struct Base<'s> {
    /// The entities in force.
    pub(crate) store: &'s Store,
    /// Those of the file alone.
    pub(crate) file: &'s Store,
    /// The hash of the declarative configuration that the API's entities are, if they are one.
    pub(crate) hash: Option<&'s str>,
}

/// A change: asked of what there is when its turn comes, perhaps more than once.
pub(crate) type Alter = Box<dyn Fn(Base<'_>, &mut Write<'_>) -> Result<Altered, Answer> + Send + Sync>;

/// A change that waits for its turn.
struct Waiting {
    alter: Alter,
    reply: oneshot::Sender<Answer>,
}

/// The entities, and the way to change them.
pub struct Control {
    shared: Arc<Shared>,
    waiting: mpsc::Sender<Waiting>,
    /// For bodies, in KiB.
    room: Arc<Semaphore>,
    node_id: Id,
}

struct Shared {
    current: ArcSwap<Store>,
    /// The file's entities alone.
    file: ArcSwap<Store>,
    /// Held from the look at the store to the change of it.
    turn: Arc<tokio::sync::Mutex<()>>,
    hash: Mutex<Hash>,
    /// What is kept of the API and out of service.
    left_out: Mutex<Vec<(Kind, Id)>>,
    /// Keeps the typed form of what has not changed.
    converter: Mutex<Converter>,
    gateway: Arc<Gateway>,
    clock: Clock,
    variable: Variable,
}

/// What names the present configuration.
#[derive(Default)]
struct Hash {
    /// Of the last declarative configuration, if nothing has changed since.
    declared: Option<String>,
    /// Of all entities, if somebody has asked for it.
    content: Option<String>,
    /// How many changes there were.
    generation: u64,
}

impl Control {
    /// Nothing yet: [`Control::reload`] brings the file's entities and those that are kept of the API, and
    /// [`Worker::work`] lets changes be made.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, clock: Clock, variable: Variable) -> (Self, Worker) {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let shared = Arc::new(Shared {
            current: ArcSwap::default(),
            file: ArcSwap::default(),
            turn: Arc::default(),
            hash: Mutex::default(),
            left_out: Mutex::default(),
            converter: Mutex::default(),
            gateway,
            clock,
            variable,
        });
        let room = Arc::new(Semaphore::new(ADMIN_BODIES_BYTES_MAX / KIB));
        (Self { shared: Arc::clone(&shared), waiting, room, node_id: fresh_id() }, Worker::new(shared, queue))
    }

    /// Room for the body of a request until it is answered: as much as it says it has, or the most a body may have.
    ///
    /// # Errors
    /// The answer if there is none.
    pub(crate) fn room_for(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Answer> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let bytes = length.unwrap_or(ADMIN_BODY_BYTES_MAX).min(ADMIN_BODY_BYTES_MAX);
        let kib = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib);
        room.map_err(|_| message(StatusCode::SERVICE_UNAVAILABLE, "Too many large requests at once"))
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        (self.shared.clock)()
    }

    /// Names this process among others.
    pub(crate) fn node_id(&self) -> String {
        self.node_id.to_string()
    }

    /// Whether a body fits its kind; references are not followed.
    pub(crate) fn validate(&self, kind: Kind, body: serde_json::Value) -> Result<(), Error> {
        let mut fresh = fresh_id;
        Store::new().validate(kind, body, &mut self.shared.write(&mut fresh, Origin::Api, false))
    }

    /// The entities in force.
    pub(crate) fn store(&self) -> Arc<Store> {
        self.shared.current.load_full()
    }

    /// What names the present configuration: the same for the same entities, whenever they came.
    pub(crate) fn configuration_hash(&self) -> String {
        let generation = {
            let hash = self.shared.hash.lock();
            let declared = hash.declared.as_ref().filter(|_| self.shared.file.load().is_empty());
            if let Some(known) = declared.or(hash.content.as_ref()) {
                return known.clone();
            }
            hash.generation
        };
        let content = hash::of_store(&self.store());
        let mut hash = self.shared.hash.lock();
        if hash.generation == generation {
            hash.content = Some(content.clone());
        }
        content
    }

    /// Makes a change, and answers when it is in force.
    pub(crate) async fn change(&self, alter: Alter) -> Answer {
        let (reply, answered) = oneshot::channel();
        let stopping = || message(StatusCode::SERVICE_UNAVAILABLE, "The server is stopping");
        if self.waiting.send(Waiting { alter, reply }).await.is_err() {
            return stopping();
        }
        answered.await.unwrap_or_else(|_| stopping())
    }

    /// Has no change made until what is returned is dropped.
    pub async fn hold(&self) -> Held {
        Held { _turn: Arc::clone(&self.shared.turn).lock_owned().await }
    }

    /// Takes the file's entities in the place of those it had, and prepares what they make with the API's, which are read
    /// when no change is made any more; nothing is in force before [`Reload::commit`], and no change is made meanwhile.
    ///
    /// # Errors
    /// Every entity of the file that cannot be used.
    pub async fn reload(
        &self,
        file: Store,
        kept: impl FnOnce() -> Kept + Send + 'static,
    ) -> Result<Reload, Vec<BuildError>> {
        let turn = Arc::clone(&self.shared.turn).lock_owned().await;
        let shared = Arc::clone(&self.shared);
        let of_file = file.clone();
        let prepared = tokio::task::spawn_blocking(move || shared.prepare(&of_file, kept())).await;
        let prepared = prepared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(Reload::new(Arc::clone(&self.shared), file, prepared, turn))
    }
}

/// No change is made while this is there.
pub struct Held {
    _turn: OwnedMutexGuard<()>,
}

impl Shared {
    /// Puts a store in force with its snapshot; returns the snapshot before it, if there is another now.
    fn put_in_force(&self, store: Store, snapshot: Option<Snapshot>, hash: Option<String>) -> Option<Arc<Snapshot>> {
        let before = snapshot.map(|snapshot| self.gateway.activate(snapshot));
        self.current.store(Arc::new(store));
        let mut named = self.hash.lock();
        named.declared = hash;
        named.content = None;
        named.generation += 1;
        before
    }

    fn write<'w>(&'w self, fresh: &'w mut dyn FnMut() -> Id, origin: Origin, is_kept: bool) -> Write<'w> {
        let now_ms = (self.clock)().wall.0;
        Write { registry: self.gateway.registry(), now_ms, fresh, origin, keeps_times: is_kept, is_kept }
    }

    /// The snapshot of a store: made from the one in force if nothing but routes differs, else as a whole.
    fn snapshot(&self, store: &Store) -> Result<Snapshot, Vec<BuildError>> {
        let unusable = |refusal: Refusal| {
            let what = refusal.field.map_or_else(String::new, |field| format!("{field}: ")) + &refusal.reason;
            BuildError { kind: refusal.kind.name(), id: refusal.id, what }
        };
        let unusable = |all: Vec<Refusal>| all.into_iter().map(unusable).collect::<Vec<_>>();
        let sources = Sources { registry: self.gateway.registry(), variable: &self.variable };
        let mut converter = self.converter.lock();
        match converter.routes_alone(&self.current.load(), store, sources) {
            Some(change) => self.gateway.prepare_routes(&change.map_err(unusable)?),
            None => self.gateway.prepare(&converter.entities(store, sources).map_err(unusable)?),
        }
    }
}

fn fresh_id() -> Id {
    Id::from_bytes(*uuid::Uuid::new_v4().as_bytes())
}

/// The queue that a service names in the place of a host.
fn named_queue(entity: &Entity) -> Option<(String, String)> {
    if entity.kind() != Kind::Services || !entity.text().contains("\"queue\"") {
        return None;
    }
    let record = entity.record();
    let text = |field: &str| record.get(field).and_then(serde_json::Value::as_str);
    (text("protocol") == Some("queue"))
        .then(|| (text("vhost").unwrap_or("/").to_owned(), text("host").unwrap_or_default().to_owned()))
}

/// The answer to what fits its kind and cannot be used all the same.
fn refusal(errors: &[BuildError]) -> Answer {
    schema_violation(errors.iter().map(|error| error.what.as_str()).collect::<Vec<_>>().join("; "))
}

fn schema_violation(what: String) -> Answer {
    failure(&Error::schema(&[Problem { path: Vec::new(), kind: ProblemKind::Rule(what) }]))
}

/// The answer to a failure.
pub(crate) fn failure(error: &Error) -> Answer {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Answer::json(status, error.body())
}
