//! Paths of routes before format 3.0: what looked like a regular expression was one, without a `~`.

use serde_json::{Map, Value};
use std::borrow::Cow;

/// Gives the paths of a route the form of 3.0.
pub(super) fn migrate(route: &mut Map<String, Value>) {
    let Some(Value::Array(paths)) = route.get_mut("paths") else { return };
    for path in paths {
        if let Value::String(text) = path {
            *text = migrated(text);
        }
    }
}

fn migrated(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'/' | b'%');
    if path.bytes().all(plain) {
        return model::uri::normalize(path).map_or_else(|_| path.to_owned(), Cow::into_owned);
    }
    format!("~{}", decode(path))
}

/// Percent-encodings in a regular expression: reserved characters stay encoded, those that mean something in an
/// expression are escaped, others are what they stand for.
fn decode(pattern: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(pattern.len());
    let mut rest = pattern.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (true, Some(high), Some(low)) = (byte == b'%', hex(0), hex(1)) else {
            out.push(byte);
            rest = after;
            continue;
        };
        let [.., decoded] = (high << 4 | low).to_be_bytes();
        if b"!#$%&'()*+,/:;=?@[]".contains(&decoded) {
            out.push(b'%');
            out.extend(after[..2].iter().map(u8::to_ascii_uppercase));
        } else {
            if b".^-{}\\|".contains(&decoded) {
                out.push(b'\\');
            }
            out.push(decoded);
        }
        rest = &after[2..];
    }
    String::from_utf8(out).unwrap_or_else(|_| pattern.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_paths_become_new_ones() {
        for (old, new) in [
            ("/a", "/a"),
            ("/a/../b", "/b"),
            ("/users/[0-9]+$", "~/users/[0-9]+$"),
            ("/a%2e(b)", "~/a\\.(b)"),
            ("/a%2f(b)", "~/a%2F(b)"),
            ("/%ff(b)", "~/%ff(b)"),
        ] {
            assert_eq!(migrated(old), new, "{old}");
        }
    }
}
