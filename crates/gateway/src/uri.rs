//! Paths: the normal form that routes match, and the path that the upstream gets.
//!
//! Normal form (RFC 3986 §6.2.2): unreserved characters are not percent-encoded, other encodings have upper-case
//! digits, dot segments are resolved, and, beyond the RFC, runs of slashes are one slash. The upstream gets what was
//! matched, so nobody can pass a route by spelling a path differently. Path building is Kong's `path_handling: v0`.

use std::borrow::Cow;

/// The normal form of a path that starts with `/`; borrowed if it already is one.
#[must_use]
pub fn normalize(path: &str) -> Cow<'_, str> {
    if is_normal(path.as_bytes()) { Cow::Borrowed(path) } else { Cow::Owned(resolve_dots(&decode_unreserved(path))) }
}

/// Whether a path has no `%`, no `//` and no segment that starts with a dot: then it is normal for certain.
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        match byte {
            b'%' => return false,
            b'/' | b'.' if after_slash => return false,
            _ => after_slash = *byte == b'/',
        }
    }
    true
}

fn decode_unreserved(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            // A stray `%` stays as it is.
            out.push('%');
            rest = &rest[at + 1..];
            continue;
        };
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.extend(rest[at..at + 3].chars().map(|char| char.to_ascii_uppercase()));
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    out
}

fn resolve_dots(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    let mut ends_in_directory = path.ends_with('/');
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => ends_in_directory |= last,
            ".." => {
                out.truncate(out.rfind('/').unwrap_or(0));
                ends_in_directory |= last;
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    if out.is_empty() || ends_in_directory {
        out.push('/');
    }
    out
}

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
