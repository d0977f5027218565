//! Consumers and their API keys.

use super::{Record, Refusal};
use crate::entity::{ApiConsumer, ApiConsumerId, CredentialId, KeyAuthCredential, Secret};
use entities::{EXPIRES_MS, Store};
use model::Wall;
use serde_json::Value;

pub(super) fn consumer(record: &Record, _: &Store, _: &mut Vec<Refusal>) -> Option<ApiConsumer> {
    Some(ApiConsumer {
        id: ApiConsumerId(record.id),
        username: record.string("username"),
        custom_id: record.string("custom_id"),
        tags: record.strings("tags"),
    })
}

pub(super) fn key(record: &Record, _: &Store, _: &mut Vec<Refusal>) -> Option<KeyAuthCredential> {
    Some(KeyAuthCredential {
        id: CredentialId(record.id),
        consumer: ApiConsumerId(record.reference("consumer")?),
        key: Secret::new(record.string("key")?),
        expires: record.value(EXPIRES_MS).and_then(Value::as_u64).map(Wall),
        tags: record.strings("tags"),
    })
}
