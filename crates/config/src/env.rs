//! Environment variables over the file: `SLUICEGATE_LISTEN__AMQP=127.0.0.1:5673` sets `listen.amqp`.
//!
//! `__` goes one level down, case does not matter. In a list a level is an index or the `name` of an entity
//! (`SLUICEGATE_SERVICES__BLOG__URL`). A value that begins with `[` or `{` is YAML; elsewhere lists are separated by
//! commas. An empty value is no value. Other programs' variables may begin with the same word (Kubernetes makes
//! `SLUICEGATE_SERVICE_HOST`), so a name is only an error if it has `__` or is nearly one of ours.

use crate::problem::{Problem, Problems};
use crate::source::{Origin, SourceId, Sources, Span};
use crate::suggest::nearest;
use crate::tree::{Entry, Node, Scalar, Value};
use crate::yaml;

/// What every variable of ours begins with.
const PREFIX: &str = "SLUICEGATE_";
/// Levels of a name.
const LEVELS_MAX: usize = 16;

/// Second-level keys, to recognise `_` written for `__`.
const SECOND_LEVEL: [(&str, &[&str]); 7] = [
    ("listen", &crate::listen::LISTENERS),
    ("storage", &["path"]),
    ("limits", &["memory_max", "disk_free_limit", "message_size_max", "drain_timeout"]),
    ("dns", &["servers", "order", "timeout", "valid_ttl", "stale_ttl", "not_found_ttl", "error_ttl", "hosts_file"]),
    ("gateway", &["trusted_ips", "real_ip_header", "real_ip_recursive", "allow_debug_header", "early_hints"]),
    ("broker", &["definitions", "definitions_file"]),
    ("telemetry", &["log", "log_level", "log_format", "access_log", "proxy_status"]),
];

/// Variables of ours, in order of their names so that a parent comes before its children.
pub(crate) fn ours(env: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut ours: Vec<_> =
        env.into_iter().filter(|(name, value)| name.starts_with(PREFIX) && !value.trim().is_empty()).collect();
    ours.sort();
    ours
}

/// Sets one variable in the tree. `known` are the top-level keys.
pub(crate) fn apply(
    root: &mut Node,
    variable: (String, String),
    known: &[&str],
    directory: &std::path::Path,
    sources: &mut Sources,
    problems: &mut Problems,
) {
    let (name, value) = variable;
    let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    let first = path[0].as_str();
    let refusal = if known.contains(&first) { None } else { Some(unknown(&path, known)) };
    if matches!(refusal, Some(None)) {
        return;
    }
    let source = sources.add(Origin::Variable { name: name.clone(), directory: directory.to_owned() }, value.clone());
    let at = Span { source, start: 0, end: u32::try_from(value.len()).unwrap_or(u32::MAX) };
    if let Some(Some(help)) = refusal {
        let problem = Problem::new(at, format!("there is no setting `{}`", path.join(".")));
        problems.push(problem.maybe_help(help));
        return;
    }
    if path.len() > LEVELS_MAX || path.iter().any(String::is_empty) {
        problems.push(
            Problem::new(at, "this is not the name of a setting")
                .expected("words separated by `__`, such as SLUICEGATE_LISTEN__AMQP"),
        );
        return;
    }
    let Some(node) = parse_value(source, at, &value, problems) else { return };
    if let Err(problem) = set(root, &path, node, at) {
        problems.push(problem);
    }
}

/// Whether an unknown name is a mistake (`Some`, with help if there is some) or another program's variable (`None`).
fn unknown(path: &[String], known: &[&str]) -> Option<Option<String>> {
    let first = path[0].as_str();
    for (key, children) in SECOND_LEVEL {
        let child = first.strip_prefix(key).and_then(|rest| rest.strip_prefix('_'));
        if let Some(child) = child.filter(|child| children.contains(child)) {
            let levels = if key == "telemetry" { child.replace('_', "__") } else { child.to_owned() };
            return Some(Some(format!("did you mean {PREFIX}{}?", format!("{key}__{levels}").to_ascii_uppercase())));
        }
    }
    let near = nearest(first, known.iter().copied());
    if near.is_none() && path.len() == 1 {
        return None;
    }
    Some(near.map(|near| {
        let mut path = path.to_vec();
        path[0] = near.to_owned();
        format!("did you mean {PREFIX}{}?", path.join("__").to_ascii_uppercase())
    }))
}

fn parse_value(source: SourceId, at: Span, value: &str, problems: &mut Problems) -> Option<Node> {
    if value.trim_start().starts_with(['[', '{']) {
        // A bracketed address is not a list.
        if !value.trim_start().starts_with('[') || value.trim_end().ends_with(']') {
            return yaml::parse(source, value, problems);
        }
    }
    if value.len() > yaml::TEXT_SIZE_MAX {
        problems.whole(source, "the value is too long");
        return None;
    }
    Some(Node { at, value: Value::Scalar(Scalar { text: value.trim().into(), quoted: false }) })
}

/// Puts `value` where the path leads, making maps on the way.
fn set(root: &mut Node, path: &[String], value: Node, at: Span) -> Result<(), Problem> {
    let mut node = root;
    for (depth, segment) in path.iter().enumerate() {
        if matches!(node.value, Value::Null | Value::Scalar(_)) {
            *node = Node::empty_map(at);
        }
        node = match &mut node.value {
            Value::Map(entries) => {
                let found = entries.iter().position(|entry| same_word(&entry.key, segment));
                let index = found.unwrap_or_else(|| {
                    let value = Node { at, value: Value::Null };
                    entries.push(Entry { key: segment.as_str().into(), key_at: at, value });
                    entries.len() - 1
                });
                &mut entries[index].value
            }
            Value::List(items) => {
                let index = segment.parse::<usize>().ok().filter(|&index| index <= items.len());
                let index = index.or_else(|| {
                    let named = |item: &Node| {
                        ["name", "username"]
                            .iter()
                            .any(|key| item.get(key).and_then(Node::text).is_some_and(|text| same_word(text, segment)))
                    };
                    items.iter().position(named)
                });
                let Some(index) = index else {
                    let what = path[..depth].join(".");
                    return Err(Problem::new(at, format!("there is no `{segment}` in `{what}`"))
                        .expected("the name of an entity, or its index from 0"));
                };
                if index == items.len() {
                    items.push(Node::empty_map(at));
                }
                &mut items[index]
            }
            Value::Null | Value::Scalar(_) => return Ok(()),
        };
    }
    *node = value;
    Ok(())
}

/// Whether a segment of a variable's name means this word: variables cannot have `-` or `.`.
fn same_word(word: &str, segment: &str) -> bool {
    word.len() == segment.len()
        && word.bytes().zip(segment.bytes()).all(|(a, b)| {
            let a = if matches!(a, b'-' | b'.' | b'~') { b'_' } else { a.to_ascii_lowercase() };
            a == b || word == segment
        })
}
