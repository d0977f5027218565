//! Makes changes, one after another, and keeps them in the log.
//!
//! Changes that wait for each other share one snapshot and one record of the log; if that cannot be built, each is tried
//! alone. What cannot be built or written changes nothing.

use super::{Alter, Altered, Base, Shared, Waiting, fresh_id, named_queue, refusal, schema_violation};
use crate::kong::answer::{Answer, message};
use crate::kong::{expiry, keep};
use axum::http::StatusCode;
use broker::{Broker, Wake};
use engine::{Batch, Engine, EngineError, Ticket};
use entities::{Kind, Origin, Store};
use gateway::Snapshot;
use model::Now;
use plugin::Id;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Changes that share a snapshot.
const TOGETHER_MAX: usize = 64;
/// How long a change may take to be on disk.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(30);

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

impl Worker {
    pub(super) const fn new(shared: Arc<Shared>, queue: mpsc::Receiver<Waiting>) -> Self {
        Self { shared, queue }
    }

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
        let mut changed = built.forget_expired((self.clock)().wall.0);
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
        let before = self.put_in_force(store, snapshot, hash);
        // As large as all routes, after a change of what they have in common.
        let _ = tokio::task::spawn_blocking(move || drop(before)).await;
        if durable {
            return Ok(answers);
        }
        let late = message(StatusCode::INTERNAL_SERVER_ERROR, "In force, but not known to be on disk yet");
        Ok(vec![late; n_answers])
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

    /// Takes away what has expired, so that every change finds it gone; whether there was any.
    fn forget_expired(&mut self, now_ms: u64) -> bool {
        let (store, removed) = expiry::without_expired(&self.store, now_ms);
        for entity in &removed {
            keep::remove(&mut self.batch, entity.kind(), entity.id());
        }
        self.store = store;
        !removed.is_empty()
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

#[cfg(test)]
mod tests {
    use super::super::{Control, failure};
    use super::*;
    use gateway::Gateway;
    use model::{Mono, Wall};
    use plugin::{BoxFuture, Publish, PublishError, Published, Services};
    use serde_json::json;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// No route publishes here.
    struct NoServices;

    impl Services for NoServices {
        fn publish(&self, _: Publish) -> BoxFuture<Result<Published, PublishError>> {
            Box::pin(std::future::ready(Err(PublishError::Busy)))
        }
    }

    /// A declarative configuration of a consumer with a key that lives for a second.
    fn declare() -> Alter {
        Box::new(|Base { store, .. }, write| {
            let fail = |error| failure(&error);
            let ann = store.insert(Kind::Consumers, json!({"username": "ann"}), write).map_err(fail)?;
            let key = json!({"key": "k", "ttl": 1, "consumer": {"username": "ann"}});
            let key = ann.store.insert(Kind::KeyauthCredentials, key, write).map_err(fail)?;
            let put = [ann.put, key.put.clone()].concat();
            let (hash, answer) = (Some("declared".to_owned()), Answer::empty(StatusCode::CREATED));
            Ok(Altered { store: key.store, put, removed: Vec::new(), hash, answer })
        })
    }

    #[test]
    fn a_change_finds_what_has_expired_gone_and_the_declared_configuration_in_force() {
        let now_ms = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&now_ms);
        let gateway = Arc::new(Gateway::new(plugins::registry(), Arc::new(NoServices)));
        let clock = Arc::new(move || Now { mono: Mono(1), wall: Wall(clock.load(Ordering::Relaxed)) });
        let shared = Control::new(gateway, clock, |_| None).1.shared;
        let Ok(Built { store, snapshot, hash, .. }) = shared.build(&[declare()]) else { panic!("it fits") };
        shared.put_in_force(store, snapshot, hash);
        shared.left_out.lock().push((Kind::Routes, fresh_id()));

        // What is found, as the status of the answer.
        let look = || -> Alter {
            Box::new(|Base { store, hash, .. }, _| {
                let is_there = store.iter(Kind::KeyauthCredentials).next().is_some();
                assert_eq!(hash, Some("declared"));
                Err(Answer::empty(if is_there { StatusCode::OK } else { StatusCode::NOT_FOUND }))
            })
        };
        for (at_ms, status, changes) in [(1_999, StatusCode::OK, false), (2_000, StatusCode::NOT_FOUND, true)] {
            now_ms.store(at_ms, Ordering::Relaxed);
            let Ok(built) = shared.build(&[look()]) else { panic!("it fits") };
            assert_eq!((built.answers[0].status, built.snapshot.is_some()), (status, changes), "{at_ms}");
            assert_eq!((built.hash.as_deref(), built.forgot), (Some("declared"), false), "{at_ms}");
        }
    }
}
