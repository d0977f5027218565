//! What a queue does that can change while it lives: one immutable value, swapped whole.

/// See the module. Each field is named after the argument it can be declared with.
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
}
