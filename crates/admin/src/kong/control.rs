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

use super::answer::{Answer, message};
use super::hash;
use super::keep::{self, Kept, Record};
use arc_swap::ArcSwap;
use axum::http::{HeaderMap, StatusCode, header};
use broker::{Broker, Wake};
use engine::{Batch, Engine, EngineError, Ticket};
use entities::{Change, Code, Entity, Error, Kind, Origin, Store, Write};
use gateway::convert::{Converter, Refusal, Sources};
use gateway::{BuildError, Gateway, Snapshot};
use model::Now;
use model::limits::{ADMIN_BODIES_BYTES_MAX, ADMIN_BODY_BYTES_MAX};
use parking_lot::Mutex;
use plugin::{Id, Problem, ProblemKind};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Changes that wait to be let in; whoever comes later waits in front.
const WAITING_MAX: usize = 1_024;
/// Changes that share a snapshot.
const TOGETHER_MAX: usize = 64;
/// Bytes of a KiB.
const KIB: usize = 1_024;
/// How long a change may take to be on disk.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Who makes the changes: a task of its own, so that a client that hangs up does not leave one half done.
pub struct Worker {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Waiting>,
}

/// Where changes are kept.
struct Keeper {
    engine: Arc<dyn Engine>,
    broker: Arc<Broker>,
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

/// Several changes, one after another, and the snapshot with all of them.
struct Built {
    store: Store,
    snapshot: Option<Snapshot>,
    batch: Batch,
    hash: Option<String>,
    /// What is out of service has been forgotten.
    forgot: bool,
    /// Vhost and name of queues that services name.
    queues: Vec<(String, String)>,
    answers: Vec<Answer>,
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
        (Self { shared: Arc::clone(&shared), waiting, room, node_id: fresh_id() }, Worker { shared, queue })
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
        Ok(Reload { shared: Arc::clone(&self.shared), file, prepared, _turn: turn })
    }
}

/// No change is made while this is there.
pub struct Held {
    _turn: OwnedMutexGuard<()>,
}

/// The file's new entities with the API's, prepared.
pub struct Reload {
    shared: Arc<Shared>,
    file: Store,
    prepared: Prepared,
    _turn: OwnedMutexGuard<()>,
}

struct Prepared {
    store: Store,
    snapshot: Snapshot,
    hash: Option<String>,
    left_out: Vec<(Kind, Id)>,
}

impl Reload {
    /// Vhost and name of every queue that a service names. They are to be there before [`Reload::commit`].
    #[must_use]
    pub fn named_queues(&self) -> Vec<(String, String)> {
        self.prepared.store.iter(Kind::Services).filter_map(|service| named_queue(service)).collect()
    }

    /// Puts it in force.
    pub fn commit(self) {
        self.shared.file.store(Arc::new(self.file));
        let Prepared { store, snapshot, hash, left_out } = self.prepared;
        *self.shared.left_out.lock() = left_out;
        self.shared.put_in_force(store, Some(snapshot), hash);
    }
}

impl Worker {
    /// Makes changes as they come and keeps them in the engine, until it is told to stop or there is nobody left who could
    /// ask for one. Who waits then, or asks later, is told that the server stops.
    pub async fn work(mut self, engine: Arc<dyn Engine>, broker: Arc<Broker>, stop: impl Future<Output = ()>) {
        let keeper = Keeper { engine, broker };
        let mut stop = pin!(stop);
        loop {
            let mut together = Vec::new();
            let turn = async {
                let n_changes = self.queue.recv_many(&mut together, TOGETHER_MAX).await;
                let turn = Arc::clone(&self.shared.turn).lock_owned().await;
                (n_changes > 0).then_some(turn)
            };
            let turn = tokio::select! {
                biased;
                () = &mut stop => None,
                turn = turn => turn,
            };
            if turn.is_none() {
                return;
            }
            self.shared.make(&keeper, together).await;
        }
    }
}

impl Shared {
    /// Makes changes together, or if that cannot be, one by one.
    async fn make(self: &Arc<Self>, keeper: &Keeper, together: Vec<Waiting>) {
        let (alters, replies): (Vec<Alter>, Vec<_>) =
            together.into_iter().map(|waiting| (waiting.alter, waiting.reply)).unzip();
        let alters = Arc::new(alters);
        let answers = match self.build_and_commit(keeper, &alters, 0..alters.len()).await {
            Ok(answers) => answers,
            Err(refused) if alters.len() == 1 => vec![refused],
            Err(_) => {
                let mut answers = Vec::with_capacity(alters.len());
                for at in 0..alters.len() {
                    match self.build_and_commit(keeper, &alters, at..at + 1).await {
                        Ok(answer) => answers.extend(answer),
                        Err(refused) => answers.push(refused),
                    }
                }
                answers
            }
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Who has hung up is not told; the change is made all the same.
            let _ = reply.send(answer);
        }
    }

