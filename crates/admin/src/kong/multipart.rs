//! `multipart/form-data` (RFC 7578), as far as the Admin API takes it: named parts, one after another.
//!
//! Invariants: the whole body is there already and is walked once; a part without a name is left out.

use serde_json::Value;

/// Bytes of a boundary (RFC 2046).
const BOUNDARY_BYTES_MAX: usize = 70;

/// A named part.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    /// Its name.
    pub(crate) name: String,
    /// Its text, or its JSON if it says that it is that.
    pub(crate) value: Value,
}

/// The boundary that a content type names.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary").filter(|boundary| (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()))
}

/// The parts of a body. `None`: it is not one.
pub(crate) fn parts(body: &[u8], boundary: &str) -> Option<Vec<Part>> {
    if boundary.is_empty() {
        return None;
    }
    let delimiter = format!("--{boundary}");
    let mut rest = &body[find(body, delimiter.as_bytes())? + delimiter.len()..];
    let delimiter = format!("\r\n{delimiter}");
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        let head_start = find(rest, b"\r\n")? + 2;
        // A part may have no header at all: then the empty line is the first.
        let head_end = head_start - 2 + find(&rest[head_start - 2..], b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(rest.get(head_start..head_end).unwrap_or_default());
        let content = &rest[head_end + 4..];
        let end = find(content, delimiter.as_bytes())?;
        parts.extend(part(&head, &content[..end]));
        rest = &content[end + delimiter.len()..];
    }
}

fn part(head: &str, content: &[u8]) -> Option<Part> {
    let field = |name: &str| {
        head.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)))
    };
    let name = parameter(field("content-disposition")?.1, "name")?;
    let is_json = field("content-type").is_some_and(|(_, value)| value.trim().starts_with("application/json"));
    let json = is_json.then(|| serde_json::from_slice(content).ok()).flatten();
    Some(Part { name, value: json.unwrap_or_else(|| Value::from(String::from_utf8_lossy(content).into_owned())) })
}

/// A parameter of a field value, its quotes taken off.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (found, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted)?;
                (quoted[..end].replace("\\\"", "\"").replace("\\\\", "\\"), &quoted[end + 1..])
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(found);
        }
        rest = next.trim_start().strip_prefix(';')?;
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| match c {
        _ if escaped => {
            escaped = false;
            None
        }
        '\\' => {
            escaped = true;
            None
        }
        '"' => Some(at),
        _ => None,
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(text: &str) -> Vec<u8> {
        text.replace('\n', "\r\n").into_bytes()
    }

    #[test]
    fn parts_are_read_by_name() {
        let text = body(
            "preamble\n--b\nContent-Disposition: form-data; name=\"host\"\n\nexample.com\n--b\n\
             content-disposition: form-data; filename=\"x;y\"; name=\"cert\"\nContent-Type: text/plain\n\nline 1\nline 2\n\n--b\n\
             Content-Disposition: form-data; name=config\nContent-Type: application/json\n\n{\"a\":1}\n--b\n\
             X-Other: no name\n\nlost\n--b\n\nno header at all\n--b--\nepilogue",
        );
        let part = |name: &str, value| Part { name: name.to_owned(), value };
        assert_eq!(
            parts(&text, "b"),
            Some(vec![
                part("host", json!("example.com")),
                part("cert", json!("line 1\r\nline 2\r\n")),
                part("config", json!({ "a": 1 })),
            ])
        );
    }

    #[test]
    fn what_is_cut_off_is_no_body() {
        let whole = body("--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--");
        assert!(parts(&whole, "b").is_some());
        for end in 0..whole.len() - 1 {
            assert_eq!(parts(&whole[..end], "b"), None, "{end}");
        }
        assert_eq!(parts(&whole, ""), None);
    }

    #[test]
    fn a_boundary_may_be_quoted() {
        for (value, wanted) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=utf-8; boundary=\"a b;c\"", Some("a b;c")),
            ("multipart/form-data; boundary=\"\"", None),
            ("multipart/form-data", None),
        ] {
            assert_eq!(boundary(value).as_deref(), wanted, "{value}");
        }
        let longest = "x".repeat(BOUNDARY_BYTES_MAX);
        assert!(boundary(&format!("multipart/form-data; boundary={longest}")).is_some());
        assert!(boundary(&format!("multipart/form-data; boundary={longest}x")).is_none());
    }
}
