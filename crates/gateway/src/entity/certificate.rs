//! Certificates, the server names they are for, and trust anchors.

use super::{CaCertificateId, CertificateId, SniId};
use crate::tls::Identity;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;

/// A certificate with its private key: shown to clients that ask for one of its server names, or to upstreams.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Identifier.
    pub id: CertificateId,
    /// Kong's `cert`, `key`, `cert_alt` and `key_alt`, ready for use.
    pub identity: Arc<Identity>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

/// A server name of TLS, and the certificate for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sni {
    /// Identifier.
    pub id: SniId,
    /// Unique: a host name, one with `*` as its first or last label, or `*`.
    pub name: String,
    /// What is shown for it.
    pub certificate: CertificateId,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

/// A trust anchor for TLS to upstreams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaCertificate {
    /// Identifier.
    pub id: CaCertificateId,
    /// The certificate.
    pub cert: CertificateDer<'static>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}
