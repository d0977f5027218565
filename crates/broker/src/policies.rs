//! Policies and operator policies: which one is in force for a queue or an exchange, and what it says.
//!
//! As in RabbitMQ one policy and one operator policy are in force for an object at most: of those that match, the one
//! with the highest priority (of equal ones the first by name). An operator policy limits what the policy and the
//! arguments say; it has limits only.

use crate::Broker;
use crate::arguments::{QueueArguments, deliveries, millis, non_negative, short_text};
use crate::behaviour::{Behaviour, Dispatch, overflow_from_word};
use crate::kind::QueueKind;
use model::definitions::{ApplyTo, Definitions, PolicyDef};
use model::{Table, Value};
use regex::Regex;
use std::sync::Arc;

/// Keys that have an effect.
const KEYS: [&str; 10] = [
    "alternate-exchange",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "delivery-limit",
    "dispatch",
    "expires",
    "max-length",
    "max-length-bytes",
    "message-ttl",
    "overflow",
];

/// Keys of operator policies.
const OPERATOR_KEYS: [&str; 5] = ["delivery-limit", "expires", "max-length", "max-length-bytes", "message-ttl"];

/// Keys of RabbitMQ that say how its queues are kept and copied. Accepted; there is nothing here they could change.
const WITHOUT_EFFECT: [&str; 10] = [
    "ha-mode",
    "ha-params",
    "ha-promote-on-failure",
    "ha-promote-on-shutdown",
    "ha-sync-batch-size",
    "ha-sync-mode",
    "queue-leader-locator",
    "queue-master-locator",
    "queue-mode",
    "queue-version",
];

/// Keys of RabbitMQ that are not built yet.
const UNSUPPORTED: [&str; 13] = [
    "consumer-timeout",
    "dead-letter-strategy",
    "federation-upstream",
    "federation-upstream-set",
    "initial-cluster-size",
    "max-age",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "shards-per-node",
    "stream-filter-size-bytes",
    "stream-max-segment-size-bytes",
    "target-group-size",
    "delayed-retry-type",
];

/// What is wrong with a key of a policy's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyMistake {
    /// There is no such key; these are known.
    Unknown(&'static [&'static str]),
    /// It is known and not built.
    Unsupported,
    /// Its value is wrong, in RabbitMQ's words.
    Invalid(String),
}

/// A policy, ready to be matched.
#[derive(Debug)]
struct Policy {
    def: PolicyDef,
    pattern: Regex,
    behaviour: Behaviour,
    alternate: Option<String>,
}

/// Every policy of every vhost, the ones that count first at the front.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    users: Vec<Policy>,
    operators: Vec<Policy>,
}

/// The policies in force for a queue, for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyView {
    /// The policy's name.
    pub policy: Option<Arc<str>>,
    /// The operator policy's.
    pub operator_policy: Option<Arc<str>>,
    /// What the two say together.
    pub definition: Table,
}

impl Policies {
    /// Reads definitions; what is wrong with them is added to `problems`.
    pub(crate) fn from_definitions(definitions: &Definitions, problems: &mut Vec<String>) -> Self {
        let mut read = |all: &[PolicyDef], kind: &str, operator: bool| {
            let mut policies: Vec<Policy> = Vec::with_capacity(all.len());
            for def in all {
                match Policy::read(def, operator) {
                    Ok(policy) => policies.push(policy),
                    Err(why) => problems.push(format!("{kind} '{}' in vhost '{}': {why}", def.name, def.vhost)),
                }
            }
            policies.sort_by(|a, b| (b.def.priority, &a.def.name).cmp(&(a.def.priority, &b.def.name)));
            policies
        };
        let users = read(&definitions.policies, "policy", false);
        let operators = read(&definitions.operator_policies, "operator policy", true);
        Self { users, operators }
    }

    /// What a queue with these arguments does.
    pub(crate) fn behaviour(&self, vhost: &str, queue: &str, arguments: &QueueArguments) -> Behaviour {
        let object = Object::Queue(arguments.kind);
        let user = in_force(&self.users, vhost, queue, object);
        let operator = in_force(&self.operators, vhost, queue, object);
        let declared = arguments.behaviour.clone();
        let merged = user.into_iter().chain(operator).fold(declared, |merged, policy| merged.under(&policy.behaviour));
        if arguments.dedup.is_some() {
            // What is refused must not count as seen, so such a queue refuses nothing.
            return Behaviour { overflow: None, ..merged };
        }
        merged
    }

    /// The alternate exchange that a policy gives an exchange.
    pub(crate) fn alternate(&self, vhost: &str, exchange: &str) -> Option<String> {
        in_force(&self.users, vhost, exchange, Object::Exchange)?.alternate.clone()
    }

    /// The policies in force for a queue.
    pub(crate) fn view(&self, vhost: &str, queue: &str, kind: QueueKind) -> PolicyView {
        let user = in_force(&self.users, vhost, queue, Object::Queue(kind));
        let operator = in_force(&self.operators, vhost, queue, Object::Queue(kind));
        let name = |policy: &Policy| Arc::from(&*policy.def.name);
        let mut definition = user.map(|policy| policy.def.definition.clone()).unwrap_or_default();
        for (key, value) in operator.iter().flat_map(|policy| policy.def.definition.iter()) {
            let smaller = definition.get(key).is_none_or(|known| value.as_integer() < known.as_integer());
            if smaller {
                definition.set(key, value.clone());
            }
        }
        PolicyView { policy: user.map(name), operator_policy: operator.map(name), definition }
    }
}

