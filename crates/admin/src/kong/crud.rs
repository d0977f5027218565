//! Looking at entities and changing them: `GET`, `POST`, `PUT`, `PATCH` and `DELETE` at every path of them.
//!
//! Kong's order of looking: what is above in the path first, then the entity, then the body. Everything is looked up when the
//! change's turn comes, not before: two changes of one entity cannot undo each other.

use super::answer::{Answer, message};
use super::control::{Alter, Altered, Base, failure};
use super::paths::{Endpoint, Under};
use super::{Api, Request};
use axum::http::{Method, StatusCode};
use entities::{Change, Entity, Error, Kind, Origin, PageQuery, Reference, Store, Write};
use plugin::Id;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a request to an endpoint comes to: an answer now, or a change to wait for.
pub(super) enum Outcome {
    /// This answer.
    Now(Answer),
    /// A change.
    Change(Alter),
}

/// Performs a request.
///
/// # Errors
/// The answer to what cannot be done.
pub(super) fn perform(api: &Api, store: &Store, endpoint: Endpoint, request: &Request) -> Result<Outcome, Answer> {
    let allow = endpoint.allow();
    let body = |kind, key| request.body(api, store, kind, key);
    Ok(match (&request.method, endpoint) {
        (&Method::OPTIONS, _) => Outcome::Now(Answer::options(allow)),
        (&Method::GET | &Method::HEAD, endpoint) => Outcome::Now(look(store, &endpoint, request)?),
        (&Method::POST, Endpoint::Collection { kind, under }) => insert(kind, under, body(kind, None)?),
        (&Method::PUT, Endpoint::One { kind, key, under }) => put(kind, key, under, body(kind, None)?),
        (&Method::PUT, Endpoint::Referred { kind, key, reference }) => {
            put_referred(kind, key, reference, body(reference.to, None)?)
        }
        (&Method::PATCH, Endpoint::One { kind, key, under }) => {
            let body = body(kind, Some(&key))?;
            patch(kind, key, under, body)
        }
        (&Method::PATCH, Endpoint::Referred { kind, key, reference }) => {
            patch_referred(kind, key, reference, body(reference.to, None)?)
        }
        (&Method::DELETE, Endpoint::One { kind, key, under }) => delete(kind, key, under),
        // Kong's words: what something refers to cannot be taken away from there.
        (&Method::DELETE, Endpoint::Referred { kind, key, reference }) => {
            referred(store, kind, &key, reference, request.now_ms)?;
            return Err(Answer::method_not_allowed(allow));
        }
        _ => return Err(Answer::method_not_allowed(allow)),
    })
}

/// Looks at what is there.
fn look(store: &Store, endpoint: &Endpoint, request: &Request) -> Result<Answer, Answer> {
    let entity = match endpoint {
        Endpoint::Collection { kind, under } => return list(store, *kind, under.as_ref(), request),
        Endpoint::One { kind, key, under } => one(store, *kind, key, under.as_ref())?
            .filter(|entity| !entity.is_expired(request.now_ms))
            .ok_or_else(Answer::not_found)?,
        Endpoint::Referred { kind, key, reference } => referred(store, *kind, key, *reference, request.now_ms)?,
    };
    Ok(Answer::ok(store.show(&entity, request.now_ms)))
}

