//! What a route matches on: methods, hosts, paths, headers, server names. One reader a kind.

use gateway::router;

use crate::definitions::last_line;
use crate::problem::Problem;
use crate::reader::{Check, Place};
use crate::scalars;
use crate::suggest::nearest;
use crate::tree::{Node, Value};

/// Methods people mean when they misspell one.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

pub(super) fn method(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.some_text(node, place)?;
    let upper = text.to_ascii_uppercase();
    if text != upper || !text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        let problem = Problem::new(node.at, format!("{place}: `{text}` is not a method"))
            .expected("capital letters, such as GET");
        check.report(problem.maybe_help(nearest(&upper, METHODS).map(|method| format!("did you mean `{method}`?"))));
        return None;
    }
    if let Some(near) = nearest(text, METHODS).filter(|near| *near != text) {
        check.warn(node.at, format!("`{text}` is an unusual method; did you mean `{near}`?"));
    }
    Some(text.to_owned())
}

/// A host name, with at most one `*` as the first or last label, and an optional port.
pub(super) fn host(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.some_text(node, place)?;
    let refuse = |check: &mut Check<'_>, reason: &str| {
        let problem = Problem::new(node.at, format!("{place}: `{text}` cannot be a host: {reason}"));
        check.report(problem.expected("such as example.com, *.example.com, example.* or example.com:8443"));
        None
    };
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return refuse(check, if text.contains("://") { "it is a URL" } else { "its port is not a number" });
    }
    if name.contains('/') {
        return refuse(check, "it contains a path");
    }
    let plain = match name.matches('*').count() {
        0 => name,
        1 => match name.strip_prefix("*.").or_else(|| name.strip_suffix(".*")) {
            Some(rest) => rest,
            None => return refuse(check, "`*` must be the first or the last label"),
        },
        _ => return refuse(check, "it has more than one `*`"),
    };
    let bare = plain.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(plain);
    if scalars::host(bare).is_err() {
        return refuse(check, "it is not a host name");
    }
    if bare == plain && bare.contains(':') {
        return refuse(check, "an IPv6 address stands in brackets");
    }
    if let Err(error) = router::check_host(text) {
        return refuse(check, &error.what);
    }
    Some(text.to_owned())
}

/// A normalised prefix, or `~` and a regular expression.
pub(super) fn path(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.some_text(node, place)?;
    let refuse = |check: &mut Check<'_>, reason: String, help: Option<String>| {
        let problem = Problem::new(node.at, format!("{place}: {reason}"))
            .expected("a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$");
        check.report(problem.maybe_help(help));
        None
    };
    if let Some(pattern) = text.strip_prefix('~') {
        if !pattern.starts_with('/') {
            return refuse(check, format!("the regular expression `{text}` does not begin with `~/`"), None);
        }
        return match router::check_path(text) {
            Ok(()) => Some(text.to_owned()),
            Err(error) => {
                refuse(check, format!("`{text}` is not a regular expression: {}", last_line(&error.what)), None)
            }
        };
    }
    if !text.starts_with('/') {
        return refuse(check, format!("the path `{text}` does not begin with `/`"), Some(format!("write /{text}")));
    }
    if text.contains("//") {
        return refuse(check, format!("the path `{text}` has an empty segment (`//`)"), None);
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return refuse(
            check,
            format!("the path `{text}` has a dot segment, which no request has after normalisation"),
            None,
        );
    }
    if let Some(bad) = scalars::bad_path_character(text) {
        let regex = text.contains(['[', '^', '\\', '{', '|']);
        let help = regex.then(|| format!("for a regular expression write ~{text}"));
        return refuse(check, format!("the path `{text}` contains {bad:?}, which a path cannot"), help);
    }
    if !scalars::is_percent_encoded(text) {
        return refuse(check, format!("the path `{text}` has a `%` without two hexadecimal digits"), None);
    }
    // The router has the last word, so that what is accepted here works there.
    if let Err(error) = router::check_path(text) {
        return refuse(check, format!("the path `{text}` is {}", error.what), None);
    }
    Some(text.to_owned())
}

/// Header names to accepted values.
pub(super) fn headers(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let Value::Map(entries) = &node.value else {
        check.wrong_type(node, place, "a map of header names");
        return None;
    };
    let mut headers = Vec::with_capacity(entries.len());
    for entry in entries {
        if !scalars::is_token(&entry.key) {
            check.report(Problem::new(entry.key_at, format!("{place}: `{}` is not a header name", entry.key)));
            continue;
        }
        if entry.key.eq_ignore_ascii_case("host") {
            check.report(Problem::new(entry.key_at, format!("{place} cannot hold `Host`")).help("use `hosts`"));
            continue;
        }
        let values = check.list_of(&entry.value, Place { key: &entry.key, what: "`headers`" }, header_value)?;
        if values.is_empty() {
            if entry.value.is_empty() {
                check.report(
                    Problem::new(entry.key_at, format!("{place}: `{}` has no values", entry.key))
                        .expected("a list of at least one value"),
                );
            }
            continue;
        }
        headers.push((entry.key.to_string(), values));
    }
    Some(headers)
}

fn header_value(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.text(node, place)?;
    if let Err(error) = router::check_header_value(text) {
        let message = format!("{place}: `{text}` is not a regular expression: {}", last_line(&error.what));
        check.report(Problem::new(node.at, message));
        return None;
    }
    Some(text.to_owned())
}

/// An expression over the fields of a request.
pub(super) fn expression(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.some_text(node, place)?;
    if let Err(error) = router::check_expression(text, router::Fields::Http) {
        check.report(Problem::new(node.at, format!("{place}: {error}")));
        return None;
    }
    Some(text.to_owned())
}

/// A server name of TLS: like a host, without a port.
pub(super) fn sni(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.some_text(node, place)?;
    let plain = text.strip_prefix("*.").or_else(|| text.strip_suffix(".*")).unwrap_or(text);
    if !scalars::is_host_name(plain) {
        check.report(
            Problem::new(node.at, format!("{place}: `{text}` is not a server name"))
                .expected("such as example.com or *.example.com"),
        );
        return None;
    }
    Some(text.to_owned())
}
