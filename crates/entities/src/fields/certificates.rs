//! Certificates, server names and trust anchors.

use super::{CREATED_AT, Def, ID, TAGS, UPDATED_AT, cascade};
use crate::kind::Kind;
use crate::rules::Rules;
use crate::syntax::{CERTIFICATE, PRIVATE_KEY};
use crate::x509::{Certificate, PrivateKey};
use plugin::schema::syntax;
use plugin::{Field, Kind as FieldKind};

const CERT: FieldKind = FieldKind::Like(&CERTIFICATE);
const KEY: FieldKind = FieldKind::Like(&PRIVATE_KEY);

pub(crate) static CERTIFICATES: Def = Def {
    rules: certificate,
    ..Def::new(
        "certificates",
        &[
            ID,
            CREATED_AT,
            UPDATED_AT,
            Field::required("cert", CERT, "certificate chain in PEM").referenceable(),
            Field::required("key", KEY, "private key in PEM").referenceable().secret(),
            Field::optional("cert_alt", CERT, "certificate of the other kind of key").referenceable(),
            Field::optional("key_alt", KEY, "private key of the other kind").referenceable().secret(),
            TAGS,
            Field::optional(
                "snis",
                FieldKind::List { of: &FieldKind::Like(&syntax::WILDCARD_HOST), len_min: 0 },
                "server names it is for",
            )
            .transient(),
        ],
    )
};

pub(crate) static SNIS: Def = Def {
    endpoint_key: Some("name"),
    references: &[cascade("certificate", Kind::Certificates)],
    ..Def::new(
        "snis",
        &[
            ID,
            Field::required("name", FieldKind::Like(&syntax::WILDCARD_HOST), "server name of TLS").unique(),
            CREATED_AT,
            UPDATED_AT,
            TAGS,
            Field::required("certificate", FieldKind::Foreign("certificates"), "the certificate for it"),
        ],
    )
};

pub(crate) static CA_CERTIFICATES: Def = Def {
    rules: ca_certificate,
    ..Def::new(
        "ca_certificates",
        &[
            ID,
            CREATED_AT,
            UPDATED_AT,
            Field::required("cert", CERT, "one certificate in PEM"),
            Field::optional("cert_digest", FieldKind::Text, "SHA-256 of the certificate").unique(),
            TAGS,
        ],
    )
};

/// The value of a field without problems that is not a reference to a vault.
fn pem<'r>(rules: &Rules<'r>, field: &str) -> Option<&'r str> {
    rules.text(field).filter(|text| !rules.has_problem(field) && !text.starts_with("{vault://"))
}

fn certificate(rules: &mut Rules<'_>) {
    let parsed = |rules: &Rules<'_>, field| pem(rules, field).and_then(|text| Certificate::of_pem(text).ok());
    let (cert, alternative) = (parsed(rules, "cert"), parsed(rules, "cert_alt"));
    let given = |rules: &Rules<'_>, field| rules.is_set(field);
    let both = given(rules, "cert_alt") == given(rules, "key_alt");
    if !both && !rules.has_problem("cert_alt") && !rules.has_problem("key_alt") {
        rules.entity("all or none of these fields must be set: 'cert_alt', 'key_alt'");
    }
    let pairs = [
        (&cert, "key", "certificate does not match key"),
        (&alternative, "key_alt", "alternative certificate does not match key"),
    ];
    for (cert, key, message) in pairs {
        let key = pem(rules, key).and_then(|text| PrivateKey::of_pem(text).ok());
        if let (Some(cert), Some(key)) = (cert, key)
            && !cert.matches(&key)
        {
            rules.entity(message);
        }
    }
    if let (Some(cert), Some(alternative)) = (&cert, &alternative)
        && cert.key_type() == alternative.key_type()
    {
        rules.entity(
            "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided \
             certificates were both of the same type",
        );
    }
}

fn ca_certificate(rules: &mut Rules<'_>) {
    let Some(text) = pem(rules, "cert") else { return };
    if text.matches("-----BEGIN CERTIFICATE-----").count() > 1 {
        return rules.entity("please submit only one certificate at a time");
    }
    let Ok(cert) = Certificate::of_pem(text) else { return };
    if cert.not_after() < rules.now() {
        rules.entity("certificate expired, \"Not After\" time is in the past");
    } else if !cert.is_ca() {
        rules.entity("certificate does not appear to be a CA because it is missing the \"CA\" basic constraint");
    }
}
