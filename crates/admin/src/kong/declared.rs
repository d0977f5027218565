//! `/config`: all of the API's entities at once, as a text. `POST` replaces them (the ingress controller's way), `GET` shows
//! everything that is in force, the file's too, in a form that reads back.

use super::Request;
use super::answer::{Answer, message};
use super::control::{Alter, Altered, Base, failure};
use super::hash;
use crate::State;
use axum::http::StatusCode;
use entities::declarative::{self, Mistakes};
use entities::{Code, Difference, Error, Kind, Origin, Store, Write};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;

/// `GET /config`.
pub(super) fn show(store: &Store, now_ms: u64) -> Answer {
    let tree = Value::Object(declarative::export(store, |entity| !entity.is_expired(now_ms)));
    // JSON is YAML.
    Answer::ok(json!({ "config": format!("{tree:#}") }))
}

/// `POST /config`: the change it asks for.
///
/// # Errors
/// The answer to what is no configuration.
pub(super) fn replace(state: &State, request: &Request) -> Result<Alter, Answer> {
    let tree = tree(state, request)?;
    let arguments = request.arguments()?;
    let flag = |name: &str| match arguments.values.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => request.query(name).unwrap_or_default().to_owned(),
    };
    let flatten = matches!(flag("flatten_errors").as_str(), "true" | "1" | "on" | "yes");
    let check_hash = flag("check_hash") == "1";
    let hash = hash::of_tree(&tree);
    Ok(Box::new(move |base: Base<'_>, write: &mut Write<'_>| {
        if check_hash && base.hash == Some(hash.as_str()) {
            return Err(Answer::empty(StatusCode::NOT_MODIFIED));
        }
        let own = without_the_files(&tree, base.file);
        let declared =
            declarative::read(&own, base.file, write).map_err(|mistakes| refused(&mistakes, &own, flatten))?;
        let mut store = declared.store;
        let Difference { put, removed } = store.succeed(base.store, write.now_ms);
        let answer = Answer::json(StatusCode::CREATED, loaded(&store, write.now_ms));
        Ok(Altered { store, put, removed, hash: Some(hash.clone()), answer })
    }))
}

/// The configuration in a request: the body itself, or the text in its `config`.
fn tree(state: &State, request: &Request) -> Result<Map<String, Value>, Answer> {
    let arguments = request.arguments()?;
    let text = match (&arguments.text, arguments.values.get("config")) {
        _ if arguments.values.contains_key("_format_version") => {
            let mut tree = arguments.values.clone();
            tree.remove("check_hash");
            tree.remove("flatten_errors");
            return Ok(tree);
        }
        (Some(text), _) | (None, Some(Value::String(text))) => text,
        (None, Some(Value::Object(tree))) => return Ok(tree.clone()),
        _ => return Err(message(StatusCode::BAD_REQUEST, "expected a declarative configuration")),
    };
    let unreadable = |why: String| {
        let fields = json!({ "error": format!("failed parsing declarative configuration: {why}") });
        let error =
            Error { fields: Some(fields), ..Error::new(Code::DeclarativeConfig, "declarative config is invalid") };
        failure(&error)
    };
    match (state.parse_yaml)(text) {
        Ok(Value::Object(tree)) => Ok(tree),
        Ok(_) => Err(unreadable("expected an object".to_owned())),
        Err(why) => Err(unreadable(why)),
    }
}

/// The configuration without what it says of the file's entities, if it says what the file says: `GET /config` shows them too,
/// and what it shows can be posted.
fn without_the_files<'t>(tree: &'t Map<String, Value>, file: &Store) -> Cow<'t, Map<String, Value>> {
    if file.is_empty() {
        return Cow::Borrowed(tree);
    }
    let mut own = tree.clone();
    for (kind, of_file) in declarative::export(file, |_| true) {
        let Some(Value::Array(items)) = own.get_mut(&kind) else { continue };
        let known: HashMap<String, Value> =
            of_file.as_array().into_iter().flatten().filter_map(|item| Some((id_of(item)?, timeless(item)))).collect();
        items.retain(|item| id_of(item).and_then(|id| known.get(&id)).is_none_or(|known| *known != timeless(item)));
    }
    Cow::Owned(own)
}

fn id_of(item: &Value) -> Option<String> {
    item.get("id")?.as_str().map(str::to_owned)
}

fn timeless(item: &Value) -> Value {
    let mut item = item.clone();
    if let Value::Object(fields) = &mut item {
        fields.remove("created_at");
        fields.remove("updated_at");
    }
    item
}

fn refused(mistakes: &Mistakes, tree: &Map<String, Value>, flatten: bool) -> Answer {
    let body = if flatten { mistakes.flattened(tree) } else { mistakes.error().body() };
    Answer::json(StatusCode::BAD_REQUEST, body)
}

/// What was loaded, by kind and id.
fn loaded(store: &Store, now_ms: u64) -> Value {
    let mut all = Map::new();
    for kind in Kind::ALL {
        let of_kind: Map<String, Value> = store
            .iter(kind)
            .filter(|entity| entity.origin() == Origin::Api)
            .map(|entity| (entity.id().to_string(), store.show(entity, now_ms)))
            .collect();
        if !of_kind.is_empty() {
            all.insert(kind.name().to_owned(), Value::Object(of_kind));
        }
    }
    Value::Object(all)
}
