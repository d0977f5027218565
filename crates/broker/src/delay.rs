//! Exchanges of type `x-delayed-message`: what is published to them waits for its time, is routed when that has come,
//! by the bindings of that moment, and can be taken back until then.
//!
//! What waits lies in the exchange's [`Store`], a queue of the engine in order of due time that no client sees. Its
//! message in its new queues and its end in the store are one batch of the engine, so neither a crash nor a full disk
//! loses or doubles one. Times are those of the wall clock: if it jumps forward, what is due by it goes out within
//! [`LOOK`]; if it jumps back, what waits waits until it shows the time, and nothing goes out twice.
//!
//! Headers: `x-delay` (milliseconds, as RabbitMQ's plugin reads it), `x-deliver-at` (milliseconds since 1970, or a
//! timestamp; ours) and `x-cancel-delivery` (ours): it takes back what waits under that message id.

use crate::broker::Broker;
use crate::dead_letter::carbon_copies;
use crate::publish::{Touched, touch};
use crate::route::{Found, route};
use bytes::Bytes;
use engine::{Batch, Credit, EngineError, EntryKey, Order, Outcome, QueueSpec, Schedule, Ticket};
use model::{HolderId, Message, Mono, Now, Properties, QueueId, Seq, Table, Value, Wall};
use sha2::{Digest, Sha256};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// The name of the type.
pub(crate) const TYPE: &str = "x-delayed-message";
/// The argument that names the type by which such an exchange routes.
pub(crate) const ROUTES_AS: &str = "x-delayed-type";
/// Routing keys for those who may not see each other: a header that no consumer gets.
const BLIND_COPIES: &str = "BCC";

/// A store is looked at as often as this while something waits in it, whatever its timer says: the clock may jump.
const LOOK: Duration = Duration::from_secs(1);
/// When what is due and could not be taken is looked at again.
const OVERDUE: Duration = Duration::from_millis(10);
/// The same after a refusal of the engine.
const RETRY: Duration = Duration::from_secs(1);
/// Messages, and about how many bytes of them, that go out in one batch.
const BATCH: Credit = Credit { messages: 256, bytes: 8 * 1024 * 1024 };
/// Batches of a store before others have their turn.
const TURN_BATCHES: usize = 4;

/// Where the messages of an exchange wait.
#[derive(Debug)]
pub(crate) struct Store {
    /// The engine's queue.
    pub(crate) id: QueueId,
    pub(crate) vhost: Arc<str>,
    pub(crate) exchange: Arc<str>,
}

impl Store {
    /// What the engine needs to know of its queue.
    pub(crate) fn spec(durable: bool) -> QueueSpec {
        QueueSpec { durable, order: Order::Due, ..QueueSpec::default() }
    }
}

/// When a message with these headers is to be routed, if that is later.
pub(crate) fn due(headers: &Table, now: Wall) -> Option<Wall> {
    let at = match headers.get("x-deliver-at") {
        Some(Value::Timestamp(seconds)) => Wall(seconds.saturating_mul(1000)),
        Some(value) => Wall(u64::try_from(number(value)?).ok()?),
        None => now.after_millis(u64::try_from(number(headers.get("x-delay")?)?).ok()?),
    };
    (at > now).then_some(at)
}

/// A number of any type, also in decimal digits; what is behind the point does not count.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Text(_) => value.as_str()?.trim().parse().ok(),
        Value::F32(x) => Some(*x as i64),
        Value::F64(x) => Some(*x as i64),
        Value::Decimal { scale, value } => {
            Some(10i64.checked_pow((*scale).into()).map_or(0, |n| i64::from(*value) / n))
        }
        _ => value.as_integer(),
    }
}

/// What messages with this id can be taken back by.
fn key_of(message_id: &str) -> EntryKey {
    let digest: [u8; 32] = Sha256::digest(message_id.as_bytes()).into();
    let first = digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte));
    EntryKey(NonZeroU64::new(first).unwrap_or(NonZeroU64::MIN))
}

/// The key of what a message with these headers asks to take back.
pub(crate) fn cancels(headers: &Table) -> Option<EntryKey> {
    headers.get("x-cancel-delivery").and_then(Value::as_str).map(key_of)
}

