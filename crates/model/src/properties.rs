//! The properties of a message in a form every protocol can read and write.
//!
//! A message travels with the bytes of the protocol it came by; this struct exists only where a header is looked
//! at or changed (headers exchanges, dead-lettering, the bridge, another protocol's consumer). It is never built
//! on the path of a message that stays in its protocol.

use crate::value::Table;

/// Basic properties (AMQP 0-9-1 §1.8), the widest common set.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Properties {
    /// MIME type.
    pub content_type: Option<String>,
    /// MIME encoding.
    pub content_encoding: Option<String>,
    /// Application headers, in order.
    pub headers: Option<Table>,
    /// 2 is persistent, anything else transient.
    pub delivery_mode: Option<u8>,
    /// 0 to 255; higher first in a priority queue.
    pub priority: Option<u8>,
    /// Which request this answers.
    pub correlation_id: Option<String>,
    /// Where to send the answer.
    pub reply_to: Option<String>,
    /// Time to live in milliseconds, in decimal.
    pub expiration: Option<String>,
    /// The application's id of the message.
    pub message_id: Option<String>,
    /// Seconds since the epoch.
    pub timestamp: Option<u64>,
    /// The application's type of the message.
    pub kind: Option<String>,
    /// The user who published, checked by the broker.
    pub user_id: Option<String>,
    /// The application that published.
    pub app_id: Option<String>,
    /// Unused by clients; kept as it came.
    pub cluster_id: Option<String>,
}

impl Properties {
    /// The headers, made if there are none.
    pub fn headers_mut(&mut self) -> &mut Table {
        self.headers.get_or_insert_with(Table::new)
    }

    /// Whether the message asks to survive a restart.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode == Some(2)
    }
}
