//! From the body of a request to a record that fits its kind: shorthands, references by name, defaults, rules. In the order
//! in which Kong does it, so that of several mistakes the same ones are told.

use super::{Store, Write, expiry};
use crate::entity::EXPIRES_MS;
use crate::error::Error;
use crate::kind::Kind;
use crate::rules::Rules;
use crate::x509::Certificate;
use model::limits::ENTITY_PROBLEMS_MAX;
use plugin::schema::syntax::Address;
use plugin::{Id, Kind as FieldKind, Nulls, Problem, ProblemKind, Registry, Segment, schema};
use serde_json::{Map, Value, json};

/// The port of a target that gives none.
const TARGET_PORT: u16 = 8_000;

/// Completes and checks a record. All problems at once.
pub(crate) fn complete(
    kind: Kind,
    given: &Map<String, Value>,
    registry: &Registry,
    updating: bool,
    now: i64,
) -> Result<Map<String, Value>, Vec<Problem>> {
    let (mut record, mut problems) = schema::complete(kind.fields(), given, Nulls::Kept);
    (kind.def().rules)(&mut Rules::new(&record, &mut problems, updating, now));
    if kind == Kind::Plugins {
        specialise(&mut record, given, &mut problems, registry);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    transform(kind, &mut record);
    Ok(record)
}

/// Checks the configuration of a plugin by the plugin's own schema.
fn specialise(
    record: &mut Map<String, Value>,
    given: &Map<String, Value>,
    problems: &mut Vec<Problem>,
    registry: &Registry,
) {
    let only = |problems: &mut Vec<Problem>, kind| {
        problems.clear();
        problems.push(Problem { path: vec![Segment::Field("name".to_owned())], kind });
    };
    let name = match given.get("name") {
        None | Some(Value::Null) => return only(problems, ProblemKind::Missing),
        Some(Value::String(name)) => name,
        Some(_) => return,
    };
    let Some((_, plugin)) = registry.find(name) else {
        let message = format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property");
        return only(problems, ProblemKind::Value { message, expected: None });
    };
    only_http(record, problems);
    if !plugin.allows_consumer_scope() && record.get("consumer").is_some_and(|consumer| !consumer.is_null()) {
        let kind = ProblemKind::Value { message: "value must be null".to_owned(), expected: None };
        problems.push(Problem { path: vec![Segment::Field("consumer".to_owned())], kind });
    }
    if problems.iter().any(|problem| problem.path.first() == Some(&Segment::Field("config".to_owned()))) {
        return;
    }
    let config = record.get("config").cloned().unwrap_or(Value::Null);
    match plugin.schema().resolve_with(&config, Nulls::Shown) {
        Ok(config) => {
            record.insert("config".to_owned(), config);
        }
        Err(found) => problems.extend(found.into_iter().map(|problem| problem.below("config"))),
    }
}

/// The plugins there are run on requests: other protocols are none of theirs.
fn only_http(record: &Map<String, Value>, problems: &mut Vec<Problem>) {
    const WORDS: &[&str] = &["grpc", "grpcs", "http", "https"];
    for (at, protocol) in record.get("protocols").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if problems.len() >= ENTITY_PROBLEMS_MAX {
            return;
        }
        if protocol.as_str().is_some_and(|word| !WORDS.contains(&word)) {
            let path = vec![Segment::Field("protocols".to_owned()), Segment::Index(at)];
            problems.retain(|problem| problem.path != path);
            problems.push(Problem { path, kind: ProblemKind::UnknownWord { known: WORDS, ours: &[] } });
        }
    }
}

/// What is stored differs from what was given: targets have a port, trust anchors a digest.
fn transform(kind: Kind, record: &mut Map<String, Value>) {
    let text = |record: &Map<String, Value>, field: &str| record.get(field).and_then(Value::as_str).map(str::to_owned);
    match kind {
        Kind::Targets => {
            if let Some(target) = text(record, "target") {
                record.insert("target".to_owned(), stored_form(kind, "target", &target));
            }
        }
        Kind::CaCertificates => {
            if let Some(Ok(cert)) = text(record, "cert").as_deref().map(Certificate::of_pem) {
                record.insert("cert_digest".to_owned(), Value::from(cert.digest()));
            }
        }
        _ => {}
    }
}

