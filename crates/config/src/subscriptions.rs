//! `subscriptions`: queues that are pushed to HTTP services.

use std::time::Duration;

use bridge::subscription::{RetrySettings, SubscriptionSettings};
use http::{HeaderName, HeaderValue, Uri};

use crate::definitions::{Seen, short_name, titled};
use crate::entities::QueueUse;
use crate::listen::duration;
use crate::problem::Problem;
use crate::reader::{Check, Place};
use crate::settings::{DEFAULT_USER, DEFAULT_VHOST};
use crate::tree::{Node, Value};

/// Parts of the bridge's specification that are not built yet.
const NOT_YET: [&str; 14] = [
    "topic",
    "filter",
    "service",
    "path",
    "method",
    "auth",
    "content_mode",
    "signing",
    "rate_per_second",
    "ordering",
    "batch",
    "validate_endpoint",
    "allow_private_networks",
    "enabled",
];
/// Headers that frame or route the request, or that the subscription sets itself.
const RESERVED_HEADERS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
];
/// Limits of the values, as [`SubscriptionSettings`] documents them.
const TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
const WAIT_MAX: Duration = Duration::from_secs(7 * 86_400);
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads the list. What the subscriptions use of the broker is added to `uses`.
pub(crate) fn subscriptions(
    check: &mut Check<'_>,
    node: &Node,
    place: Place<'_>,
    uses: &mut Vec<QueueUse>,
) -> Vec<SubscriptionSettings> {
    let Value::List(items) = &node.value else {
        check.wrong_type(node, place, "a list");
        return Vec::new();
    };
    let mut names = Seen::new();
    items.iter().filter_map(|item| subscription(check, item, &mut names, uses)).collect()
}

fn subscription(
    check: &mut Check<'_>,
    node: &Node,
    names: &mut Seen<String>,
    uses: &mut Vec<QueueUse>,
) -> Option<SubscriptionSettings> {
    let what = titled("subscription", node, "name");
    let mut map = check.map(node, &what)?;
    let name = map.required(check, "name", "fulfil", short_name);
    let queue = map.required(check, "queue", "orders", short_name);
    let url = map.required(check, "url", "\"http://127.0.0.1:9001/fulfil\"", url);
    let vhost = map.get(check, "vhost", short_name).unwrap_or_else(|| DEFAULT_VHOST.to_owned());
    let user = map.get(check, "user", short_name).unwrap_or_else(|| DEFAULT_USER.to_owned());
    let dead_letter = map.get(check, "dead_letter", short_name);
    let headers = map.get(check, "headers", headers).unwrap_or_default();
    let timeout = map.get(check, "timeout", |check, node, place| duration(check, node, place, SHORTEST, TIMEOUT_MAX));
    let max_in_flight = map.get(check, "max_in_flight", |check, node, place| check.int(node, place, 1, 10_000));
    let retry = map.get(check, "retry", |check, node, _| retry(check, node)).unwrap_or_default();
    map.not_yet(check, &NOT_YET);
    map.finish(check);
    let unique = name.as_ref().is_none_or(|name| {
        names.first(check, name.clone(), node.at_value("name"), || {
            format!("the subscription name `{name}` is given twice")
        })
    });
    let queue = queue?;
    if dead_letter.as_ref() == Some(&queue) {
        let problem =
            Problem::new(node.at_value("dead_letter"), format!("{what} would dead-letter into the queue it reads"));
        check.report(problem.help(format!("name another queue, such as {queue}.dead")));
        return None;
    }
    let mut queues = vec![queue.clone()];
    queues.extend(dead_letter.clone());
    let user_at = if node.get("user").is_some() { node.at_value("user") } else { node.at_key("queue") };
    uses.push(QueueUse { vhost: vhost.clone(), user: user.clone(), queues, vhost_at: node.at_value("vhost"), user_at });
    let (name, url) = (name.filter(|_| unique)?, url?);
    Some(SubscriptionSettings {
        name,
        vhost,
        user,
        queue,
        url,
        headers,
        timeout: timeout.unwrap_or(Duration::from_secs(15)),
        max_in_flight: max_in_flight.and_then(|count| u32::try_from(count).ok()).unwrap_or(10),
        retry,
        dead_letter,
    })
}