    /// # Errors
    /// The answer if the whole cannot be; then nothing has changed.
    async fn build_and_commit(
        self: &Arc<Self>,
        keeper: &Keeper,
        alters: &Arc<Vec<Alter>>,
        which: Range<usize>,
    ) -> Result<Vec<Answer>, Answer> {
        let (shared, alters) = (Arc::clone(self), Arc::clone(alters));
        let built = tokio::task::spawn_blocking(move || shared.build(&alters[which])).await;
        // One change that brings out a bug of ours must not end all others.
        let built = built.unwrap_or_else(|failed| {
            tracing::error!(%failed, "a change of the Admin API");
            Err(message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred"))
        })?;
        self.commit(keeper, built).await
    }

    /// # Errors
    /// The answer if the whole cannot be built.
    fn build(&self, alters: &[Alter]) -> Result<Built, Answer> {
        let file = self.file.load_full();
        let mut built = Built {
            store: (*self.current.load_full()).clone(),
            snapshot: None,
            batch: Batch::new(),
            hash: self.hash.lock().declared.clone(),
            forgot: false,
            queues: Vec::new(),
            answers: Vec::with_capacity(alters.len()),
        };
        let mut changed = false;
        let mut fresh = fresh_id;
        for alter in alters {
            let mut write = self.write(&mut fresh, Origin::Api, false);
            let base = Base { store: &built.store, file: &file, hash: built.hash.as_deref() };
            match alter(base, &mut write) {
                Ok(altered) => {
                    changed |= !altered.put.is_empty()
                        || !altered.removed.is_empty()
                        || altered.hash.is_some() && altered.hash != built.hash;
                    if altered.hash.is_some() {
                        changed |= built.forget(&self.left_out.lock(), &altered.store);
                    }
                    built.take(altered);
                }
                Err(refused) => built.answers.push(refused),
            }
        }
        if changed {
            built.snapshot = Some(self.snapshot(&built.store).map_err(|errors| refusal(&errors))?);
            keep::set_hash(&mut built.batch, built.hash.as_deref());
        }
        Ok(built)
    }

    /// Puts what was built on disk and in force; the answers.
    ///
    /// # Errors
    /// The answer if the log does not take it; then nothing has changed.
    async fn commit(&self, keeper: &Keeper, mut built: Built) -> Result<Vec<Answer>, Answer> {
        if built.snapshot.is_none() {
            return Ok(built.answers);
        }
        let n_answers = built.answers.len();
        let ticket = keeper.append(&mut built, (self.clock)())?;
        let durable = tokio::time::timeout(DURABLE_TIMEOUT, keeper.durable(ticket)).await.is_ok();
        let Built { store, snapshot, hash, forgot, answers, .. } = built;
        if forgot {
            self.left_out.lock().clear();
        }
        self.put_in_force(store, snapshot, hash);
        if durable {
            return Ok(answers);
        }
        let late = message(StatusCode::INTERNAL_SERVER_ERROR, "In force, but not known to be on disk yet");
        Ok(vec![late; n_answers])
    }

    fn put_in_force(&self, store: Store, snapshot: Option<Snapshot>, hash: Option<String>) {
        if let Some(snapshot) = snapshot {
            self.gateway.activate(snapshot);
        }
        self.current.store(Arc::new(store));
        let mut named = self.hash.lock();
        named.declared = hash;
        named.content = None;
        named.generation += 1;
    }

    fn write<'w>(&'w self, fresh: &'w mut dyn FnMut() -> Id, origin: Origin, is_kept: bool) -> Write<'w> {
        let now_ms = (self.clock)().wall.0;
        Write { registry: self.gateway.registry(), now_ms, fresh, origin, keeps_times: is_kept, is_kept }
    }

    fn snapshot(&self, store: &Store) -> Result<Snapshot, Vec<BuildError>> {
        let unusable = |refusal: Refusal| {
            let what = refusal.field.map_or_else(String::new, |field| format!("{field}: ")) + &refusal.reason;
            BuildError { kind: refusal.kind.name(), id: refusal.id, what }
        };
        let sources = Sources { registry: self.gateway.registry(), variable: &self.variable };
        let converted = self.converter.lock().entities(store, sources);
        let entities = converted.map_err(|all| all.into_iter().map(unusable).collect::<Vec<_>>())?;
        self.gateway.prepare(&entities)
    }

    /// The file's entities, and over them what is kept of the API: what contradicts the file, or cannot be used any more,
    /// is left out and told. Not a plugin, unless what it is for is left out too: it may be what asks who somebody is.
    fn prepare(&self, file: &Store, kept: Kept) -> Result<Prepared, Vec<BuildError>> {
        for problem in &kept.problems {
            tracing::warn!("kept of the Admin API and left out: {problem}");
        }
        let mut left_out = Vec::new();
        loop {
            let mut contradicting = Vec::new();
            let mut store = file.clone();
            let mut fresh = fresh_id;
            let mut write = self.write(&mut fresh, Origin::Api, true);
            for Record { kind, rank, fields } in &kept.records {
                let id = fields.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
                if left_out.contains(&(*kind, id.to_owned())) {
                    continue;
                }
                store.skip_ranks(*rank);
                if let Err(error) = store.load(*kind, fields.clone().into(), &mut write) {
                    contradicting.push(Contradiction { kind: *kind, id: id.to_owned(), error });
                }
            }
            let errors = match self.snapshot(&store) {
                Ok(snapshot) => {
                    let bare: Vec<_> = contradicting.iter().filter_map(Contradiction::leaves_bare).collect();
                    if !bare.is_empty() {
                        return Err(bare);
                    }
                    for problem in contradicting {
                        tracing::warn!("kept of the Admin API and left out, the file has the say: {problem}");
                        left_out.push((problem.kind, problem.id));
                    }
                    let left_out = left_out.into_iter().filter_map(|(kind, id)| Some((kind, id.parse().ok()?)));
                    return Ok(Prepared { store, snapshot, hash: kept.hash, left_out: left_out.collect() });
                }
                Err(errors) => errors,
            };
            let before = left_out.len();
            let (of_api, of_file): (Vec<_>, Vec<_>) = errors.into_iter().partition(|error| is_of_api(&store, error));
            if !of_file.is_empty() || of_api.is_empty() {
                return Err(of_file);
            }
            if of_api.iter().any(|error| error.kind == Kind::Plugins.name()) {
                return Err(of_api);
            }
            for error in of_api {
                tracing::warn!("left out, though kept of the Admin API: {error}");
                left_out.extend(Kind::of_name(error.kind).map(|kind| (kind, error.id.to_string())));
            }
            if left_out.len() == before {
                return Err(Vec::new());
            }
        }
    }
}

impl Keeper {
    fn append(&self, built: &mut Built, now: Now) -> Result<Ticket, Answer> {
        let mut last = Ticket::NONE;
        for (vhost, queue) in &built.queues {
            let ticket = self
                .broker
                .ensure_queue(vhost, queue, now)
                .map_err(|refused| schema_violation(format!("queue '{queue}': {}", refused.text)))?;
            last = last.max(ticket);
        }
        let appended = self.engine.append(&mut built.batch, now).map_err(|error| match error {
            EngineError::Pressed(_) => message(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            _ => message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred"),
        })?;
        Ok(last.max(appended))
    }

    async fn durable(&self, ticket: Ticket) {
        while ticket > self.broker.durable() {
            let woken = Arc::new(Woken::default());
            self.broker.when_durable(ticket, Arc::clone(&woken) as _);
            woken.0.notified().await;
        }
    }
}

impl Built {
    /// Forgets what is out of service and has no place in what replaces all; whether there was any.
    fn forget(&mut self, left_out: &[(Kind, Id)], store: &Store) -> bool {
        // One of the file with the same id is not what was left out.
        let is_gone = |kind, id| store.get(kind, id).is_none_or(|entity| entity.origin() != Origin::Api);
        for (kind, id) in left_out.iter().filter(|(kind, id)| is_gone(*kind, *id)) {
            keep::remove(&mut self.batch, *kind, *id);
        }
        self.forgot = true;
        !left_out.is_empty()
    }

