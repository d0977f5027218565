//! Services: an HTTP upstream (fields or `url`), or a queue; and the CA certificates they name.

use gateway::entity::{Backend, CaCertificate, CaCertificateId, HttpBackend, QueueBackend, Scheme, Service, ServiceId};

use super::{QueueUse, Reader, Scope, id, items, name, tags};
use crate::definitions::{short_name, titled};
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::scalars;
use crate::settings::{DEFAULT_USER, DEFAULT_VHOST};
use crate::tree::Node;

/// Milliseconds of a service's timeouts.
const TIMEOUT_MS_MAX: i64 = 2_147_483_646;
/// Their default.
const TIMEOUT_MS_DEFAULT: u32 = 60_000;
/// Keys that only an HTTP upstream has.
const HTTP_ONLY: [&str; 11] = [
    "url",
    "port",
    "path",
    "retries",
    "connect_timeout",
    "write_timeout",
    "read_timeout",
    "tls_verify",
    "tls_verify_depth",
    "ca_certificates",
    "client_certificate",
];
/// Of those, what needs TLS.
const TLS_ONLY: [&str; 3] = ["tls_verify", "tls_verify_depth", "ca_certificates"];

/// What `protocol` may say.
#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Http(Scheme),
    Grpc(Scheme),
    Queue,
}

/// Where an HTTP upstream is.
struct Endpoint {
    scheme: Scheme,
    host: String,
    port: u16,
    path: Option<String>,
    http2: bool,
}

impl<'n> Reader<'n, '_> {
    pub(super) fn service(&mut self, check: &mut Check<'_>, node: &'n Node) {
        let what = titled("service", node, "name");
        let Some(mut map) = check.map(node, &what) else { return };
        let given_id = id(check, &mut map);
        let given_name = map.get(check, "name", name);
        let tags = tags(check, &mut map);
        let enabled = map.get(check, "enabled", Check::bool).unwrap_or(true);
        let routes = map.get(check, "routes", items).unwrap_or_default();
        let plugins = map.get(check, "plugins", items).unwrap_or_default();
        let protocol = map.get(check, "protocol", protocol);
        let backend = match protocol {
            Some(Protocol::Queue) => self.queue_backend(check, &mut map, node),
            None if node.get("protocol").is_some_and(|node| !node.is_empty()) => {
                map.ignore(&HTTP_ONLY);
                map.ignore(&["host", "vhost", "user"]);
                None
            }
            other => self.http_backend(check, &mut map, node, other),
        };
        map.not_yet(check, &["client_certificate"]);
        map.finish(check);

        // Routes and plugins are read even if the service is wrong: their mistakes are to be seen too.
        let key = match (given_name, &backend) {
            (Some(name), _) => name.to_owned(),
            (None, Some(backend)) => backend_key(backend),
            (None, None) => String::from("?"),
        };
        let key = if given_name.is_some() { key } else { self.services.derived_key(key) };
        let id = given_id.map_or_else(|| ServiceId::derived(&key), ServiceId);
        self.queued_routes.extend(routes.iter().map(|route| (route, Some(id))));
        let scope = Scope { service: Some(id), ..Scope::default() };
        self.queued_plugins.extend(plugins.iter().map(|plugin| (plugin, scope)));
        let unique_name = given_name.is_none_or(|name| self.services.add_name(check, name, id, node.at_value("name")));
        let unique = unique_name && self.services.add_id(check, id.0, node.at_value("id"));
        if let (true, Some(backend)) = (unique, backend) {
            let name = given_name.map(str::to_owned);
            self.entities.services.push(Service { id, name, backend, enabled, tags });
        }
    }

    fn queue_backend(&mut self, check: &mut Check<'_>, map: &mut MapReader<'n, '_>, node: &Node) -> Option<Backend> {
        for key in HTTP_ONLY {
            if let Some(entry) = map.entry(key) {
                let problem = Problem::new(
                    entry.key_at,
                    format!("`{key}` in {} has no meaning with `protocol: queue`", map.what),
                );
                check.report(problem.help("remove it; `host` is the name of the queue"));
            }
        }
        let vhost = map.get(check, "vhost", short_name).unwrap_or_else(|| DEFAULT_VHOST.to_owned());
        let user = map.get(check, "user", short_name).unwrap_or_else(|| DEFAULT_USER.to_owned());
        // After `vhost`, which is not `host` misspelt.
        let queue = map.required(check, "host", "orders", short_name)?;
        self.queue_uses.push(QueueUse {
            vhost: vhost.clone(),
            user: user.clone(),
            queues: vec![queue.clone()],
            vhost_at: node.at_value("vhost"),
            user_at: if node.get("user").is_some() { node.at_value("user") } else { node.at_key("protocol") },
        });
        Some(Backend::Queue(QueueBackend { queue, vhost, user }))
    }

    fn http_backend(
        &mut self,
        check: &mut Check<'_>,
        map: &mut MapReader<'n, '_>,
        node: &Node,
        protocol: Option<Protocol>,
    ) -> Option<Backend> {
        for key in ["vhost", "user"] {
            if let Some(entry) = map.entry(key) {
                let problem = Problem::new(entry.key_at, format!("`{key}` in {} needs `protocol: queue`", map.what));
                check.report(problem);
            }
        }
        let endpoint = endpoint(check, map, node, protocol);
        let retries = map.get(check, "retries", |check, node, place| check.int(node, place, 0, 32_767)).unwrap_or(5);
        let connect_timeout_ms = timeout(check, map, "connect_timeout");
        let write_timeout_ms = timeout(check, map, "write_timeout");
        let read_timeout_ms = timeout(check, map, "read_timeout");
        let tls_verify = map.get(check, "tls_verify", Check::bool);
        let tls_verify_depth = map.get(check, "tls_verify_depth", |check, node, place| check.int(node, place, 0, 64));
        let ca_certificates = map
            .get(check, "ca_certificates", |check, node, place| {
                check.list_of(node, place, |check, node, place| {
                    super::reference(check, node, place, &self.ca_certificates, CaCertificateId)
                })
            })
            .unwrap_or_default();
        let endpoint = endpoint?;
        if endpoint.scheme == Scheme::Http {
            for key in TLS_ONLY.into_iter().filter(|key| node.get(key).is_some_and(|node| !node.is_empty())) {
                check
                    .report(Problem::new(node.at_key(key), format!("`{key}` in {} needs `protocol: https`", map.what)));
            }
        }
        Some(Backend::Http(HttpBackend {
            scheme: endpoint.scheme,
            http2: endpoint.http2,
            host: endpoint.host,
            port: endpoint.port,
            path: endpoint.path,
            retries: u16::try_from(retries).unwrap_or(u16::MAX),
            connect_timeout_ms,
            write_timeout_ms,
            read_timeout_ms,
            tls_verify,
            tls_verify_depth: tls_verify_depth.and_then(|depth| u8::try_from(depth).ok()),
            ca_certificates,
        }))
    }

    pub(super) fn ca_certificate(&mut self, check: &mut Check<'_>, node: &Node) {
        let Some(mut map) = check.map(node, "a CA certificate") else { return };
        let given_id = id(check, &mut map);
        let tags = tags(check, &mut map);
        let cert = map.required(check, "cert", "\"-----BEGIN CERTIFICATE-----…\"", |check, node, place| {
            let text = check.some_text(node, place)?;
            if !text.trim_start().starts_with("-----BEGIN CERTIFICATE-----") {
                check.report(
                    Problem::new(node.at, format!("{place} is not a certificate"))
                        .expected("PEM, beginning with -----BEGIN CERTIFICATE-----"),
                );
                return None;
            }
            Some(text.to_owned())
        });
        map.ignore(&["cert_digest"]);
        map.finish(check);
        let Some(cert) = cert else { return };
        let id = given_id.map_or_else(|| CaCertificateId::derived(&cert), CaCertificateId);
        if self.ca_certificates.add_id(check, id.0, node.at) {
            self.entities.ca_certificates.push(CaCertificate { id, cert, tags });
        }
    }
}

