//! The arguments of queues and exchanges: what is understood, what is refused by name, what must be equal.
//!
//! Unknown arguments are stored and have no effect, as RabbitMQ does. Known ones that are not built are refused.

use crate::Broker;
use crate::behaviour::{Behaviour, Dispatch, overflow_from_word};
use crate::dedup::DedupSpec;
use crate::kind::QueueKind;
use crate::refuse::{self, Resource};
use engine::Durability;
use model::limits::{DEDUP_WINDOW_MAX, NAME_BYTES_MAX, TTL_MS_MAX};
use model::{Table, Value};
use protocol::Refusal;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// What the arguments of a queue mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QueueArguments {
    /// As they were declared.
    pub(crate) table: Table,
    /// `x-max-priority`
    pub(crate) priority_max: u8,
    /// `x-queue-type`
    pub(crate) kind: QueueKind,
    /// `x-single-active-consumer`
    pub(crate) single_active: bool,
    /// What can change while the queue lives.
    pub(crate) behaviour: Behaviour,
    /// `x-durability`; only a durable queue may have one.
    pub(crate) durability: Option<Durability>,
    /// `x-message-deduplication`, with `x-cache-size`, `x-cache-ttl` and `x-deduplication-header`
    pub(crate) dedup: Option<Box<DedupSpec>>,
}

const DEDUPLICATION: &str = "x-message-deduplication";

/// Arguments that two declarations of a queue must agree on.
const EQUIVALENT: [&str; 24] = [
    "x-dispatch",
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-priority",
    "x-single-active-consumer",
    "x-durability",
    "x-message-deduplication",
    "x-cache-size",
    "x-cache-ttl",
    "x-deduplication-header",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-type",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-quorum-initial-group-size",
    "x-queue-leader-locator",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
];

/// Arguments of queues that RabbitMQ knows and we do not have yet.
const UNSUPPORTED: [&str; 12] = [
    "x-quorum-target-group-size",
    "x-queue-master-locator",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-consumer-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-name-prefix",
    "x-dispatch-key",
];

/// Arguments of consumers that RabbitMQ knows and we do not have yet.
const UNSUPPORTED_OF_CONSUMERS: [&str; 4] =
    ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered", "x-consumer-timeout"];

impl QueueArguments {
    /// Reads the arguments of a declaration.
    pub(crate) fn read(arguments: &Table, queue: Resource<'_>) -> Result<Self, Refusal> {
        let mut read = Self { kind: QueueKind::of(arguments), ..Self::default() };
        if arguments.get(DEDUPLICATION) == Some(&Value::Bool(true)) {
            read.dedup = Some(Box::default());
        }
        for (name, value) in arguments.iter() {
            read.read_one(name, value, arguments, queue)?;
        }
        if read.priority_max > 0 && read.behaviour.dispatch.and_then(Dispatch::grouping).is_some() {
            return Err(refuse::invalid_arg("x-dispatch", queue, "fair_dispatch_with_priorities"));
        }
        read.table = arguments.clone();
        Ok(read)
    }

    /// Itself to be shared; nearly every queue shares those that say nothing.
    pub(crate) fn shared(self) -> Arc<Self> {
        static NOTHING: LazyLock<Arc<QueueArguments>> = LazyLock::new(Arc::default);
        if self == **NOTHING { NOTHING.clone() } else { Arc::new(self) }
    }

