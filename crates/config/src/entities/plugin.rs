//! Plugins: which, where, and their configuration checked against the schema each plugin declares.

use ::plugin::{Field, Kind, Problem as SchemaProblem, ProblemKind, Schema, Segment};
use gateway::entity::{ApiConsumerId, PluginConfig, PluginId, RouteId, RouteProtocols, ServiceId};

use super::{Reader, Scope, id, name, route, tags};
use crate::definitions::titled;
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::source::Span;
use crate::suggest::{nearest, one_of};
use crate::tree::{Node, Value};

/// Plugins that Kong bundles: those that are not in the registry are refused as "not supported yet".
const KONG_PLUGINS: [&str; 38] = [
    "acl",
    "acme",
    "aws-lambda",
    "azure-functions",
    "basic-auth",
    "bot-detection",
    "correlation-id",
    "cors",
    "datadog",
    "file-log",
    "grpc-gateway",
    "grpc-web",
    "hmac-auth",
    "http-log",
    "ip-restriction",
    "jwt",
    "key-auth",
    "ldap-auth",
    "loggly",
    "oauth2",
    "opentelemetry",
    "post-function",
    "pre-function",
    "prometheus",
    "proxy-cache",
    "rate-limiting",
    "redirect",
    "request-size-limiting",
    "request-termination",
    "request-transformer",
    "response-ratelimiting",
    "response-transformer",
    "session",
    "standard-webhooks",
    "statsd",
    "syslog",
    "tcp-log",
    "udp-log",
];

impl<'n> Reader<'n, '_> {
    /// Reads a plugin; `parent` is what it is nested in.
    pub(super) fn plugin(&mut self, check: &mut Check<'_>, node: &'n Node, parent: Scope) {
        let what = titled("plugin", node, "name");
        let Some(mut map) = check.map(node, &what) else { return };
        let given_id = id(check, &mut map);
        let plugin_name = map.required(check, "name", "key-auth", |check, node, place| check.some_text(node, place));
        let instance_name = map.get(check, "instance_name", name);
        let enabled = map.get(check, "enabled", Check::bool).unwrap_or(true);
        let protocols = map.get(check, "protocols", protocols).unwrap_or(RouteProtocols::Both);
        let tags = tags(check, &mut map);
        let scope = self.scope(check, &mut map, parent);
        let config = map.entry("config").map(|entry| &entry.value);
        map.not_yet(check, &["ordering", "consumer_group", "condition", "partials"]);
        let at = map.at();
        map.finish(check);
        let Some(plugin_name) = plugin_name else { return };
        let Some((_, known)) = self.registry.find(plugin_name) else {
            self.unknown(check, plugin_name, node.at_value("name"));
            return;
        };
        let (schema, allows_consumer) = (known.schema(), known.allows_consumer_scope());
        let config = self.config(check, schema, config, at, &what);
        let Some(scope) = scope else { return };
        if scope.consumer.is_some() && !allows_consumer {
            let at = if node.get("consumer").is_some() { node.at_key("consumer") } else { node.at_value("name") };
            check.report(
                Problem::new(at, format!("{what} cannot belong to a consumer"))
                    .help("it finds out who the consumer is; put it on a service, a route, or at the top"),
            );
            return;
        }
        let unique = self.add_plugin_scope(check, plugin_name, scope, node);
        let key = PluginConfig::derived_key(plugin_name, instance_name, scope.route, scope.service, scope.consumer);
        let id = given_id.map_or_else(|| PluginId::derived(&key), PluginId);
        let unique = unique
            & instance_name.is_none_or(|name| self.plugins.add_name(check, name, id, node.at_value("instance_name")));
        let Some(config) = config.filter(|_| unique) else { return };
        if self.plugins.add_id(check, id.0, node.at_value("id")) {
            self.entities.plugins.push(PluginConfig {
                id,
                name: plugin_name.to_owned(),
                instance_name: instance_name.map(str::to_owned),
                enabled,
                protocols,
                config,
                route: scope.route,
                service: scope.service,
                consumer: scope.consumer,
                tags,
            });
        }
    }

    fn unknown(&self, check: &mut Check<'_>, name: &str, at: Span) {
        let ours: Vec<&str> = self.registry.iter().map(|plugin| plugin.name()).collect();
        let problem = if KONG_PLUGINS.contains(&name) {
            Problem::new(at, format!("the plugin `{name}` is not supported yet"))
        } else {
            let near = nearest(name, ours.iter().copied()).or_else(|| nearest(name, KONG_PLUGINS));
            Problem::new(at, format!("there is no plugin `{name}`"))
                .maybe_help(near.map(|near| format!("did you mean `{near}`?")))
        };
        check.report(problem.expected(one_of(&ours)));
    }

    /// The scope of the parent and of the references together. `None` if one of them is wrong.
    fn scope(&mut self, check: &mut Check<'_>, map: &mut MapReader<'_, '_>, parent: Scope) -> Option<Scope> {
        let mut scope = parent;
        let mut right = true;
        let what = map.what;
        for (key, taken) in [
            ("service", parent.service.is_some()),
            ("route", parent.route.is_some()),
            ("consumer", parent.consumer.is_some()),
        ] {
            let Some(entry) = map.entry(key) else { continue };
            if taken {
                let problem = Problem::new(entry.key_at, format!("{what} stands inside a {key} and names one too"));
                check.report(problem.help(format!("remove `{key}`")));
                right = false;
                continue;
            }
            let place = Place { key, what };
            let found = match key {
                "service" => {
                    scope.service = super::reference(check, &entry.value, place, &self.services, ServiceId);
                    scope.service.is_some()
                }
                "route" => {
                    scope.route = super::reference(check, &entry.value, place, &self.routes, RouteId);
                    scope.route.is_some()
                }
                _ => {
                    scope.consumer = super::reference(check, &entry.value, place, &self.consumers, ApiConsumerId);
                    scope.consumer.is_some()
                }
            };
            right &= found;
        }
        right.then_some(scope)
    }

    fn add_plugin_scope(&mut self, check: &mut Check<'_>, name: &str, scope: Scope, node: &Node) -> bool {
        let ids = [scope.route.map(|id| id.0), scope.service.map(|id| id.0), scope.consumer.map(|id| id.0)];
        self.plugin_scopes.first(check, (name.to_owned(), ids), node.at_value("name"), || {
            let place = match (scope.route, scope.service, scope.consumer) {
                (None, None, None) => "for everything",
                (Some(_), None, None) => "for this route",
                (None, Some(_), None) => "for this service",
                (None, None, Some(_)) => "for this consumer",
                _ => "for the same things",
            };
            format!("the plugin `{name}` is configured twice {place}")
        })
    }

    /// Checks the configuration and fills in defaults.
    fn config(
        &self,
        check: &mut Check<'_>,
        schema: &'static Schema,
        node: Option<&Node>,
        at: Span,
        what: &str,
    ) -> Option<serde_json::Value> {
        let empty = Node::empty_map(at);
        let node = node.unwrap_or(&empty);
        let json = record_json(check, node, schema.fields);
        match schema.resolve(&json) {
            Ok(config) => Some(config),
            Err(problems) => {
                for problem in problems {
                    report(check, schema, &problem, node, what);
                }
                None
            }
        }
    }
}

