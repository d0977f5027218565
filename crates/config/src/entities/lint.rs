//! What Kong takes in silence and a person would rather hear of: a `url` beside the fields it replaces, parts of a URL that
//! are dropped, a path that looks like a regular expression, methods that nobody sends.

use crate::definitions::titled;
use crate::problem::Problem;
use crate::reader::Check;
use crate::suggest::nearest;
use crate::tree::{Node, Value};

/// Methods people mean when they misspell one.
pub(super) const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
/// What a URL looks like.
const URL_EXPECTED: &str = "such as http://127.0.0.1:9000 or https://example.com/base";

pub(super) fn lint(check: &mut Check<'_>, root: &Node) {
    for node in items(root.get("services")) {
        service(check, node);
        items(node.get("routes")).for_each(|route| self::route(check, route));
    }
    items(root.get("routes")).for_each(|node| route(check, node));
}

fn items(list: Option<&Node>) -> impl Iterator<Item = &Node> {
    match list.map(|node| &node.value) {
        Some(Value::List(items)) => items.iter(),
        _ => [].iter(),
    }
}

fn service(check: &mut Check<'_>, node: &Node) {
    let what = titled("service", node, "name");
    let protocol = node.get("protocol").and_then(Node::text);
    if let Some(url) = node.get("url").filter(|url| !url.is_empty()) {
        if protocol == Some("queue") {
            let message = format!("`url` in {what} has no meaning with `protocol: queue`");
            let problem = Problem::new(node.at_key("url"), message);
            check.report(problem.help("remove it; `host` is the name of the queue"));
            return;
        }
        for key in ["protocol", "host", "port", "path"] {
            if node.get(key).is_some_and(|node| !node.is_empty()) {
                let problem = Problem::new(node.at_key(key), format!("{what} has both `url` and `{key}`"));
                let problem = problem.help(format!("`url` says it all; remove `{key}`"));
                check.report(problem.related(node.at_key("url"), "`url` is"));
            }
        }
        if let Some(text) = url.text() {
            self::url(check, url, &what, text);
        }
        return;
    }
    let said = |key: &str| node.get(key).is_some_and(|node| !node.is_empty());
    if protocol == Some("https") && said("host") && !said("port") {
        // Kong's default, kept so that its files mean the same here.
        let message = format!("{what} speaks https on port 80, Kong's default; say `port: 443` if you mean that");
        check.warn(node.at_key("host"), message);
    }
}

/// Parts of a URL that Kong would drop, and schemes that it would take for something else.
fn url(check: &mut Check<'_>, node: &Node, what: &str, text: &str) {
    let mut refuse = |reason: String, help: Option<String>| {
        let problem = Problem::new(node.at, format!("`url` in {what}: {reason}")).expected(URL_EXPECTED);
        check.report(problem.maybe_help(help));
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse(format!("`{text}` is not a URL"), Some(format!("write http://{text}")));
    };
    if !matches!(scheme, "http" | "https" | "grpc" | "grpcs") {
        return refuse(format!("URLs of `{scheme}` are not supported"), None);
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return refuse(String::from("a URL here cannot contain a user or a password"), None);
    }
    if rest.contains(['?', '#']) {
        return refuse(String::from("a URL here cannot have a query or a fragment"), None);
    }
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let port = after_host.split_once(':').map(|(_, port)| port);
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return refuse(format!("`{authority}` has a port that is not a number from 0 to 65535"), None);
    }
    let host = port.map_or(authority, |port| &authority[..authority.len() - port.len() - 1]);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Err(reason) = crate::scalars::host(host) {
        refuse(format!("`{host}` cannot be a host: {reason}"), None);
    }
}

fn route(check: &mut Check<'_>, node: &Node) {
    let what = titled("route", node, "name");
    for path in items(node.get("paths")) {
        let Some(text) = path.text().filter(|text| text.starts_with('/') && !text.contains("//")) else { continue };
        if let Some(bad) = crate::scalars::bad_path_character(text) {
            let regex = text.contains(['[', '^', '\\', '{', '|']);
            let problem = Problem::new(
                path.at,
                format!("`paths` in {what}: the path `{text}` contains {bad:?}, which a path cannot"),
            );
            let problem = problem.expected(super::report::PATH_EXPECTED);
            check.report(problem.maybe_help(regex.then(|| format!("for a regular expression write ~{text}"))));
        }
    }
    for method in items(node.get("methods")) {
        let Some(text) = method.text().filter(|text| text.bytes().all(|b| b.is_ascii_uppercase())) else { continue };
        if let Some(near) = nearest(text, METHODS).filter(|near| *near != text) {
            check.warn(method.at, format!("`{text}` is an unusual method; did you mean `{near}`?"));
        }
    }
}
