//! The path that the upstream gets: Kong's `path_handling: v0`, on the normal form of [`model::uri`].

pub use model::uri::{BadPath, normalize};
pub(crate) use model::uri::{escape, hex};

use std::borrow::Cow;

/// The path for the upstream.
///
/// `base` is the service's path (`/` if it has none), `path` the request's in normal form, and `matched_len` says how
/// much of it the route's prefix took, if the prefix is to be stripped.
pub(crate) fn upstream_path<'a>(base: &str, path: &'a str, strip: Option<Option<usize>>) -> Cow<'a, str> {
    let Some(matched_len) = strip else {
        return match base {
            "/" => Cow::Borrowed(path),
            _ if path == "/" => Cow::Owned(base.to_owned()),
            _ => Cow::Owned(concat(base.strip_suffix('/').unwrap_or(base), path)),
        };
    };
    // A route without paths strips nothing but still joins.
    let rest = safe_rest(&path[matched_len.unwrap_or(1).min(path.len())..]);
    let bare = base.strip_suffix('/').unwrap_or(base);
    if rest.is_empty() {
        let trailing = path.len() > 1 && path.ends_with('/');
        return match (bare, trailing) {
            ("", _) => Cow::Borrowed("/"),
            (_, true) => Cow::Owned(concat(bare, "/")),
            // A route without paths asked for `/` keeps the base as it is written.
            _ if path == "/" => Cow::Owned(base.to_owned()),
            _ => Cow::Owned(bare.to_owned()),
        };
    }
    if bare.is_empty() {
        // What is left of the path starts in it, with its slash or right after one.
        let start = path.len() - rest.len();
        if rest.starts_with('/') {
            return Cow::Borrowed(&path[start..]);
        }
        if start > 0 && path.as_bytes()[start - 1] == b'/' {
            return Cow::Borrowed(&path[start - 1..]);
        }
    }
    let slash = if rest.starts_with('/') { "" } else { "/" };
    let mut out = String::with_capacity(bare.len() + slash.len() + rest.len());
    out.push_str(bare);
    out.push_str(slash);
    out.push_str(rest);
    Cow::Owned(out)
}

/// The rest after a stripped prefix without a leading dot segment that stripping may have made.
fn safe_rest(rest: &str) -> &str {
    match rest {
        "." | ".." => "",
        _ => rest.strip_prefix("./").or_else(|| rest.strip_prefix("../")).unwrap_or(rest),
    }
}

fn concat(a: &str, b: &str) -> String {
    let mut out = String::with_capacity(a.len() + b.len());
    out.push_str(a);
    out.push_str(b);
    out
}

#[cfg(test)]
mod tests;
