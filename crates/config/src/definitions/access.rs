//! Who may do what: users with their passwords, permissions, topic permissions.

use base64::Engine as _;
use model::Secret;
use model::definitions::{PasswordDef, PasswordHash, PermissionDef, TopicPermissionDef, UserDef};

use super::{Names, in_vhost, last_line, short_name, titled};
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::settings::DEFAULT_USER;
use crate::tree::Node;

pub(super) fn user(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<UserDef> {
    let what = titled("user", node, "name");
    let mut map = check.map(node, &what)?;
    let name = map.required(check, "name", "alice", short_name);
    let plain = map.get_secret(check, "password");
    let algorithm = map.get(check, "hashing_algorithm", hashing_algorithm);
    let hash = map.entry("password_hash").map(|entry| {
        check.secrets.push(entry.value.at);
        password_hash(
            check,
            &entry.value,
            Place { key: "password_hash", what: &what },
            algorithm.unwrap_or(PasswordHash::Sha256),
        )
    });
    let tags = map.get(check, "tags", tags).unwrap_or_default();
    map.not_yet(check, &["limits"]);
    let (has_plain, has_hash) = (node.get("password").is_some(), node.get("password_hash").is_some());
    let at = map.at();
    map.finish(check);
    let password = match (plain, hash) {
        (Some(_), Some(_)) => {
            let problem =
                Problem::new(node.at_key("password_hash"), format!("{what} has both `password` and `password_hash`"));
            check.report(problem.help("keep one of the two"));
            return None;
        }
        (Some(plain), None) => PasswordDef::Plain(Secret::new(plain.to_owned())),
        (None, Some(hash)) => hash?,
        (None, None) if has_plain || has_hash => return None,
        (None, None) => {
            check.report(
                Problem::new(at, format!("{what} needs a password"))
                    .expected("`password: …`, or `password_hash` and `hashing_algorithm` as RabbitMQ exports them"),
            );
            return None;
        }
    };
    let name = name?;
    names
        .users
        .first(check, name.clone(), node.at_value("name"), || format!("the user `{name}` is given twice"))
        .then_some(UserDef { name, password, tags })
}

fn hashing_algorithm(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<PasswordHash> {
    if node.text() == Some("rabbit_password_hashing_md5") {
        let problem = Problem::new(node.at, "MD5 password hashes are not supported");
        check.report(problem.help("set the user's password again in RabbitMQ and export, or write `password`"));
        return None;
    }
    let words = [
        ("rabbit_password_hashing_sha256", PasswordHash::Sha256),
        ("rabbit_password_hashing_sha512", PasswordHash::Sha512),
    ];
    check.word(node, place, &words)
}

fn password_hash(check: &mut Check<'_>, node: &Node, place: Place<'_>, algorithm: PasswordHash) -> Option<PasswordDef> {
    let Some(text) = node.text() else {
        check.wrong_type(node, place, "text");
        return None;
    };
    if text.is_empty() {
        return Some(PasswordDef::None);
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    match decoded {
        Ok(salted_hash) if salted_hash.len() == algorithm.salted_len() => {
            Some(PasswordDef::Hashed { algorithm, salted_hash })
        }
        Ok(other) => {
            let problem = Problem::new(node.at, format!("{place} holds {} bytes", other.len()));
            check.report(
                problem.expected(format!("{} bytes in base64: 4 of salt and the hash", algorithm.salted_len())),
            );
            None
        }
        Err(_) => {
            check.report(Problem::new(node.at, format!("{place} is not base64")));
            None
        }
    }
}

/// A list of words, or as older exports write it one text with commas.
fn tags(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<String>> {
    if let Some(text) = node.text() {
        return Some(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect());
    }
    check.list_of(node, place, |check, node, place| check.some_text(node, place).map(str::to_owned))
}

/// The user an object is for.
fn for_user(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, node: &Node, names: &Names) -> Option<String> {
    let user = map.required(check, "user", "alice", short_name)?;
    // Where no user is named there is guest.
    let built_in = names.users.is_empty() && user == DEFAULT_USER;
    if !built_in && !names.users.contains(&user) {
        let problem = Problem::new(node.at_value("user"), format!("there is no user `{user}`"));
        let help = check.did_you_mean(&user, names.users.0.keys().map(String::as_str));
        check.report(problem.maybe_help(help));
        return None;
    }
    Some(user)
}

/// A regular expression over names.
pub(crate) fn pattern(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.text(node, place)?;
    if let Err(error) = regex::Regex::new(text) {
        check.report(Problem::new(
            node.at,
            format!("{place} is not a regular expression: {}", last_line(&error.to_string())),
        ));
        return None;
    }
    Some(text.to_owned())
}

pub(super) fn permission(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<PermissionDef> {
    let what = titled("permission of user", node, "user");
    let mut map = check.map(node, &what)?;
    let user = for_user(check, &mut map, node, names);
    let vhost = in_vhost(check, &mut map, node, names);
    let configure = map.required(check, "configure", "\".*\"", pattern);
    let write = map.required(check, "write", "\".*\"", pattern);
    let read = map.required(check, "read", "\".*\"", pattern);
    map.finish(check);
    let (user, vhost) = (user?, vhost?);
    let key = (user.clone(), vhost.clone());
    if !names.permissions.first(check, key, node.at_value("user"), || {
        format!("permissions of `{user}` in vhost `{vhost}` are given twice")
    }) {
        return None;
    }
    Some(PermissionDef { user, vhost, configure: configure?, write: write?, read: read? })
}

pub(super) fn topic_permission(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<TopicPermissionDef> {
    let what = titled("topic permission of user", node, "user");
    let mut map = check.map(node, &what)?;
    let user = for_user(check, &mut map, node, names);
    let vhost = in_vhost(check, &mut map, node, names);
    let exchange = map.required(check, "exchange", "amq.topic", short_name);
    let write = map.required(check, "write", "\".*\"", pattern);
    let read = map.required(check, "read", "\".*\"", pattern);
    map.finish(check);
    let (user, vhost, exchange) = (user?, vhost?, exchange?);
    let key = (user.clone(), vhost.clone(), exchange.clone());
    let message =
        || format!("topic permissions of `{user}` for exchange `{exchange}` in vhost `{vhost}` are given twice");
    if !names.topic_permissions.first(check, key, node.at_value("user"), message) {
        return None;
    }
    Some(TopicPermissionDef { user, vhost, exchange, write: write?, read: read? })
}