    fn take(&mut self, altered: Altered) {
        for entity in &altered.removed {
            keep::remove(&mut self.batch, entity.kind(), entity.id());
        }
        for entity in &altered.put {
            keep::put(&mut self.batch, entity);
            self.queues.extend(named_queue(entity));
        }
        self.store = altered.store;
        self.hash = altered.hash;
        self.answers.push(altered.answer);
    }
}

/// A notification that the broker can give.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(&self) {
        self.0.notify_one();
    }
}

fn fresh_id() -> Id {
    Id::from_bytes(*uuid::Uuid::new_v4().as_bytes())
}

/// What is kept of the API and cannot be beside the file.
struct Contradiction {
    kind: Kind,
    id: String,
    error: Error,
}

impl Contradiction {
    /// The error to refuse the file with, if requests would be served without a plugin that they had.
    fn leaves_bare(&self) -> Option<BuildError> {
        if self.kind != Kind::Plugins || self.error.code == Code::ForeignKeyViolation {
            return None;
        }
        let id = self.id.parse().ok()?;
        let what = format!("kept of the Admin API, cannot be beside the file: {}", self.error.name);
        Some(BuildError { kind: self.kind.name(), id, what })
    }
}

/// Without values: a unique value may be a key.
impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = self.error.fields.as_ref().and_then(|fields| fields.as_object());
        let names: Vec<&str> = fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        write!(f, "{} {}: {} ({})", self.kind, self.id, self.error.name, names.join(", "))
    }
}

fn is_of_api(store: &Store, error: &BuildError) -> bool {
    Kind::of_name(error.kind)
        .and_then(|kind| store.get(kind, error.id))
        .is_some_and(|entity| entity.origin() == Origin::Api)
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
