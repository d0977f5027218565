//! `broker`: the shape of a RabbitMQ `definitions.json`, inline or in its own file, with positions in either.
//!
//! Accepted and without effect here: `rabbit_version`, `rabbitmq_version`, `product_name`, `product_version`,
//! `rabbitmq_definition_format`, `original_cluster_name`, `explanation`, and the parameters `cluster_name` and
//! `internal_cluster_id`. Refused by name unless empty: other parameters but operator policies, limits. The arguments of
//! queues and the definitions of policies are checked by the broker's own rules.

mod access;
mod policies;

pub(crate) use access::pattern;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use model::definitions::{BindingDef, Definitions, DestinationType, ExchangeDef, QueueDef, VhostDef};
use model::limits::{NAME_BYTES_MAX, TABLE_DEPTH_MAX};
use model::{Table, Value as ModelValue};

use self::access::{permission, topic_permission, user};
use self::policies::{operator_policy, policy};
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::settings::{DEFAULT_VHOST, with_built_ins};
use crate::source::Span;
use crate::tree::{Node, Value};

/// Names seen and where, to report the second of two equal ones.
pub(crate) struct Seen<K>(HashMap<K, Span>);

impl<K: Eq + Hash> Seen<K> {
    pub(crate) fn new() -> Self {
        Seen(HashMap::new())
    }

    /// Whether `key` is new. If not, reports it with `message`.
    pub(crate) fn first(&mut self, check: &mut Check<'_>, key: K, at: Span, message: impl FnOnce() -> String) -> bool {
        if let Some(first) = self.0.get(&key) {
            check.report(Problem::new(at, message()).related(*first, "first given"));
            return false;
        }
        self.0.insert(key, at);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }
}

/// What the names in definitions were declared as, for the checks between lists.
struct Names {
    users: Seen<String>,
    vhosts: Seen<String>,
    permissions: Seen<(String, String)>,
    topic_permissions: Seen<(String, String, String)>,
    queues: Seen<(String, String)>,
    exchanges: Seen<(String, String)>,
    policies: Seen<(String, String)>,
    operator_policies: Seen<(String, String)>,
}

/// Reads a definitions map. Where it is absent, pass an empty map.
///
/// `declared` are the queues that services and subscriptions declare by naming them.
pub(crate) fn definitions(check: &mut Check<'_>, node: &Node, declared: &HashSet<(String, String)>) -> Definitions {
    let mut all = Definitions::default();
    let Some(mut map) = check.map(node, "`definitions`") else { return with_built_ins(all) };
    let mut names = Names {
        users: Seen::new(),
        vhosts: Seen::new(),
        permissions: Seen::new(),
        topic_permissions: Seen::new(),
        queues: Seen::new(),
        exchanges: Seen::new(),
        policies: Seen::new(),
        operator_policies: Seen::new(),
    };
    all.users = read_list(check, &mut map, "users", |check, node| user(check, node, &mut names));
    all.vhosts = read_list(check, &mut map, "vhosts", |check, node| vhost(check, node, &mut names));
    all.permissions = read_list(check, &mut map, "permissions", |check, node| permission(check, node, &mut names));
    all.topic_permissions =
        read_list(check, &mut map, "topic_permissions", |check, node| topic_permission(check, node, &mut names));
    all.queues = read_list(check, &mut map, "queues", |check, node| queue(check, node, &mut names));
    all.exchanges = read_list(check, &mut map, "exchanges", |check, node| exchange(check, node, &mut names));
    all.bindings = read_list(check, &mut map, "bindings", |check, node| binding(check, node, &names, declared));
    all.policies = read_list(check, &mut map, "policies", |check, node| policy(check, node, &mut names));
    all.operator_policies = read_list(check, &mut map, "parameters", |check, node| {
        let component = node.get("component").and_then(Node::text);
        if component == Some("operator_policy") {
            return operator_policy(check, node, &mut names);
        }
        parameter(check, node);
        None
    });
    read_list(check, &mut map, "global_parameters", |check, node| {
        parameter(check, node);
        None::<()>
    });
    map.ignore(&[
        "rabbit_version",
        "rabbitmq_version",
        "product_name",
        "product_version",
        "rabbitmq_definition_format",
        "original_cluster_name",
        "explanation",
    ]);
    map.finish(check);
    with_built_ins(all)
}

