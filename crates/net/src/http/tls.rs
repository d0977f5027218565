//! A listener's TLS: its certificate files, read at the start and on each reload, and the certificates of server names, which
//! the gateway's configuration has and changes. Errors name the file.
//!
//! Keys are parsed when they are read; a handshake looks its certificate up and signs with it. Any listener may have this,
//! whatever protocol it speaks.

use arc_swap::ArcSwap;
use gateway::tls::CertificateTable;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, RootCertStore, ServerConfig};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a listener's certificate lies, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities whose clients are let in; everybody if none.
    pub client_ca: Option<PathBuf>,
}

/// A file cannot be used.
#[derive(Debug)]
pub struct TlsFilesError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The TLS of a listener, made of its files and again of them when told to.
pub struct ServerTls {
    files: TlsFiles,
    alpn: Vec<Vec<u8>>,
    /// Shown to clients that ask for their names, instead of the file's certificate.
    names: Option<Arc<CertificateTable>>,
    /// Kept over reloads, so that sessions go on; not if clients have certificates, for a session is not asked for one
    /// again.
    tickets: Arc<dyn ProducesTickets>,
    current: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Offers `alpn` in this order (`h2`, `http/1.1`; none for other protocols). The certificate of `files` is shown to whom
    /// `names` has nothing for.
    ///
    /// # Errors
    /// [`TlsFilesError`], naming the file.
    pub fn load(
        files: &TlsFiles,
        alpn: &[&str],
        names: Option<Arc<CertificateTable>>,
    ) -> Result<Arc<Self>, TlsFilesError> {
        let tickets = new_tickets(files)?;
        let alpn: Vec<_> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let config = server_config(files, &alpn, names.as_ref(), &tickets)?;
        Ok(Arc::new(Self { files: files.clone(), alpn, names, tickets, current: ArcSwap::new(config) }))
    }

    /// Reads the files again, for handshakes from now on. After an error the old ones stay.
    ///
    /// # Errors
    /// [`TlsFilesError`], naming the file.
    pub fn reload(&self) -> Result<(), TlsFilesError> {
        let fresh = match self.files.client_ca {
            None => Arc::clone(&self.tickets),
            Some(_) => new_tickets(&self.files)?,
        };
        self.current.store(server_config(&self.files, &self.alpn, self.names.as_ref(), &fresh)?);
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTls({})", self.files.cert.display())
    }
}

fn new_tickets(files: &TlsFiles) -> Result<Arc<dyn ProducesTickets>, TlsFilesError> {
    Ticketer::new().map_err(|error| refused(&files.key, error))
}

/// The library's own choice of ciphers, those with AES-128 and SHA-256 first: they are as good as any, and both have
/// instructions of their own on CPUs where SHA-384 has none.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let is_first = |suite: CipherSuite| {
        matches!(
            suite,
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| !is_first(suite.suite()));
    provider
}

/// What a listener shows.
#[derive(Debug)]
struct Shown {
    own: Arc<CertifiedKey>,
    names: Option<Arc<CertificateTable>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = self.names.as_ref().and_then(|names| names.find(hello.server_name()));
        let pair = named.as_ref().and_then(|it| it.for_client(hello.signature_schemes(), hello.cipher_suites()));
        Some(Arc::clone(pair.unwrap_or(&self.own)))
    }
}

fn server_config(
    files: &TlsFiles,
    alpn: &[Vec<u8>],
    names: Option<&Arc<CertificateTable>>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsFilesError> {
    let provider = Arc::new(provider());
    let own = CertifiedKey::from_der(read_certificates(&files.cert)?, read_key(&files.key)?, &provider)
        .map_err(|error| refused(&files.key, error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&files.cert, error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(path)? {
                roots.add(certificate).map_err(|error| refused(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| refused(path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let shown = Shown { own: Arc::new(own), names: names.cloned() };
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.ignore_client_order = true;
    config.alpn_protocols = alpn.to_vec();
    config.ticketer = Arc::clone(tickets);
    Ok(Arc::new(config))
}

/// The certificates of a PEM file, at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| refused(path, error))?;
    if certificates.is_empty() {
        return Err(refused(path, "no certificate in it"));
    }
    Ok(certificates)
}

/// The first private key of a PEM file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFilesError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| refused(path, error))
}

fn refused(path: &Path, reason: impl fmt::Display) -> TlsFilesError {
    TlsFilesError { path: path.to_owned(), reason: reason.to_string() }
}

impl fmt::Display for TlsFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for TlsFilesError {}
