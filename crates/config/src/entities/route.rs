//! Routes: what they match, and how the request is changed on the way.

use gateway::entity::{HttpsRedirect, Route, RouteId, RouteProtocols, ServiceId};

use model::limits::ROUTE_PRIORITY_MAX;

use super::{Reader, Scope, id, items, matching, name, tags};
use crate::definitions::titled;
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::tree::Node;

impl<'n> Reader<'n, '_> {
    /// Reads a route; `parent` is the service it is nested in.
    pub(super) fn route(&mut self, check: &mut Check<'_>, node: &'n Node, parent: Option<ServiceId>) {
        let what = titled("route", node, "name");
        let Some(mut map) = check.map(node, &what) else { return };
        let given_id = id(check, &mut map);
        let given_name = map.get(check, "name", name);
        let plugins = map.get(check, "plugins", items).unwrap_or_default();
        let service = match (parent, map.entry("service")) {
            (Some(_), Some(entry)) => {
                let problem = Problem::new(entry.key_at, format!("{what} stands inside a service and names one too"));
                check.report(problem.help("remove `service`, or move the route to the top-level `routes`"));
                parent
            }
            (Some(_), None) => parent,
            (None, None) => None,
            (None, Some(entry)) => {
                super::reference(check, &entry.value, Place { key: "service", what: &what }, &self.services, ServiceId)
            }
        };
        let route = fields(check, &mut map, service);
        map.finish(check);

        let key = match given_name {
            Some(name) => name.to_owned(),
            None => self.routes.derived_key(content_key(&route)),
        };
        let id = given_id.map_or_else(|| RouteId::derived(&key), RouteId);
        let scope = Scope { route: Some(id), ..Scope::default() };
        self.queued_plugins.extend(plugins.iter().map(|plugin| (plugin, scope)));
        let unique_name = given_name.is_none_or(|name| self.routes.add_name(check, name, id, node.at_value("name")));
        if unique_name && self.routes.add_id(check, id.0, node.at_value("id")) {
            self.entities.routes.push(Route { id, name: given_name.map(str::to_owned), ..route });
        }
    }
}

/// What identifies a route without a name.
fn content_key(route: &Route) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}{}",
        route.service,
        route.methods,
        route.hosts,
        route.paths,
        route.headers,
        route.snis,
        // Not a part of it where there is none, so that ids stay what they were.
        route.expression.as_deref().unwrap_or_default()
    )
}

/// All fields but the name and the id, which are placeholders in what is returned.
fn fields(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, service: Option<ServiceId>) -> Route {
    let (protocols, grpc) = map.get(check, "protocols", protocols).unwrap_or((RouteProtocols::Both, false));
    let methods = map.get(check, "methods", |check, node, place| check.list_of(node, place, matching::method));
    let hosts = map.get(check, "hosts", |check, node, place| check.list_of(node, place, matching::host));
    let paths = map.get(check, "paths", |check, node, place| check.list_of(node, place, matching::path));
    let headers = map.get(check, "headers", matching::headers);
    let snis = map.get(check, "snis", |check, node, place| check.list_of(node, place, matching::sni));
    let redirect = map.get(check, "https_redirect_status_code", redirect).unwrap_or(HttpsRedirect::UpgradeRequired);
    let regex_priority =
        map.get(check, "regex_priority", |check, node, place| check.int(node, place, -(1 << 31), 1 << 31));
    let expression = map.get(check, "expression", |check, node, place| matching::expression(check, node, place));
    let priority = map.get(check, "priority", |check, node, place| {
        check.int(node, place, 0, i64::try_from(ROUTE_PRIORITY_MAX).unwrap_or(i64::MAX))
    });
    map.get(check, "path_handling", path_handling);
    let flag = |check: &mut Check<'_>, map: &mut MapReader<'_, '_>, key, default| {
        map.get(check, key, Check::bool).unwrap_or(default)
    };
    let route = Route {
        id: RouteId::derived(""),
        name: None,
        service,
        protocols,
        grpc,
        methods: methods.unwrap_or_default(),
        hosts: hosts.unwrap_or_default(),
        paths: paths.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        snis: snis.unwrap_or_default(),
        https_redirect_status_code: redirect,
        regex_priority: regex_priority.unwrap_or(0),
        expression,
        priority: priority.and_then(|priority| u64::try_from(priority).ok()).unwrap_or(0),
        strip_path: flag(check, map, "strip_path", !grpc),
        preserve_host: flag(check, map, "preserve_host", false),
        request_buffering: flag(check, map, "request_buffering", true),
        response_buffering: flag(check, map, "response_buffering", true),
        tags: tags(check, map),
    };
    if grpc && (route.strip_path || !route.methods.is_empty()) {
        let problem = Problem::new(map.at(), format!("{} serves gRPC", map.what));
        check.report(problem.expected("`strip_path: false`, and no `methods`"));
    }
    map.not_yet(check, &["sources", "destinations"]);
    not_with_an_expression(check, map);
    if !map.has_unknown() {
        require_a_match(check, map, protocols);
    }
    route
}