fn read_list<T>(
    check: &mut Check<'_>,
    map: &mut MapReader<'_, '_>,
    key: &'static str,
    mut read: impl FnMut(&mut Check<'_>, &Node) -> Option<T>,
) -> Vec<T> {
    map.get(check, key, |check, node, place| check.list_of(node, place, |check, node, _| read(check, node)))
        .unwrap_or_default()
}

/// "queue `orders`", or "a queue" when it has no name.
pub(crate) fn titled(kind: &str, node: &Node, name_key: &str) -> String {
    match node.get(name_key).and_then(Node::text).filter(|name| !name.is_empty()) {
        Some(name) => format!("{kind} `{name}`"),
        None if kind.starts_with(['a', 'e', 'i', 'o']) => format!("an {kind}"),
        None => format!("a {kind}"),
    }
}

/// A name that fits an AMQP short string.
pub(crate) fn short_name(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.some_text(node, place)?;
    short(check, node, place, text)
}

fn short(check: &mut Check<'_>, node: &Node, place: Place<'_>, text: &str) -> Option<String> {
    if text.len() > NAME_BYTES_MAX {
        check.report(
            Problem::new(node.at, format!("{place} is {} bytes long", text.len()))
                .expected(format!("at most {NAME_BYTES_MAX} bytes")),
        );
        return None;
    }
    Some(text.to_owned())
}

fn vhost(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<VhostDef> {
    let what = titled("vhost", node, "name");
    let mut map = check.map(node, &what)?;
    let name = map.required(check, "name", "/", short_name);
    map.ignore(&["description", "tags", "metadata", "tracing", "protected_from_deletion"]);
    let queue_type = map.get(check, "default_queue_type", |check, node, place| check.text(node, place));
    if queue_type.is_some_and(|kind| !matches!(kind, "classic" | "undefined" | "")) {
        check.report(Problem::new(
            node.at_key("default_queue_type"),
            format!("`default_queue_type` in {what} is not supported yet"),
        ));
    }
    map.not_yet(check, &["limits"]);
    map.finish(check);
    let name = name?;
    names
        .vhosts
        .first(check, name.clone(), node.at_value("name"), || format!("the vhost `{name}` is given twice"))
        .then_some(VhostDef { name })
}

/// The vhost an object is in: given, or `/` as in the export of a single vhost.
fn in_vhost(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, node: &Node, names: &Names) -> Option<String> {
    let Some(vhost) = map.get(check, "vhost", short_name) else {
        return node.get("vhost").is_none_or(Node::is_empty).then(|| DEFAULT_VHOST.to_owned());
    };
    if vhost != DEFAULT_VHOST && !names.vhosts.contains(&vhost) {
        let problem = Problem::new(node.at_value("vhost"), format!("there is no vhost `{vhost}`"));
        check.report(problem.help(format!("add {{ name: {vhost} }} to `vhosts`")));
        return None;
    }
    Some(vhost)
}

/// What is wrong with a regular expression, in one line: the last of the library's drawing.
pub(crate) fn last_line(what: &str) -> &str {
    let last = what.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last)
}

fn queue(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<QueueDef> {
    let what = titled("queue", node, "name");
    let mut map = check.map(node, &what)?;
    let name = map.required(check, "name", "orders", not_reserved);
    let vhost = in_vhost(check, &mut map, node, names);
    let durable = map.get(check, "durable", Check::bool).unwrap_or(true);
    let auto_delete = map.get(check, "auto_delete", Check::bool).unwrap_or(false);
    let arguments = map.get(check, "arguments", arguments).unwrap_or_default();
    map.ignore(&["type"]);
    map.finish(check);
    let (name, vhost) = (name?, vhost?);
    for (argument, refusal) in broker::Broker::check_queue_arguments(&vhost, &name, &arguments) {
        let at = node.get("arguments").map_or(node.at, |arguments| arguments.at_key(&argument));
        check.report(Problem::new(at, refusal));
    }
    let key = (vhost.clone(), name.clone());
    let new = names
        .queues
        .first(check, key, node.at_value("name"), || format!("the queue `{name}` is given twice in vhost `{vhost}`"));
    new.then_some(QueueDef { vhost, name, durable, auto_delete, arguments })
}

fn exchange(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<ExchangeDef> {
    let what = titled("exchange", node, "name");
    let mut map = check.map(node, &what)?;
    let name = map.required(check, "name", "events", not_reserved);
    let vhost = in_vhost(check, &mut map, node, names);
    let kind = map.required(check, "type", "direct", exchange_type);
    let durable = map.get(check, "durable", Check::bool).unwrap_or(true);
    let auto_delete = map.get(check, "auto_delete", Check::bool).unwrap_or(false);
    let internal = map.get(check, "internal", Check::bool).unwrap_or(false);
    let arguments = map.get(check, "arguments", arguments).unwrap_or_default();
    map.finish(check);
    let routes_as = arguments.get("x-delayed-type").and_then(ModelValue::as_str);
    if kind == Some(DELAYED) && !routes_as.is_some_and(|kind| ROUTING_TYPES.iter().any(|(known, _)| *known == kind)) {
        let problem = format!("{what} must say how it routes once the delay is over");
        let help = "add `arguments: { x-delayed-type: direct }`, or `fanout`, `topic` or `headers`";
        check.report(Problem::new(node.at, problem).help(help));
    }
    let (name, vhost) = (name?, vhost?);
    let key = (vhost.clone(), name.clone());
    let new = names.exchanges.first(check, key, node.at_value("name"), || {
        format!("the exchange `{name}` is given twice in vhost `{vhost}`")
    });
    new.then_some(ExchangeDef { vhost, name, kind: kind?.to_owned(), durable, auto_delete, internal, arguments })
}

/// The types that say how an exchange routes.
const ROUTING_TYPES: [(&str, &str); 4] =
    [("direct", "direct"), ("fanout", "fanout"), ("topic", "topic"), ("headers", "headers")];

/// The type that delays, and then routes as another.
const DELAYED: &str = "x-delayed-message";

fn exchange_type(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<&'static str> {
    match node.text() {
        Some(DELAYED) => Some(DELAYED),
        Some(text) if text.starts_with("x-") => {
            check.report(Problem::new(node.at, format!("exchange type `{text}` is not supported yet")));
            None
        }
        _ => check.word(node, place, &ROUTING_TYPES),
    }
}

/// A name that clients may declare.
fn not_reserved(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let name = short_name(check, node, place)?;
    if name.starts_with("amq.") {
        let problem = Problem::new(node.at, format!("{place}: names that begin with `amq.` are reserved"));
        check.report(problem.help("leave it out; what is built in exists already"));
        return None;
    }
    Some(name)
}

fn binding(
    check: &mut Check<'_>,
    node: &Node,
    names: &Names,
    declared: &HashSet<(String, String)>,
) -> Option<BindingDef> {
    let mut map = check.map(node, "a binding")?;
    let vhost = in_vhost(check, &mut map, node, names);
    let source = map.required(check, "source", "events", |check, node, place| {
        // RabbitMQ names the default exchange by an empty text.
        let text = check.text(node, place)?;
        short(check, node, place, text)
    });
    let destination = map.required(check, "destination", "orders", short_name);
    let types = [("queue", DestinationType::Queue), ("exchange", DestinationType::Exchange)];
    let destination_type = map
        .get(check, "destination_type", |check, node, place| check.word(node, place, &types))
        .unwrap_or(DestinationType::Queue);
    let routing_key = map.get(check, "routing_key", |check, node, place| {
        let text = check.text(node, place)?;
        short(check, node, place, text)
    });
    let arguments = map.get(check, "arguments", arguments).unwrap_or_default();
    map.ignore(&["properties_key"]);
    map.finish(check);
    let (vhost, source, destination) = (vhost?, source?, destination?);
    let exchange_known =
        |name: &str| name.starts_with("amq.") || names.exchanges.contains(&(vhost.clone(), name.to_owned()));
    let implicit = source.is_empty() && destination_type == DestinationType::Queue;
    if !implicit && !exchange_known(&source) {
        check.report(
            Problem::new(node.at_value("source"), format!("there is no exchange `{source}` in vhost `{vhost}`"))
                .help("add it to `exchanges`"),
        );
        return None;
    }
    let (kind, known) = match destination_type {
        DestinationType::Queue => {
            let key = (vhost.clone(), destination.clone());
            ("queue", names.queues.contains(&key) || declared.contains(&key))
        }
        DestinationType::Exchange => ("exchange", exchange_known(&destination)),
    };
    if !known {
        let problem = Problem::new(
            node.at_value("destination"),
            format!("there is no {kind} `{destination}` in vhost `{vhost}`"),
        );
        check.report(problem.help(format!("add it to `{kind}s`")));
        return None;
    }
    Some(BindingDef {
        vhost,
        source,
        destination,
        destination_type,
        routing_key: routing_key.unwrap_or_default(),
        arguments,
    })
}

/// Parameters that RabbitMQ writes about itself are skipped, others are features that are not built.
fn parameter(check: &mut Check<'_>, node: &Node) {
    let name = node.get("component").or_else(|| node.get("name")).and_then(Node::text).unwrap_or("?");
    let ours = matches!(name, "cluster_name" | "internal_cluster_id" | "cluster_tags" | "mqtt_port_to_vhost_mapping");
    if !ours {
        let at = node.get("component").or_else(|| node.get("name")).map_or(node.at, |node| node.at);
        check.report(Problem::new(at, format!("the parameter `{name}` is not supported yet")));
    }
}

/// Arguments as AMQP values: whole numbers are 64-bit, as RabbitMQ reads JSON.
fn arguments(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Table> {
    match &node.value {
        Value::Map(_) => match model_value(node, 0) {
            Some(ModelValue::Table(table)) => Some(table),
            _ => {
                check.report(Problem::new(
                    node.at,
                    format!("{place} is nested too deeply, or has a name of more than {NAME_BYTES_MAX} bytes"),
                ));
                None
            }
        },
        // An empty list is how some exporters write "no arguments".
        Value::List(items) if items.is_empty() => Some(Table::new()),
        _ => {
            check.wrong_type(node, place, "a map");
            None
        }
    }
}

fn model_value(node: &Node, depth: usize) -> Option<ModelValue> {
    if depth > TABLE_DEPTH_MAX {
        return None;
    }
    Some(match &node.value {
        Value::Null => ModelValue::Void,
        Value::List(items) => {
            ModelValue::Array(items.iter().map(|item| model_value(item, depth + 1)).collect::<Option<_>>()?)
        }
        Value::Map(entries) => {
            let mut table = Vec::with_capacity(entries.len());
            for entry in entries {
                if entry.key.len() > NAME_BYTES_MAX {
                    return None;
                }
                table.push((entry.key.to_string(), model_value(&entry.value, depth + 1)?));
            }
            ModelValue::Table(Table(table))
        }
        Value::Scalar(scalar) => {
            match (scalar.quoted, scalar.as_bool(), scalar.text.parse::<i64>(), scalar.text.parse::<f64>()) {
                (true, ..) => ModelValue::text(&scalar.text),
                (_, Some(value), ..) => ModelValue::Bool(value),
                (_, _, Ok(number), _) => ModelValue::I64(number),
                (_, _, _, Ok(number)) if number.is_finite() => ModelValue::F64(number),
                _ => ModelValue::text(&scalar.text),
            }
        }
    })
}
