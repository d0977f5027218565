//! The broker: queue depth in aggregate, rates as counters, the oldest message, connections.

use super::{Page, QUEUES_SHOWN_MAX};
use crate::State;
use std::fmt;

pub(super) fn encode(page: &mut Page<'_>, state: &State, per_queue: bool) -> fmt::Result {
    let totals = state.broker.totals();
    let counters = [
        ("sluicegate_messages_published", "Messages taken from publishers", totals.published),
        ("sluicegate_messages_confirmed", "Messages confirmed to publishers", totals.confirmed),
        ("sluicegate_messages_unroutable", "Messages that reached no queue and were dropped", totals.unroutable),
        ("sluicegate_messages_returned", "Messages that reached no queue and were returned", totals.returned),
        ("sluicegate_messages_deduplicated", "Messages that a queue had seen before", totals.deduplicated),
        ("sluicegate_messages_delivered", "Messages handed to consumers", totals.delivered + totals.got),
        ("sluicegate_messages_redelivered", "Of those, handed out before", totals.redelivered),
        ("sluicegate_messages_acknowledged", "Messages acknowledged", totals.acknowledged),
        ("sluicegate_messages_dead_lettered", "Messages sent to a dead-letter exchange", totals.dead_lettered()),
        ("sluicegate_messages_scheduled", "Messages put away until a time", totals.scheduled),
        ("sluicegate_messages_fired", "Of those, routed when it had come", totals.fired),
        ("sluicegate_messages_cancelled", "Of those, taken back before", totals.cancelled),
        ("sluicegate_transactions_committed", "Transactions committed", totals.tx_committed),
        ("sluicegate_transactions_rolled_back", "Transactions rolled back", totals.tx_rolled_back),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, value)?;
    }
    let queues = state.broker.queues();
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let ready = queues.iter().map(|queue| queue.stats.ready).sum();
    let unsettled = queues.iter().map(|queue| queue.stats.unsettled).sum();
    let consumers = queues.iter().map(|queue| queue.consumers as u64).sum();
    page.gauge("sluicegate_queues", "Queues", gauge(queues.len() as u64))?;
    page.gauge("sluicegate_queue_messages_ready", "Messages that wait for a consumer", gauge(ready))?;
    page.gauge("sluicegate_queue_messages_unacked", "Messages handed out and not settled", gauge(unsettled))?;
    page.gauge("sluicegate_consumers", "Consumers", gauge(consumers))?;
    page.gauge("sluicegate_connections", "Connections to the broker", gauge(state.broker.connection_count() as u64))?;
    let oldest = queues.iter().filter_map(|queue| queue.stats.oldest).min();
    let age = oldest.map_or(0, |at| now_ms.saturating_sub(at.0));
    #[allow(clippy::cast_precision_loss)] // an age for people
    page.gauge_f64("sluicegate_oldest_message_age_seconds", "Age of the oldest ready message", age as f64 / 1000.0)?;
    delayed(page, state)?;
    quotas(page, state)?;
    if !per_queue {
        return Ok(());
    }
    let shown = &queues[..queues.len().min(QUEUES_SHOWN_MAX)];
    let kept = shown.iter().filter_map(|q| Some((q, q.durability?)));
    page.gauges(
        "sluicegate_queue_durability",
        "How safe a durable queue keeps its persistent messages",
        kept.map(|(q, durability)| {
            (vec![("vhost", &*q.vhost), ("queue", &*q.name), ("durability", durability.word())], 1)
        }),
    )?;
    page.gauges(
        "sluicegate_queue_ready",
        "Messages of a queue that wait for a consumer",
        shown.iter().map(|q| (vec![("vhost", &*q.vhost), ("queue", &*q.name)], gauge(q.stats.ready))),
    )?;
    page.gauges(
        "sluicegate_queue_unacked",
        "Messages of a queue handed out and not settled",
        shown.iter().map(|q| (vec![("vhost", &*q.vhost), ("queue", &*q.name)], gauge(q.stats.unsettled))),
    )
}

/// What waits in exchanges that delay.
fn delayed(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let exchanges = state.broker.exchanges();
    let delayed: Vec<_> = exchanges.iter().filter_map(|e| e.messages_delayed.map(|waiting| (e, waiting))).collect();
    page.gauges(
        "sluicegate_exchange_messages_delayed",
        "Messages of an exchange that wait for their time",
        delayed.iter().take(QUEUES_SHOWN_MAX).map(|(exchange, waiting)| {
            let labels = vec![("vhost", &*exchange.vhost), ("exchange", &*exchange.name)];
            (labels, i64::try_from(*waiting).unwrap_or(i64::MAX))
        }),
    )
}

/// What each quota allows, and how often it was felt.
fn quotas(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let quotas = state.broker.quotas();
    if quotas.is_empty() {
        return Ok(());
    }
    let numbers: Vec<String> = (0..quotas.len()).map(|number| number.to_string()).collect();
    let mut rates = Vec::new();
    let mut waits = Vec::new();
    for (number, quota) in numbers.iter().zip(&quotas) {
        let ways = [
            ("publish", quota.def.publish, quota.publishes_held),
            ("consume", quota.def.consume, quota.deliveries_held),
        ];
        for (way, rate, held) in ways {
            let Some(rate) = rate else { continue };
            let scope = quota.def.scope.word();
            let labels = vec![("quota", &**number), ("scope", scope), ("match", &*quota.def.matches), ("way", way)];
            rates.push((labels.clone(), i64::from(rate)));
            waits.push((labels, held));
        }
    }
    page.gauges("sluicegate_quota_rate", "Messages a second that a quota allows, to each that it matches", rates)?;
    page.counters("sluicegate_quota_waits", "How often a publisher or a consumer had to wait for a quota", waits)
}
