//! Certificates as TLS uses them: parsed once, when a configuration is read, and looked up by name in a handshake.
//!
//! | file | holds |
//! |---|---|
//! | `identity` | a certificate with its private key, for both roles |
//! | `certificates` | which certificate is shown for which server name |
//! | `handshake` | what of a handshake is told to plugins and logs |
//!
//! Invariant: what is here can be used for handshakes; a key that does not belong to its certificate is an error when it is
//! read. Handshakes themselves are the listeners' and the upstream pool's.

mod certificates;
mod handshake;
mod identity;
#[cfg(test)]
pub(crate) mod testing;

pub use certificates::{CertificateTable, Certificates};
pub use handshake::handshake;
pub use identity::{Identity, IdentityError, KeyPair};
