//! The tool's one error: a sentence for the person who runs it.
//!
//! Nothing in this tool reacts to *which* error it got, it only stops and says why, so there are no variants.

use std::fmt::{self, Display};

/// Why the benchmark, or one run of it, could not be completed.
#[derive(Debug)]
pub(crate) struct Error(String);

/// The tool's result.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that says `message`.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Puts what was being done in front of what went wrong.
pub(crate) trait Context<T> {
    /// Prefixes the error with `doing`.
    fn context(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| Error(format!("{doing}: {error}")))
    }
}
