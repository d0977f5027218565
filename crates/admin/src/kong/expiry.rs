//! Takes away entities whose time (`ttl`) is over: keys of key-auth.
//!
//! Invariants: nobody is shown or let in by what has expired, whenever it is taken away; and every change finds it gone. It is
//! no change of a declarative configuration: that is in force still, and does not bring it back.

use super::answer::Answer;
use super::control::{Base, Control};
use axum::http::StatusCode;
use entities::{Entity, Kind, Store, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether entities have expired.
const PERIOD: Duration = Duration::from_secs(1);
/// The same after what could not be taken away.
const RETRY_PERIOD: Duration = Duration::from_secs(60);

impl Control {
    /// Takes away what has expired as it does, until it is told to stop. Of the file too: its next reload brings it back,
    /// with all of its time.
    pub async fn forget_expired(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut pause = PERIOD;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(pause) => {
                    pause = if self.forget_expired_now().await { PERIOD } else { RETRY_PERIOD };
                }
            }
        }
    }

    /// `false` if what has expired cannot be taken away now.
    async fn forget_expired_now(&self) -> bool {
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
