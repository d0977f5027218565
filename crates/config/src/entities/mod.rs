//! Kong's entities: services, routes, consumers with API keys, plugins at every scope, CA certificates.
//!
//! Four passes, so that a reference may stand before what it names: services and CA certificates, then routes, then
//! consumers, then plugins. Nested entities are queued with their parent. What Kong has and we do not yet is refused by
//! name. Reference: Kong's declarative format 3.0.

mod consumer;
mod matching;
mod plugin;
mod route;
mod service;

use std::collections::HashMap;

use ::plugin::Registry;
use gateway::entity::{ApiConsumerId, Entities, Id, RouteId, ServiceId};

use crate::definitions::Seen;
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::scalars;
use crate::source::Span;
use crate::tree::{Node, Value};

/// Kong's entities without a place here yet.
pub(crate) const NOT_YET: [&str; 20] = [
    "upstreams",
    "targets",
    "certificates",
    "snis",
    "keys",
    "key_sets",
    "vaults",
    "filter_chains",
    "consumer_groups",
    "basicauth_credentials",
    "jwt_secrets",
    "hmacauth_credentials",
    "acls",
    "oauth2_credentials",
    "oauth2_tokens",
    "mtls_auth_credentials",
    "workspaces",
    "partials",
    "licenses",
    "plugin_configs",
];
/// Top-level keys that hold entities.
pub(crate) const KEYS: [&str; 6] =
    ["services", "routes", "consumers", "keyauth_credentials", "plugins", "ca_certificates"];

/// A queue that a service or a subscription uses, for the checks against the broker's definitions.
pub(crate) struct QueueUse {
    pub(crate) vhost: String,
    pub(crate) user: String,
    /// The queues it names, its dead letter queue too.
    pub(crate) queues: Vec<String>,
    pub(crate) vhost_at: Span,
    pub(crate) user_at: Span,
}

/// What a plugin's configuration belongs to, so far.
#[derive(Clone, Copy, Default)]
struct Scope {
    service: Option<ServiceId>,
    route: Option<RouteId>,
    consumer: Option<ApiConsumerId>,
}

/// Entities of one kind by what they may be called.
struct Names<I> {
    kind: &'static str,
    by_name: HashMap<String, (I, Span)>,
    by_id: HashMap<Id, Span>,
    /// How often a derived key was used, to keep unnamed twins apart.
    derived: HashMap<String, usize>,
}

impl<I: Copy> Names<I> {
    fn new(kind: &'static str) -> Self {
        Names { kind, by_name: HashMap::new(), by_id: HashMap::new(), derived: HashMap::new() }
    }

