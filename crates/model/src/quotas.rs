//! Rate quotas as plain data: how many messages a second may be published and consumed, by whom and where.

/// A quota. Every one that matches counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaDef {
    /// What shares it.
    pub scope: QuotaScope,
    /// A regular expression over the names of the scope: users (for connections too), vhosts or queues. Each name that
    /// matches has a quota of its own.
    pub matches: String,
    /// Messages a second from publishers; none is no limit.
    pub publish: Option<u32>,
    /// Messages a second to consumers; none is no limit.
    pub consume: Option<u32>,
    /// Messages that may come at once after a pause; none is those of a second. Not 0.
    pub burst: Option<u32>,
}

/// What shares a quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuotaScope {
    /// `connection`: each connection by itself.
    Connection,
    /// `user`: all connections of a user.
    User,
    /// `vhost`: everything in a vhost.
    Vhost,
    /// `queue`: everything in a queue.
    Queue,
}

impl QuotaScope {
    /// Each with its word, as users write it.
    pub const WORDS: [(&'static str, Self); 4] =
        [("connection", Self::Connection), ("user", Self::User), ("vhost", Self::Vhost), ("queue", Self::Queue)];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::User => "user",
            Self::Vhost => "vhost",
            Self::Queue => "queue",
        }
    }
}