/// An expression says all of what a route matches.
fn not_with_an_expression(check: &mut Check<'_>, map: &mut MapReader<'_, '_>) {
    let mut given = |key| map.entry(key).is_some_and(|entry| !entry.value.is_empty());
    let expression = given("expression");
    let classic = ["methods", "hosts", "paths", "headers", "snis"].into_iter().find(|key| given(key));
    let what = match (classic, expression) {
        (Some(key), true) => format!("{} has an `expression` and `{key}`", map.what),
        (Some(key), false) if given("priority") => format!("{} has a `priority` and `{key}`", map.what),
        _ => return,
    };
    let help = "put it into the expression, or use `regex_priority`";
    check.report(Problem::new(map.at(), what).help(help));
}

/// A route that matches on nothing is a mistake. What was written and is wrong was reported already.
fn require_a_match(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, protocols: RouteProtocols) {
    let mut given = |key| map.entry(key).is_some_and(|entry| !entry.value.is_empty());
    let http = given("methods") | given("hosts") | given("paths") | given("headers") | given("expression");
    let https = given("snis") && protocols == RouteProtocols::Https;
    if !http && !https {
        let problem = Problem::new(map.at(), format!("{} matches on nothing", map.what));
        let more = if protocols == RouteProtocols::Https { ", `headers` or `snis`" } else { " or `headers`" };
        check.report(problem.expected(format!("at least one of `paths`, `hosts`, `methods`{more}")));
    }
}

/// Schemes, and whether they are those of gRPC; a set.
fn protocols(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<(RouteProtocols, bool)> {
    let schemes = check.list_of(node, place, |check, node, place| {
        if let Some(text @ ("tcp" | "tls" | "tls_passthrough" | "udp" | "ws" | "wss")) = node.text() {
            check.report(
                Problem::new(node.at, format!("{place}: `{text}` is not supported yet"))
                    .expected("`http` and `https`, or `grpc` and `grpcs`"),
            );
            return None;
        }
        let words =
            [("http", (true, false)), ("https", (false, false)), ("grpc", (true, true)), ("grpcs", (false, true))];
        check.word(node, place, &words)
    })?;
    let grpc = schemes.iter().any(|(_, grpc)| *grpc);
    if schemes.iter().any(|(_, one)| *one != grpc) {
        let problem = Problem::new(node.at, format!("{place} mixes gRPC with HTTP"));
        check.report(problem.expected("`http` and `https`, or `grpc` and `grpcs`").help("make it two routes"));
    }
    if schemes.is_empty() && node.is_empty() {
        check.report(Problem::new(node.at, format!("{place} is empty")).expected("`http`, `https` or both"));
    }
    let plain: Vec<bool> = schemes.iter().map(|(plain, _)| *plain).collect();
    set_of(&plain).map(|schemes| (schemes, grpc))
}

/// From a list of "is it plain http".
pub(super) fn set_of(plain: &[bool]) -> Option<RouteProtocols> {
    match (plain.contains(&true), plain.contains(&false)) {
        (true, true) => Some(RouteProtocols::Both),
        (true, false) => Some(RouteProtocols::Http),
        (false, true) => Some(RouteProtocols::Https),
        (false, false) => None,
    }
}

fn redirect(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<HttpsRedirect> {
    let code = check.int(node, place, 0, 999)?;
    let redirect = u16::try_from(code).ok().and_then(HttpsRedirect::from_code);
    if redirect.is_none() {
        check.report(Problem::new(node.at, format!("{place} cannot be {code}")).expected("301, 302, 307, 308 or 426"));
    }
    redirect
}

fn path_handling(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<()> {
    if node.text() == Some("v1") {
        let problem = Problem::new(node.at, format!("{place}: `v1` is not supported yet"));
        check.report(problem.expected("`v0`, the default"));
        return None;
    }
    check.word(node, place, &[("v0", ())])
}
