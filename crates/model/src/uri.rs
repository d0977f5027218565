//! The normal form of request paths: what routes match and what an upstream gets.
//!
//! As Kong has it (RFC 3986 §6.2.2 and more): what is percent-encoded without need is decoded, reserved
//! characters keep their encoding with upper-case digits, dot segments are resolved, and runs of slashes are one slash.
//! The upstream gets what was matched, encoded again where HTTP needs it, so nobody can pass a route by spelling a path
//! differently. Bytes that are no text, and control characters, stay encoded. A `%` without two digits, and an encoded
//! NUL, have no normal form: nginx answers them 400.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A path without a normal form: a `%` that encodes nothing, or an encoded NUL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPath;

/// The normal form of a path that starts with `/`; borrowed if it already is one and needs no [`escape`].
///
/// # Errors
/// The path has none.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    decode(path).map(|decoded| Cow::Owned(resolve_dots(&decoded)))
}

/// A path in normal form as HTTP writes it.
#[must_use]
pub fn escape(path: &str) -> Cow<'_, str> {
    if path.bytes().all(is_written_plainly) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 8);
    for byte in path.bytes() {
        push_byte(&mut out, byte, is_written_plainly(byte));
    }
    Cow::Owned(out)
}

/// Whether a path is normal for certain: no `%`, no `//`, no segment that starts with a dot, nothing to escape.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        match byte {
            b'/' | b'.' if after_slash => return false,
            b'%' => return false,
            _ if !is_written_plainly(*byte) => return false,
            _ => after_slash = *byte == b'/',
        }
    }
    true
}

/// Whether a byte stands in a path as it is; others are percent-encoded.
const fn is_written_plainly(byte: u8) -> bool {
    WRITTEN_PLAINLY[byte as usize]
}

/// [`is_written_plainly`] of each byte: a path is looked at byte by byte with every request.
const WRITTEN_PLAINLY: [bool; 256] = {
    let mut plainly = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        plainly[byte] = it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~') || is_reserved(it);
        byte += 1;
    }
    plainly
};

/// Whether encoding or decoding a byte would change what a path means (RFC 3986 §2.2).
const fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*'
            | b'\''
            | b'('
            | b')'
            | b';'
            | b':'
            | b'@'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/'
            | b'?'
            | b'%'
            | b'#'
            | b'['
            | b']'
    )
}

fn push_byte(out: &mut String, byte: u8, plainly: bool) {
    if plainly {
        out.push(char::from(byte));
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

fn decode(path: &str) -> Result<String, BadPath> {
    if !path.bytes().any(|byte| byte == b'%' || byte.is_ascii_control()) {
        return Ok(path.to_owned());
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after, is_encoded) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low);
                (byte.ok_or(BadPath)?, after, true)
            }
            (b'%', _) => return Err(BadPath),
            (byte, after) => (*byte, after, false),
        };
        match byte {
            0 => return Err(BadPath),
            _ if byte.is_ascii_control() || (is_encoded && is_reserved(byte)) => {
                bytes.extend(format!("%{byte:02X}").into_bytes());
            }
            _ => bytes.push(byte),
        }
        rest = after;
    }
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| push_byte(&mut out, *byte, false));
    }
    Ok(out)
}

/// The value of a hexadecimal digit.
#[must_use]
pub const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn resolve_dots(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    let mut ends_in_directory = path.ends_with('/');
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => ends_in_directory |= last,
            ".." => {
                out.truncate(out.rfind('/').unwrap_or(0));
                ends_in_directory |= last;
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    if out.is_empty() || ends_in_directory {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests;