    /// Makes a key unique: the second entity with the same content gets `#2`.
    fn derived_key(&mut self, key: String) -> String {
        let count = self.derived.entry(key.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { key } else { format!("{key}#{count}") }
    }

    fn add_id(&mut self, check: &mut Check<'_>, id: Id, at: Span) -> bool {
        if let Some(first) = self.by_id.insert(id, at) {
            self.by_id.insert(id, first);
            check.report(
                Problem::new(at, format!("the id {id} of a {} is given twice", self.kind))
                    .related(first, "first given"),
            );
            return false;
        }
        true
    }

    fn add_name(&mut self, check: &mut Check<'_>, name: &str, id: I, at: Span) -> bool {
        if let Some((_, first)) = self.by_name.get(name) {
            let problem = Problem::new(at, format!("the {} name `{name}` is given twice", self.kind));
            check.report(problem.help("names are unique; rename one of the two").related(*first, "first given"));
            return false;
        }
        self.by_name.insert(name.to_owned(), (id, at));
        true
    }
}

/// All that is known while entities are read.
pub(crate) struct Reader<'n, 'r> {
    registry: &'r Registry,
    pub(crate) entities: Entities,
    pub(crate) queue_uses: Vec<QueueUse>,
    services: Names<ServiceId>,
    routes: Names<RouteId>,
    consumers: Names<ApiConsumerId>,
    custom_ids: Seen<String>,
    keys: Seen<String>,
    credentials: Names<gateway::entity::CredentialId>,
    plugins: Names<gateway::entity::PluginId>,
    ca_certificates: Names<gateway::entity::CaCertificateId>,
    plugin_scopes: Seen<(String, [Option<Id>; 3])>,
    queued_routes: Vec<(&'n Node, Option<ServiceId>)>,
    queued_plugins: Vec<(&'n Node, Scope)>,
}

/// Reads all entities from the top level of the configuration.
pub(crate) fn read(
    check: &mut Check<'_>,
    map: &mut MapReader<'_, '_>,
    registry: &Registry,
) -> (Entities, Vec<QueueUse>) {
    let mut reader = Reader {
        registry,
        entities: Entities::default(),
        queue_uses: Vec::new(),
        services: Names::new("service"),
        routes: Names::new("route"),
        consumers: Names::new("consumer"),
        custom_ids: Seen::new(),
        keys: Seen::new(),
        credentials: Names::new("credential"),
        plugins: Names::new("plugin"),
        ca_certificates: Names::new("CA certificate"),
        plugin_scopes: Seen::new(),
        queued_routes: Vec::new(),
        queued_plugins: Vec::new(),
    };
    for node in top_level(check, map, "ca_certificates") {
        reader.ca_certificate(check, node);
    }
    for node in top_level(check, map, "services") {
        reader.service(check, node);
    }
    let routes = top_level(check, map, "routes").iter().map(|node| (node, None));
    reader.queued_routes.extend(routes);
    for (node, service) in std::mem::take(&mut reader.queued_routes) {
        reader.route(check, node, service);
    }
    for node in top_level(check, map, "consumers") {
        reader.consumer(check, node);
    }
    for node in top_level(check, map, "keyauth_credentials") {
        reader.key_credential(check, node, None);
    }
    let plugins = top_level(check, map, "plugins").iter().map(|node| (node, Scope::default()));
    reader.queued_plugins.extend(plugins);
    for (node, scope) in std::mem::take(&mut reader.queued_plugins) {
        reader.plugin(check, node, scope);
    }
    map.not_yet(check, &NOT_YET);
    (reader.entities, reader.queue_uses)
}

fn top_level<'n>(check: &mut Check<'_>, map: &mut MapReader<'n, '_>, key: &'static str) -> &'n [Node] {
    map.get(check, key, items).unwrap_or_default()
}

/// The items of a list of entities.
fn items<'n>(check: &mut Check<'_>, node: &'n Node, place: Place<'_>) -> Option<&'n [Node]> {
    match &node.value {
        Value::List(items) => Some(items),
        _ => {
            check.wrong_type(node, place, "a list");
            None
        }
    }
}

/// Keys that every entity may have and that say nothing to us.
const COMMON_IGNORED: [&str; 5] = ["created_at", "updated_at", "_comment", "_ignore", "ws_id"];

/// The id, if one is given.
fn id(check: &mut Check<'_>, map: &mut MapReader<'_, '_>) -> Option<Id> {
    map.ignore(&COMMON_IGNORED);
    map.get(check, "id", |check, node, place| {
        let text = check.text(node, place)?;
        let parsed = text.parse();
        if parsed.is_err() {
            check.report(
                Problem::new(node.at, format!("{place} is not a UUID"))
                    .expected("such as 4e3ad2e4-0bc4-4638-8e34-c84a417ba39b, or leave it out"),
            );
        }
        parsed.ok()
    })
}

/// The name of an entity.
fn name<'n>(check: &mut Check<'_>, node: &'n Node, place: Place<'_>) -> Option<&'n str> {
    let text = check.some_text(node, place)?;
    if !scalars::is_entity_name(text) {
        let better: String =
            text.chars().map(|c| if scalars::is_entity_name(&c.to_string()) { c } else { '-' }).collect();
        let problem = Problem::new(node.at, format!("{place}: `{text}` is not a name"))
            .expected("letters, digits, `.`, `-`, `_` and `~`");
        check.report(problem.help(format!("write {better}")));
        return None;
    }
    Some(text)
}

fn tags(check: &mut Check<'_>, map: &mut MapReader<'_, '_>) -> Vec<String> {
    let read = |check: &mut Check<'_>, node: &Node, place: Place<'_>| {
        let text = check.some_text(node, place)?;
        if text.contains([',', '/']) {
            check.report(Problem::new(node.at, format!("{place}: a tag cannot contain `,` or `/`")));
            return None;
        }
        Some(text.to_owned())
    };
    map.get(check, "tags", |check, node, place| check.list_of(node, place, read)).unwrap_or_default()
}

/// A reference to another entity: its name or id, as a text or as `{name: …}`, `{username: …}` or `{id: …}`.
fn reference<I: Copy>(
    check: &mut Check<'_>,
    node: &Node,
    place: Place<'_>,
    names: &Names<I>,
    wrap: impl Fn(Id) -> I,
) -> Option<I> {
    let target = match &node.value {
        Value::Map(_) => ["name", "username", "id"].iter().find_map(|key| node.get(key)),
        _ => Some(node),
    };
    let Some(target) = target else {
        check
            .report(Problem::new(node.at, format!("{place} names no {}", names.kind)).expected("`name: …` or `id: …`"));
        return None;
    };
    let text = check.some_text(target, place)?;
    if let Some((id, _)) = names.by_name.get(text) {
        return Some(*id);
    }
    if let Some(id) = text.parse().ok().filter(|id| names.by_id.contains_key(id)) {
        return Some(wrap(id));
    }
    let problem = Problem::new(target.at, format!("{place}: there is no {} `{text}`", names.kind));
    let known = names.by_name.keys().map(String::as_str);
    let help = check.did_you_mean(text, known);
    check.report(problem.maybe_help(help));
    None
}
