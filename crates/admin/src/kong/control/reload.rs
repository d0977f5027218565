//! The file's new entities in the place of those it had, under what is kept of the API.

use super::{Shared, fresh_id, named_queue};
use crate::kong::keep::{Kept, Record};
use entities::{Code, Error, Kind, Origin, Store};
use gateway::{BuildError, Snapshot};
use plugin::Id;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// The file's new entities with the API's, prepared.
pub struct Reload {
    shared: Arc<Shared>,
    file: Store,
    prepared: Prepared,
    _turn: OwnedMutexGuard<()>,
}

pub(super) struct Prepared {
    store: Store,
    snapshot: Snapshot,
    hash: Option<String>,
    left_out: Vec<(Kind, Id)>,
}

impl Reload {
    pub(super) const fn new(shared: Arc<Shared>, file: Store, prepared: Prepared, turn: OwnedMutexGuard<()>) -> Self {
        Self { shared, file, prepared, _turn: turn }
    }

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
        drop(self.shared.put_in_force(store, Some(snapshot), hash));
    }
}

impl Shared {
    /// The file's entities, and over them what is kept of the API: what contradicts the file, or cannot be used any more,
    /// is left out and told. Not a plugin, unless what it is for is left out too: it may be what asks who somebody is.
    pub(super) fn prepare(&self, file: &Store, kept: Kept) -> Result<Prepared, Vec<BuildError>> {
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
