//! `admin`: who may use the Admin API, beside the broker's administrators.

use std::collections::HashMap;

use model::Secret;
use model::limits::{ADMIN_TOKEN_BYTES_MAX, ADMIN_TOKEN_BYTES_MIN, ADMIN_TOKENS_MAX};

use crate::problem::Problem;
use crate::reader::{Check, Place};
use crate::settings::{Admin, AdminRole, AdminToken};
use crate::source::Span;
use crate::tree::Node;

/// Reads `admin`.
pub(crate) fn admin(check: &mut Check<'_>, node: &Node) -> Admin {
    let Some(mut map) = check.map(node, "`admin`") else { return Admin::default() };
    let tokens = map.get(check, "tokens", tokens).unwrap_or_default();
    map.finish(check);
    Admin { tokens }
}

/// A list of `{name, token, role}`; names and tokens are unique.
fn tokens(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<AdminToken>> {
    let read = check.list_of(node, place, |check, node, _| token(check, node).map(|token| (token, node.at)))?;
    if read.len() > ADMIN_TOKENS_MAX {
        let problem = Problem::new(node.at, format!("{place} holds {} tokens", read.len()));
        check.report(problem.expected(format!("at most {ADMIN_TOKENS_MAX}")));
    }
    unique(check, &read, "name", |token| &token.name);
    unique(check, &read, "token", |token| token.token.reveal());
    Some(read.into_iter().map(|(token, _)| token).collect())
}

fn token(check: &mut Check<'_>, node: &Node) -> Option<AdminToken> {
    let mut map = check.map(node, "an admin token")?;
    let name = map.required(check, "name", "ci", Check::some_text);
    let token = map.get_secret(check, "token");
    if token.is_none() && node.get("token").is_none_or(Node::is_empty) {
        map.missing(check, "token", "\"a long random text\"");
    }
    let token = token.filter(|token| {
        let fits = (ADMIN_TOKEN_BYTES_MIN..=ADMIN_TOKEN_BYTES_MAX).contains(&token.len());
        // It travels in a header field.
        let sendable = token.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits || !sendable {
            let problem = Problem::new(node.get("token").map_or(node.at, |node| node.at), "this token cannot be used");
            check.report(problem.expected(format!(
                "{ADMIN_TOKEN_BYTES_MIN} to {ADMIN_TOKEN_BYTES_MAX} printable ASCII characters without spaces"
            )));
        }
        fits && sendable
    });
    let roles = [("read", AdminRole::Read), ("write", AdminRole::Write)];
    let role = map.required(check, "role", "read", |check, node, place| check.word(node, place, &roles));
    map.finish(check);
    Some(AdminToken { name: name?.to_owned(), token: Secret::new(token?.to_owned()), role: role? })
}

fn unique<'t>(
    check: &mut Check<'_>,
    all: &'t [(AdminToken, Span)],
    what: &str,
    key: impl Fn(&'t AdminToken) -> &'t str,
) {
    let mut seen = HashMap::new();
    for (token, at) in all {
        if let Some(first) = seen.insert(key(token), *at) {
            check.report(
                Problem::new(*at, format!("two admin tokens have the same {what}")).related(first, "the other is"),
            );
        }
    }
}
