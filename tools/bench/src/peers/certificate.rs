//! A certificate for all proxies alike: ECDSA P-256, self-signed, made by the `openssl` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{find_program, fresh_dir};
use crate::error::{Context, Error, Result};

/// The files of a certificate.
pub(crate) struct Certificate {
    /// The certificate.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Both in one file, as haproxy wants them.
    pub(crate) both: PathBuf,
}

/// Whether openssl is installed.
pub(crate) fn is_installed() -> bool {
    find_program("openssl").is_some()
}

impl Certificate {
    /// Makes one for `localhost` in `dir`.
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        fresh_dir(dir)?;
        let dir = dir.canonicalize()?;
        let made = Self { cert: dir.join("cert.pem"), key: dir.join("key.pem"), both: dir.join("both.pem") };
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .arg("-out")
            .arg(&made.cert)
            .arg("-keyout")
            .arg(&made.key)
            .output()
            .context("start openssl")?;
        if !output.status.success() {
            return Err(Error::new(format!("openssl: {}", String::from_utf8_lossy(&output.stderr))));
        }
        let both = [fs::read(&made.cert)?, fs::read(&made.key)?].concat();
        fs::write(&made.both, both).context("write the certificate with its key")?;
        Ok(made)
    }
}
