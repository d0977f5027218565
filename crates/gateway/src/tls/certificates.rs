//! Which certificate is shown to a client that asks for a server name.
//!
//! Kong's order: the very name; the name with `*` for its first label; the name with `*` for its last; `*`. A name that none
//! of these is for, and a client that names nothing, get the listener's own. A wildcard stands for one label.

use super::Identity;
use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    /// Adds a server name; neither capitals nor a dot at its end make it another. False if it is there already.
    #[must_use]
    pub fn add(&mut self, name: &str, identity: Arc<Identity>) -> bool {
        let name = plain(name);
        if &*name == "*" {
            let is_new = self.any.is_none();
            self.any.get_or_insert(identity);
            return is_new;
        }
        let (names, key) = if let Some(rest) = name.strip_prefix("*.") {
            (&mut self.by_rest, rest)
        } else if let Some(beginning) = name.strip_suffix(".*") {
            (&mut self.by_beginning, beginning)
        } else {
            (&mut self.exact, &*name)
        };
        match names.entry(key.into()) {
            Entry::Vacant(free) => drop(free.insert(identity)),
            Entry::Occupied(_) => return false,
        }
        true
    }

    /// Whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_none() && self.exact.is_empty() && self.by_rest.is_empty() && self.by_beginning.is_empty()
    }

    /// What is shown for a server name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Identity>> {
        let name = &*plain(name);
        let rest = || name.split_once('.').and_then(|(_, rest)| self.by_rest.get(rest));
        let beginning = || name.rsplit_once('.').and_then(|(beginning, _)| self.by_beginning.get(beginning));
        self.exact.get(name).or_else(rest).or_else(beginning).or(self.any.as_ref())
    }
}

/// A name as it is compared.
fn plain(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
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

    fn certificates<'n>(names: impl IntoIterator<Item = (&'n str, Arc<Identity>)>) -> Certificates {
        let mut all = Certificates::default();
        for (name, identity) in names {
            assert!(all.add(name, identity), "{name}");
        }
        all
    }

    #[test]
    fn the_closest_name_has_the_say() {
        let names = ["a.example.com", "*.example.com", "a.*", "a.b.*", "*"];
        let all: Vec<_> = names.iter().map(|name| (*name, Arc::new(identity()))).collect();
        let shown = |certificates: &Certificates, name: &str| {
            let found = certificates.find(name)?;
            all.iter().find(|(_, identity)| Arc::ptr_eq(identity, found)).map(|(name, _)| *name)
        };
        let every = certificates(all.iter().cloned());
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
            assert_eq!(shown(&every, asked), Some(expected), "{asked}");
        }
        let few = certificates(all[..2].iter().cloned());
        assert_eq!(shown(&few, "a.org"), None);
        assert!(!few.is_empty() && Certificates::default().is_empty());
    }

    #[test]
    fn capitals_and_a_last_dot_make_no_other_name() {
        let written = ["A.example.com.", "*.Example.com.", "a.*.", "*"];
        let mut all = certificates(written.map(|name| (name, Arc::new(identity()))));
        for name in ["a.example.com", "a.example.com.", "B.example.com.", "a.org", "c.b.org"] {
            assert!(all.find(name).is_some(), "{name}");
        }
        for again in ["a.Example.com", "*.example.com", "A.*", "*"] {
            assert!(!all.add(again, Arc::new(identity())), "{again}");
        }
    }

    #[test]
    fn who_names_nothing_gets_the_listener_s_own() {
        let table = CertificateTable::default();
        assert!(table.find(Some("a")).is_none());
        table.set(Arc::new(certificates([("*", Arc::new(identity()))])));
        assert!(table.find(None).is_none() && table.find(Some("a")).is_some());
    }
}