/// A value as it is stored: a target with its port.
pub(crate) fn stored_form(kind: Kind, field: &str, value: &str) -> Value {
    match Address::parse(value) {
        Ok(address) if (kind, field) == (Kind::Targets, "target") => Value::from(address.with_port(TARGET_PORT)),
        _ => Value::from(value),
    }
}

/// Why a body cannot become a record.
pub(crate) enum Unfit {
    /// Fields and rules.
    Problems(Vec<Problem>),
    /// Anything else.
    Error(Error),
}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Problems(problems) => expiry::error(problems),
            Unfit::Error(error) => error,
        }
    }
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A value as a body must have it: an object.
pub(crate) fn body_of(value: Value) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        Value::Array(items) if items.is_empty() => Ok(Map::new()),
        _ => Err(Error::schema(&[Problem::of_root("expected a record")])),
    }
}

impl Store {
    /// Shorthands, ids, times and references by name; then defaults and rules. `old` is what is changed.
    pub(crate) fn prepare(
        &self,
        kind: Kind,
        mut body: Map<String, Value>,
        old: Option<&Map<String, Value>>,
        write: &mut Write<'_>,
    ) -> Result<Map<String, Value>, Unfit> {
        let problems = (kind.def().expand)(&mut body);
        if !problems.is_empty() {
            return Err(Unfit::Problems(problems));
        }
        stamp(kind, &mut body, old.is_some(), write);
        let expires_ms = expiry::take(kind, &mut body, old, write);
        if let Some(old) = old {
            let mut old = old.clone();
            old.remove(EXPIRES_MS);
            body = merge(kind, body, &old, write.registry);
        }
        self.resolve_names(kind, &mut body)?;
        // What was in force once is not refused for the time of day, nor for what it is attached to now: a route without
        // its plugin is worse.
        let now = if write.is_kept { i64::MIN } else { write.now_s() };
        let mut record = complete(kind, &body, write.registry, old.is_some(), now).map_err(Unfit::Problems)?;
        if let Some(expires_ms) = expires_ms {
            record.insert(EXPIRES_MS.to_owned(), Value::from(expires_ms));
        }
        if kind == Kind::Plugins && !write.is_kept {
            self.check_protocols(&record)?;
        }
        Ok(record)
    }

    /// Replaces `{"name": …}` in references by `{"id": …}`.
    fn resolve_names(&self, kind: Kind, body: &mut Map<String, Value>) -> Result<(), Error> {
        let mut unresolved = Map::new();
        for reference in kind.references() {
            let Some(Value::Object(given)) = body.get(reference.field) else { continue };
            if given.get("id").and_then(Value::as_str).is_some_and(|id| id.parse::<Id>().is_ok()) {
                continue;
            }
            let mut tried = Map::new();
            let mut found = None;
            for field in reference.to.fields().iter().filter(|field| field.unique) {
                let Some(value) = given.get(field.name).and_then(Value::as_str) else { continue };
                found = self.by_unique(reference.to, field.name, value).map(|entity| entity.id());
                if found.is_some() {
                    break;
                }
                let shown = crate::pretty::line(&json!({ field.name: value }));
                let to = reference.to;
                let message =
                    format!("the foreign key cannot be resolved with '{shown}' for an existing '{to}' entity");
                tried.insert(field.name.to_owned(), Value::from(message));
            }
            match found {
                Some(id) => {
                    body.insert(reference.field.to_owned(), json!({ "id": id.to_string() }));
                }
                None if tried.is_empty() => {}
                None => {
                    unresolved.insert(reference.field.to_owned(), Value::Object(tried));
                }
            }
        }
        if unresolved.is_empty() { Ok(()) } else { Err(Error::unresolved(Value::Object(unresolved))) }
    }

