//! What identifies an entity that is given no id: its name, or its content. The same content always gives the same id, and
//! of twins without a name the second gets another.

use crate::kind::Kind;
use crate::store::reference_of;
use plugin::Id;
use plugin::schema::syntax::Address;
use serde_json::{Map, Value};

/// What identifies the entity, and whether only one can have it.
pub(super) fn key_of(kind: Kind, body: &Map<String, Value>) -> (String, bool) {
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let named = |field: &str| text(field).map(|text| (text.to_owned(), true));
    let known = match kind {
        Kind::Services => named("name").unwrap_or_else(|| (service(body), false)),
        Kind::Routes => named("name").unwrap_or_else(|| (route(body), false)),
        Kind::Consumers => named("username").or_else(|| named("custom_id")).unwrap_or_else(nothing),
        Kind::KeyauthCredentials => named("key").unwrap_or_else(nothing),
        Kind::Plugins => named("instance_name").unwrap_or_else(|| (plugin(body), true)),
        Kind::CaCertificates | Kind::Certificates => named("cert").unwrap_or_else(nothing),
        Kind::Upstreams | Kind::Snis | Kind::KeySets => named("name").unwrap_or_else(nothing),
        Kind::Vaults => named("prefix").unwrap_or_else(nothing),
        Kind::Targets => (format!("{}:{}", reference(body, "upstream"), target(text("target"))), true),
        Kind::Keys => named("name")
            .unwrap_or_else(|| (format!("{}:{}", text("kid").unwrap_or_default(), reference(body, "set")), true)),
    };
    // A certificate may stand in a file more than once.
    if kind == Kind::Certificates { (known.0, false) } else { known }
}

fn nothing() -> (String, bool) {
    ("?".to_owned(), false)
}

fn reference(body: &Map<String, Value>, field: &str) -> String {
    reference_of(body, field).map(|id| id.to_string()).unwrap_or_default()
}

fn target(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    Address::parse(text).map_or_else(|_| text.to_owned(), |address| address.with_port(8_000))
}

fn service(body: &Map<String, Value>) -> String {
    let mut body = body.clone();
    let _ = (Kind::Services.def().expand)(&mut body);
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let Some(host) = text("host") else { return "?".to_owned() };
    if text("protocol") == Some("queue") {
        return format!("queue://{}/{host}", text("vhost").unwrap_or("/"));
    }
    let port = body.get("port").and_then(Value::as_i64).unwrap_or(80);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    format!("{}://{host}:{port}{}", text("protocol").unwrap_or("http"), text("path").unwrap_or_default())
}

/// All that it matches on, in the form that earlier versions hashed.
fn route(body: &Map<String, Value>) -> String {
    let service: Option<Id> = reference_of(body, "service");
    let service = service.map_or_else(|| "None".to_owned(), |id| format!("Some(ServiceId({id}))"));
    let texts = |value: Option<&Value>| -> Vec<String> {
        let items = value.and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let list = |field: &str| texts(body.get(field));
    let headers: Vec<(String, Vec<String>)> = body
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, values)| (name.clone(), texts(Some(values))))
        .collect();
    let mut key = format!(
        "{service} {:?} {:?} {:?} {headers:?} {:?}",
        list("methods"),
        list("hosts"),
        list("paths"),
        list("snis")
    );
    key.push_str(body.get("expression").and_then(Value::as_str).unwrap_or_default());
    for field in ["sources", "destinations"] {
        if let Some(value) = body.get(field) {
            key.push_str(&format!(" {value}"));
        }
    }
    key
}

fn plugin(body: &Map<String, Value>) -> String {
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    format!("{name}:{}:{}:{}", reference(body, "route"), reference(body, "service"), reference(body, "consumer"))
}
