//! Certificates, server names and trust anchors: from PEM to what handshakes use.

use super::{Record, Refusal};
use crate::entity::{CaCertificate, CaCertificateId, Certificate, CertificateId, Sni, SniId};
use crate::tls::{Identity, KeyPair};
use entities::Store;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// `None` if its texts cannot be used, which is refused.
pub(super) fn certificate(record: &Record, _: &Store, refusals: &mut Vec<Refusal>) -> Option<Certificate> {
    let pair = |cert, key| Some(KeyPair { cert: record.text(cert)?, key: record.text(key)? });
    match Identity::of_pem(pair("cert", "key")?, pair("cert_alt", "key_alt")) {
        Ok(identity) => Some(Certificate {
            id: CertificateId(record.id),
            identity: Arc::new(identity),
            tags: record.strings("tags"),
        }),
        Err(error) => {
            let field = match (error.is_of_key, error.is_of_alternative) {
                (false, false) => "cert",
                (false, true) => "cert_alt",
                (true, false) => "key",
                (true, true) => "key_alt",
            };
            record.refuse(refusals, field, None, error.reason);
            None
        }
    }
}

pub(super) fn sni(record: &Record, _: &Store, _: &mut Vec<Refusal>) -> Option<Sni> {
    Some(Sni {
        id: SniId(record.id),
        name: record.string("name")?,
        certificate: CertificateId(record.reference("certificate")?),
        tags: record.strings("tags"),
    })
}

/// `None` if it cannot be trusted in the form it has, which is refused.
pub(super) fn ca_certificate(record: &Record, _: &Store, refusals: &mut Vec<Refusal>) -> Option<CaCertificate> {
    let parsed = CertificateDer::from_pem_slice(record.text("cert")?.as_bytes());
    let usable = parsed.map_err(|error| error.to_string()).and_then(|cert| {
        let added = RootCertStore::empty().add(cert.clone());
        added.map(|()| cert).map_err(|error| error.to_string())
    });
    match usable {
        Ok(cert) => Some(CaCertificate { id: CaCertificateId(record.id), cert, tags: record.strings("tags") }),
        Err(reason) => {
            record.refuse(refusals, "cert", None, reason);
            None
        }
    }
}