/// Says that the delay is over: the header is negative, so no other exchange delays the message again.
fn mark_over(properties: &mut Properties) {
    let Some(headers) = &mut properties.headers else { return };
    headers.remove(BLIND_COPIES);
    if let Some(delay) = headers.get("x-delay").and_then(number).filter(|delay| *delay > 0) {
        let over = i32::try_from(-delay).map_or(Value::I64(-delay), Value::I32);
        headers.set("x-delay", over);
    }
}

/// The keys in `BCC`, which is put there only while a message waits.
fn blind_copies(properties: &Properties) -> Vec<String> {
    match properties.headers.as_ref().and_then(|h| h.get(BLIND_COPIES)) {
        Some(Value::Array(keys)) => keys.iter().filter_map(|k| k.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

impl Broker {
    pub(crate) fn store(&self, id: QueueId) -> Option<Arc<Store>> {
        self.registry.read().stores.get(&id).cloned()
    }

    /// Adds a message to a batch for the stores that were found for it.
    pub(crate) fn schedule_message(&self, message: &Message, extra_keys: &[Bytes], found: &Found, batch: &mut Batch) {
        let Some(at) = found.due else { return };
        let mut properties = self.formats.properties(message).unwrap_or_default();
        let key = properties.message_id.as_deref().map(key_of);
        let seen = carbon_copies(&properties);
        let extra = extra_keys.iter().map(|k| String::from_utf8_lossy(k));
        let blind: Vec<Value> = extra.filter(|k| !seen.iter().any(|s| s == k)).map(|k| Value::text(&k)).collect();
        let mut kept = message.clone();
        if !blind.is_empty() {
            properties.headers_mut().set(BLIND_COPIES, Value::Array(blind));
            kept = self.with_properties(message, &properties).unwrap_or(kept);
        }
        for store in &found.stores {
            batch.push_scheduled(kept.clone(), store.id, Schedule { at, key });
        }
        self.counters.scheduled.add(found.stores.len() as u64);
    }

    /// Takes back what waits in a store; returns how many messages that were.
    pub(crate) fn cancel(&self, store: &Store, key: EntryKey, now: Now) -> Result<(usize, Ticket), EngineError> {
        let (taken, ticket) = self.engine.cancel(store.id, key, now)?;
        self.counters.cancelled.add(taken as u64);
        Ok((taken, ticket))
    }

    /// Sets the next look at a store.
    pub(crate) fn watch_store(&self, store: &Store, now: Now) {
        if let Some(at) = self.engine.stats(store.id).head_due_at {
            let left = match at.millis_since(now.wall) {
                0 => OVERDUE,
                ms => Duration::from_millis(ms).min(LOOK),
            };
            self.schedule(store.id, now.mono.after(left));
        }
    }

    /// Routes what is due in a store, a bounded part of it at a time.
    pub(crate) fn fire(&self, store: &Store, now: Now) {
        for _ in 0..TURN_BATCHES {
            let mut due = Vec::new();
            let left = self.engine.deliver(store.id, BATCH, now, &mut |delivery| {
                due.push((delivery.seq, delivery.message));
                HolderId::BROKER
            });
            if !due.is_empty() && !self.fire_batch(store, &due, now) {
                self.schedule(store.id, now.mono.after(RETRY));
                return;
            }
            if !left.ready {
                // If the head is pending, the engine says when it is readable.
                if !left.pending {
                    self.watch_store(store, now);
                }
                return;
            }
        }
        self.schedule(store.id, Mono(now.mono.0 + 1));
    }

    /// Routes these messages with one append. False if the engine cannot take it in; then they are back in the store.
    fn fire_batch(&self, store: &Store, due: &[(Seq, Message)], now: Now) -> bool {
        let mut batch = Batch::new();
        let mut touched = Vec::new();
        for (seq, message) in due {
            batch.ack(store.id, *seq);
            self.fire_one(store, message, &mut batch, &mut touched);
        }
        match self.engine.append(&mut batch, now) {
            Ok(ticket) => {
                self.counters.fired.add(due.len() as u64);
                self.appended(ticket, &mut touched, now);
                true
            }
            Err(_) => {
                let seqs: Vec<Seq> = due.iter().map(|(seq, _)| *seq).collect();
                self.engine.settle(store.id, &seqs, Outcome::Requeue, now);
                false
            }
        }
    }

    /// Adds a message that is due to a batch, for the queues it belongs in now.
    fn fire_one(&self, store: &Store, message: &Message, batch: &mut Batch, touched: &mut Vec<Touched>) {
        let mut properties = self.formats.properties(message).unwrap_or_default();
        let mut keys = vec![String::from_utf8_lossy(message.routing_key()).into_owned()];
        keys.extend(carbon_copies(&properties));
        keys.extend(blind_copies(&properties));
        mark_over(&mut properties);
        let mut found = Found::default();
        {
            let registry = self.registry.read();
            let Some(vhost) = registry.vhosts.get(&store.vhost) else {
                return;
            };
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let mut headers = || properties.headers.clone().unwrap_or_default();
            route(vhost, &store.exchange, &keys, &mut headers, None, &mut found);
        }
        if found.queues.is_empty() {
            self.counters.unroutable.add(1);
            return;
        }
        let mut message = self.with_properties(message, &properties).unwrap_or_else(|| message.clone());
        message.envelope.persistent |= found.queues.iter().any(|queue| queue.keeps_everything());
        let targets: Vec<QueueId> = found.queues.iter().map(|q| q.id).collect();
        touch(touched, &found.queues, &message);
        batch.push(message, &targets);
    }

    /// The message with other properties.
    fn with_properties(&self, message: &Message, properties: &Properties) -> Option<Message> {
        let mut header = Vec::new();
        let mut envelope = message.envelope;
        self.formats.of(envelope.origin)?.encode(properties, &mut header);
        envelope.has_headers = properties.headers.is_some();
        Some(message.rewritten(envelope, message.exchange(), message.routing_key(), &header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_700_000_000_000);

    fn due_of(name: &str, value: Value) -> Option<u64> {
        due(&Table(vec![(name.into(), value)]), NOW).map(|at| at.millis_since(NOW))
    }

    #[test]
    fn a_delay_is_any_positive_number() {
        for value in [
            Value::I8(100),
            Value::U8(100),
            Value::I16(100),
            Value::U16(100),
            Value::I32(100),
            Value::U32(100),
            Value::I64(100),
            Value::F32(100.9),
            Value::F64(100.9),
            Value::text(" 100 "),
            Value::Decimal { scale: 1, value: 1009 },
        ] {
            assert_eq!(due_of("x-delay", value.clone()), Some(100), "{value:?}");
        }
        let years = 300 * 365 * 86_400_000i64;
        assert_eq!(due_of("x-delay", Value::I64(years)), u64::try_from(years).ok());
        assert_eq!(due_of("x-delay", Value::I64(i64::MAX)), u64::try_from(i64::MAX).ok());
        assert_eq!(due_of("x-delay", Value::F64(f64::INFINITY)), u64::try_from(i64::MAX).ok());
        for value in [
            Value::I32(0),
            Value::I64(i64::MIN),
            Value::F64(f64::NAN),
            Value::text("soon"),
            Value::Bool(true),
            Value::Void,
            Value::Decimal { scale: 255, value: 1 },
        ] {
            assert_eq!(due_of("x-delay", value.clone()), None, "{value:?}");
        }
    }

    #[test]
    fn a_time_is_milliseconds_or_a_timestamp() {
        assert_eq!(due_of("x-deliver-at", Value::I64(1_700_000_000_250)), Some(250));
        assert_eq!(due_of("x-deliver-at", Value::text("1700000000250")), Some(250));
        assert_eq!(due_of("x-deliver-at", Value::Timestamp(1_700_000_001)), Some(1000));
        assert_eq!(due_of("x-deliver-at", Value::Timestamp(u64::MAX)), Some(u64::MAX - NOW.0));
        assert_eq!(due_of("x-deliver-at", Value::I64(1_700_000_000_000)), None);
        assert_eq!(due_of("x-deliver-at", Value::I64(-1)), None);
        let both = Table(vec![("x-delay".into(), Value::I32(9)), ("x-deliver-at".into(), Value::I64(0))]);
        assert_eq!(due(&both, NOW), None, "the time counts");
    }

    #[test]
    fn what_is_over_is_negative_and_not_delayed_again() {
        let headers = |delay| Some(Table(vec![("x-delay".into(), delay)]));
        for (before, after) in [
            (Value::I32(5), Value::I32(-5)),
            (Value::text("5"), Value::I32(-5)),
            (Value::I64(i64::MAX), Value::I64(-i64::MAX)),
            (Value::I32(-5), Value::I32(-5)),
        ] {
            let mut properties = Properties { headers: headers(before), ..Properties::default() };
            mark_over(&mut properties);
            assert_eq!(properties.headers, headers(after));
            assert_eq!(due(&properties.headers.unwrap_or_default(), NOW), None);
        }
    }
}
