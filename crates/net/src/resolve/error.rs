//! Why a name has no addresses.

use std::fmt;

/// A name could not be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResolveError {
    /// No server knows the name, or it has no addresses.
    NotFound,
    /// It cannot be a name.
    InvalidName,
    /// The servers failed, the last with this code (RFC 1035 §4.1.1: 2 is a failure, 5 a refusal).
    ServerFailure(u8),
    /// A canonical name leads to itself, or too far.
    CnameLoop,
    /// No server answered in time.
    Timeout,
    /// No server could be reached.
    Unreachable(std::io::ErrorKind),
    /// The resolver has stopped.
    Stopped,
}

impl ResolveError {
    /// Whether this says what is, and not only that asking failed.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::NotFound | Self::InvalidName)
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("the name has no address"),
            Self::InvalidName => f.write_str("not a host name"),
            Self::ServerFailure(2) => f.write_str("the name server failed"),
            Self::ServerFailure(5) => f.write_str("the name server refused"),
            Self::ServerFailure(code) => write!(f, "the name server answered with code {code}"),
            Self::CnameLoop => f.write_str("its canonical name leads to itself"),
            Self::Timeout => f.write_str("no name server answered in time"),
            Self::Unreachable(kind) => write!(f, "no name server can be reached: {kind}"),
            Self::Stopped => f.write_str("the resolver has stopped"),
        }
    }
}

impl std::error::Error for ResolveError {}
