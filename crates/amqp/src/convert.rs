//! How everybody else reads and writes the headers of messages that came by AMQP 0-9-1.

use crate::wire::properties;
use model::{Origin, Properties};
use protocol::{Format, Malformed};

/// The format of [`Origin::Amqp091`]: property flags and property list of a content header (§4.2.6.1).
///
/// Every field type survives a round trip by value (`L` comes back as `l`). Text that is not UTF-8 is read with
/// replacement characters; a property longer than 255 bytes is cut when it is written, as a short string must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amqp091Format;

impl Format for Amqp091Format {
    fn origin(&self) -> Origin {
        Origin::Amqp091
    }

    fn decode(&self, header: &[u8]) -> Result<Properties, Malformed> {
        properties::decode(header).map_err(|_| Malformed)
    }

    fn encode(&self, properties: &Properties, out: &mut Vec<u8>) {
        properties::encode(properties, out);
    }
}