/// An absolute URL of `http` or `https`; a query is allowed.
fn url(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Uri> {
    let text = check.some_text(node, place)?;
    let refuse = |check: &mut Check<'_>, reason: &str, help: Option<String>| {
        let problem = Problem::new(node.at, format!("{place}: {reason}"));
        check.report(problem.expected("such as http://127.0.0.1:9001/fulfil").maybe_help(help));
        None
    };
    if !text.contains("://") {
        return refuse(check, &format!("`{text}` is not a URL"), Some(format!("write http://{text}")));
    }
    let Ok(uri) = text.parse::<Uri>() else { return refuse(check, &format!("`{text}` is not a URL"), None) };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return refuse(check, &format!("URLs of `{}` are not supported", uri.scheme_str().unwrap_or_default()), None);
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        check.secrets.push(node.at);
        let problem = Problem::new(node.at, format!("{place}: a URL here cannot contain a user or a password"));
        check.report(problem.help("send them with `headers: { authorization: … }`"));
        return None;
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if let Err(reason) = crate::scalars::host(host) {
        return refuse(check, &format!("`{host}` cannot be a host: {reason}"), None);
    }
    if authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err()) {
        return refuse(check, &format!("`{authority}` has a port that is not a number from 0 to 65535"), None);
    }
    Some(uri)
}

fn headers(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Value::Map(entries) = &node.value else {
        check.wrong_type(node, place, "a map of header names and values");
        return None;
    };
    let mut headers = Vec::with_capacity(entries.len());
    for entry in entries {
        let Ok(name) = HeaderName::from_bytes(entry.key.as_bytes()) else {
            check.report(Problem::new(entry.key_at, format!("{place}: `{}` is not a header name", entry.key)));
            continue;
        };
        if RESERVED_HEADERS.contains(&name.as_str()) {
            check.report(Problem::new(
                entry.key_at,
                format!("{place}: `{name}` cannot be set, the connection needs it"),
            ));
            continue;
        }
        let place = Place { key: &entry.key, what: "`headers`" };
        // What is sent as a header is often a key.
        check.secrets.push(entry.value.at);
        let Some(text) = check.text(&entry.value, place) else { continue };
        match HeaderValue::from_str(text) {
            Ok(value) => headers.push((name, value)),
            Err(_) => {
                check.report(Problem::new(entry.value.at, format!("{place} has a character that a header cannot have")))
            }
        }
    }
    Some(headers)
}

fn retry(check: &mut Check<'_>, node: &Node) -> Option<RetrySettings> {
    let defaults = RetrySettings::default();
    let mut map = check.map(node, "`retry`")?;
    let wait = |check: &mut Check<'_>, node: &Node, place: Place<'_>| duration(check, node, place, SHORTEST, WAIT_MAX);
    let base = map.get(check, "base", wait).unwrap_or(defaults.base);
    let max = map.get(check, "max", wait);
    let factor = map.get(check, "factor", factor).unwrap_or(defaults.factor);
    let attempts = map.get(check, "attempts", |check, node, place| check.int(node, place, 1, 1_000));
    map.not_yet(check, &["max_age", "schedule", "jitter"]);
    map.finish(check);
    if let Some(max) = max.filter(|max| *max < base) {
        let problem =
            Problem::new(node.at_value("max"), format!("`max` in `retry` ({max:?}) is shorter than `base` ({base:?})"));
        check.report(problem.expected("the longest wait"));
    }
    let attempts = attempts.and_then(|count| u32::try_from(count).ok()).unwrap_or(defaults.attempts);
    Some(RetrySettings { base, factor, max: max.unwrap_or(defaults.max).max(base), attempts })
}

fn factor(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<f64> {
    let expected = "a number from 1 to 100";
    match node.text().map(str::parse::<f64>) {
        Some(Ok(factor)) if (1.0..=100.0).contains(&factor) => Some(factor),
        Some(Ok(factor)) => {
            check.report(Problem::new(node.at, format!("{place} is out of range: {factor}")).expected(expected));
            None
        }
        _ => {
            check.wrong_type(node, place, expected);
            None
        }
    }
}