    /// A plugin must share a protocol with its route, or with a route of its service.
    fn check_protocols(&self, plugin: &Map<String, Value>) -> Result<(), Error> {
        let protocols = |record: &Map<String, Value>| match record.get("protocols") {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        let own = protocols(plugin);
        let shares = |route: &std::sync::Arc<crate::Entity>| {
            protocols(&route.record()).iter().any(|protocol| own.contains(protocol))
        };
        let message = if let Some(id) = super::reference_of(plugin, "route") {
            let route = self.get(Kind::Routes, id);
            if route.is_none_or(shares) {
                return Ok(());
            }
            "must match the associated route's protocols"
        } else if let Some(id) = super::reference_of(plugin, "service") {
            let mut routes = self.children(Kind::Routes, "service", id).peekable();
            if routes.peek().is_none() || routes.any(shares) {
                return Ok(());
            }
            "must match the protocols of at least one route pointing to this Plugin's service"
        } else {
            return Ok(());
        };
        let kind = ProblemKind::Value { message: message.to_owned(), expected: None };
        Err(Error::schema(&[Problem { path: vec![Segment::Field("protocols".to_owned())], kind }]))
    }
}

/// Fills in what the gateway gives: id, key, times.
fn stamp(kind: Kind, body: &mut Map<String, Value>, updating: bool, write: &mut Write<'_>) {
    let absent = |body: &Map<String, Value>, field: &str| !body.contains_key(field);
    let null = |body: &Map<String, Value>, field: &str| body.get(field).is_some_and(Value::is_null);
    for field in kind.fields().iter().filter(|field| field.auto) {
        let now = || match field.kind {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of any date that comes fit")]
            FieldKind::TimestampMs => Value::from(write.now_ms as f64 / 1_000.0),
            _ => Value::from(write.now_s()),
        };
        let value = match field.name {
            "updated_at" if write.keeps_times && !absent(body, "updated_at") && !null(body, "updated_at") => continue,
            "updated_at" => now(),
            "created_at" if !updating && (absent(body, "created_at") || null(body, "created_at")) => now(),
            "id" if !updating && absent(body, "id") => Value::from((write.fresh)().to_string()),
            "key" if !updating && absent(body, "key") => Value::from((write.fresh)().to_string().replace('-', "")),
            _ => continue,
        };
        body.insert(field.name.to_owned(), value);
    }
}

/// A change laid over a record: records field by field, everything else as a whole.
fn merge(kind: Kind, change: Map<String, Value>, old: &Map<String, Value>, registry: &Registry) -> Map<String, Value> {
    let mut merged = old.clone();
    for (name, value) in change {
        let fields = match kind.field(&name).map(|field| &field.kind) {
            Some(FieldKind::Specialised) => {
                let plugin = old.get("name").and_then(Value::as_str).and_then(|name| registry.find(name));
                plugin.map(|(_, plugin)| plugin.schema().fields)
            }
            Some(kind) => kind.fields(),
            None => None,
        };
        let value = match (fields, merged.remove(&name), value) {
            (Some(fields), Some(Value::Object(old)), Value::Object(change)) => {
                Value::Object(merge_records(fields, change, old))
            }
            (_, _, value) => value,
        };
        merged.insert(name, value);
    }
    merged
}

fn merge_records(
    fields: &'static [plugin::Field],
    change: Map<String, Value>,
    mut old: Map<String, Value>,
) -> Map<String, Value> {
    for (name, value) in change {
        let inner = fields.iter().find(|field| field.name == name).and_then(|field| field.kind.fields());
        let value = match (inner, old.remove(&name), value) {
            (Some(fields), Some(Value::Object(old)), Value::Object(change)) => {
                Value::Object(merge_records(fields, change, old))
            }
            (_, _, value) => value,
        };
        old.insert(name, value);
    }
    old
}
