//! `name=value` pairs of a query or a form (application/x-www-form-urlencoded).
//!
//! A name without `=` has no value and is not a pair. What is not valid UTF-8 after decoding is replaced, so it equals
//! no configured name or key.

use std::borrow::Cow;

/// The decoded values of a name, in order.
pub(crate) fn values<'a>(text: &'a str, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(move |(n, _)| decode(n) == name)
        .map(|(_, v)| decode(v))
}

/// The text without the pairs of a name; the others stay as they are written.
pub(crate) fn without(text: &str, name: &str) -> String {
    let kept = text.split('&').filter(|pair| decode(pair.split('=').next().unwrap_or_default()) != name);
    kept.collect::<Vec<_>>().join("&")
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let encoded = (*byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex);
        match (byte, encoded) {
            (_, Some(decoded)) => {
                out.push(decoded);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let get = |text: &'static str| values(text, "a b").collect::<Vec<_>>().join("|");
        assert_eq!(get("a+b=1&x=2&a%20b=%2b%zz+%"), "1|+%zz %");
        assert_eq!(get("a+b&ab=1"), "");
    }

    #[test]
    fn only_the_named_pairs_are_removed() {
        assert_eq!(without("x=1&k=2&y&%6b=3&z=%20", "k"), "x=1&y&z=%20");
    }
}
