//! What the rules ask of certificates and private keys: which public key, until when, whether a CA. Enough of DER (X.690),
//! X.509 (RFC 5280), PKCS #1, PKCS #8 (RFC 5958) and SEC 1 to find it; nothing is verified here, TLS does that.
//!
//! Every read is bounded by its parent, so a text of any content gives an error and never more work than its length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

/// Kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyType {
    Rsa,
    Ec,
    Ed25519,
    Other,
}

impl KeyType {
    fn of_oid(oid: &[u8]) -> Self {
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
    der: Vec<u8>,
    key_type: KeyType,
    /// For RSA modulus and exponent, for others the public key as it is.
    public: Vec<u8>,
    not_after: i64,
    is_ca: bool,
}

impl Certificate {
    /// Reads the first certificate of a text.
    pub(crate) fn of_pem(text: &str) -> Result<Self, &'static str> {
        let (_, der) = blocks(text).find(|(label, _)| *label == "CERTIFICATE").ok_or("no PEM certificate found")?;
        let der = der.ok_or("its PEM is not base64")?;
        Self::of_der(&der).ok_or("its DER cannot be read").map(|found| Self { der: der.clone(), ..found })
    }

    fn of_der(der: &[u8]) -> Option<Self> {
        let mut outer = Reader(der);
        let mut certificate = Reader(outer.expect(SEQUENCE)?);
        let mut tbs = Reader(certificate.expect(SEQUENCE)?);
        tbs.skip_if(0xa0)?;
        tbs.expect(INTEGER)?;
        tbs.expect(SEQUENCE)?; // signature algorithm
        tbs.expect(SEQUENCE)?; // issuer
        let mut validity = Reader(tbs.expect(SEQUENCE)?);
        validity.any()?;
        let (tag, not_after) = validity.any()?;
        let not_after = time(tag, not_after)?;
        tbs.expect(SEQUENCE)?; // subject
        let mut key = Reader(tbs.expect(SEQUENCE)?);
        let key_type = KeyType::of_oid(Reader(key.expect(SEQUENCE)?).expect(OID)?);
        let bits = key.expect(BIT_STRING)?.split_first()?.1;
        let public = if key_type == KeyType::Rsa {
            rsa_public(&mut Reader(Reader(bits).expect(SEQUENCE)?))?
        } else {
            bits.to_vec()
        };
        tbs.skip_if(0xa1)?;
        tbs.skip_if(0xa2)?;
        let is_ca = match tbs.any() {
            Some((0xa3, extensions)) => has_ca_constraint(extensions).unwrap_or(false),
            _ => false,
        };
        Some(Self { der: Vec::new(), key_type, public, not_after, is_ca })
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
        Sha256::digest(&self.der).iter().fold(String::with_capacity(64), |mut text, byte| {
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
        let mut keys = blocks(text).filter(|(label, _)| label.ends_with("PRIVATE KEY"));
        let (label, der) = keys.next().ok_or("no PEM private key found")?;
        if label.starts_with("ENCRYPTED") {
            return Err("it is encrypted");
        }
        let der = der.ok_or("its PEM is not base64")?;
        let key = match label {
            "PRIVATE KEY" => Self::of_pkcs8(&der),
            "RSA PRIVATE KEY" => Self::of_rsa(&der),
            "EC PRIVATE KEY" => Self::of_ec(&der),
            _ => None,
        };
        key.ok_or("its DER cannot be read")
    }

    fn of_pkcs8(der: &[u8]) -> Option<Self> {
        let mut info = Reader(Reader(der).expect(SEQUENCE)?);
        info.expect(INTEGER)?;
        let key_type = KeyType::of_oid(Reader(info.expect(SEQUENCE)?).expect(OID)?);
        let key = info.expect(OCTET_STRING)?;
        match key_type {
            KeyType::Rsa => Self::of_rsa(key),
            KeyType::Ec => Self::of_ec(key),
            _ => Some(Self { key_type, public: None }),
        }
    }

    fn of_rsa(der: &[u8]) -> Option<Self> {
        let mut key = Reader(Reader(der).expect(SEQUENCE)?);
        key.expect(INTEGER)?;
        Some(Self { key_type: KeyType::Rsa, public: Some(rsa_public(&mut key)?) })
    }

    fn of_ec(der: &[u8]) -> Option<Self> {
        let mut key = Reader(Reader(der).expect(SEQUENCE)?);
        key.expect(INTEGER)?;
        key.expect(OCTET_STRING)?;
        key.skip_if(0xa0)?;
        let public = match key.any() {
            Some((0xa1, inner)) => Some(Reader(inner).expect(BIT_STRING)?.split_first()?.1.to_vec()),
            _ => None,
        };
        Some(Self { key_type: KeyType::Ec, public })
    }
}

/// Modulus and exponent, one after the other.
fn rsa_public(numbers: &mut Reader<'_>) -> Option<Vec<u8>> {
    let strip = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let modulus = strip(numbers.expect(INTEGER)?);
    let exponent = strip(numbers.expect(INTEGER)?);
    Some([modulus, exponent].concat())
}

fn has_ca_constraint(extensions: &[u8]) -> Option<bool> {
    let mut list = Reader(Reader(extensions).expect(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = list.any() {
        let mut extension = Reader(extension);
        if extension.expect(OID)? != BASIC_CONSTRAINTS {
            continue;
        }
        extension.skip_if(BOOLEAN)?;
        let constraints = Reader(extension.expect(OCTET_STRING)?).expect(SEQUENCE)?;
        return Some(matches!(Reader(constraints).any(), Some((BOOLEAN, [value])) if *value != 0));
    }
    None
}

/// Seconds since 1970 of a `UTCTime` or `GeneralizedTime` in Zulu time.
fn time(tag: u8, content: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2).and_then(|part| part.parse::<i64>().ok());
    let (month, day) = (part(0)?, part(2)?);
    let seconds = part(4)? * 3_600 + part(6)? * 60 + part(8)?;
    // Days since 1970 of a date of the Gregorian calendar, in years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + seconds)
}

/// The blocks of a PEM text: label and content, `None` if that is not base64.
fn blocks(text: &str) -> impl Iterator<Item = (&str, Option<Vec<u8>>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once("-----BEGIN ")?;
        let (label, after) = after.split_once("-----")?;
        let (body, after) = after.split_once("-----END ")?;
        rest = after;
        // Old keys have headers before the content.
        let body: String = body.lines().filter(|line| !line.contains(':')).flat_map(str::split_whitespace).collect();
        Some((label, STANDARD.decode(body).ok()))
    })
}

/// Elements of DER, one after the other.
struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    /// The next element: tag and content.
    fn any(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(count)?;
            len = bytes.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(len)?;
        self.0 = after;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Goes past the next element if it has this tag.
    fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.any()?;
        }
        Some(())
    }
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
    fn times_are_of_the_gregorian_calendar() {
        assert_eq!(time(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(GENERALIZED_TIME, b"20240229120000Z"), Some(1_709_208_000));
        assert_eq!(time(UTC_TIME, b"7001"), None);
    }

    #[test]
    fn damage_is_an_error() {
        for text in ["", "x", "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----"] {
            assert!(Certificate::of_pem(text).is_err() && PrivateKey::of_pem(text).is_err());
        }
        let der = blocks(CERT_RSA).next().and_then(|(_, der)| der).unwrap();
        for len in 0..der.len() {
            let _ = Certificate::of_der(&der[..len]);
        }
    }
}
