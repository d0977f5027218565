//! Consumers (users of the API) and their API keys.

use gateway::entity::{ApiConsumer, ApiConsumerId, CredentialId, KeyAuthCredential, Secret};

use super::{Reader, Scope, id, items, tags};
use crate::definitions::titled;
use crate::problem::Problem;
use crate::reader::{Check, Place};
use crate::tree::Node;

/// Credentials and groups that are not built yet.
const NOT_YET: [&str; 8] = [
    "basicauth_credentials",
    "jwt_secrets",
    "hmacauth_credentials",
    "acls",
    "oauth2_credentials",
    "mtls_auth_credentials",
    "groups",
    "type",
];

impl<'n> Reader<'n, '_> {
    pub(super) fn consumer(&mut self, check: &mut Check<'_>, node: &'n Node) {
        let name_key = if node.get("username").is_some() { "username" } else { "custom_id" };
        let what = titled("consumer", node, name_key);
        let Some(mut map) = check.map(node, &what) else { return };
        let given_id = id(check, &mut map);
        let text = |check: &mut Check<'_>, node: &'n Node, place: Place<'_>| check.some_text(node, place);
        let username = map.get(check, "username", text);
        let custom_id = map.get(check, "custom_id", text);
        let tags = tags(check, &mut map);
        let keys = map.get(check, "keyauth_credentials", items).unwrap_or_default();
        let plugins = map.get(check, "plugins", items).unwrap_or_default();
        map.not_yet(check, &NOT_YET);
        let at = map.at();
        map.finish(check);

        let named = ["username", "custom_id"].iter().any(|key| node.get(key).is_some_and(|node| !node.is_empty()));
        if !named {
            check.report(Problem::new(at, "a consumer needs a name").expected("`username: …`, `custom_id: …` or both"));
        }
        let key = username.or(custom_id).unwrap_or("?");
        let id = given_id.map_or_else(|| ApiConsumerId::derived(key), ApiConsumerId);
        for key in keys {
            self.key_credential(check, key, Some(id));
        }
        let scope = Scope { consumer: Some(id), ..Scope::default() };
        self.queued_plugins.extend(plugins.iter().map(|plugin| (plugin, scope)));
        let unique_name =
            username.is_none_or(|name| self.consumers.add_name(check, name, id, node.at_value("username")));
        let unique_custom = custom_id.is_none_or(|custom_id| {
            let message = || format!("the custom id `{custom_id}` is given twice");
            self.custom_ids.first(check, custom_id.to_owned(), node.at_value("custom_id"), message)
        });
        if named && unique_name && unique_custom && self.consumers.add_id(check, id.0, node.at_value("id")) {
            let (username, custom_id) = (username.map(str::to_owned), custom_id.map(str::to_owned));
            self.entities.consumers.push(ApiConsumer { id, username, custom_id, tags });
        }
    }

    /// Reads an API key; `parent` is the consumer it is nested in.
    pub(super) fn key_credential(&mut self, check: &mut Check<'_>, node: &Node, parent: Option<ApiConsumerId>) {
        let what = "an API key";
        let Some(mut map) = check.map(node, what) else { return };
        let given_id = id(check, &mut map);
        let key = map.get_secret(check, "key");
        if node.get("key").is_none_or(Node::is_empty) {
            map.missing(check, "key", "a-long-random-text");
        }
        let tags = tags(check, &mut map);
        let consumer = match (parent, map.entry("consumer")) {
            (Some(parent), None) => Some(parent),
            (Some(parent), Some(entry)) => {
                check.report(
                    Problem::new(entry.key_at, "an API key stands inside a consumer and names one too")
                        .help("remove `consumer`"),
                );
                Some(parent)
            }
            (None, Some(entry)) => {
                super::reference(check, &entry.value, Place { key: "consumer", what }, &self.consumers, ApiConsumerId)
            }
            (None, None) => {
                map.missing(check, "consumer", "alice");
                None
            }
        };
        map.not_yet(check, &["ttl"]);
        map.finish(check);
        let Some(key) = key else { return };
        let new = self
            .keys
            .first(check, key.to_owned(), node.at_value("key"), || String::from("this API key is given twice"));
        let id = given_id.map_or_else(|| CredentialId::derived(key), CredentialId);
        if let (true, Some(consumer)) = (new && self.credentials.add_id(check, id.0, node.at_value("id")), consumer) {
            self.entities.keyauth_credentials.push(KeyAuthCredential {
                id,
                consumer,
                key: Secret::new(key.to_owned()),
                tags,
            });
        }
    }
}
