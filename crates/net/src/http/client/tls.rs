//! TLS towards upstreams: whom to trust, how long a chain may be, and who we are.
//!
//! A connection is kept for whoever wants the same TLS. So settings that are equal make one configuration, as long as
//! somebody has it: [`UpstreamTlsCache`]. A change of the gateway's configuration that leaves an upstream's TLS as it is
//! finds the kept connections, and one that does not finds none. What could not be made, the system's authorities being not
//! there for a while, is tried again when it is asked for a second later.

use foldhash::fast::RandomState;
use gateway::tls::Identity;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long what could not be made is not tried again: it reads files while others wait.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// What TLS to an upstream is to be like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct TlsSettings {
    /// Whose certificates the upstream may show.
    pub trust: TlsTrust,
    /// The most certificates between the upstream's and one that is trusted; none leaves it to rustls, which looks at six.
    pub depth_max: Option<u8>,
    /// What is shown if the upstream asks who we are.
    pub identity: Option<Arc<Identity>>,
    /// HTTP/2 is to be spoken, and not HTTP/1.1.
    pub http2: bool,
}

/// Whose certificates an upstream may show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum TlsTrust {
    /// Anybody's (`tls_verify` off, Kong's default for services): encrypted, not authenticated.
    #[default]
    Anyone,
    /// Those the system trusts.
    System,
    /// Those signed by these authorities.
    Authorities(Vec<CertificateDer<'static>>),
}

/// A TLS configuration towards upstreams. Connections are shared between targets with the very same one.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    pub(super) config: Arc<ClientConfig>,
}

/// The configurations that are in use, by their settings.
#[derive(Debug, Default)]
pub struct UpstreamTlsCache(Mutex<HashMap<TlsSettings, Known, RandomState>>);

/// What is known of settings.
#[derive(Debug)]
enum Known {
    /// Their configuration, while somebody has it.
    Made(Weak<ClientConfig>),
    /// Why there was none, and when.
    Failed(UpstreamTlsError, Instant),
}

/// The configuration could not be made.
#[derive(Clone, Debug)]
pub enum UpstreamTlsError {
    /// The system has no trust anchors.
    NoSystemRoots,
    /// What rustls said of versions or anchors.
    Rustls(rustls::Error),
    /// What it said of the anchors together.
    Verifier(rustls::client::VerifierBuilderError),
}

impl UpstreamTls {
    /// A configuration of its own.
    ///
    /// # Errors
    /// [`UpstreamTlsError`].
    pub fn new(settings: &TlsSettings) -> Result<Self, UpstreamTlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &settings.trust {
            TlsTrust::Anyone => Arc::new(TrustAnyone(Arc::clone(&provider))),
            TlsTrust::System => trusting(system_roots()?, settings.depth_max, &provider)?,
            TlsTrust::Authorities(trusted) => trusting(authorities(trusted)?, settings.depth_max, &provider)?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(UpstreamTlsError::Rustls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::<Identity>::clone(identity) as Arc<dyn ResolvesClientCert>)
            }
        };
        config.alpn_protocols = vec![if settings.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Self { config: Arc::new(config) })
    }

    /// The same, to carry what is not HTTP.
    #[must_use]
    pub fn for_stream(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = Vec::new();
        Self { config: Arc::new(config) }
    }
}

impl UpstreamTlsCache {
    /// The configuration with these settings: the one that somebody has, or a new one.
    ///
    /// # Errors
    /// [`UpstreamTlsError`]; the one of a moment ago, if there was one.
    pub fn get(&self, settings: TlsSettings) -> Result<UpstreamTls, UpstreamTlsError> {
        self.get_or(settings, Instant::now, UpstreamTls::new)
    }

