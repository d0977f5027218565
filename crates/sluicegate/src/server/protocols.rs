//! The registry of protocols: one line each.
//!
//! A new protocol is a crate that implements [`protocol::Connection`] and a line here.

use config::{Listen, Listener};
use model::{NameSource, Now};
use protocol::Connection;
use std::sync::Arc;

/// A protocol of the broker.
#[derive(Clone)]
pub(crate) struct Protocol {
    /// Its name, for people.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) listeners: fn(&Listen) -> &[Listener],
    /// Makes a connection.
    pub(crate) connect: Connect,
}

type Connect = Arc<dyn Fn(NameSource, Now) -> Box<dyn Connection> + Send + Sync>;

/// What protocols need to know.
#[derive(Clone, Debug)]
pub(crate) struct ProtocolSettings {
    /// Bytes of a message body.
    pub(crate) message_bytes_max: usize,
}

/// All protocols.
pub(crate) fn registry(settings: &ProtocolSettings) -> Vec<Protocol> {
    vec![Protocol { name: "amqp", listeners: |listen| &listen.amqp, connect: amqp(settings) }]
}

fn amqp(settings: &ProtocolSettings) -> Connect {
    let settings =
        Arc::new(amqp::AmqpSettings { message_bytes_max: settings.message_bytes_max, ..amqp::AmqpSettings::default() });
    Arc::new(move |names, now| Box::new(amqp::Connection::new(Arc::clone(&settings), names, now)))
}
