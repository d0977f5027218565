//! A switch of protocols on an HTTP/1.1 connection (RFC 9110 §7.8): what a client may ask for and have passed on.
//!
//! Exactly one protocol is passed on, and never another version of HTTP or TLS: those are between two neighbours, and
//! an `h2c` that is passed on would be a way around everything a gateway checks.

use crate::framing::{RawField, Role, tokens};
use http::header::{HeaderMap, HeaderValue, UPGRADE};

/// A protocol that a client asks for and that an upstream may switch to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade(HeaderValue);

impl Upgrade {
    /// WebSocket (RFC 6455).
    #[must_use]
    pub fn websocket() -> Self {
        Self(HeaderValue::from_static("websocket"))
    }

    /// What a request asks for, if that can be passed on.
    #[must_use]
    pub fn asked(headers: &HeaderMap) -> Option<Self> {
        let mut asked = headers.get_all(UPGRADE).iter().flat_map(|value| tokens(value.as_bytes()));
        let (Some(protocol), None) = (asked.next(), asked.next()) else { return None };
        if protocol.eq_ignore_ascii_case(b"websocket") {
            return Some(Self::websocket());
        }
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        let between_neighbours = [&b"http"[..], b"h2c", b"h2", b"tls"].iter().any(|own| name.eq_ignore_ascii_case(own));
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'+');
        let passed_on = !name.is_empty() && !between_neighbours && protocol.iter().all(is_token);
        passed_on.then(|| HeaderValue::from_bytes(protocol).ok().map(Self)).flatten()
    }

    /// The value of the Upgrade field.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// Whether a 101 with these fields switches to this protocol.
    pub(crate) fn is_answered_by<'f>(&self, fields: impl Iterator<Item = RawField<'f>>) -> bool {
        let upgrades = fields.filter(|(name, _)| Role::of(name) == Role::Upgrade);
        let mut answered = upgrades.flat_map(|(_, value)| tokens(value));
        let same = answered.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case(self.0.as_bytes()));
        same && answered.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_protocol_is_passed_on_and_no_version_of_http_or_tls() {
        let asked = |values: &[&'static str]| {
            let headers = values.iter().map(|value| (UPGRADE, HeaderValue::from_static(value))).collect();
            Upgrade::asked(&headers).map(|upgrade| upgrade.0.to_str().unwrap().to_owned())
        };
        assert_eq!(asked(&["WebSocket"]).as_deref(), Some("websocket"));
        assert_eq!(asked(&["SPDY/3.1"]).as_deref(), Some("SPDY/3.1"));
        for refused in ["h2c", "H2C", "h2", "HTTP/2.0", "http", "TLS/1.2", "websocket, h2c", "a b", "/1", ""] {
            assert_eq!(asked(&[refused]), None, "{refused:?}");
        }
        assert_eq!(asked(&["websocket", "websocket"]), None);
        assert_eq!(asked(&[]), None);
    }
}
