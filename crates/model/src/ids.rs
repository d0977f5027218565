//! Newtypes for every identifier that crosses a function.
//!
//! Invariants: identifiers are never reused within their scope (named at each type); arithmetic happens only
//! through the named methods.

use std::fmt;
use std::num::NonZeroU64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A queue of the engine. Unique for the life of a data directory: never reused, not even after deletion.
    QueueId(u64)
);
id!(
    /// The place of an entry in its queue. Assigned on enqueue, strictly increasing, never reused in that queue.
    Seq(u64)
);
id!(
    /// Who holds delivered entries until they are settled: one channel of one connection, or the broker itself.
    /// Unique for the life of the process.
    HolderId(u64)
);
id!(
    /// A client connection of any protocol. Unique for the life of the process.
    ConnectionId(u64)
);
id!(
    /// A channel of a connection (AMQP 0-9-1 §4.2.3). Chosen by the client; 0 is the connection itself.
    ChannelId(u16)
);
id!(
    /// A consumer of a connection, chosen by the connection that owns it. Unique in that connection.
    ConsumerId(u32)
);
id!(
    /// A delivery of a channel, as AMQP counts them: from 1, per channel.
    DeliveryTag(NonZeroU64)
);
id!(
    /// A published message of a channel in confirm mode: from 1, per channel.
    PublishSeq(u64)
);

impl Seq {
    /// The seq that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl HolderId {
    /// The broker itself, for entries it takes out to dead-letter them.
    pub const BROKER: Self = Self(0);
    /// Nobody: of entries whose message is damaged on the disk.
    pub const QUARANTINE: Self = Self(u64::MAX);
}

impl ChannelId {
    /// The connection itself.
    pub const CONNECTION: Self = Self(0);
}