/// What identifies a service without a name.
fn backend_key(backend: &Backend) -> String {
    match backend {
        Backend::Http(http) => {
            format!("{}://{}:{}{}", http.scheme.as_str(), http.host, http.port, http.path.as_deref().unwrap_or(""))
        }
        Backend::Queue(queue) => format!("queue://{}/{}", queue.vhost, queue.queue),
    }
}

fn protocol(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Protocol> {
    if let Some(text @ ("tcp" | "tls" | "tls_passthrough" | "udp" | "ws" | "wss")) = node.text() {
        check.report(
            Problem::new(node.at, format!("`protocol: {text}` is not supported yet"))
                .expected("`http`, `https`, `grpc`, `grpcs` or `queue`"),
        );
        return None;
    }
    let words = [
        ("http", Protocol::Http(Scheme::Http)),
        ("https", Protocol::Http(Scheme::Https)),
        ("grpc", Protocol::Grpc(Scheme::Http)),
        ("grpcs", Protocol::Grpc(Scheme::Https)),
        ("queue", Protocol::Queue),
    ];
    check.word(node, place, &words)
}

fn timeout(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, key: &'static str) -> u32 {
    map.get(check, key, |check, node, place| check.int(node, place, 1, TIMEOUT_MS_MAX))
        .and_then(|ms| u32::try_from(ms).ok())
        .unwrap_or(TIMEOUT_MS_DEFAULT)
}

/// Scheme, host, port and path, from `url` or from their own fields.
fn endpoint(
    check: &mut Check<'_>,
    map: &mut MapReader<'_, '_>,
    node: &Node,
    protocol: Option<Protocol>,
) -> Option<Endpoint> {
    if map.entry("url").is_some() {
        for key in ["protocol", "host", "port", "path"] {
            if let Some(entry) = map.entry(key) {
                let problem = Problem::new(entry.key_at, format!("{} has both `url` and `{key}`", map.what));
                check.report(
                    problem.help(format!("`url` says it all; remove `{key}`")).related(node.at_key("url"), "`url` is"),
                );
            }
        }
        return map.get(check, "url", url);
    }
    let (scheme, http2) = match protocol {
        Some(Protocol::Http(scheme)) => (scheme, false),
        Some(Protocol::Grpc(scheme)) => (scheme, true),
        _ => (Scheme::Http, false),
    };
    let port = map.get(check, "port", |check, node, place| check.int(node, place, 0, 65_535));
    let path = map.get(check, "path", path);
    if http2 && path.is_some() {
        check.report(Problem::new(node.at_key("path"), format!("{}: a gRPC service has no path", map.what)));
    }
    if map.entry("host").is_none() && (map.is_misspelt("url") || map.is_misspelt("host")) {
        return None;
    }
    if map.entry("host").is_none() {
        let problem = Problem::new(map.at(), format!("{} needs `url` or `host`", map.what));
        check.report(problem.expected("`url: http://127.0.0.1:9000`, or `protocol: queue` and `host: <queue>`"));
        return None;
    }
    let host = map.get(check, "host", host)?;
    if scheme == Scheme::Https && port.is_none() {
        // Kong's default, kept so that its files mean the same here.
        check.warn(
            node.at_key("host"),
            format!("{} speaks https on port 80, Kong's default; say `port: 443` if you mean that", map.what),
        );
    }
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(80);
    Some(Endpoint { scheme, host, port, path, http2 })
}

fn host(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    // An IP address or a name of digits is text here, whatever YAML makes of it.
    let text = node.text().filter(|text| !text.is_empty()).or_else(|| check.some_text(node, place))?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Err(reason) = scalars::host(bare) {
        let problem = Problem::new(node.at, format!("{place}: `{text}` cannot be a host: {reason}"));
        check.report(problem.expected("a host name or an IP address"));
        return None;
    }
    Some(bare.to_owned())
}

fn path(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<String> {
    let text = check.some_text(node, place)?;
    if let Err((reason, help)) = path_problem(text) {
        check.report(Problem::new(node.at, format!("{place}: {reason}")).maybe_help(help));
        return None;
    }
    Some(text.to_owned())
}

fn path_problem(text: &str) -> Result<(), (String, Option<String>)> {
    if !text.starts_with('/') {
        return Err((format!("`{text}` does not begin with `/`"), Some(format!("write /{text}"))));
    }
    if text.contains("//") {
        return Err((format!("`{text}` has an empty segment (`//`)"), None));
    }
    if let Some(bad) = scalars::bad_path_character(text) {
        return Err((format!("`{text}` contains {bad:?}, which a path cannot"), None));
    }
    if !scalars::is_percent_encoded(text) {
        return Err((format!("`{text}` has a `%` without two hexadecimal digits"), None));
    }
    Ok(())
}

fn url(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Endpoint> {
    let text = check.some_text(node, place)?;
    if text.contains('@') {
        check.secrets.push(node.at);
    }
    let mut refuse = |reason: String, help: Option<String>| {
        let problem = Problem::new(node.at, format!("{place}: {reason}"))
            .expected("such as http://127.0.0.1:9000 or https://example.com/base");
        check.report(problem.maybe_help(help));
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        refuse(format!("`{text}` is not a URL"), Some(format!("write http://{text}")));
        return None;
    };
    let (scheme, http2) = match scheme {
        "http" => (Scheme::Http, false),
        "https" => (Scheme::Https, false),
        "grpc" => (Scheme::Http, true),
        "grpcs" => (Scheme::Https, true),
        other => {
            refuse(format!("URLs of `{other}` are not supported"), None);
            return None;
        }
    };
    let (authority, path) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])));
    if authority.contains('@') {
        refuse(String::from("a URL here cannot contain a user or a password"), None);
        return None;
    }
    if rest.contains(['?', '#']) {
        refuse(String::from("a URL here cannot have a query or a fragment"), None);
        return None;
    }
    let (host, port) = split_authority(authority);
    let port = match (port, scheme) {
        (None, Scheme::Http) => Some(80),
        (None, Scheme::Https) => Some(443),
        (Some(port), _) => port.parse::<u16>().ok(),
    };
    let Some(port) = port else {
        refuse(format!("`{authority}` has a port that is not a number from 0 to 65535"), None);
        return None;
    };
    if let Err(reason) = scalars::host(host) {
        refuse(format!("`{host}` cannot be a host: {reason}"), None);
        return None;
    }
    if let Some(Err((reason, _))) = path.map(path_problem) {
        refuse(reason, None);
        return None;
    }
    if http2 && path.is_some() {
        refuse(String::from("a gRPC service has no path"), None);
        return None;
    }
    Some(Endpoint { scheme, host: host.to_owned(), port, path: path.map(str::to_owned), http2 })
}

/// Host without brackets, and port.
fn split_authority(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
}
