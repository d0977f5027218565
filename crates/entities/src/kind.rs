//! The kinds of entities, and what each is called: in files, in the Admin API's paths, in messages.

use crate::fields::{self, Def};
use plugin::Field;
use std::fmt;

/// A kind of entity. The order is one in which every kind stands after those it refers to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Trust anchors for TLS to upstreams.
    CaCertificates,
    /// Certificates with their keys.
    Certificates,
    /// Server names of TLS and the certificate for each.
    Snis,
    /// Where requests go.
    Services,
    /// Which requests go where.
    Routes,
    /// Users of the API.
    Consumers,
    /// Groups of targets that requests are balanced over.
    Upstreams,
    /// Members of upstreams.
    Targets,
    /// Groups of keys.
    KeySets,
    /// Keys for tokens.
    Keys,
    /// Where secrets are kept.
    Vaults,
    /// API keys of consumers.
    KeyauthCredentials,
    /// Configurations of plugins.
    Plugins,
}

/// What becomes of an entity when the one it refers to goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnDelete {
    /// It goes too.
    Cascade,
    /// The other cannot go.
    Restrict,
}

/// A reference from one kind to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    /// The field that holds it.
    pub field: &'static str,
    /// What it refers to.
    pub to: Kind,
    /// What a deletion there does here.
    pub on_delete: OnDelete,
}

impl Kind {
    /// All kinds, those that others refer to first.
    pub const ALL: [Self; 13] = [
        Self::CaCertificates,
        Self::Certificates,
        Self::Snis,
        Self::Services,
        Self::Routes,
        Self::Consumers,
        Self::Upstreams,
        Self::Targets,
        Self::KeySets,
        Self::Keys,
        Self::Vaults,
        Self::KeyauthCredentials,
        Self::Plugins,
    ];

    pub(crate) const fn def(self) -> &'static Def {
        match self {
            Self::CaCertificates => &fields::certificates::CA_CERTIFICATES,
            Self::Certificates => &fields::certificates::CERTIFICATES,
            Self::Snis => &fields::certificates::SNIS,
            Self::Services => &fields::services::SERVICES,
            Self::Routes => &fields::routes::ROUTES,
            Self::Consumers => &fields::consumers::CONSUMERS,
            Self::Upstreams => &fields::upstreams::UPSTREAMS,
            Self::Targets => &fields::upstreams::TARGETS,
            Self::KeySets => &fields::keys::KEY_SETS,
            Self::Keys => &fields::keys::KEYS,
            Self::Vaults => &fields::keys::VAULTS,
            Self::KeyauthCredentials => &fields::consumers::KEYAUTH_CREDENTIALS,
            Self::Plugins => &fields::plugins::PLUGINS,
        }
    }

    /// The place of the kind in [`Kind::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The name in files, in schemas and in messages: `services`, `keyauth_credentials`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.def().name
    }

    /// The first segment of its paths in the Admin API: `services`, `key-auths`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        self.def().path
    }

    /// The segment of its paths below another entity: `routes`, `key-auth`.
    #[must_use]
    pub const fn nested_path(self) -> &'static str {
        self.def().nested_path
    }

    /// One of them: `service`, as `POST /config` names it.
    #[must_use]
    pub fn singular(self) -> &'static str {
        let name = self.name();
        name.strip_suffix('s').unwrap_or(name)
    }

    /// The field that can stand for the id in paths and references: `name`, `username`.
    #[must_use]
    pub const fn endpoint_key(self) -> Option<&'static str> {
        self.def().endpoint_key
    }

    /// Its fields.
    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        self.def().fields
    }

    /// A field by its name.
    #[must_use]
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// What it refers to.
    #[must_use]
    pub const fn references(self) -> &'static [Reference] {
        self.def().references
    }

    /// The reference in a field.
    #[must_use]
    pub fn reference(self, field: &str) -> Option<Reference> {
        self.references().iter().copied().find(|reference| reference.field == field)
    }

    /// Every kind that refers to this one, with the reference.
    pub fn referrers(self) -> impl Iterator<Item = (Self, Reference)> {
        Self::ALL.into_iter().flat_map(move |kind| {
            kind.references().iter().filter(move |reference| reference.to == self).map(move |found| (kind, *found))
        })
    }

    /// Fields of another spelling that are read and not stored: `url` of a service.
    #[must_use]
    pub const fn shorthands(self) -> &'static [&'static str] {
        self.def().shorthands
    }

    /// The kind with this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind with this first segment of a path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.path() == path)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Kinds that Kong has and this program does not, and why.
pub const REFUSED: [(&str, &str); 13] = [
    ("basicauth_credentials", "the plugin basic-auth is not built in yet"),
    ("jwt_secrets", "the plugin jwt is not built in yet"),
    ("hmacauth_credentials", "the plugin hmac-auth is not built in yet"),
    ("acls", "the plugin acl is not built in yet"),
    ("oauth2_credentials", "the plugin oauth2 is not built in yet"),
    ("oauth2_tokens", "the plugin oauth2 is not built in yet"),
    ("mtls_auth_credentials", "the plugin mtls-auth is Kong Enterprise's"),
    ("filter_chains", "WebAssembly filters are not built in"),
    ("workspaces", "there is one workspace, `default`"),
    ("consumer_groups", "consumer groups are Kong Enterprise's"),
    ("partials", "partials are Kong Enterprise's"),
    ("licenses", "no licence is needed"),
    ("plugin_configs", "write the configuration where it is used"),
];

/// Why a kind of this name is refused, if Kong has it and this program does not.
#[must_use]
pub fn refused(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_after_what_they_refer_to() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), at, "{kind}");
            for reference in kind.references() {
                assert!(reference.to < kind, "{kind}.{}", reference.field);
                let field = kind.field(reference.field).map(|field| &field.kind);
                assert!(matches!(field, Some(plugin::Kind::Foreign(to)) if *to == reference.to.name()), "{kind}");
            }
            assert_eq!(Kind::of_name(kind.name()), Some(kind));
            assert_eq!(Kind::of_path(kind.path()), Some(kind));
            assert!(refused(kind.name()).is_none());
        }
    }
}