/// A page of a kind, or of what is below an entity.
pub(super) fn list(store: &Store, kind: Kind, under: Option<&Under>, request: &Request) -> Result<Answer, Answer> {
    let query = |name: &str| request.query(name);
    if kind == Kind::Consumers
        && under.is_none()
        && let Some(custom_id) = query("custom_id")
    {
        return consumer_by_custom_id(store, custom_id, request.now_ms);
    }
    let parent = under.map(|under| parent(store, under)).transpose()?;
    // Kong does not filter what is below something by tags.
    let tags = query("tags").filter(|_| under.is_none());
    let page_query = PageQuery::parse(query("size"), query("offset"), tags).map_err(|error| failure(&error))?;
    let page = match (under, &parent) {
        (Some(under), Some(parent)) => store.page_of(kind, under.reference.field, parent.id(), &page_query),
        _ => store.page(kind, &page_query),
    };
    let path = match (under, &parent) {
        (Some(under), Some(parent)) => {
            format!("/{}/{}/{}", under.reference.to.path(), parent.id(), kind.nested_path())
        }
        _ => format!("/{}", kind.path()),
    };
    let mut next = Value::Null;
    // What has expired and is about to be taken away is not there any more.
    let there = page.data.iter().filter(|entity| !entity.is_expired(request.now_ms));
    let mut body = json!({ "data": there.map(|entity| store.show(entity, request.now_ms)).collect::<Vec<_>>() });
    if let Some(offset) = &page.offset {
        let mut link = format!("{path}?offset={}", encoded(offset));
        for name in ["tags", "size"] {
            if let Some(value) = query(name).filter(|_| under.is_none()) {
                link.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        next = Value::from(link);
        body["offset"] = Value::from(offset.as_str());
    }
    body["next"] = next;
    Ok(Answer::ok(body))
}

fn consumer_by_custom_id(store: &Store, custom_id: &str, now_ms: u64) -> Result<Answer, Answer> {
    if custom_id.is_empty() {
        return Err(message(StatusCode::BAD_REQUEST, "custom_id must be an unempty string"));
    }
    let found = store.by_unique(Kind::Consumers, "custom_id", custom_id);
    let data: Vec<Value> = found.map(|consumer| store.show(consumer, now_ms)).into_iter().collect();
    Ok(Answer::ok(json!({ "data": data, "next": null })))
}

/// Percent-encoded for a query.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// What the path says is above.
fn parent(store: &Store, under: &Under) -> Result<Arc<Entity>, Answer> {
    find(store, under.reference.to, &under.key)?.ok_or_else(Answer::not_found)
}

/// An entity by its key; a certificate by the name of one of its SNIs, too.
fn find(store: &Store, kind: Kind, key: &str) -> Result<Option<Arc<Entity>>, Answer> {
    if kind == Kind::Certificates && key.parse::<Id>().is_err() {
        let sni = store.find(Kind::Snis, key).map_err(|error| failure(&error))?;
        let certificate = sni.and_then(|sni| reference_of(sni, "certificate"));
        let Some(id) = certificate else {
            return Err(message(StatusCode::NOT_FOUND, "SNI not found"));
        };
        return Ok(store.get(Kind::Certificates, id).cloned());
    }
    store.find(kind, key).map(Option::<&_>::cloned).map_err(|error| failure(&error))
}

/// The entity at a path.
fn one(store: &Store, kind: Kind, key: &str, under: Option<&Under>) -> Result<Option<Arc<Entity>>, Answer> {
    let Some(under) = under else { return find(store, kind, key) };
    let parent = parent(store, under)?;
    store
        .find_child(kind, under.reference.field, parent.id(), key)
        .map(Option::<&_>::cloned)
        .map_err(|error| failure(&error))
}

/// What an entity at a path refers to.
fn referred(store: &Store, kind: Kind, key: &str, reference: Reference, now_ms: u64) -> Result<Arc<Entity>, Answer> {
    let entity = find(store, kind, key)?.filter(|entity| !entity.is_expired(now_ms)).ok_or_else(Answer::not_found)?;
    let id = reference_of(&entity, reference.field).ok_or_else(Answer::not_found)?;
    store.get(reference.to, id).cloned().ok_or_else(Answer::not_found)
}

fn reference_of(entity: &Entity, field: &str) -> Option<Id> {
    entity.record().get(field)?.get("id")?.as_str()?.parse().ok()
}

fn reference_to(entity: &Entity) -> Value {
    json!({ "id": entity.id().to_string() })
}

/// What a change comes to, shown with this status.
fn shown(status: StatusCode, change: Result<Change, Error>, now_ms: u64) -> Result<Altered, Answer> {
    let change = change.map_err(|error| failure(&error))?;
    let body = change.entity.as_ref().map(|entity| change.store.show(entity, now_ms));
    let answer = Answer { status, body, allow: None };
    Ok(Altered::of(change, answer))
}

type Body = Map<String, Value>;

fn insert(kind: Kind, under: Option<Under>, body: Body) -> Outcome {
    Outcome::Change(Box::new(move |Base { store, .. }: Base<'_>, write: &mut Write<'_>| {
        let mut body = body.clone();
        if let Some(under) = &under {
            body.insert(under.reference.field.to_owned(), reference_to(&*parent(store, under)?));
        }
        shown(StatusCode::CREATED, store.insert(kind, Value::Object(body), write), write.now_ms)
    }))
}

fn put(kind: Kind, key: String, under: Option<Under>, body: Body) -> Outcome {
    Outcome::Change(Box::new(move |Base { store, .. }: Base<'_>, write: &mut Write<'_>| {
        let mut body = body.clone();
        if let Some(under) = &under {
            let parent = parent(store, under)?;
            // Kong's: a PUT changes a target and makes none.
            if kind == Kind::Targets {
                let found = store.find_child(kind, under.reference.field, parent.id(), &key);
                let target = found.map_err(|error| failure(&error))?.ok_or_else(Answer::not_found)?;
                return shown(StatusCode::OK, store.update_entity(target, Value::Object(body), write), write.now_ms);
            }
            body.insert(under.reference.field.to_owned(), reference_to(&parent));
        }
        if kind == Kind::Certificates && key.parse::<Id>().is_err() {
            return put_certificate_by_name(store, &key, body, write);
        }
        shown(StatusCode::OK, store.upsert(kind, &key, Value::Object(body), write), write.now_ms)
    }))
}

/// A certificate under the name of an SNI, which is then one of its names.
fn put_certificate_by_name(
    store: &Store,
    name: &str,
    mut body: Body,
    write: &mut Write<'_>,
) -> Result<Altered, Answer> {
    let names = body.entry("snis").or_insert(Value::Null);
    match names {
        Value::Array(names) if !names.iter().any(|one| one == name) => names.push(Value::from(name)),
        Value::Array(_) => {}
        _ => *names = json!([name]),
    }
    let sni = store.find(Kind::Snis, name).map_err(|error| failure(&error))?;
    let id = sni.and_then(|sni| reference_of(sni, "certificate"));
    let change = match id {
        Some(id) => store.upsert(Kind::Certificates, &id.to_string(), Value::Object(body), write),
        None => store.insert(Kind::Certificates, Value::Object(body), write),
    };
    shown(StatusCode::OK, change, write.now_ms)
}

fn patch(kind: Kind, key: String, under: Option<Under>, body: Body) -> Outcome {
    Outcome::Change(Box::new(move |Base { store, .. }: Base<'_>, write: &mut Write<'_>| {
        let entity = one(store, kind, &key, under.as_ref())?.ok_or_else(Answer::not_found)?;
        shown(StatusCode::OK, store.update_entity(&entity, Value::Object(body.clone()), write), write.now_ms)
    }))
}

fn delete(kind: Kind, key: String, under: Option<Under>) -> Outcome {
    Outcome::Change(Box::new(move |Base { store, .. }: Base<'_>, _: &mut Write<'_>| {
        let gone = Answer::empty(StatusCode::NO_CONTENT);
        let entity = match one(store, kind, &key, under.as_ref())? {
            Some(entity) => entity,
            None if under.is_some() => return Err(Answer::not_found()),
            None => return Err(gone),
        };
        let change = store.delete_entity(&entity, Origin::Api).map_err(|error| failure(&error))?;
        Ok(Altered::of(change, gone))
    }))
}

/// What an entity refers to, changed; or made and referred to if it refers to nothing yet.
fn put_referred(kind: Kind, key: String, reference: Reference, body: Body) -> Outcome {
    Outcome::Change(Box::new(move |Base { store, .. }: Base<'_>, write: &mut Write<'_>| {
        let body = Value::Object(body.clone());
        let entity = find(store, kind, &key)?.ok_or_else(Answer::not_found)?;
        if let Some(id) = reference_of(&entity, reference.field) {
            return shown(StatusCode::OK, store.upsert(reference.to, &id.to_string(), body, write), write.now_ms);
        }
        let made = store.insert(reference.to, body, write).map_err(|error| failure(&error))?;
        let Some(new) = &made.entity else { return Err(Answer::not_found()) };
        let body = Some(made.store.show(new, write.now_ms));
        let refer = json!({ reference.field: reference_to(new) });
        let mut change = made.store.update_entity(&entity, refer, write).map_err(|error| failure(&error))?;
        change.put.splice(0..0, made.put);
        Ok(Altered::of(change, Answer { status: StatusCode::OK, body, allow: None }))
    }))
}

fn patch_referred(kind: Kind, key: String, reference: Reference, body: Body) -> Outcome {
    Outcome::Change(Box::new(move |Base { store, .. }: Base<'_>, write: &mut Write<'_>| {
        let entity = referred(store, kind, &key, reference, write.now_ms)?;
        shown(StatusCode::OK, store.update_entity(&entity, Value::Object(body.clone()), write), write.now_ms)
    }))
}
