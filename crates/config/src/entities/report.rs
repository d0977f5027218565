//! Mistakes in entities, in a person's words: where, what, what may stand there, how to mend it.

use std::collections::HashMap;

use ::entities::Kind;
use ::entities::declarative::{Mistake, MistakeKind, Mistakes};
use ::plugin::{Id, ProblemKind, Registry, Segment};
use gateway::convert::Refusal;

use super::lint::METHODS;
use super::place::{begin, locate, node, short};
use crate::definitions::titled;
use crate::problem::Problem;
use crate::reader::Check;
use crate::source::Span;
use crate::suggest::{nearest, one_of};
use crate::tree::{Node, Value};

/// What a path of a route looks like.
pub(super) const PATH_EXPECTED: &str =
    "a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$";
/// Keys listed as alternatives when the right one is known.
const KEYS_SHOWN_MAX: usize = 10;

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

/// Reports every mistake.
pub(super) fn mistakes(check: &mut Check<'_>, root: &Node, mistakes: &Mistakes, registry: &Registry) {
    for mistake in mistakes.all() {
        if let Some(problem) = problem(check, root, mistake, mistakes, registry) {
            check.report(problem);
        }
    }
}

/// Reports something that the gateway cannot run.
pub(super) fn refusal(
    check: &mut Check<'_>,
    root: &Node,
    places: &HashMap<(Kind, Id), Vec<Segment>>,
    refusal: &Refusal,
) {
    let Some(entity) = places.get(&(refusal.kind, refusal.id)) else {
        return check.report(Problem::new(short(root.at), refusal.to_string()));
    };
    let what = node(root, entity).map_or_else(|| refusal.kind.to_string(), |node| called(refusal.kind, node));
    let mut path = entity.clone();
    path.extend(refusal.field.map(|field| Segment::Field(field.to_owned())));
    path.extend(refusal.index.map(Segment::Index));
    let at = locate(root, &path).0;
    let message = match refusal.field {
        Some(field) => format!("`{field}` in {what}: {}", refusal.reason),
        None => format!("{what}: {}", refusal.reason),
    };
    check.report(Problem::new(at, message));
}

/// What an entity is called: "route `orders`", "an API key".
fn called(kind: Kind, node: &Node) -> String {
    match kind {
        Kind::CaCertificates => String::from("a CA certificate"),
        Kind::Certificates => String::from("a certificate"),
        Kind::KeyauthCredentials => String::from("an API key"),
        Kind::Consumers if node.get("username").is_none() => titled("consumer", node, "custom_id"),
        Kind::Plugins => titled("plugin", node, "name"),
        Kind::Snis => titled("server name", node, "name"),
        Kind::KeySets => titled("key set", node, "name"),
        kind => titled(kind.singular(), node, kind.endpoint_key().unwrap_or("id")),
    }
}

/// One of a kind: "service", "API key".
fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::CaCertificates => "CA certificate",
        Kind::Certificates => "certificate",
        Kind::KeyauthCredentials => "API key",
        Kind::Snis => "server name",
        Kind::KeySets => "key set",
        kind => kind.name().strip_suffix('s').unwrap_or(kind.name()),
    }
}

/// An entity with something wrong in it.
struct Wrong<'m> {
    root: &'m Node,
    kind: Kind,
    node: &'m Node,
    /// What it is called.
    what: String,
    /// From the entity to what is wrong.
    rest: &'m [Segment],
    value_at: Span,
    key_at: Span,
}

fn problem(
    check: &Check<'_>,
    root: &Node,
    mistake: &Mistake,
    mistakes: &Mistakes,
    registry: &Registry,
) -> Option<Problem> {
    let (value_at, key_at) = locate(root, &mistake.path);
    let entity = mistake.entity_len.map(|len| mistake.path.split_at(len.min(mistake.path.len())));
    let kind_of = |path: &[Segment]| match path {
        [.., Segment::Field(list), Segment::Index(_)] | [.., Segment::Field(list)] => Kind::of_name(list),
        _ => None,
    };
    let found = entity.and_then(|(path, rest)| Some((kind_of(path)?, node(root, path)?, rest)));
    let Some((kind, node, rest)) = found else {
        return Some(of_root(mistake, value_at, key_at));
    };
    let wrong = Wrong { root, kind, node, what: called(kind, node), rest, value_at, key_at };
    match &mistake.kind {
        MistakeKind::Field(ProblemKind::Rule(message)) => wrong.rule(message),
        MistakeKind::Field(problem) => wrong.field(check, problem, registry),
        other => Some(wrong.other(check, other, mistakes, registry)),
    }
}

