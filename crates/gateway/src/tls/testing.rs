//! Certificates for tests, valid for a hundred years.

use super::{Identity, KeyPair};

pub(crate) const EC: KeyPair<'_> = KeyPair {
    cert: include_str!("../../tests/fixtures/ec.cert.pem"),
    key: include_str!("../../tests/fixtures/ec.key.pem"),
};
pub(crate) const RSA: KeyPair<'_> = KeyPair {
    cert: include_str!("../../tests/fixtures/rsa.cert.pem"),
    key: include_str!("../../tests/fixtures/rsa.key.pem"),
};
pub(crate) const CA: &str = include_str!("../../tests/fixtures/ca.pem");

pub(crate) fn identity() -> Identity {
    Identity::of_pem(EC, None).unwrap()
}
pub(crate) const EC_SERIAL: &str = "66FAB93431E9DDCEFA64920E2F7531FD57C13C1E";
