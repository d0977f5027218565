//! Which certificate is shown to a client that asks for a server name.
//!
//! Kong's order: the very name; the name with `*` for its first label; the name with `*` for its last; `*`. A name that none
//! of these is for, and a client that names nothing, get the listener's own. A wildcard stands for one label.

use super::Identity;
use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

type Names = HashMap<Box<str>, Arc<Identity>, RandomState>;

/// The certificates of all server names, as one configuration has them.
#[derive(Debug, Default)]
pub struct Certificates {
    exact: Names,
    /// `*.example.com` by `example.com`.
    by_rest: Names,
    /// `example.*` by `example`.
    by_beginning: Names,
    /// `*`
    any: Option<Arc<Identity>>,
}

impl Certificates {
    /// Whose names these are. Names are unique.
    #[must_use]
    pub fn new<'n>(names: impl Iterator<Item = (&'n str, Arc<Identity>)>) -> Self {
        let mut all = Self::default();
        for (name, identity) in names {
            let name = name.to_ascii_lowercase();
            if name == "*" {
                all.any = Some(identity);
            } else if let Some(rest) = name.strip_prefix("*.") {
                all.by_rest.insert(rest.into(), identity);
            } else if let Some(beginning) = name.strip_suffix(".*") {
                all.by_beginning.insert(beginning.into(), identity);
            } else {
                all.exact.insert(name.into(), identity);
            }
        }
        all
    }

    /// Whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_none() && self.exact.is_empty() && self.by_rest.is_empty() && self.by_beginning.is_empty()
    }

    /// What is shown for a server name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Identity>> {
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        let rest = || name.split_once('.').and_then(|(_, rest)| self.by_rest.get(rest));
        let beginning = || name.rsplit_once('.').and_then(|(beginning, _)| self.by_beginning.get(beginning));
        self.exact.get(name).or_else(rest).or_else(beginning).or(self.any.as_ref())
    }
}

/// The certificates in force: what a change of the configuration swaps, and every listener that shows them looks into.
#[derive(Debug, Default)]
pub struct CertificateTable(ArcSwap<Certificates>);

impl CertificateTable {
    /// What is shown for a server name at this moment; none is the listener's own certificate.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<Arc<Identity>> {
        let name = name?;
        let certificates = self.0.load();
        if certificates.is_empty() {
            return None;
        }
        certificates.find(name).cloned()
    }

    /// Puts others in force, from the next handshake on.
    pub(crate) fn set(&self, certificates: Arc<Certificates>) {
        self.0.store(certificates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::identity;

    #[test]
    fn the_closest_name_has_the_say() {
        let names = ["a.example.com", "*.example.com", "a.*", "a.b.*", "*"];
        let all: Vec<_> = names.iter().map(|name| (*name, Arc::new(identity()))).collect();
        let shown = |certificates: &Certificates, name: &str| {
            let found = certificates.find(name)?;
            all.iter().find(|(_, identity)| Arc::ptr_eq(identity, found)).map(|(name, _)| *name)
        };
        let certificates = Certificates::new(all.iter().cloned());
        for (asked, expected) in [
            ("a.example.com", "a.example.com"),
            ("A.Example.COM", "a.example.com"),
            ("a.example.com.", "a.example.com"),
            ("b.example.com", "*.example.com"),
            // A wildcard stands for one label.
            ("c.b.example.com", "*"),
            ("example.com", "*"),
            ("a.org", "a.*"),
            ("a.b.org", "a.b.*"),
            ("a.b.c.org", "*"),
            ("localhost", "*"),
            ("", "*"),
        ] {
            assert_eq!(shown(&certificates, asked), Some(expected), "{asked}");
        }
        let few = Certificates::new(all[..2].iter().cloned());
        assert_eq!(shown(&few, "a.org"), None);
        assert!(!few.is_empty() && Certificates::default().is_empty());
    }

    #[test]
    fn who_names_nothing_gets_the_listener_s_own() {
        let table = CertificateTable::default();
        assert!(table.find(Some("a")).is_none());
        table.set(Arc::new(Certificates::new([("*", Arc::new(identity()))].into_iter())));
        assert!(table.find(None).is_none() && table.find(Some("a")).is_some());
    }
}
