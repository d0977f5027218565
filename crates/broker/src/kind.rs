//! The types of queues (`x-queue-type`): which arguments and properties each takes, in RabbitMQ 3.10's words.
//!
//! A quorum queue is a durable queue here whose messages are all kept and synced: on one node a synced write is what a
//! quorum's write promises. It counts how often its entries were handed out.

use crate::refuse::{self, Resource};
use model::{Table, Value};
use protocol::{QueueDeclaration, Refusal};

/// The type of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum QueueKind {
    /// `classic`, and no type at all.
    #[default]
    Classic,
    /// `quorum`
    Quorum,
}

/// Arguments that only quorum queues take.
const OF_QUORUM: [&str; 5] = [
    "x-dead-letter-strategy",
    "x-quorum-initial-group-size",
    "x-queue-leader-locator",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
];

/// Arguments that only classic queues take. A quorum queue promises what its type says and nothing less.
const OF_CLASSIC: [&str; 5] =
    ["x-max-priority", "x-queue-mode", "x-queue-version", "x-queue-master-locator", "x-durability"];

/// Keys of policies that classic queues do not take, and those that quorum queues do not.
const POLICIES_NOT_OF_CLASSIC: [&str; 2] = ["delivery-limit", "queue-leader-locator"];
const POLICIES_NOT_OF_QUORUM: [&str; 7] = [
    "ha-mode",
    "ha-params",
    "ha-promote-on-failure",
    "ha-promote-on-shutdown",
    "ha-sync-mode",
    "queue-master-locator",
    "queue-mode",
];

impl QueueKind {
    /// The type that these arguments ask for; whether they may is checked elsewhere.
    pub(crate) fn of(arguments: &Table) -> Self {
        match arguments.get("x-queue-type").and_then(Value::as_str) {
            Some("quorum") => Self::Quorum,
            _ => Self::Classic,
        }
    }

    /// Its name as in `x-queue-type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// Its name in RabbitMQ's refusals.
    fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }

    /// Refuses an argument of another type of queue.
    pub(crate) fn check_argument(self, name: &str, queue: Resource<'_>) -> Result<(), Refusal> {
        let of_others: &[&str] = match self {
            Self::Classic => &OF_QUORUM,
            Self::Quorum => &OF_CLASSIC,
        };
        if of_others.contains(&name) { Err(refuse::arg_of_other_type(name, queue, self.module())) } else { Ok(()) }
    }

    /// Whether a policy with this definition can be for queues of this type.
    pub(crate) fn takes_policy(self, definition: &Table) -> bool {
        let not_taken: &[&str] = match self {
            Self::Classic => &POLICIES_NOT_OF_CLASSIC,
            Self::Quorum => &POLICIES_NOT_OF_QUORUM,
        };
        !not_taken.iter().any(|key| definition.get(key).is_some())
    }

    /// Refuses a declaration that a queue of this type cannot be made with.
    pub(crate) fn check_declaration(self, request: &QueueDeclaration, queue: Resource<'_>) -> Result<(), Refusal> {
        if self == Self::Classic {
            return Ok(());
        }
        let bad = [
            (request.auto_delete, "auto-delete"),
            (request.exclusive, "exclusive-owner"),
            (!request.durable, "non-durable"),
        ];
        match bad.iter().find(|(is_bad, _)| *is_bad) {
            Some((_, property)) => Err(refuse::invalid_property(property, queue)),
            None => Ok(()),
        }
    }

    /// Refuses a queue that the client did not name.
    pub(crate) fn check_named(self, asked: &str) -> Result<(), Refusal> {
        if self == Self::Quorum && asked.is_empty() {
            return Err(refuse::server_named(self.module()));
        }
        Ok(())
    }
}
