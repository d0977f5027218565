//! The health of an upstream's targets: what the balancer knows of them, and what an operator says of them.
//!
//! Nothing here is an entity: it is of this process, and gone with it, as in Kong.

use super::answer::{Answer, message};
use super::control::failure;
use super::{Api, Request, crud};
use axum::http::StatusCode;
use entities::{Entity, Kind, PageQuery, Store};
use gateway::balancer::{Balancer, HealthWord, TargetView};
use gateway::entity::{TargetAddress, UpstreamId};
use plugin::Id;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /upstreams/{upstream}/health`.
pub(super) fn show(api: &Api, store: &Store, key: &str, request: &Request) -> Result<Answer, Answer> {
    let upstream = find(store, key)?;
    let node_id = api.state.control.node_id();
    let views = balancer(api, &upstream).map(|balancer| balancer.view(api.state.control.now().mono));
    if request.query("balancer_health") == Some("1") {
        let health = views.as_ref().map_or(HealthWord::HealthchecksOff, |view| view.health);
        let hosts: Vec<Value> = views.iter().flat_map(|view| &view.targets).map(details).collect();
        let data = json!({
            "id": upstream.id().to_string(), "health": health.as_str(), "details": { "hosts": hosts },
        });
        return Ok(Answer::ok(json!({ "data": data, "next": null, "node_id": node_id })));
    }
    let query =
        PageQuery::parse(request.query("size"), request.query("offset"), None).map_err(|error| failure(&error))?;
    let page = store.page_of(Kind::Targets, "upstream", upstream.id(), &query);
    let with_health = |target: &Arc<Entity>| {
        let mut shown = store.show(target, 0);
        let view = views.iter().flat_map(|view| &view.targets).find(|view| view.id.0 == target.id());
        shown["health"] = Value::from(view.map_or(HealthWord::HealthchecksOff, |view| view.health).as_str());
        if let Some(view) = view {
            shown["data"] = details(view);
        }
        shown
    };
    let data: Vec<Value> = page.data.iter().map(with_health).collect();
    let mut body = json!({ "data": data, "next": null, "node_id": node_id });
    if let Some(offset) = page.offset {
        body["next"] = Value::from(format!("/upstreams/{key}/health?offset={}", crud::encoded(&offset)));
        body["offset"] = Value::from(offset);
    }
    Ok(Answer::ok(body))
}

/// A target as the balancer has it.
fn details(target: &TargetView) -> Value {
    let available = |word| matches!(word, HealthWord::Healthy | HealthWord::HealthchecksOff);
    let weight = |only: bool| -> u32 {
        target.addresses.iter().filter(|address| available(address.health) == only).map(|address| address.weight).sum()
    };
    let addresses: Vec<Value> = target
        .addresses
        .iter()
        .map(|address| {
            json!({
                "ip": address.host, "port": address.port, "weight": address.weight, "health": address.health.as_str(),
            })
        })
        .collect();
    json!({
        "host": target.target.host,
        "port": target.target.port,
        "nodeWeight": target.weight,
        "weight": { "total": weight(true) + weight(false), "available": weight(true), "unavailable": weight(false) },
        "addresses": addresses,
    })
}

/// `PUT /upstreams/{upstream}/targets/{target}[/{address}]/healthy` and `/unhealthy`.
pub(super) fn set(
    api: &Api,
    store: &Store,
    upstream: &str,
    target: &str,
    address: Option<&str>,
    healthy: bool,
) -> Result<Answer, Answer> {
    let upstream = find(store, upstream)?;
    let target = store
        .find_child(Kind::Targets, "upstream", upstream.id(), target)
        .map_err(|error| failure(&error))?
        .ok_or_else(Answer::not_found)?;
    let record = target.record();
    let text = record.get("target").and_then(Value::as_str).unwrap_or_default();
    let (Some(balancer), Some(of)) = (balancer(api, &upstream), TargetAddress::parse(text)) else {
        return Err(Answer::not_found());
    };
    let address = address.map(|address| {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        (host, port.parse().unwrap_or_default())
    });
    if balancer.set_healthy(&of, address, healthy, api.state.control.now().mono) {
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    } else {
        Err(message(StatusCode::BAD_REQUEST, "no such address of the target is in the balancer"))
    }
}

fn find(store: &Store, key: &str) -> Result<Arc<Entity>, Answer> {
    store.find(Kind::Upstreams, key).map_err(|error| failure(&error))?.cloned().ok_or_else(Answer::not_found)
}

fn balancer(api: &Api, upstream: &Entity) -> Option<Arc<Balancer>> {
    let id: Id = upstream.id();
    api.state.gateway.balancer(UpstreamId(id))
}
