//! The vocabulary every layer shares: identifiers, time, messages, values, principals and limits.
//!
//! Invariants: nothing here performs IO, reads a clock, draws random numbers or waits. Every number that
//! crosses a function of another crate is a newtype of this one.

pub mod arena;
pub mod definitions;
pub mod field_lines;
pub mod ids;
pub mod large_body;
pub mod limits;
pub mod message;
pub mod name_source;
pub mod near;
pub mod network;
pub mod principal;
pub mod properties;
pub mod quotas;
pub mod time;
pub mod uri;
pub mod value;

pub use arena::{MessageArena, MessageDraft};
pub use field_lines::FieldLines;
pub use ids::{ChannelId, ConnectionId, ConsumerId, DeliveryTag, HolderId, PublishSeq, QueueId, Seq};
pub use large_body::LargeBody;
pub use message::{Envelope, Message, Origin};
pub use name_source::NameSource;
pub use network::{Network, NetworkError};
pub use principal::{Principal, Secret};
pub use properties::Properties;
pub use time::{Mono, Now, Wall};
pub use value::{Table, Value};
