//! What of a handshake is told to plugins and logs.

use plugin::{ClientCertificate, TlsHandshake};
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, ProtocolVersion};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// What a finished handshake agreed on. A client's certificate was verified by the listener, or there would be none.
#[must_use]
pub fn handshake(state: &CommonState) -> TlsHandshake {
    let certificate = state.peer_certificates().and_then(<[_]>::first);
    TlsHandshake {
        version: match state.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        cipher: state.negotiated_cipher_suite().map_or("", |suite| name(suite.suite())),
        client: certificate.and_then(client),
    }
}

/// Who a certificate is for. None if its names cannot be read: TLS reads less of it.
fn client(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let parsed = Certificate::from_der(der).ok()?;
    let certificate = parsed.tbs_certificate();
    let serial = certificate.serial_number().as_bytes();
    Some(ClientCertificate {
        subject: certificate.subject().to_string().into(),
        issuer: certificate.issuer().to_string().into(),
        serial: serial.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into(),
    })
}

/// OpenSSL's name of a suite.
fn name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other.as_str().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn a_client_is_told_by_its_names_and_number() {
        let der = CertificateDer::from_pem_slice(crate::tls::testing::EC.cert.as_bytes()).unwrap();
        let client = client(&der).unwrap();
        assert_eq!((&*client.subject, &*client.issuer), ("CN=ec.example.com", "CN=ec.example.com"));
        assert_eq!(&*client.serial, crate::tls::testing::EC_SERIAL);
    }

    #[test]
    fn every_suite_there_is_has_openssl_s_name() {
        for suite in aws_lc_rs::ALL_CIPHER_SUITES {
            let name = name(suite.suite());
            assert!(!name.starts_with("TLS13") && !name.contains("_WITH_") && !name.is_empty(), "{name}");
        }
    }
}
