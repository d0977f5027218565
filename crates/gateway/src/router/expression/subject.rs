//! What expressions are asked about: the values a request or a connection has for each field.

use super::field::{AddressField, NumberField, TextField};
use crate::uri::hex;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue, ValueIter};
use model::limits::HTTP_QUERY_ARGS_MAX;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// A request or a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) struct Subject<'a> {
    /// `http`, `https`, `tcp`, `tls` or `udp`.
    pub(in crate::router) protocol: &'a str,
    /// Server name of TLS in lower case.
    pub(in crate::router) sni: Option<&'a str>,
    pub(in crate::router) source: SocketAddr,
    pub(in crate::router) destination: SocketAddr,
    /// A connection has none.
    pub(in crate::router) http: Option<Request<'a>>,
}

/// What only a request has.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) struct Request<'a> {
    pub(in crate::router) method: &'a Method,
    /// In lower case, without port.
    pub(in crate::router) host: &'a str,
    /// In normal form.
    pub(in crate::router) path: &'a str,
    /// As it was sent.
    pub(in crate::router) query: Option<&'a str>,
    pub(in crate::router) headers: &'a HeaderMap,
}

impl<'a> Subject<'a> {
    pub(super) fn path(&self) -> Option<&'a str> {
        self.http.map(|http| http.path)
    }

    /// The value of a field that has one at most and is not the path.
    pub(super) fn text(&self, field: &TextField) -> Option<&'a str> {
        match field {
            TextField::Protocol => Some(self.protocol),
            TextField::Sni => self.sni,
            TextField::Method => self.http.map(|http| http.method.as_str()),
            TextField::Host => self.http.map(|http| http.host),
            TextField::Segments { first, last } => segments(self.path()?, *first, *last),
            TextField::Path | TextField::Header { .. } | TextField::Query(_) => None,
        }
    }

    pub(super) fn number(&self, field: NumberField) -> Option<i64> {
        match field {
            NumberField::SourcePort => Some(self.source.port().into()),
            NumberField::DestinationPort => Some(self.destination.port().into()),
            NumberField::SegmentsLen => i64::try_from(count_segments(self.path()?)).ok(),
        }
    }

    pub(super) const fn address(&self, field: AddressField) -> IpAddr {
        match field {
            AddressField::Source => self.source.ip(),
            AddressField::Destination => self.destination.ip(),
        }
    }

    /// The values of a header; those of `dashed` if there is none of the name as it is written.
    pub(super) fn header(
        &self,
        written: &HeaderName,
        dashed: Option<&HeaderName>,
    ) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
        let values = self.http.map(|http| {
            let name = match dashed {
                Some(dashed) if !http.headers.contains_key(written) => dashed,
                _ => written,
            };
            let values: ValueIter<'a, HeaderValue> = http.headers.get_all(name).iter();
            values
        });
        values.into_iter().flatten()
    }

    /// The values of a query argument, decoded; an argument without `=` is empty. None is a value that is not UTF-8.
    pub(super) fn query<'q>(&self, name: &'q str) -> impl Iterator<Item = Option<Cow<'a, str>>> + use<'a, 'q> {
        let query = self.http.and_then(|http| http.query).unwrap_or_default();
        let args = query.split('&').filter(|arg| !arg.is_empty()).take(HTTP_QUERY_ARGS_MAX);
        args.filter_map(move |arg| {
            let (key, value) = arg.split_once('=').unwrap_or((arg, ""));
            (decode_form(key).as_deref() == Some(name)).then(|| decode_form(value))
        })
    }
}

/// The segments of a path from `first` to `last`, with the slashes between them.
fn segments(path: &str, first: usize, last: usize) -> Option<&str> {
    let body = segments_of(path);
    let (mut start, mut from) = (0, 0);
    for (n, segment) in body.split('/').enumerate() {
        let end = start + segment.len();
        from = if n == first { start } else { from };
        if n == last && !body.is_empty() {
            return Some(&body[from..end]);
        }
        start = end + 1;
    }
    None
}

fn count_segments(path: &str) -> usize {
    let body = segments_of(path);
    if body.is_empty() { 0 } else { body.split('/').count() }
}

/// A path without its first slash and those it ends in.
fn segments_of(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path).trim_end_matches('/')
}

/// Undoes the encoding of a form: `+` is a space, `%` and two digits a byte; any other `%` stays.
fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let encoded = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match encoded {
            Some(byte) => out.push(byte),
            None => out.push(if *first == b'+' { b' ' } else { *first }),
        }
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_from_nought_without_a_trailing_slash() {
        for (path, first, last, expected) in [
            ("/a/b/c", 0, 0, Some("a")),
            ("/a/b/c", 2, 2, Some("c")),
            ("/a/b/c/", 2, 2, Some("c")),
            ("/a/b/c", 3, 3, None),
            ("/a/b/c", 1, 2, Some("b/c")),
            ("/a/b/c", 0, 2, Some("a/b/c")),
            ("/a/b/c", 1, 3, None),
            ("/", 0, 0, None),
        ] {
            assert_eq!(segments(path, first, last), expected, "{path} {first} {last}");
        }
        assert_eq!(["/", "/a", "/a/", "/a/b"].map(count_segments), [0, 1, 1, 2]);
    }

    #[test]
    fn forms_are_decoded() {
        let long = "x".repeat(3);
        for (text, decoded) in
            [("a+b", Some("a b")), ("%41%2b", Some("A+")), ("%4", Some("%4")), ("%ff", None), (&long, Some("xxx"))]
        {
            assert_eq!(decode_form(text).as_deref(), decoded, "{text}");
        }
    }
}
