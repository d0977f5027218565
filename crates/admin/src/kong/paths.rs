//! The paths of entities: which kind, which one, below which other.
//!
//! They follow from the table of kinds, as Kong's do: `/routes`, `/routes/{r}`, `/routes/{r}/service` for each reference, and
//! for the kind referred to `/services/{s}/routes` and `/services/{s}/routes/{r}`.

use entities::{Kind, Reference};
use percent_encoding::percent_decode_str;

/// What a path of entities means. A key is an id or what the kind has in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    /// `/routes`, `/services/{s}/routes`.
    Collection { kind: Kind, under: Option<Under> },
    /// `/routes/{r}`, `/services/{s}/routes/{r}`.
    One { kind: Kind, key: String, under: Option<Under> },
    /// `/routes/{r}/service`: what an entity refers to.
    Referred { kind: Kind, key: String, reference: Reference },
}

/// The entity that those asked for refer to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Under {
    /// Its key.
    pub(crate) key: String,
    /// How they refer to it.
    pub(crate) reference: Reference,
}

/// The segments of a path, decoded. A slash at the end makes no difference, as in Kong.
pub(crate) fn segments(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Vec::new();
    }
    path.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect()
}

impl Endpoint {
    /// The endpoint at a path, if it is one of entities.
    pub(crate) fn of(segments: &[String]) -> Option<Self> {
        let (first, rest) = segments.split_first()?;
        let kind = Kind::of_path(first)?;
        // Kong's too: a target is known by its upstream only.
        if kind == Kind::Targets {
            return None;
        }
        match rest {
            [] => Some(Self::Collection { kind, under: None }),
            [key] => Some(Self::One { kind, key: key.clone(), under: None }),
            [key, name] => match kind.reference(name) {
                // Kong's too: a certificate is found by the name of an SNI instead.
                Some(_) if kind == Kind::Snis => None,
                Some(reference) => Some(Self::Referred { kind, key: key.clone(), reference }),
                None => {
                    let (child, reference) = child(kind, name)?;
                    Some(Self::Collection { kind: child, under: Some(Under { key: key.clone(), reference }) })
                }
            },
            [key, name, child_key] => {
                let (child, reference) = child(kind, name)?;
                let under = Some(Under { key: key.clone(), reference });
                Some(Self::One { kind: child, key: child_key.clone(), under })
            }
            _ => None,
        }
    }

    /// The methods it has, as Kong lists them.
    pub(crate) const fn allow(&self) -> &'static str {
        match self {
            Self::Collection { .. } => "GET, HEAD, OPTIONS, POST",
            Self::One { .. } | Self::Referred { .. } => "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
        }
    }
}

/// The kind that stands below another under this name.
fn child(parent: Kind, name: &str) -> Option<(Kind, Reference)> {
    parent.referrers().find(|(kind, _)| kind.nested_path() == name)
}

/// Every path of entities, as `/endpoints` shows them.
pub(crate) fn all() -> Vec<String> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let (path, name) = (kind.path(), kind.name());
        if kind != Kind::Targets {
            all.push(format!("/{path}"));
            all.push(format!("/{path}/{{{name}}}"));
            if kind != Kind::Snis {
                all.extend(kind.references().iter().map(|reference| format!("/{path}/{{{name}}}/{}", reference.field)));
            }
        }
        for (child, _) in kind.referrers() {
            all.push(format!("/{path}/{{{name}}}/{}", child.nested_path()));
            all.push(format!("/{path}/{{{name}}}/{}/{{{}}}", child.nested_path(), child.name()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Option<Endpoint> {
        Endpoint::of(&segments(path))
    }

    #[test]
    fn paths_follow_from_the_table_of_kinds() {
        let one = |kind, key: &str| Some(Endpoint::One { kind, key: key.to_owned(), under: None });
        assert_eq!(at("/services"), Some(Endpoint::Collection { kind: Kind::Services, under: None }));
        assert_eq!(at("/services/"), at("/services"));
        assert_eq!(at("/services/a%20b%2Fc"), one(Kind::Services, "a b/c"));
        assert_eq!(at("/key-auths/x"), one(Kind::KeyauthCredentials, "x"));
        let reference = Kind::Routes.reference("service").unwrap();
        let under = Some(Under { key: "s".to_owned(), reference });
        assert_eq!(at("/services/s/routes"), Some(Endpoint::Collection { kind: Kind::Routes, under: under.clone() }));
        let route = Endpoint::One { kind: Kind::Routes, key: "r".to_owned(), under };
        assert_eq!(at("/services/s/routes/r"), Some(route));
        let key = "r".to_owned();
        assert_eq!(at("/routes/r/service"), Some(Endpoint::Referred { kind: Kind::Routes, key, reference }));
        for path in [
            "/consumers/c/key-auth",
            "/consumers/c/plugins/p",
            "/certificates/c/snis",
            "/certificates/c/services",
            "/upstreams/u/targets",
            "/key-sets/s/keys",
            "/key-auths/k/consumer",
            "/plugins/p/route",
        ] {
            assert!(at(path).is_some(), "{path}");
        }
        for path in [
            "/",
            "/nothing",
            "/targets",
            "/targets/t",
            "/snis/s/certificate",
            "/services/s/snis",
            "/services/s/routes/r/x",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }
}
