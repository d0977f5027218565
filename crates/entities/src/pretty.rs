//! A value as Kong writes it into messages: `{id="…",name=null}` on one line, or indented over several.

use serde_json::Value;

/// On one line, without spaces.
pub(crate) fn line(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, None);
    out
}

/// Over several lines, indented.
pub(crate) fn lines(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, Some(0));
    out
}

/// `indent` is the depth, if lines are broken.
fn write(out: &mut String, value: &Value, indent: Option<usize>) {
    let inner = indent.map(|depth| depth + 1);
    match value {
        Value::String(text) => quote(out, text),
        Value::Array(items) => {
            // Missing entries of a list with holes are skipped; what follows a hole is written with its place.
            let mut holes = false;
            let entries = items.iter().enumerate().filter_map(|(at, item)| {
                if item.is_null() {
                    holes = true;
                    return None;
                }
                Some((holes.then(|| format!("[{}]", at + 1)), item))
            });
            block(out, entries.collect(), indent, inner);
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, item)| (Some(name(key)), item)).collect();
            block(out, entries, indent, inner);
        }
        other => out.push_str(&other.to_string()),
    }
}

fn block(out: &mut String, entries: Vec<(Option<String>, &Value)>, indent: Option<usize>, inner: Option<usize>) {
    let newline = |out: &mut String, depth: Option<usize>| {
        if let Some(depth) = depth {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    out.push('{');
    for (at, (key, item)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        newline(out, inner);
        if let Some(key) = key {
            out.push_str(&key);
            out.push_str(if indent.is_some() { " = " } else { "=" });
        }
        write(out, item, inner);
    }
    newline(out, indent);
    out.push('}');
}

/// A key as it is written before its value.
fn name(key: &str) -> String {
    let word = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if word && !RESERVED.contains(&key) {
        return key.to_owned();
    }
    let mut out = String::from("[");
    quote(&mut out, key);
    out.push(']');
    out
}

/// Words that cannot be a key as they are.
const RESERVED: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_in_kongs_messages() {
        assert_eq!(line(&json!({"name": "a\"b", "route": null, "end": 1})), r#"{["end"]=1,name="a\"b",route=null}"#);
        assert_eq!(line(&json!({"services": [null, {"host": "x"}]})), r#"{services={[2]={host="x"}}}"#);
        assert_eq!(lines(&json!({"a": ["x"]})), "{\n  a = {\n    \"x\"\n  }\n}");
    }
}
