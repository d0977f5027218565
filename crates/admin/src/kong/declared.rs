//! `/config`: all of the API's entities at once, as a text. `POST` replaces them (the ingress controller's way), `GET` shows
//! everything that is in force, the file's too, in a form that reads back.

use super::Request;
use super::answer::{Answer, message};
use super::control::{Alter, Altered, Base, failure};
use crate::State;
use axum::http::StatusCode;
use entities::declarative::{self, Mistakes};
use entities::{Code, Entity, Error, Kind, Origin, Store, Write};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::Arc;

/// `GET /config`.
pub(super) fn show(store: &Store) -> Answer {
    let tree = Value::Object(declarative::export(store, |_| true));
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
    let hash = hash(&tree);
    Ok(Box::new(move |base: Base<'_>, write: &mut Write<'_>| {
        if check_hash && base.hash == Some(hash.as_str()) {
            return Err(Answer::empty(StatusCode::NOT_MODIFIED));
        }
        let declared =
            declarative::read(&tree, base.file, write).map_err(|mistakes| refused(&mistakes, &tree, flatten))?;
        let (put, removed) = difference(base.store, &declared.store);
        let answer = Answer::json(StatusCode::CREATED, loaded(&declared.store));
        Ok(Altered { store: declared.store, put, removed, hash: Some(hash.clone()), answer })
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

/// Names a configuration: 32 digits, as Kong's.
fn hash(tree: &Map<String, Value>) -> String {
    let digest = Sha256::digest(Value::Object(tree.clone()).to_string());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn refused(mistakes: &Mistakes, tree: &Map<String, Value>, flatten: bool) -> Answer {
    let body = if flatten { mistakes.flattened(tree) } else { mistakes.error().body() };
    Answer::json(StatusCode::BAD_REQUEST, body)
}

/// The entities of the API that are new or different, and those that are gone.
fn difference(old: &Store, new: &Store) -> (Vec<Arc<Entity>>, Vec<Arc<Entity>>) {
    let of_api = |store: &Store| -> Vec<Arc<Entity>> {
        let all = Kind::ALL.into_iter().flat_map(|kind| store.iter(kind));
        all.filter(|entity| entity.origin() == Origin::Api).cloned().collect()
    };
    let (old, new) = (of_api(old), of_api(new));
    let there: HashSet<_> = new.iter().map(|entity| (entity.kind(), entity.id())).collect();
    let removed = old.into_iter().filter(|entity| !there.contains(&(entity.kind(), entity.id()))).collect();
    (new, removed)
}

/// What was loaded, by kind and id.
fn loaded(store: &Store) -> Value {
    let mut all = Map::new();
    for kind in Kind::ALL {
        let of_kind: Map<String, Value> = store
            .iter(kind)
            .filter(|entity| entity.origin() == Origin::Api)
            .map(|entity| (entity.id().to_string(), store.show(entity)))
            .collect();
        if !of_kind.is_empty() {
            all.insert(kind.name().to_owned(), Value::Object(of_kind));
        }
    }
    Value::Object(all)
}
