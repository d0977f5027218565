//! A certificate with its private key, ready for handshakes; perhaps with a second pair whose key is of another kind.

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm, SignatureScheme};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// Suites of TLS 1.2 that a key for ECDSA can serve. Those of TLS 1.3 leave the kind of key open.
const WITH_ECDSA: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];
const OF_TLS_1_3: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// A certificate chain and the private key of its first certificate, in PEM.
#[derive(Clone, Copy)]
pub struct KeyPair<'p> {
    /// The chain, the certificate itself first.
    pub cert: &'p str,
    /// The key: PKCS #1, PKCS #8 or SEC 1.
    pub key: &'p str,
}

/// Who we are: what is shown to clients at a listener, or to an upstream that asks.
///
/// Two are equal if they are made of the same texts.
pub struct Identity {
    /// One or two, the cheaper to sign with first.
    pairs: Vec<Arc<CertifiedKey>>,
    /// Of all texts it was made of.
    digest: [u8; 32],
}

/// Texts that are no certificate with its key.
#[derive(Debug)]
pub struct IdentityError {
    /// Whether it is about the key and not the certificate.
    pub is_of_key: bool,
    /// Whether it is about the second pair.
    pub is_of_alternative: bool,
    /// What is wrong, without any of the texts.
    pub reason: String,
}

impl Identity {
    /// Reads a pair, and a second one if there is one.
    ///
    /// # Errors
    /// What cannot be used, and in which of the texts.
    pub fn of_pem(pair: KeyPair<'_>, alternative: Option<KeyPair<'_>>) -> Result<Self, IdentityError> {
        let mut digest = Sha256::new();
        let mut pairs = Vec::with_capacity(2);
        for (at, pair) in [Some(pair), alternative].into_iter().flatten().enumerate() {
            pairs
                .push(Arc::new(certified(pair).map_err(|error| IdentityError { is_of_alternative: at > 0, ..error })?));
            for text in [pair.cert, pair.key] {
                digest.update((text.len() as u64).to_be_bytes());
                digest.update(text);
            }
        }
        pairs.sort_by_key(|pair: &Arc<CertifiedKey>| pair.key.algorithm() == SignatureAlgorithm::RSA);
        Ok(Self { pairs, digest: digest.finalize().into() })
    }

    /// The pair for a client that offers these signatures and suites. If none fits it is the last, and the handshake fails
    /// with the alert that says so.
    #[must_use]
    pub fn for_client(&self, schemes: &[SignatureScheme], suites: &[CipherSuite]) -> Option<&Arc<CertifiedKey>> {
        let fits = |pair: &&Arc<CertifiedKey>| {
            let suite_fits = pair.key.algorithm() != SignatureAlgorithm::ECDSA
                || suites.iter().any(|suite| OF_TLS_1_3.contains(suite) || WITH_ECDSA.contains(suite));
            suite_fits && pair.key.choose_scheme(schemes).is_some()
        };
        self.pairs.iter().find(fits).or(self.pairs.last())
    }
}

fn certified(pair: KeyPair<'_>) -> Result<CertifiedKey, IdentityError> {
    let error = |is_of_key, reason: &dyn fmt::Display| IdentityError {
        is_of_key,
        is_of_alternative: false,
        reason: reason.to_string(),
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.cert.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|problem| error(false, &problem))?;
    if chain.is_empty() {
        return Err(error(false, &"no PEM certificate found"));
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|problem| error(true, &problem))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|problem| error(true, &problem))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(error(true, &"certificate does not match key")),
        Err(problem) => Err(error(false, &problem)),
    }
}

/// As a client: the first pair whose signatures the server takes.
impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.pairs.iter().find(|pair| pair.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.pairs.is_empty()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Identity {}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} pairs)", self.pairs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{EC, RSA};

    const SCHEMES: [SignatureScheme; 2] = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];

    fn shown(identity: &Identity, schemes: &[SignatureScheme], suites: &[CipherSuite]) -> SignatureAlgorithm {
        identity.for_client(schemes, suites).unwrap().key.algorithm()
    }

    #[test]
    fn of_two_pairs_the_client_gets_one_it_can_use_the_cheaper_if_both_do() {
        for (first, second) in [(EC, RSA), (RSA, EC)] {
            let both = Identity::of_pem(first, Some(second)).unwrap();
            let tls_1_3 = [CipherSuite::TLS13_AES_256_GCM_SHA384];
            assert_eq!(shown(&both, &SCHEMES, &tls_1_3), SignatureAlgorithm::ECDSA);
            assert_eq!(shown(&both, &SCHEMES, &WITH_ECDSA[..1]), SignatureAlgorithm::ECDSA);
            assert_eq!(shown(&both, &SCHEMES[..1], &tls_1_3), SignatureAlgorithm::RSA);
            let only_rsa = [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
            assert_eq!(shown(&both, &SCHEMES, &only_rsa), SignatureAlgorithm::RSA);
        }
        let one = Identity::of_pem(RSA, None).unwrap();
        assert_eq!(shown(&one, &SCHEMES[1..], &[]), SignatureAlgorithm::RSA, "there is no other");
    }

    #[test]
    fn identities_are_their_texts() {
        let of = |first, second| Identity::of_pem(first, second).unwrap();
        assert_eq!(of(EC, None), of(EC, None));
        assert_ne!(of(EC, None), of(RSA, None));
        assert_ne!(of(EC, None), of(EC, Some(RSA)));
        assert_eq!(format!("{:?}", of(EC, Some(RSA))), "Identity(2 pairs)");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_text_but_without_it() {
        let mixed = KeyPair { cert: EC.cert, key: RSA.key };
        let wrong = |pair, alternative| {
            let error = Identity::of_pem(pair, alternative).unwrap_err();
            (error.is_of_key, error.is_of_alternative, error.reason)
        };
        assert_eq!(wrong(mixed, None), (true, false, "certificate does not match key".to_owned()));
        assert_eq!(wrong(EC, Some(mixed)), (true, true, "certificate does not match key".to_owned()));
        let (is_of_key, _, reason) = wrong(KeyPair { cert: "x", key: EC.key }, None);
        assert!(!is_of_key && reason == "no PEM certificate found", "{reason}");
        assert!(wrong(KeyPair { cert: EC.cert, key: "x" }, None).0);
    }
}
