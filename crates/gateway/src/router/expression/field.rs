//! The fields an expression can ask for, each with its type.

use http::HeaderName;

/// Which fields there are: those of requests or those of connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fields {
    /// Routes for `http`, `https`, `grpc` and `grpcs`.
    Http,
    /// Routes for `tcp`, `tls`, `tls_passthrough` and `udp`: only `net.*` and `tls.sni`.
    Stream,
}

/// A field by the type of its values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Text(TextField),
    Number(NumberField),
    Address(AddressField),
}

/// A field of text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TextField {
    /// `net.protocol`: `http` or `https`; `tcp`, `tls` or `udp`.
    Protocol,
    /// `tls.sni`
    Sni,
    /// `http.method`
    Method,
    /// `http.host`, without port.
    Host,
    /// `http.path` in normal form.
    Path,
    /// `http.path.segments.<first>` or `.<first>_<last>`, counted from 0, joined by slashes.
    Segments { first: usize, last: usize },
    /// `http.headers.<name>`: the header whose name is written like this, or else the one with dashes for underscores.
    Header { written: HeaderName, dashed: Option<HeaderName> },
    /// `http.queries.<name>`, decoded.
    Query(Box<str>),
}

impl TextField {
    /// Whether values are in lower case already and compared so.
    pub(super) const fn ignores_case(&self) -> bool {
        matches!(self, Self::Host | Self::Sni)
    }
}

/// A field of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NumberField {
    /// `net.src.port`
    SourcePort,
    /// `net.dst.port`, or `net.port` as it was once called: for HTTP the port of the host asked for, if it has one.
    DestinationPort,
    /// `http.path.segments.len`
    SegmentsLen,
}

/// A field of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AddressField {
    /// `net.src.ip`
    Source,
    /// `net.dst.ip`
    Destination,
}

impl Field {
    /// The field of this name.
    pub(super) fn named(name: &str, fields: Fields) -> Result<Self, String> {
        let field = match name {
            "net.protocol" => Self::Text(TextField::Protocol),
            "tls.sni" => Self::Text(TextField::Sni),
            "net.src.ip" => Self::Address(AddressField::Source),
            "net.dst.ip" => Self::Address(AddressField::Destination),
            "net.src.port" => Self::Number(NumberField::SourcePort),
            "net.dst.port" | "net.port" => Self::Number(NumberField::DestinationPort),
            _ if name.starts_with("http.") => {
                let field = Self::of_http(name)?;
                if fields == Fields::Stream {
                    return Err(format!("`{name}` is a field of requests, and this route is for connections"));
                }
                field
            }
            _ => return Err(unknown(name)),
        };
        Ok(field)
    }

    fn of_http(name: &str) -> Result<Self, String> {
        let text = match name {
            "http.method" => TextField::Method,
            "http.host" => TextField::Host,
            "http.path" => TextField::Path,
            "http.path.segments.len" => return Ok(Self::Number(NumberField::SegmentsLen)),
            _ => match name.strip_prefix("http.").and_then(|name| name.rsplit_once('.')) {
                Some(("path.segments", range)) => segments(range).ok_or_else(|| {
                    format!(
                        "`{name}`: expected the number of a segment, as in `http.path.segments.0`, or two, as in `.0_1`"
                    )
                })?,
                Some(("headers", header)) => header_field(header).ok_or_else(|| unknown(name))?,
                Some(("queries", query)) if !query.is_empty() => TextField::Query(query.into()),
                _ => return Err(unknown(name)),
            },
        };
        Ok(Self::Text(text))
    }
}

fn unknown(name: &str) -> String {
    format!(
        "there is no field `{name}`: expected `net.protocol`, `net.src.ip`, `net.src.port`, `net.dst.ip`, `net.dst.port`, \
         `tls.sni`, `http.method`, `http.host`, `http.path`, `http.path.segments.*`, `http.headers.*` or `http.queries.*`"
    )
}

fn header_field(name: &str) -> Option<TextField> {
    let lower = name.to_ascii_lowercase();
    let dashed = lower.contains('_').then(|| lower.replace('_', "-").parse().ok()).flatten();
    Some(TextField::Header { written: lower.parse().ok()?, dashed })
}

/// `0` or `0_1`: no leading zeros, and the second number is larger.
fn segments(range: &str) -> Option<TextField> {
    let (first, last) = match range.split_once('_') {
        Some((first, last)) => (index(first)?, index(last)?),
        None => (index(range)?, index(range)?),
    };
    let ordered = first < last || !range.contains('_');
    ordered.then_some(TextField::Segments { first, last })
}

fn index(digits: &str) -> Option<usize> {
    let plain = digits == "0" || !digits.starts_with('0');
    let known = plain && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    known.then(|| digits.parse().ok()).flatten()
}
