//! What a queue does that can change while it lives: one immutable value, merged from its arguments and the policies
//! that match it, swapped whole.
//!
//! As in RabbitMQ an argument beats a policy; of numbers that limit, the smallest counts, whoever gave it.

use crate::kind::QueueKind;
use engine::{Grouping, Limits, Overflow};
use std::sync::{Arc, LazyLock};

/// See the module. Each field is named after the argument it can be declared with; without the `x-` it is the
/// policy's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// `x-message-ttl`
    pub(crate) ttl_ms: Option<u64>,
    /// `x-expires`
    pub(crate) expires_ms: Option<u64>,
    /// `x-dead-letter-exchange`
    pub(crate) dead_letter_exchange: Option<String>,
    /// `x-dead-letter-routing-key`
    pub(crate) dead_letter_routing_key: Option<String>,
    /// `x-max-length`
    pub(crate) length_max: Option<u64>,
    /// `x-max-length-bytes`
    pub(crate) length_bytes_max: Option<u64>,
    /// `x-overflow`
    pub(crate) overflow: Option<Overflow>,
    /// `x-delivery-limit`
    pub(crate) delivery_limit: Option<u32>,
    /// `x-dispatch`
    pub(crate) dispatch: Option<Dispatch>,
}

/// Which entry is the next, and which consumer of those with credit gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dispatch {
    /// `priority`: those of the highest `x-priority`, in turn. What RabbitMQ does.
    #[default]
    Priority,
    /// `round-robin`: all in turn, whatever their priority.
    RoundRobin,
    /// `fair-by-key`: as `priority`, and the messages of each routing key take turns with those of the others.
    FairByKey,
    /// `fair-by-producer`: as `priority`, and the messages of each connection take turns with those of the others; what
    /// comes from within, by an HTTP route say, takes turns by user.
    FairByProducer,
}

impl Dispatch {
    pub(crate) const WORDS: [(&str, Self); 4] = [
        ("priority", Self::Priority),
        ("round-robin", Self::RoundRobin),
        ("fair-by-key", Self::FairByKey),
        ("fair-by-producer", Self::FairByProducer),
    ];

    /// What takes turns.
    pub(crate) fn grouping(self) -> Option<Grouping> {
        match self {
            Self::Priority | Self::RoundRobin => None,
            Self::FairByKey => Some(Grouping::RoutingKey),
            Self::FairByProducer => Some(Grouping::Producer),
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, dispatch)| *dispatch)
    }
}

/// The overflow of a queue with this word.
pub(crate) fn overflow_from_word(word: &str) -> Option<Overflow> {
    match word {
        "drop-head" => Some(Overflow::DropHead),
        "reject-publish" => Some(Overflow::RejectPublish),
        "reject-publish-dlx" => Some(Overflow::RejectPublishDeadLetter),
        _ => None,
    }
}

fn smallest<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}

impl Behaviour {
    /// Adds what a policy says.
    pub(crate) fn under(self, policy: &Self) -> Self {
        Self {
            ttl_ms: smallest(self.ttl_ms, policy.ttl_ms),
            expires_ms: smallest(self.expires_ms, policy.expires_ms),
            dead_letter_exchange: self.dead_letter_exchange.or_else(|| policy.dead_letter_exchange.clone()),
            dead_letter_routing_key: self.dead_letter_routing_key.or_else(|| policy.dead_letter_routing_key.clone()),
            length_max: smallest(self.length_max, policy.length_max),
            length_bytes_max: smallest(self.length_bytes_max, policy.length_bytes_max),
            overflow: self.overflow.or(policy.overflow),
            delivery_limit: smallest(self.delivery_limit, policy.delivery_limit),
            dispatch: self.dispatch.or(policy.dispatch),
        }
    }

    /// Whether the queue may be too long.
    pub(crate) fn limits_length(&self) -> bool {
        self.length_max.is_some() || self.length_bytes_max.is_some()
    }

    /// Whether a publish that finds it full pushes something out.
    pub(crate) fn drops_head(&self) -> bool {
        self.limits_length() && self.overflow.unwrap_or_default() == Overflow::DropHead
    }

    /// Whether it may refuse a publish.
    pub(crate) fn refuses_publishes(&self) -> bool {
        self.limits_length() && self.overflow.unwrap_or_default() != Overflow::DropHead
    }

    /// What the engine is to heed of it. It does not keep that, so it is told at every start and change.
    pub(crate) fn limits(&self, kind: QueueKind) -> Limits {
        Limits {
            messages: self.length_max,
            bytes: self.length_bytes_max,
            overflow: self.overflow.unwrap_or_default(),
            attempts: self.delivery_limit,
            counts_attempts: kind == QueueKind::Quorum || self.delivery_limit.is_some(),
            ttl_ms: self.ttl_ms,
            dead_letters: self.dead_letter_exchange.is_some(),
            fair: self.dispatch.and_then(Dispatch::grouping),
        }
    }

    /// Itself to be shared; nearly every queue shares the one that says nothing.
    pub(crate) fn shared(self) -> Arc<Self> {
        static NOTHING: LazyLock<Arc<Behaviour>> = LazyLock::new(Arc::default);
        if self == **NOTHING { NOTHING.clone() } else { Arc::new(self) }
    }
}