    fn read_one(&mut self, name: &str, value: &Value, all: &Table, queue: Resource<'_>) -> Result<(), Refusal> {
        let invalid = |why: String| refuse::invalid_arg(name, queue, why);
        QueueKind::of(all).check_argument(name, queue)?;
        match name {
            "x-message-ttl" => self.behaviour.ttl_ms = Some(millis(value).map_err(invalid)?),
            "x-expires" => match millis(value).map_err(invalid)? {
                0 => return Err(invalid("{value_zero,0}".into())),
                expires_ms => self.behaviour.expires_ms = Some(expires_ms),
            },
            "x-dead-letter-exchange" => {
                self.behaviour.dead_letter_exchange = Some(short_text(value).map_err(invalid)?);
            }
            "x-dead-letter-routing-key" => {
                self.behaviour.dead_letter_routing_key = Some(short_text(value).map_err(invalid)?);
                if all.get("x-dead-letter-exchange").is_none() {
                    return Err(invalid("routing_key_but_no_dlx_defined".into()));
                }
            }
            "x-max-priority" => {
                let priority = non_negative(value).map_err(invalid)?;
                self.priority_max =
                    u8::try_from(priority).map_err(|_| invalid(format!("{{max_value_exceeded,{priority}}}")))?;
            }
            "x-max-length" => self.behaviour.length_max = Some(non_negative(value).map_err(invalid)?),
            "x-max-length-bytes" => {
                self.behaviour.length_bytes_max = Some(non_negative(value).map_err(invalid)?);
            }
            "x-overflow" => {
                let overflow = overflow_from_word(&text(value).map_err(invalid)?);
                self.behaviour.overflow = Some(overflow.ok_or_else(|| invalid("invalid_overflow".into()))?);
            }
            // A negative one is none, as in later versions of RabbitMQ.
            "x-delivery-limit" => {
                self.behaviour.delivery_limit = deliveries(integer(value).map_err(invalid)?);
            }
            // One node: these are checked and stored, and there is nothing for them to do.
            "x-quorum-initial-group-size" => _ = positive(value).map_err(invalid)?,
            "x-max-in-memory-length" | "x-max-in-memory-bytes" => _ = non_negative(value).map_err(invalid)?,
            "x-queue-leader-locator" => match text(value).map_err(invalid)?.as_str() {
                "client-local" | "balanced" | "least-leaders" | "random" => {}
                _ => return Err(invalid("invalid_queue_locator_arg".into())),
            },
            "x-dead-letter-strategy" => match text(value).map_err(invalid)?.as_str() {
                "at-most-once" | "at-least-once" => {}
                _ => return Err(invalid("invalid_dlx_strategy".into())),
            },
            "x-dispatch" => {
                let word = text(value).map_err(invalid)?;
                let dispatch = Dispatch::from_word(&word);
                self.behaviour.dispatch = Some(dispatch.ok_or_else(|| invalid("invalid_dispatch".into()))?);
            }
            "x-single-active-consumer" => self.single_active = boolean(value).map_err(invalid)?,
            DEDUPLICATION if !matches!(value, Value::Bool(_)) => {
                return Err(invalid(format!("{{unacceptable_type,{}}}", value.type_name())));
            }
            "x-cache-size" | "x-cache-ttl" | "x-deduplication-header" => {
                self.read_dedup(name, value).map_err(invalid)?
            }
            "x-durability" => {
                let word = text(value).map_err(invalid)?;
                self.durability = Some(Durability::from_word(&word).ok_or_else(|| {
                    invalid(format!("\"unknown durability '{word}'; one of sync, interval, none, memory\""))
                })?);
            }
            "x-queue-type" => match text(value).map_err(invalid)?.as_str() {
                "classic" | "quorum" => {}
                "stream" => return Err(refuse::unsupported_arg(&format!("x-queue-type: {value}"), queue)),
                _ => return Err(invalid(format!("\"unsupported queue type '{value}'\""))),
            },
            "x-queue-mode" => match text(value).map_err(invalid)?.as_str() {
                "default" | "lazy" => {}
                _ => return Err(invalid("invalid_queue_mode".into())),
            },
            "x-queue-version" => match non_negative(value).map_err(invalid)? {
                1 | 2 => {}
                version => return Err(invalid(format!("{{unsupported_queue_version,{version}}}"))),
            },
            _ if UNSUPPORTED.contains(&name) => return Err(refuse::unsupported_arg(name, queue)),
            _ => {}
        }
        Ok(())
    }
}

impl QueueArguments {
    /// Reads what has a meaning only beside `x-message-deduplication`; alone it is checked all the same.
    fn read_dedup(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let spec = self.dedup.as_mut();
        match name {
            "x-cache-size" => {
                let window = match non_negative(value)? {
                    0 => return Err("{value_zero,0}".into()),
                    n => usize::try_from(n).ok().filter(|n| *n <= DEDUP_WINDOW_MAX),
                };
                let window = window.ok_or_else(|| format!("{{max_value_exceeded,{value}}}"))?;
                spec.into_iter().for_each(|spec| spec.window = window);
            }
            "x-cache-ttl" => match millis(value)? {
                0 => return Err("{value_zero,0}".into()),
                ttl_ms => spec.into_iter().for_each(|spec| spec.ttl_ms = Some(ttl_ms)),
            },
            _ => {
                let header = short_text(value)?;
                spec.into_iter().for_each(|spec| spec.header.clone_from(&header));
            }
        }
        Ok(())
    }
}

/// Refuses the arguments of an exchange that others know and we do not have.
pub(crate) fn check_exchange(arguments: &Table, exchange: Resource<'_>) -> Result<(), Refusal> {
    match arguments.get(DEDUPLICATION) {
        Some(_) => Err(refuse::unsupported_arg(DEDUPLICATION, exchange)),
        None => Ok(()),
    }
}

