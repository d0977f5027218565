//! Refusals in RabbitMQ's words (3.10.8), one function a text.

use engine::EngineError;
use protocol::{Refusal, RefusalKind as Kind};
use std::fmt;

/// A thing a refusal can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resource<'a> {
    /// A queue of a vhost.
    Queue(&'a str, &'a str),
    /// An exchange of a vhost.
    Exchange(&'a str, &'a str),
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(vhost, name) => write!(f, "queue '{name}' in vhost '{vhost}'"),
            Self::Exchange(vhost, name) => write!(f, "exchange '{name}' in vhost '{vhost}'"),
        }
    }
}

pub(crate) fn missing(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::NotFound, format!("no {what}"))
}

pub(crate) fn locked(what: Resource<'_>) -> Refusal {
    Refusal::new(
        Kind::ResourceLocked,
        format!(
            "cannot obtain exclusive access to locked {what}. It could be originally declared on another connection \
             or the exclusive property value does not match that of the original declaration."
        ),
    )
}

pub(crate) fn in_exclusive_use(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::AccessRefused, format!("{what} in exclusive use"))
}

pub(crate) fn in_use(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::PreconditionFailed, format!("{what} in use"))
}

pub(crate) fn not_empty(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::PreconditionFailed, format!("{what} not empty"))
}

pub(crate) fn inequivalent(
    arg: &str,
    what: Resource<'_>,
    received: impl fmt::Display,
    current: impl fmt::Display,
) -> Refusal {
    Refusal::new(
        Kind::PreconditionFailed,
        format!("inequivalent arg '{arg}' for {what}: received {received} but current is {current}"),
    )
}

pub(crate) fn invalid_arg(arg: &str, what: Resource<'_>, why: impl fmt::Display) -> Refusal {
    Refusal::new(Kind::PreconditionFailed, format!("invalid arg '{arg}' for {what}: {why}"))
}

pub(crate) fn arg_of_other_type(arg: &str, what: Resource<'_>, module: &str) -> Refusal {
    Refusal::new(Kind::PreconditionFailed, format!("invalid arg '{arg}' for {what} of queue type {module}"))
}

pub(crate) fn invalid_property(property: &str, what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::PreconditionFailed, format!("invalid property '{property}' for {what}"))
}

pub(crate) fn server_named(module: &str) -> Refusal {
    Refusal::new(Kind::PreconditionFailed, format!("Cannot declare a server-named queue for type {module}"))
}

pub(crate) fn no_global_qos(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::NotImplemented, format!("{what} does not support global qos"))
}

pub(crate) fn full(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::ResourceError, format!("{what} is full"))
}

pub(crate) fn over_quota(user: &str) -> Refusal {
    Refusal::new(Kind::ResourceError, format!("user '{user}' publishes more messages a second than its quotas allow"))
}

pub(crate) fn partial_tx() -> Refusal {
    Refusal::new(Kind::PreconditionFailed, "partial tx completion")
}

pub(crate) fn unsupported_arg(arg: &str, what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::NotImplemented, format!("argument '{arg}' for {what} is not supported yet"))
}

pub(crate) fn reserved(what: &str, name: &str) -> Refusal {
    Refusal::new(Kind::AccessRefused, format!("{what} name '{name}' contains reserved prefix 'amq.*'"))
}

pub(crate) fn default_exchange() -> Refusal {
    Refusal::new(Kind::AccessRefused, "operation not permitted on the default exchange")
}

pub(crate) fn system_exchange(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::AccessRefused, format!("deletion of system {what} not allowed"))
}

pub(crate) fn internal_exchange(what: Resource<'_>) -> Refusal {
    Refusal::new(Kind::AccessRefused, format!("cannot publish to internal {what}"))
}

pub(crate) fn access(what: Resource<'_>, user: &str) -> Refusal {
    Refusal::new(Kind::AccessRefused, format!("access to {what} refused for user '{user}'"))
}

pub(crate) fn topic_access(key: &str, exchange: Resource<'_>, user: &str) -> Refusal {
    Refusal::new(Kind::AccessRefused, format!("access to topic '{key}' in {exchange} refused for user '{user}'"))
}

pub(crate) fn no_vhost(vhost: &str) -> Refusal {
    Refusal::new(Kind::NotAllowed, format!("vhost {vhost} not found"))
}

pub(crate) fn vhost_access(vhost: &str, user: &str) -> Refusal {
    Refusal::new(Kind::NotAllowed, format!("access to vhost '{vhost}' refused for user '{user}'"))
}

pub(crate) fn too_many(what: &str, max: usize) -> Refusal {
    Refusal::new(Kind::ResourceError, format!("the limit of {max} {what} is reached"))
}

pub(crate) fn engine(error: &EngineError) -> Refusal {
    let kind = match error {
        EngineError::Pressed(_) => Kind::ResourceError,
        EngineError::NoQueue(_) | EngineError::Failed(_) => Kind::InternalError,
    };
    Refusal::new(kind, error.to_string())
}
