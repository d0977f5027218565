//! Consumers and what proves who they are.

use super::{ApiConsumerId, CredentialId, Secret};
use model::Wall;

/// A user of the API (Kong's *consumer*; the word alone means a queue's consumer here).
#[derive(Clone, Debug)]
pub struct ApiConsumer {
    /// Identifier.
    pub id: ApiConsumerId,
    /// Unique name. At least one of `username` and `custom_id` is given.
    pub username: Option<String>,
    /// Unique id in the owner's systems.
    pub custom_id: Option<String>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

/// An API key of a consumer, for the plugin `key-auth`.
#[derive(Clone, Debug)]
pub struct KeyAuthCredential {
    /// Identifier.
    pub id: CredentialId,
    /// Whose key it is.
    pub consumer: ApiConsumerId,
    /// The key; unique.
    pub key: Secret,
    /// When it is as if it were not there.
    pub expires: Option<Wall>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}