    fn get_or(
        &self,
        settings: TlsSettings,
        clock: impl Fn() -> Instant,
        make: impl FnOnce(&TlsSettings) -> Result<UpstreamTls, UpstreamTlsError>,
    ) -> Result<UpstreamTls, UpstreamTlsError> {
        let mut all = self.0.lock();
        let now = clock();
        match all.get(&settings) {
            Some(Known::Made(config)) => {
                if let Some(config) = config.upgrade() {
                    return Ok(UpstreamTls { config });
                }
            }
            Some(Known::Failed(error, at)) if now.duration_since(*at) < RETRY_PERIOD => return Err(error.clone()),
            Some(Known::Failed(..)) | None => {}
        }
        let made = make(&settings);
        // Reading may have taken its time.
        let now = clock();
        all.retain(|_, known| known.is_of_use(now));
        let known = match &made {
            Ok(made) => Known::Made(Arc::downgrade(&made.config)),
            Err(error) => Known::Failed(error.clone(), now),
        };
        all.insert(settings, known);
        made
    }
}

impl Known {
    fn is_of_use(&self, now: Instant) -> bool {
        match self {
            Self::Made(config) => config.strong_count() > 0,
            Self::Failed(_, at) => now.duration_since(*at) < RETRY_PERIOD,
        }
    }
}

fn trusting(
    roots: RootCertStore,
    depth_max: Option<u8>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, UpstreamTlsError> {
    let roots = Arc::new(roots);
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
        .build()
        .map_err(UpstreamTlsError::Verifier)?;
    Ok(match depth_max {
        None => inner,
        Some(depth_max) => Arc::new(ShortChain { inner, roots, depth_max, provider: Arc::clone(provider) }),
    })
}

/// Checks what rustls checks, and that at most so many certificates stand between the upstream's and one that is trusted.
#[derive(Debug)]
struct ShortChain {
    inner: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    depth_max: u8,
    provider: Arc<CryptoProvider>,
}

impl ShortChain {
    fn has_short_path(&self, cert: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Ok(cert) = webpki::EndEntityCert::try_from(cert) else { return false };
        let is_short = |path: &webpki::VerifiedPath<'_>| match path.intermediate_certificates().count()
            <= usize::from(self.depth_max)
        {
            true => Ok(()),
            false => Err(webpki::Error::MaximumPathDepthExceeded),
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = webpki::KeyUsage::server_auth();
        cert.verify_for_usage(algorithms, &self.roots.roots, others, now, usage, None, Some(&is_short)).is_ok()
    }
}

impl ServerCertVerifier for ShortChain {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(cert, others, name, ocsp, now)?;
        if self.has_short_path(cert, others, now) {
            return Ok(verified);
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
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
            Self::NoSystemRoots => f.write_str("the system has no trusted certificate authorities"),
            Self::Rustls(error) => error.fmt(f),
            Self::Verifier(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for UpstreamTlsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_settings_are_one_configuration_while_somebody_has_it() {
        let cache = UpstreamTlsCache::default();
        let get = |http2| cache.get(TlsSettings { http2, ..TlsSettings::default() }).unwrap();
        let (first, same, other) = (get(false), get(false), get(true));
        assert!(first == same && first != other);
        drop((first, same));
        let _third = get(true);
        let _fourth = cache.get(TlsSettings { depth_max: Some(1), ..TlsSettings::default() }).unwrap();
        assert_eq!(cache.0.lock().len(), 2, "what nobody has is forgotten");
    }

    #[test]
    fn what_could_not_be_made_is_tried_again_once_a_second_and_then_kept() {
        let (cache, start, mut n_tries) = (UpstreamTlsCache::default(), Instant::now(), 0);
        let mut get = |after_ms, may_be_made| {
            cache.get_or(
                TlsSettings::default(),
                || start + Duration::from_millis(after_ms),
                |settings| {
                    n_tries += 1;
                    if may_be_made { UpstreamTls::new(settings) } else { Err(UpstreamTlsError::NoSystemRoots) }
                },
            )
        };
        for (after_ms, may_be_made) in [(0, false), (1, true), (999, true), (1_000, false), (1_999, true)] {
            assert!(matches!(get(after_ms, may_be_made), Err(UpstreamTlsError::NoSystemRoots)), "{after_ms}");
        }
        let made = get(2_000, true).unwrap();
        assert_eq!(get(2_001, false).unwrap(), made);
        assert_eq!(n_tries, 3);
        drop(made);
        assert!(
            cache.get_or(TlsSettings { http2: true, ..TlsSettings::default() }, || start, UpstreamTls::new).is_ok()
        );
        assert_eq!(cache.0.lock().len(), 1, "neither what nobody has nor an old failure is kept");
    }
}
