//! Mirrors of routes and services, and what splits a route's requests.

use super::upstream::Part;
use super::{Record, Refusal};
use crate::entity::{HashInput, Id, Mirror, Route, Service, ServiceId, Share, Split};
use entities::{Kind, Store};
use serde_json::Value;

pub(super) fn mirror(record: &Record, store: &Store, refusals: &mut Vec<Refusal>) -> Option<Mirror> {
    let part = Part::of(Some(record.value("mirror")?));
    let service = named(record, store, "mirror", &part, refusals)?;
    Some(Mirror { service, share: share(&part, Share::ALL) })
}

pub(super) fn split(record: &Record, store: &Store, refusals: &mut Vec<Refusal>) -> Option<Split> {
    let part = Part::of(Some(record.value("split")?));
    let parts = part.value("services").and_then(Value::as_array).into_iter().flatten();
    let services: Vec<(ServiceId, Share)> = parts
        .map(|one| Part::of(Some(one)))
        .filter_map(|one| Some((named(record, store, "split", &one, refusals)?, share(&one, Share::NONE))))
        .collect();
    let text = |field: &str| part.text(field).unwrap_or_default().to_owned();
    let hash_on = match part.text("hash_on") {
        Some("consumer") => HashInput::Consumer,
        Some("ip") => HashInput::Ip,
        Some("header") => HashInput::Header(text("hash_on_header")),
        Some("cookie") => HashInput::Cookie {
            name: text("hash_on_cookie"),
            path: part.text("hash_on_cookie_path").unwrap_or("/").to_owned(),
        },
        _ => HashInput::None,
    };
    Some(Split { services, hash_on })
}

fn share(part: &Part<'_>, default: Share) -> Share {
    part.value("percent").and_then(Value::as_f64).map_or(default, Share::percent)
}

/// The service that a part names, by its id or name.
fn named(
    record: &Record,
    store: &Store,
    field: &'static str,
    part: &Part<'_>,
    refusals: &mut Vec<Refusal>,
) -> Option<ServiceId> {
    let name = part.text("service")?;
    let found = store.find(Kind::Services, name).ok().flatten().map(|service| ServiceId(service.id()));
    if found.is_none() {
        record.refuse(refusals, field, None, format!("there is no service `{name}`"));
    }
    found
}

/// Refuses services that a route names and that are not there any more.
pub(super) fn check_route(route: &Route, store: &Store, refusals: &mut Vec<Refusal>) {
    let of_split = route.split.iter().flat_map(|split| &split.services).map(|(service, _)| ("split", *service));
    let of_mirror = route.mirror.iter().map(|mirror| ("mirror", mirror.service));
    of_split
        .chain(of_mirror)
        .for_each(|(field, service)| check(Kind::Routes, route.id.0, field, service, store, refusals));
}

/// The same for a service.
pub(super) fn check_service(service: &Service, store: &Store, refusals: &mut Vec<Refusal>) {
    if let Some(mirror) = &service.mirror {
        check(Kind::Services, service.id.0, "mirror", mirror.service, store, refusals);
    }
}

fn check(kind: Kind, id: Id, field: &'static str, named: ServiceId, store: &Store, refusals: &mut Vec<Refusal>) {
    if store.get(Kind::Services, named.0).is_none() {
        let reason = format!("there is no service `{named}`");
        refusals.push(Refusal { kind, id, field: Some(field), index: None, reason });
    }
}
