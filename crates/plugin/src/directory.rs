//! The API consumers and their credentials, as authentication plugins look them up.
//!
//! Built once per snapshot and immutable; header values are made here, not per request.

use crate::Id;
use foldhash::quality::RandomState;
use http::HeaderValue;
use model::{Secret, Wall};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A user of the API (Kong's consumer), ready for use in requests.
#[derive(Debug)]
pub struct Consumer {
    /// Identifier of the entity.
    pub id: Id,
    /// Its unique name, if it has one.
    pub username: Option<Box<str>>,
    /// Its id in the owner's systems.
    pub custom_id: Option<Box<str>>,
    /// Value of `X-Consumer-ID`.
    pub id_value: HeaderValue,
    /// Value of `X-Consumer-Username`; none if the name cannot be a header value.
    pub username_value: Option<HeaderValue>,
    /// Value of `X-Consumer-Custom-ID`; likewise.
    pub custom_id_value: Option<HeaderValue>,
}

impl Consumer {
    /// A consumer with its header values.
    #[must_use]
    pub fn new(id: Id, username: Option<&str>, custom_id: Option<&str>) -> Self {
        let value = |text: Option<&str>| text.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
        Self {
            id,
            username: username.map(Into::into),
            custom_id: custom_id.map(Into::into),
            id_value: id_value(id),
            username_value: value(username),
            custom_id_value: value(custom_id),
        }
    }
}

/// A credential that identified a consumer.
#[derive(Debug)]
pub struct Credential {
    /// Identifier of the entity.
    pub id: Id,
    /// Value of `X-Credential-Identifier`.
    pub id_value: HeaderValue,
    /// When it identifies nobody any more.
    pub expires: Option<Wall>,
}

impl Credential {
    /// A credential with its header value.
    #[must_use]
    pub fn new(id: Id) -> Self {
        Self { id, id_value: id_value(id), expires: None }
    }

    /// The same, for as long as that.
    #[must_use]
    pub fn until(self, expires: Option<Wall>) -> Self {
        Self { expires, ..self }
    }
}

fn id_value(id: Id) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).expect("hexadecimal digits and hyphens are a header value")
}

/// Consumers by id and name, credentials by their secret.
#[derive(Default)]
pub struct Directory {
    by_id: HashMap<Id, Arc<Consumer>, RandomState>,
    by_username: HashMap<Box<str>, Arc<Consumer>, RandomState>,
    keys: HashMap<Box<str>, (Arc<Consumer>, Arc<Credential>), RandomState>,
}

impl Directory {
    /// Adds a consumer; a later one of the same id or name replaces the former.
    pub fn add_consumer(&mut self, consumer: Arc<Consumer>) {
        if let Some(username) = &consumer.username {
            self.by_username.insert(username.clone(), Arc::clone(&consumer));
        }
        self.by_id.insert(consumer.id, consumer);
    }

    /// Adds an API key of a consumer that was added before; `false` if it was not.
    pub fn add_key(&mut self, key: &Secret, credential: Credential, consumer: Id) -> bool {
        let Some(consumer) = self.by_id.get(&consumer) else {
            return false;
        };
        self.keys.insert(key.reveal().into(), (Arc::clone(consumer), Arc::new(credential)));
        true
    }

    /// The consumer whose API key this is now.
    #[must_use]
    pub fn by_key(&self, key: &str, now: Wall) -> Option<(&Arc<Consumer>, &Arc<Credential>)> {
        let (consumer, credential) = self.keys.get(key)?;
        credential.expires.is_none_or(|expires| now < expires).then_some((consumer, credential))
    }

    /// The consumer with this id or, failing that, this user name.
    #[must_use]
    pub fn by_id_or_username(&self, text: &str) -> Option<&Arc<Consumer>> {
        text.parse().ok().and_then(|id: Id| self.by_id.get(&id)).or_else(|| self.by_username.get(text))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({} consumers, {} keys)", self.by_id.len(), self.keys.len())
    }
}
