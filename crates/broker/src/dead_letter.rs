//! Dead-lettering as RabbitMQ does it: the `x-death` header, its counts, the rule against cycles.
//!
//! The message in its new queues and the end of the old entry are one batch of the engine, so neither a crash nor a
//! full disk loses or doubles one.

use crate::broker::Broker;
use crate::publish::{Reached, Touched, touch};
use crate::queue::Queue;
use crate::route::{Found, route};
use engine::{Batch, Dead, Death, Outcome};
use model::{Message, Now, Properties, QueueId, Seq, Table, Value, Wall};
use std::sync::Arc;
use std::time::Duration;

/// Dead entries taken from a queue at a time, and how many times in a row: what is left is looked at in turn.
const DEAD_BATCH: usize = 256;
const DEAD_ROUNDS: usize = 16;
/// Bytes of dead messages in one batch, but for the last: clients decide how many and how large they are.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long after a refusal of the engine the dead of a queue are looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// The word for it in `x-death`.
fn reason(death: Death) -> &'static str {
    match death {
        Death::Rejected => "rejected",
        Death::Expired => "expired",
        Death::MaxLen => "maxlen",
        Death::DeliveryLimit => "delivery_limit",
    }
}

/// What became of what is dead in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Burial {
    /// Nothing is left that could be taken now.
    Done,
    /// There is very much of it: the queue is looked at again in its turn.
    Later,
    /// The engine cannot take it in for now: the queue is looked at again after a while.
    Refused,
}

impl Broker {
    /// Dead-letters or drops what is dead in a queue.
    pub(crate) fn bury(&self, queue: &Arc<Queue>, now: Now) -> Burial {
        for _ in 0..DEAD_ROUNDS {
            let _order = queue.burial.lock();
            let mut dead = Vec::new();
            let reaped = self.engine.take_dead(queue.id, DEAD_BATCH, now, &mut dead);
            if !dead.is_empty() && !self.dead_letter(queue, &dead, now) {
                self.schedule(queue.id, now.mono.after(RETRY));
                return Burial::Refused;
            }
            if reaped.ended < DEAD_BATCH {
                return Burial::Done;
            }
        }
        self.schedule(queue.id, now.mono);
        Burial::Later
    }

    /// The same for what dies when it comes back: the queue is full, or it came back too often.
    pub(crate) fn bury_given_back(&self, queue: &Arc<Queue>, now: Now) {
        if queue.buries_given_back() {
            self.bury(queue, now);
        }
    }

    /// Ends dead entries by way of the dead-letter exchange. False if the engine cannot take that in; then those it did
    /// not take are dead as before.
    fn dead_letter(&self, queue: &Queue, dead: &[Dead], now: Now) -> bool {
        let mut rest = dead;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(batch_len(rest));
            if !self.dead_letter_batch(queue, some, now) {
                // The last first: each goes before all others.
                for alike in rest.chunk_by(|a, b| a.death == b.death).rev() {
                    let seqs: Vec<Seq> = alike.iter().map(|one| one.seq).collect();
                    self.engine.settle(queue.id, &seqs, Outcome::Dead(alike[0].death), now);
                }
                return false;
            }
            rest = others;
        }
        true
    }

    /// Dead-letters entries with one append. False if the engine cannot take it in.
    fn dead_letter_batch(&self, queue: &Queue, dead: &[Dead], now: Now) -> bool {
        let mut batch = Batch::new();
        let mut reached = Reached::default();
        let mut lettered = Vec::new();
        for one in dead {
            batch.ack(queue.id, one.seq);
            if self.letter(queue, &one.message, one.death, now, &mut batch, &mut reached) {
                lettered.push(one.death);
            }
        }
        if self.engine.append(&mut batch, now).is_err() {
            return false;
        }
        for death in lettered {
            let counter = match death {
                Death::Rejected => &self.counters.dead_lettered_rejected,
                Death::Expired => &self.counters.dead_lettered_expired,
                Death::MaxLen => &self.counters.dead_lettered_maxlen,
                Death::DeliveryLimit => &self.counters.dead_lettered_delivery_limit,
            };
            counter.add(1);
        }
        // A look later and not now: dead letters may lead to dead letters, as deep as clients like.
        for Touched { queue, .. } in reached.queues {
            self.schedule(queue.id, now.mono);
        }
        for store in reached.stores {
            self.schedule(store.id, now.mono);
        }
        true
    }

    /// Adds one dead message to a batch. False if it reaches no queue.
    pub(crate) fn letter(
        &self,
        queue: &Queue,
        message: &Message,
        death: Death,
        now: Now,
        batch: &mut Batch,
        reached: &mut Reached,
    ) -> bool {
        let behaviour = queue.behaviour();
        let Some(exchange) = &behaviour.dead_letter_exchange else {
            return false;
        };
        let Ok(mut properties) = self.formats.properties(message) else {
            return false;
        };
        let own_key = String::from_utf8_lossy(message.routing_key());
        let key = behaviour.dead_letter_routing_key.as_deref().unwrap_or(&own_key);
        let mut keys = vec![key.to_owned()];
        if behaviour.dead_letter_routing_key.is_none() {
            keys.extend(carbon_copies(&properties));
        }
        mark_death(&mut properties, queue, message, death, now.wall);
        if behaviour.dead_letter_routing_key.is_some()
            && let Some(headers) = &mut properties.headers
        {
            headers.remove("CC");
        }
        let mut found = Found::default();
        {
            let registry = self.registry.read();
            let Some(vhost) = registry.vhosts.get(&**queue.vhost) else {
                return false;
            };
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let mut headers = || properties.headers.clone().unwrap_or_default();
            route(vhost, exchange, &keys, &mut headers, Some(now.wall), &mut found);
        }
        if death != Death::Rejected {
            found.queues.retain(|target| !is_cycle(&properties, &target.name));
        }
        if found.is_empty() {
            return false;
        }
        let Some(mut letter) = self.rewrite(message, exchange, key, &properties) else {
            return false;
        };
        letter.envelope.ttl_ms = None;
        letter.envelope.persistent |= found.queues.iter().any(|queue| queue.keeps_everything());
        let targets: Vec<QueueId> = found.queues.iter().map(|q| q.id).collect();
        touch(&mut reached.queues, &found.queues, &letter);
        self.schedule_message(&letter, &[], &found, batch);
        reached.stores.append(&mut found.stores);
        batch.push(letter, &targets);
        true
    }

    /// The message with the header that says how often it was delivered before.
    pub(crate) fn with_delivery_count(&self, message: Message, attempts: u32) -> Message {
        let Ok(mut properties) = self.formats.properties(&message) else {
            return message;
        };
        properties.headers_mut().set("x-delivery-count", Value::I64(i64::from(attempts)));
        let exchange = String::from_utf8_lossy(message.exchange());
        let key = String::from_utf8_lossy(message.routing_key());
        self.rewrite(&message, &exchange, &key, &properties).unwrap_or(message)
    }

    /// The message with other properties, exchange and key.
    fn rewrite(&self, message: &Message, exchange: &str, key: &str, properties: &Properties) -> Option<Message> {
        let mut header = Vec::new();
        let mut envelope = message.envelope;
        self.formats.of(envelope.origin)?.encode(properties, &mut header);
        envelope.has_headers = properties.headers.is_some();
        Some(message.rewritten(envelope, exchange.as_bytes(), key.as_bytes(), &header))
    }
}

