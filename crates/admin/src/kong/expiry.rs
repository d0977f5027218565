//! Takes away entities whose time (`ttl`) is over: keys of key-auth.
//!
//! Invariants: nobody is shown or let in by what has expired, whenever it is taken away; and every change finds it gone. It is
//! no change of a declarative configuration: that is in force still, and does not bring it back.

use super::answer::Answer;
use super::control::{Base, Control};
use axum::http::StatusCode;
use entities::{Entity, Kind, Store, Write};
use std::sync::Arc;

impl Control {
    /// Takes away what has expired, of the file too: its next reload brings it back, with all of its time. `false` if that
    /// cannot be now.
    pub async fn forget_expired(&self) -> bool {
        let now_ms = self.now().wall.0;
        if !self.store().iter(Kind::KeyauthCredentials).any(|key| key.is_expired(now_ms)) {
            return true;
        }
        // A turn is enough.
        let nothing = |_: Base<'_>, _: &mut Write<'_>| Err(Answer::empty(StatusCode::NO_CONTENT));
        let status = self.change(Box::new(nothing)).await.status;
        if !status.is_success() {
            tracing::warn!(%status, "keys whose time is over cannot be taken away now; nobody is let in by them");
        }
        status.is_success()
    }
}

/// A store without what has expired, and what that is.
pub(super) fn without_expired(store: &Store, now_ms: u64) -> (Store, Vec<Arc<Entity>>) {
    let (mut rest, mut removed) = (store.clone(), Vec::new());
    for key in store.iter(Kind::KeyauthCredentials).filter(|key| key.is_expired(now_ms)) {
        if let Ok(change) = rest.delete_entity(key, key.origin()) {
            rest = change.store;
            removed.extend(change.removed);
        }
    }
    (rest, removed)
}
