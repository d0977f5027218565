//! The management API: the reading part of RabbitMQ's, as far as the page, the command line and common monitors use it.
//!
//! Shapes are RabbitMQ's; what RabbitMQ has no place for is added beside (`storage`, `pressure`, `/api/routes`). Writing
//! endpoints are not here.

use crate::metrics::Figures;
use crate::{State, json, label};
use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use broker::{Activity, ConnectionView, ConsumerView, ExchangeView, QueueView, Totals};
use engine::Pressure;
use serde_json::{Map, Value, json as value};
use std::sync::Arc;

pub(crate) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/overview", get(overview))
        .route("/queues", get(queues))
        .route("/queues/{vhost}", get(queues_of))
        .route("/queues/{vhost}/{name}", get(queue))
        .route("/exchanges", get(exchanges))
        .route("/exchanges/{vhost}", get(exchanges_of))
        .route("/connections", get(connections))
        .route("/consumers", get(consumers))
        .route("/consumers/{vhost}", get(consumers_of))
        .route("/routes", get(routes))
}

async fn overview(Shared(state): Shared<Arc<State>>) -> Response {
    let queues = state.broker.queues();
    let sum = |pick: fn(&QueueView) -> u64| queues.iter().map(pick).sum::<u64>();
    let (ready, unsettled) = (sum(|q| q.stats.ready), sum(|q| q.stats.unsettled));
    let connections = state.broker.connections();
    let metrics = state.engine.metrics();
    let pressure = match state.engine.pressure() {
        Pressure::None => "none",
        Pressure::Memory => "memory",
        Pressure::Disk => "disk",
    };
    ok(&value!({
        "product_name": "Sluicegate",
        "product_version": state.version,
        "message_stats": totals(&state.broker.totals()),
        "queue_totals": {
            "messages": ready + unsettled,
            "messages_ready": ready,
            "messages_unacknowledged": unsettled,
        },
        "object_totals": {
            "connections": connections.len(),
            "channels": connections.iter().map(|c| c.info.channels).sum::<usize>(),
            "queues": queues.len(),
            "consumers": sum(|q| q.consumers as u64),
        },
        "pressure": pressure,
        "rss_bytes": Figures::read().rss_bytes,
        "storage": {
            "syncs": metrics.syncs,
            "sync_us": metrics.sync_us,
            "files": metrics.files,
            "file_bytes": metrics.file_bytes,
            "live_bytes": metrics.live_bytes,
            "files_created": metrics.files_created,
            "files_reused": metrics.files_reused,
            "files_removed": metrics.files_removed,
            "spill_files": metrics.spill_files,
            "spill_file_bytes": metrics.spill_file_bytes,
            "body_files": metrics.body_files,
            "body_file_bytes": metrics.body_file_bytes,
            "message_bytes": metrics.message_bytes,
            "written_bytes": {
                "first": metrics.disk_bytes.first,
                "moved": metrics.disk_bytes.moved,
                "bookkeeping": metrics.disk_bytes.bookkeeping,
                "spilled": metrics.disk_bytes.spilled,
            },
            "write_amplification": metrics.write_amplification(),
            "space_amplification": metrics.space_amplification(),
            "resident_bytes": metrics.resident_bytes,
            "disk_free": metrics.disk_free,
            "disk_free_limit": metrics.disk_free_limit,
            "damaged": metrics.damaged,
        },
    }))
}

fn totals(totals: &Totals) -> Value {
    value!({
        "publish": totals.published,
        "confirm": totals.confirmed,
        "return_unroutable": totals.returned,
        "drop_unroutable": totals.unroutable,
        "deliver_get": totals.delivered + totals.got,
        "redeliver": totals.redelivered,
        "ack": totals.acknowledged,
    })
}

async fn queues(Shared(state): Shared<Arc<State>>) -> Response {
    ok(&Value::Array(state.broker.queues().iter().map(queue_value).collect()))
}

async fn queues_of(Shared(state): Shared<Arc<State>>, Path(vhost): Path<String>) -> Response {
    let queues = state.broker.queues();
    ok(&Value::Array(queues.iter().filter(|q| *q.vhost == *vhost).map(queue_value).collect()))
}

async fn queue(Shared(state): Shared<Arc<State>>, Path((vhost, name)): Path<(String, String)>) -> Response {
    match state.broker.queues().iter().find(|q| *q.vhost == *vhost && *q.name == *name) {
        Some(queue) => ok(&queue_value(queue)),
        None => {
            let body = value!({ "error": "Object Not Found", "reason": "Not Found" });
            json(StatusCode::NOT_FOUND, &body)
        }
    }
}

