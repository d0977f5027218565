//! Takes away entities whose time (`ttl`) is over: keys of key-auth.
//!
//! Invariant: nobody is shown or let in by what has expired, whenever it is taken away.

use super::answer::Answer;
use super::control::{Alter, Altered, Base, Control};
use axum::http::StatusCode;
use entities::{Entity, Kind, Write};
use std::sync::Arc;

impl Control {
    /// Takes away what has expired, of the file too: its next reload brings it back, with all of its time.
    pub async fn forget_expired(&self) {
        let now_ms = self.now().wall.0;
        if !self.store().iter(Kind::KeyauthCredentials).any(|key| key.is_expired(now_ms)) {
            return;
        }
        let forget: Alter = Box::new(move |Base { store, .. }: Base<'_>, _: &mut Write<'_>| {
            let expired: Vec<Arc<Entity>> =
                store.iter(Kind::KeyauthCredentials).filter(|key| key.is_expired(now_ms)).cloned().collect();
            let (mut store, mut removed) = (store.clone(), Vec::new());
            for key in expired {
                let change = store.delete_entity(&key, key.origin()).map_err(|_| Answer::not_found())?;
                (store, removed) = (change.store, [removed, change.removed].concat());
            }
            Ok(Altered { store, put: Vec::new(), removed, hash: None, answer: Answer::empty(StatusCode::NO_CONTENT) })
        });
        self.change(forget).await;
    }
}
