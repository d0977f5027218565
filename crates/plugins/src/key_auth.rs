//! `key-auth`: who the client is, by an API key in a header, the query or the body.
//!
//! Answers and headers are Kong's. A key in the body is looked for in forms and in the top level of JSON objects;
//! multipart bodies are not searched.

use crate::form;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};
use plugin::{
    Consumer, Context, Credential, DefaultValue, Directory, ErrorReply, Field, Flow, Handler, Kind, Plugin, Problem,
    Reply, Schema, Setup,
};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// The largest body in which a key is looked for.
const KEY_IN_BODY_BYTES_MAX: usize = 1024 * 1024;

static SCHEMA: Schema = Schema::of(&[
    Field::with_default(
        "key_names",
        Kind::List { of: &Kind::HeaderName, len_min: 1 },
        DefaultValue::Texts(&["apikey"]),
        "names under which a key is looked for",
    ),
    Field::with_default(
        "hide_credentials",
        Kind::Bool,
        DefaultValue::Bool(false),
        "remove the key before the request goes on",
    ),
    Field::optional("anonymous", Kind::Text, "id or user name of the consumer for requests without a valid key"),
    Field::with_default("key_in_header", Kind::Bool, DefaultValue::Bool(true), "look in the headers"),
    Field::with_default("key_in_query", Kind::Bool, DefaultValue::Bool(true), "look in the query"),
    Field::with_default("key_in_body", Kind::Bool, DefaultValue::Bool(false), "look in the body; up to 1 MiB"),
    Field::with_default("run_on_preflight", Kind::Bool, DefaultValue::Bool(true), "ask OPTIONS requests for a key"),
    Field::optional("realm", Kind::Text, "realm of the challenge"),
]);

/// The plugin.
#[derive(Debug)]
pub(crate) struct KeyAuth;

#[derive(Deserialize)]
struct Config {
    key_names: Vec<String>,
    hide_credentials: bool,
    anonymous: Option<String>,
    key_in_header: bool,
    key_in_query: bool,
    key_in_body: bool,
    run_on_preflight: bool,
    realm: Option<String>,
}

impl Plugin for KeyAuth {
    fn name(&self) -> &'static str {
        "key-auth"
    }

    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn configure(&self, config: &Value, setup: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>> {
        let config: Config = crate::read(config)?;
        let challenge = match &config.realm {
            Some(realm) => HeaderValue::try_from(format!("Key realm=\"{}\"", realm.replace(['"', '\\'], "")))
                .map_err(|_| vec![Problem::of_field("realm", "expected a text without control characters")])?,
            None => HeaderValue::from_static("Key"),
        };
        let names = config.key_names.iter().filter_map(|name| Some((name.parse().ok()?, name.clone()))).collect();
        Ok(Arc::new(Check { names, challenge, config, directory: Arc::clone(&setup.directory) }))
    }

    fn allows_consumer_scope(&self) -> bool {
        false
    }
}

struct Check {
    /// The names as headers and as written.
    names: Vec<(HeaderName, String)>,
    challenge: HeaderValue,
    config: Config,
    directory: Arc<Directory>,
}

/// Why a request is not authenticated.
enum Denied {
    Missing,
    Duplicate,
    Unknown,
}

impl Denied {
    const fn message(&self) -> &'static str {
        match self {
            Self::Missing => "No API key found in request",
            Self::Duplicate => "Duplicate API key found",
            Self::Unknown => "Unauthorized",
        }
    }
}

/// Where a key was found.
enum Place {
    Header(usize),
    Query(usize),
    Body(usize),
}

impl Handler for Check {
    fn access(&self, cx: &mut Context) -> Flow {
        if !self.config.run_on_preflight && cx.request.method == Method::OPTIONS {
            return Flow::Continue;
        }
        // With `anonymous`, the first authentication plugin that succeeds is enough.
        if self.config.anonymous.is_some() && cx.credential.is_some() {
            return Flow::Continue;
        }
        match self.authenticate(cx) {
            Ok((consumer, credential)) => {
                identify(cx, consumer, Some(credential));
                Flow::Continue
            }
            Err(denied) => self.deny(cx, &denied),
        }
    }

    fn body_bytes_max(&self) -> Option<usize> {
        self.config.key_in_body.then_some(KEY_IN_BODY_BYTES_MAX)
    }
}

impl Check {
    fn authenticate(&self, cx: &mut Context) -> Result<(Arc<Consumer>, Arc<Credential>), Denied> {
        let (place, found) = {
            let (place, key) = self.find(cx)?;
            (place, self.directory.by_key(&key, cx.now.wall).map(|(who, what)| (Arc::clone(who), Arc::clone(what))))
        };
        if self.config.hide_credentials {
            self.hide(cx, &place);
        }
        found.ok_or(Denied::Unknown)
    }

