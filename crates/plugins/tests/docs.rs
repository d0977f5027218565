//! `docs/plugins.md` is made from the schemas, so it cannot say what is not so.
//!
//! `UPDATE_DOCS=1 cargo test -p sluicegate-plugins --test docs` writes it anew.

use plugin::{Field, Kind};
use std::fmt::Write;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins.md");

/// What each plugin is, in the order in which they run.
const WHAT: [(&str, &str); 5] = [
    ("correlation-id", "Gives every request a header that names it, and keeps one the client sent."),
    ("key-auth", "Asks for an API key and finds the consumer it belongs to. Answers and headers are Kong's."),
    (
        "rate-limiting",
        "So many requests per second, minute, hour, day, month or year, in windows aligned to the UTC calendar. \
         Counters are this process's (`policy: local`).",
    ),
    (
        "queue-publish",
        "Turns a request into a message and answers 202 when it is where it was promised to be. A service of \
         `protocol: queue` runs it with its defaults. See [the bridge](bridge.md).",
    ),
    (
        "prometheus",
        "Marks which of Kong's metric families a route appears in on `/metrics`. Our own families are always there.",
    ),
];

fn page() -> String {
    let mut page = String::from(
        "# Plugins\n\nIn the order in which they run. Each can be configured for everything, a service, a route or a \
         consumer; one configuration of each runs for a request, the most specific one, as in Kong. Other plugins of \
         Kong are refused by name.\n\n<!-- Made from the schemas by crates/plugins/tests/docs.rs. -->\n",
    );
    for plugin in sluicegate_plugins::registry().iter() {
        let what = WHAT.iter().find(|(name, _)| *name == plugin.name()).expect("each plugin is told of").1;
        let _ = write!(page, "\n## {}\n\n{what}\n\n| field | value | default | |\n|---|---|---|---|\n", plugin.name());
        fields(&mut page, "", plugin.schema().fields);
    }
    page
}

fn fields(page: &mut String, prefix: &str, fields: &[Field]) {
    for field in fields.iter().filter(|field| !field.help.is_empty()) {
        let default = match field.default.value() {
            _ if field.required => "required".to_owned(),
            None => String::new(),
            Some(value) => format!("`{value}`"),
        };
        let name = format!("{prefix}{}", field.name);
        let _ = writeln!(page, "| `{name}` | {} | {default} | {} |", kind(&field.kind), field.help);
        if let Some(inner) = field.kind.fields() {
            self::fields(page, &format!("{name}."), inner);
        }
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Int { min, max } => format!("{min} to {max}"),
        Kind::NumberAbove(above) => format!("above {above}"),
        Kind::NumberIn { min, max } => format!("{min} to {max}"),
        Kind::Number => "number".to_owned(),
        Kind::Integer => "whole number".to_owned(),
        Kind::IntOneOf(numbers) => numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Kind::Timestamp | Kind::TimestampMs => "seconds since 1970".to_owned(),
        Kind::Uuid => "UUID".to_owned(),
        Kind::Text | Kind::AnyText => "text".to_owned(),
        Kind::Like(syntax) => syntax.name.to_owned(),
        Kind::HeaderName => "header name".to_owned(),
        Kind::OneOf(words) | Kind::OneOfOrOurs { words, .. } => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Choice { allowed, refused } => {
            let allowed: Vec<_> = allowed.iter().map(|word| format!("`{word}`")).collect();
            let refused: Vec<_> = refused.iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("{} (not {})", allowed.join(", "), refused.join(", "))
        }
        Kind::List { of, .. } => format!("list of {}", self::kind(of)),
        Kind::Set { of, .. } => format!("set of {}", self::kind(of)),
        Kind::Map { values, .. } => format!("names to {}", self::kind(values)),
        Kind::Record(_) | Kind::RuledRecord(_) | Kind::Specialised => "fields".to_owned(),
        Kind::Foreign(of) => format!("one of the {of}"),
    }
}

#[test]
fn the_page_is_what_the_schemas_say() {
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, &page).expect("docs can be written");
    }
    let there = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        there == page,
        "docs/plugins.md is out of date: UPDATE_DOCS=1 cargo test -p sluicegate-plugins --test docs"
    );
}