impl Broker {
    /// The arguments for which any declaration of the queue would be refused, each with the refusal's text. For those
    /// who check definitions before there is a broker.
    #[must_use]
    pub fn check_queue_arguments(vhost: &str, queue: &str, arguments: &Table) -> Vec<(String, String)> {
        let queue = Resource::Queue(vhost, queue);
        let check = |(name, value): (&str, &Value)| {
            let refusal = QueueArguments::default().read_one(name, value, arguments, queue).err()?;
            Some((name.to_owned(), refusal.text))
        };
        arguments.iter().filter_map(check).collect()
    }
}

/// Checks that a queue declared again is declared with the same arguments.
pub(crate) fn same_queue(received: &Table, current: &Table, queue: Resource<'_>) -> Result<(), Refusal> {
    EQUIVALENT.iter().try_for_each(|name| same_argument(name, received, current, queue))
}

/// Checks one argument of something declared again.
pub(crate) fn same_argument(name: &str, received: &Table, current: &Table, what: Resource<'_>) -> Result<(), Refusal> {
    let classic = Value::text("classic");
    let normal = |table: &'_ Table| {
        let value = table.get(name).cloned();
        // No type is the default type.
        value.filter(|v| name != "x-queue-type" || *v != classic)
    };
    let (received, current) = (normal(received), normal(current));
    let same = match (&received, &current) {
        (Some(a), Some(b)) => a.same_argument(b),
        (None, None) => true,
        _ => false,
    };
    match (&received, &current) {
        _ if same => Ok(()),
        // The types are told only when one of the two is not there.
        (Some(received), Some(current)) => {
            Err(refuse::inequivalent(name, what, format_args!("'{received}'"), format_args!("'{current}'")))
        }
        _ => Err(refuse::inequivalent(name, what, Given(received.as_ref()), Given(current.as_ref()))),
    }
}

/// Checks one field of something declared again.
pub(crate) fn same_field<T: PartialEq + fmt::Display>(
    name: &str,
    received: T,
    current: T,
    what: Resource<'_>,
) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(refuse::inequivalent(name, what, format_args!("'{received}'"), format_args!("'{current}'")))
}

/// Reads the arguments of a consumer: its priority (`x-priority`).
pub(crate) fn consumer_priority(arguments: &Table, queue: Resource<'_>) -> Result<i64, Refusal> {
    if let Some((name, _)) = arguments.iter().find(|(name, _)| UNSUPPORTED_OF_CONSUMERS.contains(name)) {
        return Err(refuse::unsupported_arg(name, queue));
    }
    let Some(value) = arguments.get("x-priority") else {
        return Ok(0);
    };
    let wrong = || format!("\"expected integer, got {}\"", value.type_name());
    value.as_integer().ok_or_else(|| refuse::invalid_arg("x-priority", queue, wrong()))
}

/// The alternate exchange of an exchange's arguments.
pub(crate) fn alternate(arguments: &Table, exchange: Resource<'_>) -> Result<Option<String>, Refusal> {
    match arguments.get("alternate-exchange") {
        None => Ok(None),
        Some(value) => text(value).map(Some).map_err(|why| refuse::invalid_arg("alternate-exchange", exchange, why)),
    }
}

/// An argument as `inequivalent arg` prints it.
struct Given<'a>(Option<&'a Value>);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(value) => write!(f, "the value '{value}' of type '{}'", value.type_name()),
        }
    }
}

fn integer(value: &Value) -> Result<i64, String> {
    value.as_integer().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        _ => Err(format!("{{unacceptable_type,{}}}", value.type_name())),
    }
}

pub(crate) fn non_negative(value: &Value) -> Result<u64, String> {
    let n = integer(value)?;
    u64::try_from(n).map_err(|_| format!("{{value_negative,{n}}}"))
}

/// A limit of deliveries; none if it is negative.
pub(crate) fn deliveries(n: i64) -> Option<u32> {
    u64::try_from(n).ok().map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn positive(value: &Value) -> Result<u64, String> {
    match non_negative(value)? {
        0 => Err("{value_zero,0}".into()),
        n => Ok(n),
    }
}

pub(crate) fn millis(value: &Value) -> Result<u64, String> {
    match non_negative(value)? {
        ms if ms > TTL_MS_MAX => Err(format!("{{value_too_large,{ms}}}")),
        ms => Ok(ms),
    }
}

/// A text that will be an exchange's name or a routing key, so a short string.
pub(crate) fn short_text(value: &Value) -> Result<String, String> {
    match text(value)? {
        long if long.len() > NAME_BYTES_MAX => Err(format!("{{too_long,{}}}", long.len())),
        short => Ok(short),
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(_) => value.as_str().map(str::to_owned).ok_or_else(|| "not_utf8".to_owned()),
        _ => Err(format!("{{unacceptable_type,{}}}", value.type_name())),
    }
}