    /// The first name that has a value, in Kong's order: for each name header, query, body.
    fn find<'a>(&self, cx: &'a Context) -> Result<(Place, Cow<'a, str>), Denied> {
        let query = cx.request.uri.query().filter(|_| self.config.key_in_query);
        let body = cx.body.as_ref().filter(|_| self.config.key_in_body).map(|body| (body, BodyKind::of(cx)));
        for (at, (header, name)) in self.names.iter().enumerate() {
            if self.config.key_in_header
                && let Some(key) = single(cx.request.headers.get_all(header).iter().filter_map(header_text))?
            {
                return Ok((Place::Header(at), key));
            }
            if let Some(query) = query
                && let Some(key) = single(form::values(query, name))?
            {
                return Ok((Place::Query(at), key));
            }
            if let Some((body, kind)) = &body
                && let Some(key) = single(kind.values(body, name).into_iter())?
            {
                return Ok((Place::Body(at), key));
            }
        }
        Err(Denied::Missing)
    }

    fn hide(&self, cx: &mut Context, place: &Place) {
        match place {
            Place::Header(at) => drop(cx.request.headers.remove(&self.names[*at].0)),
            Place::Query(at) => {
                let query = form::without(cx.request.uri.query().unwrap_or_default(), &self.names[*at].1);
                let mut target = cx.request.uri.path().to_owned();
                if !query.is_empty() {
                    target.push('?');
                    target.push_str(&query);
                }
                let mut parts = std::mem::take(&mut cx.request.uri).into_parts();
                parts.path_and_query = PathAndQuery::try_from(target).ok();
                cx.request.uri = Uri::from_parts(parts).unwrap_or_default();
            }
            Place::Body(at) => {
                let kind = BodyKind::of(cx);
                if let Some(body) = cx.body.as_mut() {
                    *body = kind.without(body, &self.names[*at].1);
                    cx.request.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                }
            }
        }
    }

    fn deny(&self, cx: &mut Context, denied: &Denied) -> Flow {
        let Some(anonymous) = &self.config.anonymous else {
            return Flow::Respond(Reply::Error(ErrorReply {
                status: StatusCode::UNAUTHORIZED,
                message: Cow::Borrowed(denied.message()),
                headers: vec![(WWW_AUTHENTICATE, self.challenge.clone())],
            }));
        };
        match self.directory.by_id_or_username(anonymous) {
            Some(consumer) => {
                identify(cx, Arc::clone(consumer), None);
                Flow::Continue
            }
            None => Flow::Respond(Reply::Error(ErrorReply {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                message: format!("anonymous consumer {anonymous} is configured but doesn't exist").into(),
                headers: Vec::new(),
            })),
        }
    }
}

// Made when the program is built: a name made for each request is looked up and hashed.
const X_ANONYMOUS_CONSUMER: HeaderName = HeaderName::from_static("x-anonymous-consumer");
const X_CONSUMER_CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");
const X_CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
const X_CONSUMER_USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const X_CREDENTIAL_IDENTIFIER: HeaderName = HeaderName::from_static("x-credential-identifier");

/// Tells the upstream and later plugins who the client is; what the client claimed itself is overwritten.
fn identify(cx: &mut Context, consumer: Arc<Consumer>, credential: Option<Arc<Credential>>) {
    let anonymous = credential.is_none().then(|| HeaderValue::from_static("true"));
    let values = [
        (X_CONSUMER_ID, Some(consumer.id_value.clone())),
        (X_CONSUMER_CUSTOM_ID, consumer.custom_id_value.clone()),
        (X_CONSUMER_USERNAME, consumer.username_value.clone()),
        (X_CREDENTIAL_IDENTIFIER, credential.as_ref().map(|credential| credential.id_value.clone())),
        (X_ANONYMOUS_CONSUMER, anonymous),
    ];
    for (name, value) in values {
        match value {
            Some(value) => drop(cx.request.headers.insert(name, value)),
            // Seldom there, and removing hashes the name.
            None if cx.request.headers.keys().any(|other| *other == name) => drop(cx.request.headers.remove(name)),
            None => {}
        }
    }
    cx.consumer = Some(consumer);
    cx.credential = credential;
}

/// The one value that is not empty; several are ambiguous.
fn single<'a>(mut values: impl Iterator<Item = Cow<'a, str>>) -> Result<Option<Cow<'a, str>>, Denied> {
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Denied::Duplicate),
        (Some(key), None) if key.is_empty() => Err(Denied::Missing),
        (key, None) => Ok(key),
    }
}

fn header_text(value: &HeaderValue) -> Option<Cow<'_, str>> {
    std::str::from_utf8(value.as_bytes()).ok().map(Cow::Borrowed)
}

/// How a body is searched.
#[derive(Clone, Copy)]
enum BodyKind {
    Form,
    Json,
    Other,
}

impl BodyKind {
    fn of(cx: &Context) -> Self {
        let kind = cx.request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::Form
        } else if kind.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else {
            Self::Other
        }
    }

    fn values<'a>(self, body: &'a Bytes, name: &str) -> Vec<Cow<'a, str>> {
        match self {
            Self::Form => std::str::from_utf8(body).map(|body| form::values(body, name).collect()).unwrap_or_default(),
            Self::Json => match serde_json::from_slice::<Value>(body) {
                Ok(value) => value[name].as_str().map(|key| Cow::Owned(key.to_owned())).into_iter().collect(),
                Err(_) => Vec::new(),
            },
            Self::Other => Vec::new(),
        }
    }

    fn without(self, body: &Bytes, name: &str) -> Bytes {
        match self {
            Self::Form => {
                std::str::from_utf8(body).map_or_else(|_| body.clone(), |text| form::without(text, name).into())
            }
            Self::Json => match serde_json::from_slice::<Value>(body) {
                Ok(Value::Object(mut map)) => {
                    map.remove(name);
                    Value::Object(map).to_string().into()
                }
                _ => body.clone(),
            },
            Self::Other => body.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
