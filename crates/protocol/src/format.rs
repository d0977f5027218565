//! How the header of a message is read and written where someone must look into it.
//!
//! Each protocol gives one [`Format`]; the composition root collects them. A message that stays in its protocol is
//! never decoded.

use model::{Message, Origin, Properties};
use std::fmt;

/// A header that cannot be read. Connections check headers when a message is published, so this means a bug or a
/// damaged record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message's header is malformed")
    }
}

impl std::error::Error for Malformed {}

/// Reads and writes headers of one origin.
pub trait Format: Send + Sync + 'static {
    /// The origin it is for.
    fn origin(&self) -> Origin;

    /// Reads a header.
    ///
    /// # Errors
    /// [`Malformed`].
    fn decode(&self, header: &[u8]) -> Result<Properties, Malformed>;

    /// Writes a header behind what is in `out`.
    fn encode(&self, properties: &Properties, out: &mut Vec<u8>);
}

/// The formats the process knows.
#[derive(Default)]
pub struct Formats {
    formats: Vec<Box<dyn Format>>,
}

impl fmt::Debug for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.formats.iter().map(|f| f.origin())).finish()
    }
}

impl Formats {
    /// These formats, at most one for each origin.
    #[must_use]
    pub fn new(formats: Vec<Box<dyn Format>>) -> Self {
        Self { formats }
    }

    /// The format of an origin.
    #[must_use]
    pub fn of(&self, origin: Origin) -> Option<&dyn Format> {
        self.formats.iter().find(|f| f.origin() == origin).map(AsRef::as_ref)
    }

    /// The properties of a message.
    ///
    /// # Errors
    /// [`Malformed`], also if the origin is unknown to this process.
    pub fn properties(&self, message: &Message) -> Result<Properties, Malformed> {
        self.of(message.envelope.origin).ok_or(Malformed)?.decode(message.header())
    }
}