fn queue_value(queue: &QueueView) -> Value {
    value!({
        "name": &*queue.name,
        "vhost": &*queue.vhost,
        "type": queue.kind,
        "durable": queue.durable,
        "durability": queue.durability.map(|durability| durability.word()),
        "auto_delete": queue.auto_delete,
        "exclusive": queue.owner.is_some(),
        "arguments": queue.arguments.iter().map(|(name, v)| (name.to_owned(), argument(v))).collect::<Map<_, _>>(),
        "policy": queue.policy.policy.as_deref(),
        "operator_policy": queue.policy.operator_policy.as_deref(),
        "effective_policy_definition":
            queue.policy.definition.iter().map(|(name, v)| (name.to_owned(), argument(v))).collect::<Map<_, _>>(),
        "state": "running",
        "messages": queue.stats.ready + queue.stats.unsettled,
        "messages_ready": queue.stats.ready,
        "messages_unacknowledged": queue.stats.unsettled,
        "message_bytes_ready": queue.stats.ready_bytes,
        "head_message_timestamp": queue.stats.oldest.map(|at| at.seconds()),
        "consumers": queue.consumers,
        "single_active_consumer_tag": queue.single_active_consumer.as_deref(),
        "message_stats": {
            "publish": queue.stats.enqueued,
            "deliver_get": queue.stats.delivered,
            "ack": queue.stats.acked,
        },
    })
}

async fn exchanges(Shared(state): Shared<Arc<State>>) -> Response {
    ok(&Value::Array(state.broker.exchanges().iter().map(exchange_value).collect()))
}

async fn exchanges_of(Shared(state): Shared<Arc<State>>, Path(vhost): Path<String>) -> Response {
    let exchanges = state.broker.exchanges();
    ok(&Value::Array(exchanges.iter().filter(|e| *e.vhost == *vhost).map(exchange_value).collect()))
}

fn exchange_value(exchange: &ExchangeView) -> Value {
    let mut value = value!({
        "name": &*exchange.name,
        "vhost": &*exchange.vhost,
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": exchange.arguments.iter().map(|(name, v)| (name.to_owned(), argument(v))).collect::<Map<_, _>>(),
    });
    if let Some(waiting) = exchange.messages_delayed {
        value["messages_delayed"] = waiting.into();
    }
    value
}

fn argument(argument: &model::Value) -> Value {
    match argument {
        model::Value::Bool(b) => Value::Bool(*b),
        model::Value::Text(_) => Value::String(argument.to_string()),
        other => other.as_integer().map_or_else(|| Value::String(other.to_string()), Value::from),
    }
}

async fn connections(Shared(state): Shared<Arc<State>>) -> Response {
    ok(&Value::Array(state.broker.connections().iter().map(connection_value).collect()))
}

fn connection_value(connection: &ConnectionView) -> Value {
    let ConnectionView { peer, info, .. } = connection;
    value!({
        "name": peer,
        "protocol": info.protocol,
        "user": info.user.as_deref().unwrap_or_default(),
        "vhost": info.vhost.as_deref().unwrap_or_default(),
        "client": info.client.as_deref().unwrap_or_default(),
        "channels": info.channels,
    })
}

async fn consumers(Shared(state): Shared<Arc<State>>) -> Response {
    ok(&Value::Array(state.broker.consumers().iter().map(consumer_value).collect()))
}

async fn consumers_of(Shared(state): Shared<Arc<State>>, Path(vhost): Path<String>) -> Response {
    let consumers = state.broker.consumers();
    ok(&Value::Array(consumers.iter().filter(|c| *c.vhost == *vhost).map(consumer_value).collect()))
}

fn consumer_value(consumer: &ConsumerView) -> Value {
    let status = match consumer.activity {
        Activity::Up => "up",
        Activity::SingleActive => "single_active",
        Activity::Waiting => "waiting",
    };
    let arguments = if consumer.priority == 0 { value!({}) } else { value!({ "x-priority": consumer.priority }) };
    value!({
        "consumer_tag": consumer.tag,
        "queue": { "vhost": &*consumer.vhost, "name": &*consumer.queue },
        "channel_details": { "connection_name": consumer.peer, "number": consumer.channel },
        "ack_required": !consumer.no_ack,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch,
        "active": consumer.activity != Activity::Waiting,
        "activity_status": status,
        "arguments": arguments,
    })
}

/// The gateway's routes with what they have answered. Ours alone: RabbitMQ has none.
async fn routes(Shared(state): Shared<Arc<State>>) -> Response {
    let snapshot = state.gateway.snapshot();
    let mut rows = Vec::new();
    for view in snapshot.routes() {
        let id = view.route.id.to_string();
        if rows.iter().any(|row: &Value| row["id"] == id) {
            continue;
        }
        let counts = view.stats.counts();
        let mut codes = Map::new();
        for (labels, n) in &counts.requests {
            let code = codes.entry(labels.code.to_string()).or_insert(Value::from(0));
            *code = Value::from(code.as_u64().unwrap_or_default() + n);
        }
        rows.push(value!({
            "id": id,
            "name": label(view.route.name.as_deref(), view.route.id),
            "service": view.service.as_ref().map(|s| label(s.name.as_deref(), s.id)).unwrap_or_default(),
            "matches": &*view.matches,
            "requests": counts.total_requests(),
            "codes": codes,
            "total_us": counts.total.sum_us,
        }));
    }
    ok(&Value::Array(rows))
}

fn ok(value: &Value) -> Response {
    json(StatusCode::OK, value)
}