/// A mistake that is about no entity.
fn of_root(mistake: &Mistake, value_at: Span, key_at: Span) -> Problem {
    let key = mistake.path.first().map_or_else(String::new, |segment| match segment {
        Segment::Field(name) | Segment::Key(name) => name.clone(),
        Segment::Index(at) => at.to_string(),
    });
    match &mistake.kind {
        MistakeKind::Refused { reason } => Problem::new(key_at, format!("`{key}` is not supported: {reason}")),
        kind if key == "_format_version" => {
            Problem::new(value_at, format!("`{key}`: {}", kind.message())).expected("\"3.0\"")
        }
        kind => Problem::new(value_at, format!("`{key}`: {}", kind.message())),
    }
}

impl Wrong<'_> {
    /// The field as it is named in a message: "`paths` in route `a`".
    fn place(&self) -> String {
        let mut text = String::new();
        for segment in self.rest {
            match segment {
                Segment::Field(name) | Segment::Key(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Segment::Index(_) => {}
            }
        }
        let of = if self.in_config() { "of" } else { "in" };
        if text.is_empty() { self.what.clone() } else { format!("`{text}` {of} {}", self.what) }
    }

    fn in_config(&self) -> bool {
        self.kind == Kind::Plugins && matches!(self.rest.first(), Some(Segment::Field(name)) if name == "config")
    }

    /// The name of the field.
    fn name(&self) -> &str {
        match self.rest.iter().rev().find(|segment| !matches!(segment, Segment::Index(_))) {
            Some(Segment::Field(name) | Segment::Key(name)) => name,
            _ => "",
        }
    }

    /// The value that is wrong, if one is there.
    fn value(&self) -> Option<&Node> {
        node(self.node, self.rest)
    }

    fn says(&self, key: &str) -> bool {
        self.node.get(key).is_some_and(|node| !node.is_empty())
    }

    /// Whether a key stands in the entity that is none and nearly this one.
    fn is_misspelt(&self, key: &str) -> bool {
        let Value::Map(entries) = &self.node.value else { return false };
        entries.iter().any(|entry| !self.knows(&entry.key) && nearest(&entry.key, [key]).is_some())
    }

    fn has_unknown(&self) -> bool {
        let Value::Map(entries) = &self.node.value else { return false };
        entries.iter().any(|entry| !self.knows(&entry.key))
    }

    fn knows(&self, key: &str) -> bool {
        key.starts_with('_') || self.known().contains(&key) || ::entities::refused(key).is_some() || key == "ws_id"
    }

    /// Keys that the entity may have, those people write.
    fn known(&self) -> Vec<&'static str> {
        let fields = self.kind.fields().iter().map(|field| field.name);
        let nested = self.kind.referrers().map(|(child, _)| child.name());
        fields.chain(self.kind.shorthands().iter().copied()).chain(nested).collect()
    }

    /// A rule over several fields.
    fn rule(&self, message: &str) -> Option<Problem> {
        // The field that breaks it has a message of its own.
        if message.starts_with("failed conditional validation") || message.starts_with("'snis' can only") {
            return None;
        }
        let at = if self.rest.is_empty() { begin(self.node) } else { self.key_at };
        let what = &self.what;
        if self.in_config() {
            return Some(Problem::new(at, format!("{}: {message}", self.place())));
        }
        match self.kind {
            Kind::Consumers => {
                Some(Problem::new(at, "a consumer needs a name").expected("`username: …`, `custom_id: …` or both"))
            }
            Kind::Routes if message.starts_with("must set ") => {
                let fields = message.trim_start_matches("must set ").trim_start_matches("one of ");
                let fields = fields.split(" when ").next().unwrap_or_default();
                let fields: Vec<&str> = fields.split(", ").map(|field| field.trim_matches('\'')).collect();
                let wrong_already = fields.iter().any(|field| self.says(field));
                let problem = Problem::new(at, format!("{what} matches on nothing"));
                let problem = problem.expected(format!("at least one of {}", one_of(&fields)));
                (!self.has_unknown() && !wrong_already).then_some(problem)
            }
            _ => Some(Problem::new(at, format!("{what}: {message}"))),
        }
    }

    fn field(&self, check: &Check<'_>, problem: &ProblemKind, registry: &Registry) -> Option<Problem> {
        // What a wrong `url` stands for was told at the `url`.
        let of_url = matches!(self.name(), "protocol" | "host" | "port" | "path") && self.value().is_none();
        if self.kind == Kind::Services && of_url && self.says("url") {
            return None;
        }
        let place = self.place();
        match problem {
            ProblemKind::UnknownField { known } => Some(self.unknown(known)),
            ProblemKind::UnknownWord { known, ours } => {
                let all: Vec<&str> = known.iter().chain(*ours).copied().collect();
                let text = self.value().and_then(Node::text).unwrap_or_default();
                let near = nearest(text, all.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                let message = if self.in_config() {
                    format!("{place} is not one of its words")
                } else {
                    format!("{place} cannot be `{text}`")
                };
                Some(Problem::new(self.value_at, message).expected(one_of(&all)).maybe_help(near))
            }
            ProblemKind::Missing => self.missing(registry),
            ProblemKind::Value { message, .. } if message == "value must be null" => self.must_be_null(&place),
            ProblemKind::Value { message, expected } => Some(self.unfit(check, message, *expected)),
            ProblemKind::Rule(message) | ProblemKind::Other(message) => {
                Some(Problem::new(self.value_at, format!("{place}: {message}")))
            }
        }
    }

    fn unknown(&self, known: &[&'static str]) -> Problem {
        let key = self.name();
        let (message, known) = if self.rest.len() > 1 {
            (format!("unknown key {}", self.place()), known.to_vec())
        } else {
            (format!("unknown key {}", self.place()), self.known())
        };
        let shown: Vec<&str> =
            known.iter().copied().filter(|name| !matches!(*name, "created_at" | "updated_at")).collect();
        let near = nearest(key, known.iter().copied());
        let mut problem = Problem::new(self.key_at, message);
        // A long list of all keys beside the right one would hide it.
        if near.is_none() || shown.len() <= KEYS_SHOWN_MAX {
            problem = problem.expected(one_of(&shown));
        }
        problem.maybe_help(near.map(|near| format!("did you mean `{near}`?")))
    }

    fn missing(&self, registry: &Registry) -> Option<Problem> {
        let key = self.name();
        if self.in_config() {
            let name = self.node.get("name").and_then(Node::text).unwrap_or_default();
            let fields = registry.find(name).map_or(&[][..], |(_, plugin)| plugin.schema().fields);
            let help = fields.iter().find(|field| field.name == key && !field.help.is_empty());
            let problem = Problem::new(self.key_at, format!("{} is missing", self.place()));
            return Some(problem.maybe_help(help.map(|field| field.help.to_owned())));
        }
        let queue = self.node.get("protocol").and_then(Node::text) == Some("queue");
        if self.is_misspelt(key) || (self.kind == Kind::Services && !queue && self.is_misspelt("url")) {
            return None;
        }
        // With a wrong `url` the host is not what is missing.
        if self.kind == Kind::Services && self.says("url") {
            return None;
        }
        let (what, at) = (&self.what, begin(self.node));
        if self.kind == Kind::Services && key == "host" && !queue {
            let problem = Problem::new(at, format!("{what} needs `url` or `host`"));
            return Some(problem.expected("`url: http://127.0.0.1:9000`, or `protocol: queue` and `host: <queue>`"));
        }
        let example = match (self.kind, key) {
            (Kind::Plugins, "name") => "key-auth",
            (Kind::KeyauthCredentials, "key") => "a-long-random-text",
            (_, "consumer") => "alice",
            (Kind::CaCertificates, "cert") => "\"-----BEGIN CERTIFICATE-----…\"",
            (Kind::Services, "host") => "orders",
            _ => "…",
        };
        Some(Problem::new(at, format!("{what} needs `{key}`")).expected(format!("`{key}: {example}`")))
    }

    /// A value that does not fit its field.
    fn unfit(&self, check: &Check<'_>, message: &str, expected: Option<&'static str>) -> Problem {
        let place = self.place();
        let secret = check.secrets.contains(&self.value_at);
        // The help for a wrong type repeats what stands there.
        if let Some(problem) = self.wrong_type(&place, message).filter(|_| !secret) {
            return problem;
        }
        let text = self.value().and_then(Node::text).unwrap_or_default();
        let (message, help) = match (self.kind, self.name()) {
            (_, "name" | "instance_name") if message.starts_with("invalid value ") => {
                let keep = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '~');
                let better: String = text.chars().map(|c| if keep(c) { c } else { '-' }).collect();
                (format!("{place}: `{text}` is not a name"), Some(format!("write {better}")))
            }
            (Kind::Routes, "methods") => {
                let near = nearest(&text.to_ascii_uppercase(), METHODS);
                (format!("{place}: `{text}` is not a method"), near.map(|near| format!("did you mean `{near}`?")))
            }
            (_, "path" | "paths") if message.starts_with("should start with: /") && !text.starts_with('~') => {
                (format!("{place}: `{text}`: {message}"), Some(format!("write /{text}")))
            }
            (Kind::Routes, "protocols") if message == "unknown type: nil" => {
                return Problem::new(self.value_at, format!("{place} is empty")).expected("`http`, `https` or both");
            }
            (Kind::Services, "host") if text.contains("://") => {
                (format!("{place}: {message}"), Some(String::from("it is a URL; use `url` for that")))
            }
            (_, "https_redirect_status_code") => {
                let codes = message.trim_start_matches("expected one of: ");
                return Problem::new(self.value_at, format!("{place} cannot be {text}")).expected(codes);
            }
            _ if secret || text.is_empty() || message.contains(text) => (format!("{place}: {message}"), None),
            _ => (format!("{place}: `{text}`: {message}"), None),
        };
        let problem = Problem::new(self.value_at, message).maybe_help(help);
        expected.map_or(problem.clone(), |expected| problem.expected(expected))
    }

    /// A value of the wrong type, told from what stands there.
    fn wrong_type(&self, place: &str, message: &str) -> Option<Problem> {
        let value = self.value()?;
        let problem = |expected: &str| {
            Some(Problem::new(self.value_at, format!("{place} must be {expected}, not {}", value.kind())))
        };
        let unquote = || {
            let number = value.scalar().filter(|scalar| scalar.quoted && scalar.text.parse::<f64>().is_ok());
            number.map(|scalar| format!("write it without quotes: {}", scalar.text))
        };
        match message {
            "expected a string" => {
                let text = value.text().map(|text| format!("quote it: \"{text}\""));
                problem("text").map(|problem| problem.maybe_help(text))
            }
            "expected an integer" => problem("a whole number").map(|problem| problem.maybe_help(unquote())),
            "expected a number" => problem("a number").map(|problem| problem.maybe_help(unquote())),
            "expected a boolean" => {
                let text = value.text().unwrap_or_default();
                let meant = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" | "1" => "true",
                    "no" | "off" | "n" | "false" | "0" => "false",
                    _ => return problem("true or false"),
                };
                let problem = Problem::new(self.value_at, format!("{place} must be true or false, not `{text}`"));
                Some(problem.help(format!("write {meant}")))
            }
            "expected an array" | "expected a set" => {
                let brackets = value.text().map(|text| format!("put it in brackets: [{text}]"));
                problem("a list").map(|problem| problem.maybe_help(brackets))
            }
            "expected a record" | "expected a map" => problem("a map of `key: value`"),
            _ => None,
        }
    }

    /// A field that may not be there, given the others.
    fn must_be_null(&self, place: &str) -> Option<Problem> {
        let (at, key) = (self.key_at, self.name());
        let queue = self.node.get("protocol").and_then(Node::text) == Some("queue");
        Some(match (self.kind, key) {
            // A `url` beside it is what is wrong.
            (Kind::Services, "vhost" | "user") if queue => return None,
            (Kind::Services, "vhost" | "user") => Problem::new(at, format!("{place} needs `protocol: queue`")),
            (Kind::Services, _) if queue => {
                Problem::new(at, format!("{place} has no meaning with `protocol: queue`")).help("remove it")
            }
            (Kind::Services, key) if key != "path" => Problem::new(at, format!("{place} needs `protocol: https`")),
            (Kind::Plugins, "consumer") => {
                let at = if self.node.get("consumer").is_some() { at } else { self.node.at_value("name") };
                Problem::new(at, format!("{} cannot belong to a consumer", self.what))
                    .help("it finds out who the consumer is; put it on a service, a route, or at the top")
            }
            _ => Problem::new(at, format!("{place} cannot be there, given the other fields")),
        })
    }

    fn other(&self, check: &Check<'_>, kind: &MistakeKind, mistakes: &Mistakes, registry: &Registry) -> Problem {
        let place = self.place();
        let first_at = |first: &[Segment]| locate(self.root, first).0;
        match kind {
            MistakeKind::UnknownPlugin { name } => self.unknown_plugin(name, registry),
            MistakeKind::Duplicate { of, field, value, first } => {
                let noun = noun(*of);
                let (message, help) = match *field {
                    "id" => (format!("the id {value} of a {noun} is given twice"), None),
                    "key" => (String::from("this API key is given twice"), None),
                    "name" | "username" | "instance_name" => {
                        let help = "names are unique; rename one of the two";
                        (format!("the {noun} name `{value}` is given twice"), Some(help.to_owned()))
                    }
                    field => (format!("the {} `{value}` is given twice", field.replace('_', " ")), None),
                };
                let problem = Problem::new(self.value_at, message).maybe_help(help);
                match first {
                    Some(first) => problem.related(first_at(first), "first given"),
                    None => problem,
                }
            }
            MistakeKind::SameScope { name, scope, first } => {
                let place = match scope.as_slice() {
                    [] => String::from("for everything"),
                    [one] => format!("for this {}", noun(*one)),
                    _ => String::from("for the same things"),
                };
                let message = format!("the plugin `{name}` is configured twice {place}");
                Problem::new(self.value_at, message).related(first_at(first), "first given")
            }
            MistakeKind::Dangling { field, to, key } => {
                let message = format!("`{field}` in {}: there is no {} `{key}`", self.what, noun(*to));
                let help = check.did_you_mean(key, mistakes.names(*to));
                Problem::new(self.value_at, message).maybe_help(help)
            }
            MistakeKind::NoReference { to } => {
                let at = self.value().map_or(self.value_at, |node| node.at);
                Problem::new(at, format!("{place} names no {}", noun(*to))).expected("`name: …` or `id: …`")
            }
            MistakeKind::Nested { parent } => {
                let noun = noun(*parent);
                let problem =
                    Problem::new(self.key_at, format!("{} stands inside a {noun} and names one too", self.what));
                problem.help(format!("remove `{}`", self.name()))
            }
            MistakeKind::Refused { reason } => Problem::new(self.key_at, format!("{place} is not supported: {reason}")),
            MistakeKind::Conflict(_) | MistakeKind::Field(_) => {
                Problem::new(begin(self.node), format!("{}: {}", self.what, kind.message()))
            }
        }
    }

    fn unknown_plugin(&self, name: &str, registry: &Registry) -> Problem {
        let ours: Vec<&str> = registry.iter().map(|plugin| plugin.name()).collect();
        let problem = if KONG_PLUGINS.contains(&name) {
            Problem::new(self.value_at, format!("the plugin `{name}` is not supported yet"))
        } else {
            let near = nearest(name, ours.iter().copied()).or_else(|| nearest(name, KONG_PLUGINS));
            Problem::new(self.value_at, format!("there is no plugin `{name}`"))
                .maybe_help(near.map(|near| format!("did you mean `{near}`?")))
        };
        problem.expected(one_of(&ours))
    }
}
