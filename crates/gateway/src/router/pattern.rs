//! The patterns of a route: hosts with a wildcard, anchored regular expressions, header values.
//!
//! A pattern that exists is valid. Regular expressions are those of the `regex` crate, so matching takes linear time.

use regex::{Regex, RegexBuilder};
use std::fmt;

/// A pattern that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PatternError {
    /// The pattern as configured.
    pub pattern: String,
    /// What is wrong with it.
    pub what: String,
}

impl PatternError {
    pub(super) fn new(pattern: &str, what: impl Into<String>) -> Self {
        Self { pattern: pattern.to_owned(), what: what.into() }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.pattern, self.what)
    }
}

impl std::error::Error for PatternError {}

/// A host of a route: exact, `*.suffix` or `prefix.*`, with an optional port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HostPattern {
    pub(super) name: HostName,
    port: Option<u16>,
}

/// The name part of a host pattern, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HostName {
    /// Equal to this.
    Exact(Box<str>),
    /// Ends with this; it starts with a dot.
    EndsWith(Box<str>),
    /// Starts with this; it ends with a dot.
    StartsWith(Box<str>),
}

impl HostPattern {
    /// Reads a host as Kong writes it.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let error = |what: &str| Err(PatternError::new(text, what));
        let lower = text.to_ascii_lowercase();
        let (name, port) = split_port(&lower);
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return error("the port must be a number from 1 to 65535"),
        };
        let name = if let Some(suffix) = name.strip_prefix('*') {
            if !suffix.starts_with('.') {
                return error("a leading `*` must be a whole label, as in `*.example.com`");
            }
            HostName::EndsWith(suffix.into())
        } else if let Some(prefix) = name.strip_suffix('*') {
            if !prefix.ends_with('.') {
                return error("a trailing `*` must be a whole label, as in `example.*`");
            }
            HostName::StartsWith(prefix.into())
        } else {
            HostName::Exact(name.into())
        };
        let (HostName::Exact(rest) | HostName::EndsWith(rest) | HostName::StartsWith(rest)) = &name;
        if rest.contains('*') {
            return error("at most one `*`, as the first or the last label");
        }
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':');
        if rest.is_empty() || !rest.bytes().all(known) {
            return error("not a host name");
        }
        Ok(Self { name, port })
    }

    /// Whether it has no wildcard.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.name, HostName::Exact(_))
    }

    /// Whether a request for `host` (lower case, no port) and `port` matches.
    pub(super) fn matches(&self, host: &str, port: u16) -> bool {
        let name = match &self.name {
            HostName::Exact(name) => **name == *host,
            HostName::EndsWith(suffix) => host.ends_with(&**suffix),
            HostName::StartsWith(prefix) => host.starts_with(&**prefix),
        };
        name && self.port.is_none_or(|wanted| wanted == port)
    }
}

/// A server name of TLS: exact, or with a `*` as the first or last character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NamePattern {
    Exact(Box<str>),
    EndsWith(Box<str>),
    StartsWith(Box<str>),
}

impl NamePattern {
    /// Reads a server name as Kong does: a dot at its end does not count.
    pub(super) fn sni(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        if let Some(prefix) = lower.strip_suffix('*').filter(|prefix| !prefix.is_empty()) {
            return Self::StartsWith(prefix.into());
        }
        let name = undotted(&lower);
        name.strip_prefix('*').map_or_else(|| Self::Exact(name.into()), |suffix| Self::EndsWith(suffix.into()))
    }

    /// Whether the name a client asked for, in lower case, matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name = undotted(name);
        match self {
            Self::Exact(wanted) => **wanted == *name,
            Self::EndsWith(suffix) => name.ends_with(&**suffix),
            Self::StartsWith(prefix) => name.starts_with(&**prefix),
        }
    }
}

/// A name without the dot at its end, if it is more than that.
fn undotted(name: &str) -> &str {
    name.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// Splits `host:port`; the brackets of an IPv6 address stay with the host.
pub(crate) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => (&host[..at], Some(&host[at + 1..])),
        _ => (host, None),
    }
}

/// A header value of a route, compared without regard to case.
#[derive(Clone, Debug)]
pub(super) enum HeaderPattern {
    /// Equal to this, in lower case.
    Exact(Box<str>),
    /// Matches this, which ignores case.
    Regex(Regex),
}

impl HeaderPattern {
    /// Reads a value; `~*` starts a regular expression.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        match text.strip_prefix("~*") {
            Some(pattern) => {
                let regex = RegexBuilder::new(pattern).case_insensitive(true).build();
                regex.map(Self::Regex).map_err(|error| PatternError::new(text, error.to_string()))
            }
            None => Ok(Self::Exact(text.to_ascii_lowercase().into())),
        }
    }

    /// Whether a header's value matches.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => wanted.as_bytes().eq_ignore_ascii_case(value),
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
        }
    }
}

/// The regular expression of a `~` path, anchored at the start. The whole pattern is anchored, every alternative too.
pub(super) fn path_regex(pattern: &str) -> Result<Regex, PatternError> {
    Regex::new(&format!("^(?:{pattern})")).map_err(|error| PatternError::new(pattern, error.to_string()))
}

/// What every match of a pattern literally starts with, for the index. May be shorter than possible, never longer.
pub(super) fn literal_prefix(pattern: &str) -> &str {
    if pattern.contains('|') {
        return "";
    }
    let literal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'%' | b'~');
    let len = pattern.bytes().take_while(|byte| literal(byte)).count();
    match pattern.as_bytes().get(len) {
        // The last character may be absent.
        Some(b'?' | b'*' | b'{') => &pattern[..len.saturating_sub(1)],
        _ => &pattern[..len],
    }
}

/// Checks a path of a route: a normalised prefix or `~` and a regular expression.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), PatternError> {
    if let Some(pattern) = path.strip_prefix('~') {
        return path_regex(pattern).map(drop);
    }
    if !path.starts_with('/') {
        return Err(PatternError::new(path, "a path starts with `/`, a regular expression with `~`"));
    }
    match crate::uri::normalize(path) {
        Ok(normal) if normal == path => Ok(()),
        Ok(normal) => Err(PatternError::new(path, format!("not normalised, write `{normal}`"))),
        Err(_) => Err(PatternError::new(path, "a `%` must stand before two hexadecimal digits, and not encode NUL")),
    }
}

/// Checks a host of a route.
///
/// # Errors
/// What is wrong with it.
pub fn check_host(host: &str) -> Result<(), PatternError> {
    HostPattern::parse(host).map(drop)
}

/// Checks a header value of a route.
///
/// # Errors
/// What is wrong with it.
pub fn check_header_value(value: &str) -> Result<(), PatternError> {
    HeaderPattern::parse(value).map(drop)
}
