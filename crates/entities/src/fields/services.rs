//! Services, and the shorthand `url`.
//!
//! Ours beyond Kong: `protocol: queue` with `vhost` and `user`; `host` is then the queue's name.

use super::traffic::MIRROR;
use super::{CREATED_AT, Def, ID, PORT, PROTOCOLS, TAGS, UPDATED_AT, name, restrict};
use crate::kind::Kind;
use crate::rules::Rules;
use model::limits::NAME_BYTES_MAX;
use plugin::schema::syntax;
use plugin::{DefaultValue, Field, Kind as FieldKind, Problem};
use serde_json::{Map, Value};

const TIMEOUT: FieldKind = FieldKind::Int { min: 1, max: 2_147_483_646 };
const TIMEOUT_DEFAULT: i64 = 60_000;
const RETRIES_DEFAULT: i64 = 5;
const PORT_DEFAULT: i64 = 80;

const fn timeout(name: &'static str, help: &'static str) -> Field {
    Field::with_default(name, TIMEOUT, DefaultValue::Int(TIMEOUT_DEFAULT), help)
}

pub(crate) static SERVICES: Def = Def {
    endpoint_key: Some("name"),
    references: &[restrict("client_certificate", Kind::Certificates)],
    shorthands: &["url"],
    expand,
    rules,
    ..Def::new("services", FIELDS)
};

static FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    UPDATED_AT,
    name("unique name of the service"),
    Field::with_default(
        "retries",
        FieldKind::Int { min: 0, max: 32_767 },
        DefaultValue::Int(RETRIES_DEFAULT),
        "further tries after a failure",
    ),
    Field::with_default(
        "protocol",
        FieldKind::OneOfOrOurs { words: PROTOCOLS, ours: &["queue"] },
        DefaultValue::Text("http"),
        "what is spoken to the upstream; queue publishes requests to a queue",
    )
    .not_null(),
    // What a host may be depends on the protocol, so it is a rule.
    Field::required(
        "host",
        FieldKind::Text,
        "host name, IP address or name of an upstream; the queue of protocol queue",
    ),
    Field::with_default("port", PORT, DefaultValue::Int(PORT_DEFAULT), "TCP port").not_null(),
    Field::optional("path", FieldKind::Like(&syntax::PATH), "prefix of every upstream path"),
    timeout("connect_timeout", "milliseconds to connect"),
    timeout("write_timeout", "milliseconds between two writes"),
    timeout("read_timeout", "milliseconds between two reads"),
    TAGS,
    Field::optional("client_certificate", FieldKind::Foreign("certificates"), "certificate shown to the upstream"),
    Field::optional("tls_verify", FieldKind::Bool, "whether the upstream's certificate is checked"),
    Field::optional("tls_verify_depth", FieldKind::Int { min: 0, max: 64 }, "longest chain of certificates"),
    Field::optional(
        "ca_certificates",
        FieldKind::List { of: &FieldKind::Uuid, len_min: 0 },
        "ids of the trust anchors for the upstream",
    ),
    Field::with_default("enabled", FieldKind::Bool, DefaultValue::Bool(true), "whether its routes are served")
        .not_null(),
    Field::optional("mirror", FieldKind::Record(MIRROR), "a copy of its routes' requests for another service")
        .nullable()
        .ours(),
    Field::optional("vhost", FieldKind::Text, "virtual host of the queue; default /").ours(),
    Field::optional("user", FieldKind::Text, "user whose permissions a publish is checked against; default guest")
        .ours(),
];

fn rules(rules: &mut Rules<'_>) {
    let Some(protocol) = rules.text("protocol").map(str::to_owned) else { return };
    match protocol.as_str() {
        "queue" => return queue(rules),
        "tcp" | "tls" | "udp" | "grpc" | "grpcs" => rules.null_given("protocol", "path"),
        _ if !PROTOCOLS.contains(&protocol.as_str()) => return,
        _ => {}
    }
    if !matches!(protocol.as_str(), "https" | "tls") {
        for field in ["client_certificate", "tls_verify", "tls_verify_depth", "ca_certificates"] {
            rules.null_given("protocol", field);
        }
    }
    for field in ["vhost", "user"] {
        rules.null_given("protocol", field);
    }
    if let Some(Err(message)) = rules.text("host").filter(|host| !host.is_empty()).map(syntax::HOST.check) {
        rules.field_with_example("host", message, syntax::HOST.expected);
    }
}

/// A queue has no address, path, timeouts or TLS. Their defaults may be written out, as exports do.
fn queue(rules: &mut Rules<'_>) {
    for field in ["host", "vhost", "user"] {
        if rules.text(field).is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            rules.field(field, format!("length must be at most {NAME_BYTES_MAX}"));
        }
    }
    for field in ["path", "client_certificate", "tls_verify", "tls_verify_depth", "ca_certificates"] {
        rules.null_given("protocol", field);
    }
    for (field, default) in [
        ("port", PORT_DEFAULT),
        ("retries", RETRIES_DEFAULT),
        ("connect_timeout", TIMEOUT_DEFAULT),
        ("write_timeout", TIMEOUT_DEFAULT),
        ("read_timeout", TIMEOUT_DEFAULT),
    ] {
        if rules.value(field).is_some_and(|value| value.as_i64() != Some(default)) {
            rules.field(field, "has no meaning when 'protocol' is 'queue'");
        }
    }
}

/// `url` sets protocol, host, port and path, over what stands there.
fn expand(body: &mut Map<String, Value>) -> Vec<Problem> {
    let Some(url) = body.remove("url").filter(|url| !url.is_null()) else { return Vec::new() };
    let problem = match &url {
        Value::String(text) if text.is_empty() => "length must be at least 1",
        Value::String(text) => {
            for (name, value) in Url::parse(text).fields() {
                body.insert(name.to_owned(), value);
            }
            return Vec::new();
        }
        _ => "expected a string",
    };
    vec![Problem::of_field("url", problem)]
}

/// The parts of a URL, found leniently: what is wrong with a part is found when its field is checked.
struct Url<'u> {
    scheme: Option<&'u str>,
    host: Option<&'u str>,
    port: Option<&'u str>,
    path: Option<&'u str>,
}

impl<'u> Url<'u> {
    fn parse(text: &'u str) -> Self {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, text),
        };
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let path = rest.split(['?', ';']).next().unwrap_or_default();
        let authority = authority.split('?').next().unwrap_or_default();
        let authority = authority.split_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let given = |text: &'u str| (!text.is_empty()).then_some(text);
        Self { scheme, host: given(host), port: port.and_then(given), path: given(path) }
    }

    fn fields(&self) -> [(&'static str, Value); 4] {
        let number = self.port.and_then(|port| port.parse::<u32>().ok());
        let protocol = self.scheme.unwrap_or(if number == Some(443) { "https" } else { "http" });
        let port = match (number, self.port) {
            (Some(number), _) => Value::from(number),
            (None, Some(text)) => Value::from(text),
            (None, None) => Value::from(if protocol == "https" { 443 } else { PORT_DEFAULT }),
        };
        let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
        [("protocol", Value::from(protocol)), ("host", text(self.host)), ("port", port), ("path", text(self.path))]
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}