/// How many of these go into one batch; at least one.
fn batch_len(dead: &[Dead]) -> usize {
    let mut bytes = 0;
    let fits = dead.iter().take_while(|one| {
        let before = bytes;
        bytes += one.message.bytes().len();
        before < BATCH_BYTES_MAX
    });
    fits.count()
}

pub(crate) fn carbon_copies(properties: &Properties) -> Vec<String> {
    match properties.headers.as_ref().and_then(|h| h.get("CC")) {
        Some(Value::Array(keys)) => keys.iter().filter_map(|k| k.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn is(field: Option<&Value>, text: &str) -> bool {
    field.and_then(Value::as_str) == Some(text)
}

/// Adds a death to the headers and takes the time to live away.
fn mark_death(properties: &mut Properties, queue: &Queue, message: &Message, death: Death, wall: Wall) {
    let reason = Value::text(reason(death));
    let exchange = Value::text(&String::from_utf8_lossy(message.exchange()));
    let key = String::from_utf8_lossy(message.routing_key());
    let mut keys = vec![Value::text(&key)];
    keys.extend(carbon_copies(properties).iter().map(|k| Value::text(k)));
    let expiration = properties.expiration.take();
    let headers = properties.headers_mut();
    let mut deaths = match headers.remove("x-death") {
        Some(Value::Array(deaths)) => deaths,
        _ => Vec::new(),
    };
    let known = deaths.iter().position(|death| match death {
        Value::Table(t) => is(t.get("queue"), &queue.name) && t.get("reason") == Some(&reason),
        _ => false,
    });
    let death = match known.map(|at| deaths.remove(at)) {
        Some(Value::Table(mut death)) => {
            let count = death.get("count").and_then(Value::as_integer).unwrap_or(0);
            death.set("count", Value::I64(count.saturating_add(1)));
            death
        }
        _ => {
            let mut death = Table::new();
            if let Some(expiration) = &expiration {
                death.set("original-expiration", Value::text(expiration));
            }
            death.set("count", Value::I64(1));
            death.set("reason", reason.clone());
            death.set("queue", Value::text(&queue.name));
            death.set("time", Value::Timestamp(wall.seconds()));
            death.set("exchange", exchange.clone());
            death.set("routing-keys", Value::Array(keys));
            death
        }
    };
    deaths.insert(0, Value::Table(death));
    headers.set("x-death", Value::Array(deaths));
    let first = headers.get("x-first-death-reason").is_none();
    for (what, value) in [("reason", reason), ("queue", Value::text(&queue.name)), ("exchange", exchange)] {
        if first {
            headers.set(&format!("x-first-death-{what}"), value.clone());
        }
        headers.set(&format!("x-last-death-{what}"), value);
    }
}

/// Whether a message comes back to a queue it has died in without anyone having rejected it since.
fn is_cycle(properties: &Properties, queue: &str) -> bool {
    let Some(Value::Array(deaths)) = properties.headers.as_ref().and_then(|h| h.get("x-death")) else {
        return false;
    };
    for death in deaths {
        let Value::Table(death) = death else { continue };
        if is(death.get("reason"), "rejected") {
            return false;
        }
        if is(death.get("queue"), queue) {
            return true;
        }
    }
    false
}
