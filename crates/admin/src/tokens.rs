//! Tokens of the Admin API: who holds one may look, or change things, too.
//!
//! Invariants: a token is kept as its digest only, and every one is compared to its end, so neither memory nor time tells
//! how much of a guess is right.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

/// What a token opens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Looking.
    Read,
    /// Changing, too.
    Write,
}

/// The tokens there are.
#[derive(Default)]
pub struct Tokens {
    all: Vec<([u8; 32], Role)>,
}

impl Tokens {
    /// Tokens with what each opens.
    pub fn new<'t>(tokens: impl IntoIterator<Item = (&'t str, Role)>) -> Self {
        Self { all: tokens.into_iter().map(|(token, role)| (Sha256::digest(token).into(), role)).collect() }
    }

    /// Whether there are none, so that none is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What the token in these headers opens: of `Kong-Admin-Token`, or of `Authorization: Bearer`.
    pub(crate) fn role(&self, headers: &HeaderMap) -> Option<Role> {
        let sent = match headers.get("kong-admin-token") {
            Some(token) => token.to_str().ok()?,
            None => {
                let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return None;
                }
                token.trim()
            }
        };
        let sent: [u8; 32] = Sha256::digest(sent).into();
        let differ = |token: &[u8; 32]| token.iter().zip(&sent).fold(0, |all, (a, b)| all | (a ^ b));
        self.all.iter().fold(None, |found, (token, role)| if differ(token) == 0 { Some(*role) } else { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn a_token_is_found_in_either_header() {
        let tokens = Tokens::new([("0123456789abcdef", Role::Read), ("fedcba9876543210", Role::Write)]);
        for (name, value, role) in [
            ("kong-admin-token", "0123456789abcdef", Some(Role::Read)),
            ("kong-admin-token", "fedcba9876543210", Some(Role::Write)),
            ("authorization", "Bearer 0123456789abcdef", Some(Role::Read)),
            ("authorization", "bearer fedcba9876543210", Some(Role::Write)),
            ("authorization", "Basic 0123456789abcdef", None),
            ("authorization", "0123456789abcdef", None),
            ("kong-admin-token", "0123456789abcde", None),
            ("kong-admin-token", "0123456789abcdefg", None),
            ("kong-admin-token", "", None),
            ("kong-admin-token", "Bearer 0123456789abcdef", None),
            ("x-other", "0123456789abcdef", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            assert_eq!(tokens.role(&headers), role, "{name}: {value}");
        }
        assert_eq!(tokens.role(&HeaderMap::new()), None);
    }
}
