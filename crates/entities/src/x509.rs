//! What the rules ask of certificates and private keys: which public key, until when, whether a CA. Nothing is verified here,
//! TLS does that.
//!
//! PEM and X.509 are read by libraries. Of private keys only what tells their public half is read: PKCS #1 (RFC 8017), PKCS #8
//! (RFC 5958) and SEC 1 (RFC 5915), each a sequence whose first elements say it.

use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use x509_cert::der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use x509_cert::der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::spki::AlgorithmIdentifierRef;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyType {
    Rsa,
    Ec,
    Ed25519,
    Other,
}

impl KeyType {
    fn of_oid(oid: ObjectIdentifier) -> Self {
        match oid {
            RSA => Self::Rsa,
            EC => Self::Ec,
            ED25519 => Self::Ed25519,
            _ => Self::Other,
        }
    }
}

/// The first certificate of a chain.
#[derive(Debug)]
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    key_type: KeyType,
    /// For RSA modulus and exponent, for others the public key as it is.
    public: Vec<u8>,
    not_after: i64,
    is_ca: bool,
}

impl Certificate {
    /// Reads the first certificate of a text.
    pub(crate) fn of_pem(text: &str) -> Result<Self, &'static str> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
            PemError::NoItemsFound => "no PEM certificate found",
            _ => "its PEM is not base64",
        })?;
        Self::of_der(der).ok_or("its DER cannot be read")
    }

    fn of_der(der: CertificateDer<'static>) -> Option<Self> {
        let parsed = x509_cert::Certificate::from_der(&der).ok()?;
        let certificate = parsed.tbs_certificate();
        let key = certificate.subject_public_key_info();
        let key_type = KeyType::of_oid(key.algorithm.oid);
        let bits = key.subject_public_key.as_bytes()?;
        let public = match key_type {
            KeyType::Rsa => rsa_public(&mut within(bits)?)?,
            _ => bits.to_vec(),
        };
        let constraints = certificate.get_extension::<BasicConstraints>();
        let is_ca = matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))));
        let not_after = i64::try_from(certificate.validity().not_after.to_unix_duration().as_secs()).ok()?;
        Some(Self { der, key_type, public, not_after, is_ca })
    }

    /// Whether this is the certificate of a private key; also true if the key does not tell its public half.
    pub(crate) fn matches(&self, key: &PrivateKey) -> bool {
        self.key_type == key.key_type && key.public.as_ref().is_none_or(|public| *public == self.public)
    }

    /// The kind of its key.
    pub(crate) const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The last second it is valid in, since 1970.
    pub(crate) const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether it may sign certificates.
    pub(crate) const fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// SHA-256 of the certificate, in hexadecimal.
    pub(crate) fn digest(&self) -> String {
        Sha256::digest(&*self.der).iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A private key, as far as it says which public key it belongs to.
#[derive(Debug)]
pub(crate) struct PrivateKey {
    key_type: KeyType,
    public: Option<Vec<u8>>,
}

impl PrivateKey {
    /// Reads the first private key of a text.
    pub(crate) fn of_pem(text: &str) -> Result<Self, &'static str> {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
            PemError::NoItemsFound if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") => "it is encrypted",
            PemError::NoItemsFound => "no PEM private key found",
            _ => "its PEM is not base64",
        })?;
        let key = match &key {
            PrivateKeyDer::Pkcs1(der) => Self::of_rsa(der.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(der) => Self::of_ec(der.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(der) => Self::of_pkcs8(der.secret_pkcs8_der()),
            _ => None,
        };
        key.ok_or("its DER cannot be read")
    }

    fn of_pkcs8(der: &[u8]) -> Option<Self> {
        let mut info = within(der)?;
        let _version: UintRef<'_> = info.decode().ok()?;
        let algorithm: AlgorithmIdentifierRef<'_> = info.decode().ok()?;
        let key = <&OctetStringRef>::decode(&mut info).ok()?.as_bytes();
        match KeyType::of_oid(algorithm.oid) {
            KeyType::Rsa => Self::of_rsa(key),
            KeyType::Ec => Self::of_ec(key),
            key_type => Some(Self { key_type, public: None }),
        }
    }

    fn of_rsa(der: &[u8]) -> Option<Self> {
        let mut key = within(der)?;
        let _version: UintRef<'_> = key.decode().ok()?;
        Some(Self { key_type: KeyType::Rsa, public: Some(rsa_public(&mut key)?) })
    }

    fn of_ec(der: &[u8]) -> Option<Self> {
        let mut key = within(der)?;
        let _version: UintRef<'_> = key.decode().ok()?;
        let _secret = <&OctetStringRef>::decode(&mut key).ok()?;
        let mut public = None;
        // Its curve may be left out, and so may the public key.
        while !key.is_finished() {
            let part: AnyRef<'_> = key.decode().ok()?;
            if part.tag().is_context_specific() && part.tag().number().value() == 1 {
                public = Some(BitStringRef::from_der(part.value()).ok()?.as_bytes()?.to_vec());
            }
        }
        Some(Self { key_type: KeyType::Ec, public })
    }
}

/// What is in a sequence.
fn within(der: &[u8]) -> Option<SliceReader<'_>> {
    let sequence = AnyRef::from_der(der).ok().filter(|found| found.tag() == Tag::Sequence)?;
    SliceReader::new(sequence.value()).ok()
}

/// Modulus and exponent, one after the other.
fn rsa_public(numbers: &mut SliceReader<'_>) -> Option<Vec<u8>> {
    let modulus: UintRef<'_> = numbers.decode().ok()?;
    let exponent: UintRef<'_> = numbers.decode().ok()?;
    Some([modulus.as_bytes(), exponent.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CA, CERT_EC, CERT_RSA, KEY_EC, KEY_RSA};

    #[test]
    fn certificates_know_their_keys() {
        let cert = |text| Certificate::of_pem(text).unwrap();
        let key = |text| PrivateKey::of_pem(text).unwrap();
        assert!(cert(CERT_EC).matches(&key(KEY_EC)) && cert(CERT_RSA).matches(&key(KEY_RSA)));
        assert!(!cert(CERT_EC).matches(&key(KEY_RSA)) && !cert(CERT_RSA).matches(&key(KEY_EC)));
        assert_eq!((cert(CERT_RSA).key_type(), cert(CERT_EC).key_type()), (KeyType::Rsa, KeyType::Ec));
        assert!(!cert(CA).matches(&key(KEY_EC)), "another key of the same kind");
    }

    #[test]
    fn a_ca_says_so_and_when_it_ends() {
        let ca = Certificate::of_pem(CA).unwrap();
        assert!(ca.is_ca());
        assert_eq!(ca.digest(), crate::testing::CA_DIGEST);
        assert_eq!(ca.not_after(), crate::testing::CA_NOT_AFTER);
        assert!(!Certificate::of_pem(CERT_EC).unwrap().is_ca());
    }

    #[test]
    fn damage_is_an_error() {
        for text in ["", "x", "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----"] {
            assert!(Certificate::of_pem(text).is_err() && PrivateKey::of_pem(text).is_err());
        }
        let der = CertificateDer::from_pem_slice(CERT_RSA.as_bytes()).unwrap();
        for len in 0..der.len() {
            assert!(Certificate::of_der(der[..len].to_vec().into()).is_none(), "{len}");
        }
        let encrypted = KEY_EC.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(PrivateKey::of_pem(&encrypted).err(), Some("it is encrypted"));
    }
}