/// What a policy may be for.
#[derive(Clone, Copy)]
enum Object {
    Queue(QueueKind),
    Exchange,
}

/// The policy that counts for an object, if any does.
fn in_force<'a>(all: &'a [Policy], vhost: &str, name: &str, object: Object) -> Option<&'a Policy> {
    all.iter().find(|policy| policy.is_for(object) && policy.def.vhost == vhost && policy.pattern.is_match(name))
}

impl Policy {
    /// Whether it is for such an object. As in RabbitMQ one with a key that a type of queue does not take is not for
    /// queues of that type, whatever else it says; but what names classic queues may limit their deliveries.
    fn is_for(&self, object: Object) -> bool {
        let takes = |kind: QueueKind| kind.takes_policy(&self.def.definition);
        match (self.def.apply_to, object) {
            (ApplyTo::All | ApplyTo::Exchanges, Object::Exchange) => true,
            (ApplyTo::All | ApplyTo::Queues, Object::Queue(kind)) => takes(kind),
            (ApplyTo::ClassicQueues, Object::Queue(kind)) => kind == QueueKind::Classic,
            (ApplyTo::QuorumQueues, Object::Queue(kind)) => kind == QueueKind::Quorum && takes(kind),
            _ => false,
        }
    }

    fn read(def: &PolicyDef, operator: bool) -> Result<Self, String> {
        let pattern = Regex::new(&def.pattern).map_err(|_| format!("'{}' is not a regular expression", def.pattern))?;
        let (mut behaviour, mut alternate) = (Behaviour::default(), None);
        for (key, value) in def.definition.iter() {
            read_key(key, value, operator, &mut behaviour, &mut alternate).map_err(|mistake| match mistake {
                PolicyMistake::Unknown(_) => format!("'{key}' is not a recognised policy setting"),
                PolicyMistake::Unsupported => format!("'{key}' is not supported yet"),
                PolicyMistake::Invalid(why) => why,
            })?;
        }
        Ok(Self { def: def.clone(), pattern, behaviour, alternate })
    }
}

impl Broker {
    /// The keys of a policy's definition that would be refused, each with why. For those who check definitions before
    /// there is a broker.
    #[must_use]
    pub fn check_policy(definition: &Table, operator: bool) -> Vec<(String, PolicyMistake)> {
        let (mut behaviour, mut alternate) = (Behaviour::default(), None);
        let wrong = definition.iter().filter_map(|(key, value)| {
            let mistake = read_key(key, value, operator, &mut behaviour, &mut alternate).err()?;
            Some((key.to_owned(), mistake))
        });
        wrong.collect()
    }
}

fn read_key(
    key: &str,
    value: &Value,
    operator: bool,
    behaviour: &mut Behaviour,
    alternate: &mut Option<String>,
) -> Result<(), PolicyMistake> {
    let invalid = |what: &str| PolicyMistake::Invalid(format!("{value} is not a valid {what}"));
    let name = |what: &str| short_text(value).map(Some).map_err(|_| invalid(what));
    if operator && !OPERATOR_KEYS.contains(&key) {
        return Err(PolicyMistake::Unknown(&OPERATOR_KEYS));
    }
    match key {
        "message-ttl" => behaviour.ttl_ms = Some(millis(value).map_err(|_| invalid("message TTL"))?),
        "expires" => {
            let ms = millis(value).ok().filter(|ms| *ms > 0);
            behaviour.expires_ms = Some(ms.ok_or_else(|| invalid("queue expiry"))?);
        }
        "dead-letter-exchange" => behaviour.dead_letter_exchange = name("dead letter exchange name")?,
        "dead-letter-routing-key" => behaviour.dead_letter_routing_key = name("dead letter routing key")?,
        "max-length" => behaviour.length_max = Some(non_negative(value).map_err(|_| invalid("maximum length"))?),
        "max-length-bytes" => {
            behaviour.length_bytes_max = Some(non_negative(value).map_err(|_| invalid("maximum length in bytes"))?);
        }
        "overflow" => {
            let overflow = value.as_str().and_then(overflow_from_word);
            behaviour.overflow = Some(overflow.ok_or_else(|| invalid("overflow value"))?);
        }
        "delivery-limit" => {
            let limit = value.as_integer().and_then(deliveries);
            behaviour.delivery_limit = Some(limit.ok_or_else(|| invalid("delivery limit"))?);
        }
        "alternate-exchange" => *alternate = name("alternate exchange name")?,
        "dispatch" => {
            let dispatch = value.as_str().and_then(Dispatch::from_word);
            behaviour.dispatch = Some(dispatch.ok_or_else(|| invalid("dispatch policy"))?);
        }
        _ if WITHOUT_EFFECT.contains(&key) => {}
        _ if UNSUPPORTED.contains(&key) => return Err(PolicyMistake::Unsupported),
        _ => return Err(PolicyMistake::Unknown(&KEYS)),
    }
    Ok(())
}
