//! What a queue does that can change while it lives: one immutable value, merged from its arguments and the policies
//! that match it, swapped whole.
//!
//! As in RabbitMQ an argument beats a policy; of numbers that limit, the smallest counts, whoever gave it.

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
    /// `x-dispatch`
    pub(crate) dispatch: Option<Dispatch>,
}

/// Which consumer of those with credit gets the next entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dispatch {
    /// `priority`: those of the highest `x-priority`, in turn. What RabbitMQ does.
    #[default]
    Priority,
    /// `round-robin`: all in turn, whatever their priority.
    RoundRobin,
}

impl Dispatch {
    pub(crate) const WORDS: [(&str, Self); 2] = [("priority", Self::Priority), ("round-robin", Self::RoundRobin)];

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, dispatch)| *dispatch)
    }
}

fn smallest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
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
            dispatch: self.dispatch.or(policy.dispatch),
        }
    }

    /// Itself to be shared; nearly every queue shares the one that says nothing.
    pub(crate) fn shared(self) -> Arc<Self> {
        static NOTHING: LazyLock<Arc<Behaviour>> = LazyLock::new(Arc::default);
        if self == **NOTHING { NOTHING.clone() } else { Arc::new(self) }
    }
}
