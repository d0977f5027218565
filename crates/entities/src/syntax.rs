//! The small languages inside texts that only entities have: hosts and paths of routes, names of upstreams, targets,
//! certificates. See [`plugin::schema::syntax`] for the others.

use crate::x509::{Certificate, PrivateKey};
use plugin::Syntax;
use plugin::schema::syntax::{Address, AddressHost, HEADER_NAME, percent_encoded};

/// A host of a route: at most one `*`, as the first or last label, and an optional port.
pub(crate) const ROUTE_HOST: Syntax = Syntax {
    name: "host",
    expected: "such as example.com, *.example.com, example.* or example.com:8443",
    check: route_host,
};
/// A path of a route: a normalised prefix, or `~` and a regular expression.
pub(crate) const ROUTE_PATH: Syntax = Syntax {
    name: "path",
    expected: "a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$",
    check: route_path,
};
/// A header a route matches on.
pub(crate) const ROUTE_HEADER_NAME: Syntax =
    Syntax { name: "header name", expected: "a header name", check: route_header_name };
/// The name of an upstream: a host name.
pub(crate) const UPSTREAM_NAME: Syntax =
    Syntax { name: "host name", expected: "a host name such as orders.internal", check: upstream_name };
/// A target of an upstream.
pub(crate) const TARGET: Syntax = Syntax {
    name: "target",
    expected: "a host name or an IP address and a port, such as 10.0.0.1:8000",
    check: target,
};
/// A certificate chain in PEM.
pub(crate) const CERTIFICATE: Syntax = Syntax {
    name: "certificate",
    expected: "PEM, beginning with -----BEGIN CERTIFICATE-----",
    check: |text| Certificate::of_pem(text).map(drop).map_err(|reason| format!("invalid certificate: {reason}")),
};
/// A private key in PEM.
pub(crate) const PRIVATE_KEY: Syntax = Syntax {
    name: "private key",
    expected: "PEM, beginning with -----BEGIN PRIVATE KEY-----",
    check: |text| PrivateKey::of_pem(text).map(drop).map_err(|reason| format!("invalid key: {reason}")),
};
/// The name of a vault in references.
pub(crate) const VAULT_PREFIX: Syntax =
    Syntax { name: "vault prefix", expected: "small letters, digits and `-`, such as my-vault", check: vault_prefix };

/// What the names of environment variables begin with.
pub(crate) const VARIABLE_PREFIX: Syntax = Syntax {
    name: "prefix of variables",
    expected: "letters, digits, `-` and `_`, such as MY_",
    check: |text| {
        let bytes = text.as_bytes();
        let fits = bytes.first().is_some_and(|byte| !byte.is_ascii_digit())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if fits { Ok(()) } else { Err(format!("invalid value: {text}")) }
    },
};

fn route_host(text: &str) -> Result<(), String> {
    match text.matches('*').count() {
        0 => {}
        1 if text.starts_with("*.") || text.ends_with(".*") => {}
        1 => return Err("invalid wildcard: must be placed at leftmost or rightmost label".to_owned()),
        _ => return Err("invalid wildcard: must have at most one wildcard".to_owned()),
    }
    Address::parse(&text.replace('*', "abc")).map(drop)
}

fn route_path(text: &str) -> Result<(), String> {
    if text.contains("//") {
        return Err("must not have empty segments".to_owned());
    }
    if !text.starts_with('/') && !text.starts_with("~/") {
        return Err("should start with: / (fixed path) or ~/ (regex path)".to_owned());
    }
    let Some(pattern) = text.strip_prefix('~') else {
        let Ok(normal) = model::uri::normalize(text) else {
            return percent_encoded(text).and(Err(format!("invalid path: '{text}' (it encodes a NUL)")));
        };
        if normal != text {
            return Err(format!("non-normalized path, consider use '{normal}' instead"));
        }
        return Ok(());
    };
    match regex_syntax::Parser::new().parse(pattern) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(format!("invalid regex: '{pattern}' ({reason})"))
        }
    }
}

fn route_header_name(text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("host") {
        return Err("cannot contain 'host' header, which must be specified in the 'hosts' attribute".to_owned());
    }
    (HEADER_NAME.check)(text)
}

fn upstream_name(text: &str) -> Result<(), String> {
    let reason = match Address::parse(text) {
        Err(_) => "must be a valid hostname",
        Ok(Address { host: AddressHost::Ip(_), .. }) => "no ip addresses allowed",
        Ok(Address { port: Some(_), .. }) => "no port allowed",
        Ok(_) => return Ok(()),
    };
    Err(format!("Invalid name ('{text}'); {reason}"))
}

fn target(text: &str) -> Result<(), String> {
    let reason = |_| format!("Invalid target ('{text}'); not a valid hostname or ip address");
    Address::parse(text).map(drop).map_err(reason)
}

/// Two characters at least: a small letter, then small letters, digits and dashes, no dash at the end.
fn vault_prefix(text: &str) -> Result<(), String> {
    if text == "env" {
        return Err("must not be one of: env".to_owned());
    }
    let bytes = text.as_bytes();
    let known = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = bytes.len() >= 2
        && bytes[0].is_ascii_lowercase()
        && bytes[1..].iter().all(|byte| known(byte) || *byte == b'-')
        && bytes.last().is_some_and(known);
    if fits { Ok(()) } else { Err(format!("invalid value: {text}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kongs() {
        for (syntax, text, message) in [
            (&ROUTE_HOST, "*.a.com:8443", ""),
            (&ROUTE_HOST, "a.*", ""),
            (&ROUTE_HOST, "*.*", "invalid wildcard: must have at most one wildcard"),
            (&ROUTE_HOST, "a.*.b", "invalid wildcard: must be placed at leftmost or rightmost label"),
            (&ROUTE_HOST, "http://x", "invalid hostname: http://x"),
            (&ROUTE_PATH, "/a", ""),
            (&ROUTE_PATH, "~/a/[0-9]+$", ""),
            (&ROUTE_PATH, "/a//b", "must not have empty segments"),
            (&ROUTE_PATH, "a", "should start with: / (fixed path) or ~/ (regex path)"),
            (&ROUTE_PATH, "/a/../b", "non-normalized path, consider use '/b' instead"),
            (&ROUTE_PATH, "/%zz", "invalid url-encoded value: '%zz'"),
            (&ROUTE_PATH, "~/(", "invalid regex: '/(' (unclosed group)"),
            (&UPSTREAM_NAME, "a.b", ""),
            (&UPSTREAM_NAME, "1.2.3.4", "Invalid name ('1.2.3.4'); no ip addresses allowed"),
            (&UPSTREAM_NAME, "a:1", "Invalid name ('a:1'); no port allowed"),
            (&UPSTREAM_NAME, "a b", "Invalid name ('a b'); must be a valid hostname"),
            (&TARGET, "a b", "Invalid target ('a b'); not a valid hostname or ip address"),
            (&VAULT_PREFIX, "my-vault", ""),
            (&VAULT_PREFIX, "env", "must not be one of: env"),
            (&VAULT_PREFIX, "My", "invalid value: My"),
            (&VARIABLE_PREFIX, "my-app_1", ""),
            (&VARIABLE_PREFIX, "1a", "invalid value: 1a"),
            (&VARIABLE_PREFIX, "a.b", "invalid value: a.b"),
        ] {
            assert_eq!((syntax.check)(text).err().unwrap_or_default(), message, "{text}");
        }
    }
}