/// Kong's words for a plugin's protocols. Those we do not serve cannot match anything, and every export lists them.
fn protocols(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<RouteProtocols> {
    let other = ["tcp", "tls", "tls_passthrough", "udp", "ws", "wss"];
    // gRPC is HTTP to a plugin.
    let mut words = vec![("http", Some(true)), ("https", Some(false)), ("grpc", Some(true)), ("grpcs", Some(false))];
    words.extend(other.map(|word| (word, None)));
    let list = check.list_of(node, place, |check, node, place| check.word(node, place, &words))?;
    let plain: Vec<bool> = list.iter().copied().flatten().collect();
    let set = route::set_of(&plain);
    if set.is_none() && list.len() == plain.len() + list.iter().filter(|one| one.is_none()).count() {
        check.report(Problem::new(node.at, format!("{place} holds neither `http` nor `https`")));
    }
    set
}

/// A configuration as JSON. Values from environment variables have no types; the schema says what they are.
fn record_json(check: &Check<'_>, node: &Node, fields: &'static [Field]) -> serde_json::Value {
    match &node.value {
        Value::Map(entries) => {
            let field = |key: &str| fields.iter().find(|field| field.name == key).map(|field| &field.kind);
            entries.iter().map(|entry| (entry.key.to_string(), json(check, &entry.value, field(&entry.key)))).collect()
        }
        _ => json(check, node, None),
    }
}

fn json(check: &Check<'_>, node: &Node, kind: Option<&'static Kind>) -> serde_json::Value {
    let variable = check.sources.is_variable(node.at.source);
    match (&node.value, kind) {
        (Value::Null, _) => serde_json::Value::Null,
        (Value::Map(_), Some(Kind::Record(fields))) => record_json(check, node, fields),
        (Value::Map(_), _) => record_json(check, node, &[]),
        (Value::List(items), Some(Kind::List { of, .. })) => {
            items.iter().map(|item| json(check, item, Some(of))).collect()
        }
        (Value::List(items), _) => items.iter().map(|item| json(check, item, None)).collect(),
        (Value::Scalar(scalar), Some(Kind::List { .. })) if variable => {
            scalar.text.split(',').map(|part| serde_json::Value::from(part.trim())).collect()
        }
        (
            Value::Scalar(scalar),
            Some(Kind::Text | Kind::HeaderName | Kind::Like(_) | Kind::OneOf(_) | Kind::Choice { .. }),
        ) if variable => serde_json::Value::from(&*scalar.text),
        (Value::Scalar(scalar), _) if scalar.quoted => serde_json::Value::from(&*scalar.text),
        (Value::Scalar(scalar), _) => {
            let number = || scalar.text.parse::<i64>().ok().map(serde_json::Value::from);
            let float =
                || scalar.text.parse().ok().and_then(serde_json::Number::from_f64).map(serde_json::Value::Number);
            scalar
                .as_bool()
                .map(serde_json::Value::from)
                .or_else(number)
                .or_else(float)
                .unwrap_or_else(|| serde_json::Value::from(&*scalar.text))
        }
    }
}

/// Reports what a schema found, at the place in the text that its path leads to.
fn report(check: &mut Check<'_>, schema: &Schema, problem: &SchemaProblem, config: &Node, what: &str) {
    let (value_at, key_at) = locate(config, &problem.path);
    let path = problem.path_text();
    let field = if path.is_empty() { format!("`config` of {what}") } else { format!("`config.{path}` of {what}") };
    let found = match &problem.kind {
        ProblemKind::UnknownField { known } => {
            let wrong = match problem.path.last() {
                Some(Segment::Field(name)) => name.as_str(),
                _ => "",
            };
            let near = nearest(wrong, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            Problem::new(key_at, format!("unknown key `config.{path}` of {what}"))
                .expected(one_of(known))
                .maybe_help(near)
        }
        ProblemKind::UnknownWord { known, .. } => {
            let wrong = check.sources.text(value_at).trim_matches(['"', '\'']).to_owned();
            let near = nearest(&wrong, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            Problem::new(value_at, format!("{field} is not one of its words")).expected(one_of(known)).maybe_help(near)
        }
        ProblemKind::Missing => {
            let help = help_of(schema, &problem.path);
            Problem::new(key_at, format!("{field} is missing")).maybe_help(help)
        }
        ProblemKind::Value { message, expected } => {
            let problem = Problem::new(value_at, format!("{field}: {message}"));
            expected.map_or(problem.clone(), |expected| problem.expected(expected))
        }
        ProblemKind::Rule(text) | ProblemKind::Other(text) => match text.strip_prefix("expected ") {
            Some(expected) => Problem::new(value_at, format!("{field} has a wrong value")).expected(expected),
            None => Problem::new(value_at, format!("{field}: {text}")),
        },
    };
    check.report(found);
}

/// The schema's line about a field.
fn help_of(schema: &Schema, path: &[Segment]) -> Option<String> {
    let [Segment::Field(name)] = path else { return None };
    let field = schema.fields.iter().find(|field| field.name == name)?;
    (!field.help.is_empty()).then(|| field.help.to_owned())
}

/// Where a path leads: its value and its key. A field that is not there is where its parent is.
fn locate(config: &Node, path: &[Segment]) -> (Span, Span) {
    let mut node = config;
    let mut key_at = short(node.at);
    for segment in path {
        match (segment, &node.value) {
            (Segment::Field(name) | Segment::Key(name), Value::Map(entries)) => {
                match entries.iter().find(|entry| *entry.key == **name) {
                    Some(entry) => {
                        key_at = entry.key_at;
                        node = &entry.value;
                    }
                    None => return (key_at, key_at),
                }
            }
            (Segment::Index(index), Value::List(items)) => match items.get(*index) {
                Some(item) => {
                    key_at = item.at;
                    node = item;
                }
                None => return (key_at, key_at),
            },
            _ => break,
        }
    }
    let value_at = match node.value {
        Value::List(_) | Value::Map(_) => key_at,
        _ => node.at,
    };
    (value_at, key_at)
}

fn short(at: Span) -> Span {
    Span { end: at.start.saturating_add(1), ..at }
}
