//! TLS towards upstreams: whom to trust, and who we are.

use crate::http::tls::{TlsFilesError, read_certificates, read_key};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

/// Whose certificates an upstream may show.
#[derive(Clone, Copy, Debug)]
pub enum TlsTrust<'a> {
    /// Anybody's (`tls_verify` off, Kong's default for services): encrypted, not authenticated.
    Anyone,
    /// Those the system trusts.
    System,
    /// Those signed by these authorities.
    Authorities(&'a [CertificateDer<'static>]),
}

/// A TLS configuration towards upstreams. Connections are shared between targets with the same one.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    pub(super) config: Arc<ClientConfig>,
}

/// The configuration could not be made.
#[derive(Debug)]
pub enum UpstreamTlsError {
    /// A file.
    File(TlsFilesError),
    /// The system has no trust anchors.
    NoSystemRoots,
    /// What rustls said of versions, anchors or our certificate.
    Rustls(rustls::Error),
}

impl UpstreamTls {
    /// Trust as given; with a certificate and key file, show them when asked.
    ///
    /// # Errors
    /// [`UpstreamTlsError`].
    pub fn new(trust: TlsTrust<'_>, identity: Option<(&Path, &Path)>) -> Result<Self, UpstreamTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(UpstreamTlsError::Rustls)?;
        let builder = match trust {
            TlsTrust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone(provider))),
            TlsTrust::System => builder.with_root_certificates(system_roots()?),
            TlsTrust::Authorities(trusted) => builder.with_root_certificates(authorities(trusted)?),
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    read_certificates(cert).map_err(UpstreamTlsError::File)?,
                    read_key(key).map_err(UpstreamTlsError::File)?,
                )
                .map_err(UpstreamTlsError::Rustls)?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// The same, to speak HTTP/2.
    #[must_use]
    pub fn for_http2(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { config: Arc::new(config) }
    }
}

fn system_roots() -> Result<RootCertStore, UpstreamTlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(UpstreamTlsError::NoSystemRoots) } else { Ok(roots) }
}

fn authorities(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, UpstreamTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(UpstreamTlsError::Rustls)?;
    }
    Ok(roots)
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for UpstreamTls {}

impl Hash for UpstreamTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.config).hash(state);
    }
}

/// Checks the signatures of the handshake but not who signs.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Display for UpstreamTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::NoSystemRoots => f.write_str("the system has no trusted certificate authorities"),
            Self::Rustls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for UpstreamTlsError {}
