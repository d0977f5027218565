//! Domain names as they are asked for and compared: lower case, without the final dot (RFC 1035 §2.3, §3.1).

use std::fmt;
use std::sync::Arc;

/// Bytes of a label.
const LABEL_BYTES_MAX: usize = 63;
/// Characters of a whole name, dots between labels included: 255 bytes on the wire.
pub(super) const NAME_BYTES_MAX: usize = 253;

/// A domain name that can be put on the wire. Never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(Arc<str>);

impl Name {
    /// A name as people write it; a final dot does not count. `None`: it cannot be one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let labels = text.split('.').all(|label| (1..=LABEL_BYTES_MAX).contains(&label.len()));
        (printable && labels && text.len() <= NAME_BYTES_MAX).then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// This name below `suffix`.
    pub(super) fn below(&self, suffix: &Self) -> Option<Self> {
        Self::parse(&format!("{self}.{suffix}"))
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    pub(super) fn dots(&self) -> usize {
        self.labels().count() - 1
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_has_no_final_dot() {
        assert_eq!(Name::parse("API.Example.com.").map(|name| name.to_string()).as_deref(), Some("api.example.com"));
        assert_eq!(Name::parse("a.b").and_then(|name| name.below(&Name::parse("c")?)).unwrap().as_str(), "a.b.c");
        assert_eq!(Name::parse("a.b.c").unwrap().dots(), 2);
    }

    #[test]
    fn what_cannot_go_on_the_wire_is_no_name() {
        let long = "a".repeat(64);
        for bad in ["", ".", "a..b", ".a", "a b", "a\u{e9}", "a..", long.as_str()] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
        let edge = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(edge.len(), NAME_BYTES_MAX);
        assert!(Name::parse(&edge).is_some());
        assert!(Name::parse(&format!("{edge}e")).is_none());
    }
}
