//! Broker definitions as plain data: what a configuration (or a RabbitMQ `definitions.json`) asks the broker to have.
//!
//! Names and shapes are RabbitMQ's. References are by name and are not resolved here: a binding may name an exchange
//! that only the broker knows (`amq.topic`). Definitions add or verify; applying them never deletes anything.

use crate::principal::Secret;
use crate::value::Table;

/// Everything a broker is asked to have. Lists keep the order of the text.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Definitions {
    /// Users; names are unique.
    pub users: Vec<UserDef>,
    /// Virtual hosts; names are unique.
    pub vhosts: Vec<VhostDef>,
    /// What users may do in a vhost; unique on (user, vhost).
    pub permissions: Vec<PermissionDef>,
    /// Which topics users may use; unique on (user, vhost, exchange).
    pub topic_permissions: Vec<TopicPermissionDef>,
    /// Queues; unique on (vhost, name).
    pub queues: Vec<QueueDef>,
    /// Exchanges; unique on (vhost, name).
    pub exchanges: Vec<ExchangeDef>,
    /// Bindings.
    pub bindings: Vec<BindingDef>,
    /// Policies; unique on (vhost, name).
    pub policies: Vec<PolicyDef>,
    /// Operator policies, which users cannot overrule; unique on (vhost, name).
    pub operator_policies: Vec<PolicyDef>,
}

/// A user of the broker.
#[derive(Clone, PartialEq, Debug)]
pub struct UserDef {
    /// Login name.
    pub name: String,
    /// How the user proves to be that user.
    pub password: PasswordDef,
    /// RabbitMQ's tags: `administrator`, `monitoring`, `policymaker`, `management`, or the owner's own words.
    pub tags: Vec<String>,
}

/// A password as it was written.
#[derive(Clone, PartialEq, Debug)]
pub enum PasswordDef {
    /// In the clear; the broker hashes it before it keeps it.
    Plain(Secret),
    /// A salt of 4 bytes followed by the hash of salt and password.
    Hashed {
        /// The hash function.
        algorithm: PasswordHash,
        /// Salt and hash: 36 bytes for SHA-256, 68 for SHA-512.
        salted_hash: Vec<u8>,
    },
    /// None: this user cannot log in with a password.
    None,
}

/// Hash functions of RabbitMQ's password hashes (`hashing_algorithm`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PasswordHash {
    /// `rabbit_password_hashing_sha256`, the default
    Sha256,
    /// `rabbit_password_hashing_sha512`
    Sha512,
}

impl PasswordHash {
    /// Bytes of salt and hash together.
    #[must_use]
    pub const fn salted_len(self) -> usize {
        match self {
            Self::Sha256 => 4 + 32,
            Self::Sha512 => 4 + 64,
        }
    }
}

/// A virtual host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VhostDef {
    /// Its name.
    pub name: String,
}

/// What a user may do in a vhost: three regular expressions over names. An empty one matches nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PermissionDef {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// Names the user may declare and delete.
    pub configure: String,
    /// Names the user may publish to and bind to.
    pub write: String,
    /// Names the user may consume from, get from, purge and bind from.
    pub read: String,
}

/// Which routing keys a user may use on a topic exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPermissionDef {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// Keys the user may publish with.
    pub write: String,
    /// Keys the user may bind with.
    pub read: String,
}

/// A queue. Exclusive queues are never in definitions.
#[derive(Clone, PartialEq, Debug)]
pub struct QueueDef {
    /// Where.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted with its last consumer.
    pub auto_delete: bool,
    /// `x-…` arguments, as in `queue.declare`.
    pub arguments: Table,
}

/// An exchange.
#[derive(Clone, PartialEq, Debug)]
pub struct ExchangeDef {
    /// Where.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// `direct`, `fanout`, `topic` or `headers`; the broker knows which it has.
    pub kind: String,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted with its last binding.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Arguments such as `alternate-exchange`.
    pub arguments: Table,
}

/// A binding.
#[derive(Clone, PartialEq, Debug)]
pub struct BindingDef {
    /// Where.
    pub vhost: String,
    /// The exchange messages come from.
    pub source: String,
    /// The queue or exchange they go to.
    pub destination: String,
    /// Which of the two.
    pub destination_type: DestinationType,
    /// The key.
    pub routing_key: String,
    /// Arguments, such as those a headers exchange matches.
    pub arguments: Table,
}

/// A policy: settings for every queue or exchange whose name matches.
#[derive(Clone, PartialEq, Debug)]
pub struct PolicyDef {
    /// Where.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// A regular expression over names.
    pub pattern: String,
    /// What it is for.
    pub apply_to: ApplyTo,
    /// Of several that match, the one with the highest counts, and it alone.
    pub priority: i64,
    /// The settings, such as `message-ttl`.
    pub definition: Table,
}

/// What a policy is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyTo {
    /// `all`
    All,
    /// `queues`
    Queues,
    /// `exchanges`
    Exchanges,
    /// `classic_queues`
    ClassicQueues,
    /// `quorum_queues`
    QuorumQueues,
    /// `streams`
    Streams,
}

/// What a binding leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DestinationType {
    /// `queue`
    Queue,
    /// `exchange`
    Exchange,
}
