//! `/tags` and `/tags/{tag}`: which entities carry which tags.

use super::Request;
use super::answer::Answer;
use super::control::failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use entities::{Code, Error, Kind, PageQuery, Store};
use serde_json::{Value, json};

/// A tag of an entity: kind, id, tag. A page begins after one.
type Place = (String, String, String);

/// A page of the tags of all entities, or of the entities with one tag.
pub(super) fn list(store: &Store, tag: Option<&str>, request: &Request) -> Answer {
    let (size, after) = match page(request) {
        Ok(page) => page,
        Err(error) => return failure(&error),
    };
    let mut places: Vec<Place> = Kind::ALL
        .into_iter()
        .flat_map(|kind| store.iter(kind))
        .filter(|entity| !entity.is_expired(request.now_ms))
        .filter(|entity| tag.is_none_or(|tag| entity.has_tag(tag)))
        .flat_map(|entity| {
            let tags = entity.record().remove("tags").unwrap_or_default();
            let all = tags.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            all.map(|tag| (entity.kind().name().to_owned(), entity.id().to_string(), tag)).collect::<Vec<_>>()
        })
        .filter(|(_, _, one)| tag.is_none_or(|tag| one == tag))
        .filter(|place| after.as_ref().is_none_or(|after| place > after))
        .collect();
    places.sort_unstable();
    let more = places.len() > size;
    places.truncate(size);
    let data: Vec<Value> =
        places.iter().map(|(kind, id, tag)| json!({ "entity_name": kind, "entity_id": id, "tag": tag })).collect();
    let mut body = json!({ "data": data, "next": null });
    if let Some(last) = places.last().filter(|_| more) {
        let offset = STANDARD_NO_PAD.encode(json!(last).to_string());
        let path = tag.map_or_else(|| "/tags".to_owned(), |tag| format!("/tags/{}", super::crud::encoded(tag)));
        body["next"] = Value::from(format!("{path}?offset={}", super::crud::encoded(&offset)));
        body["offset"] = Value::from(offset);
    }
    Answer::ok(body)
}

fn page(request: &Request) -> Result<(usize, Option<Place>), Error> {
    let size = PageQuery::parse(request.query("size"), None, None)?.size;
    let Some(offset) = request.query("offset") else { return Ok((size, None)) };
    let bad = |reason| Error::new(Code::InvalidOffset, format!("'{offset}' is not a valid offset: {reason}"));
    let bytes = STANDARD_NO_PAD.decode(offset.trim_end_matches('=')).map_err(|_| bad("bad base64 encoding"))?;
    serde_json::from_slice(&bytes).map(|place| (size, Some(place))).map_err(|_| bad("bad json encoding"))
}
