//! Certificates.

use super::CaCertificateId;

/// A trust anchor for TLS to upstreams.
#[derive(Clone, Debug)]
pub struct CaCertificate {
    /// Identifier.
    pub id: CaCertificateId,
    /// One certificate in PEM.
    pub cert: String,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}
