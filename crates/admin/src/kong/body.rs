//! A request's body and query as arguments: JSON, forms and multipart.
//!
//! Answers to what cannot be read are Kong's. Invariants: nothing is read beyond [`ADMIN_BODY_BYTES_MAX`] nor
//! [`ADMIN_ARGUMENTS_MAX`] arguments; what comes from a form is texts that still have to be given their types.

use super::answer::{Answer, message};
use super::form::Form;
use super::multipart;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use model::limits::{ADMIN_ARGUMENTS_MAX, ADMIN_BODY_BYTES_MAX};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Bytes above which a body is read where nobody waits for it.
const LARGE_BYTES: usize = 64 * 1024;

/// What a body said.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Arguments {
    /// The values by name.
    pub(crate) values: Map<String, Value>,
    /// They are texts without types, from a form.
    pub(crate) untyped: bool,
    /// The whole body, if it is a text of another kind.
    pub(crate) text: Option<String>,
}

/// The kinds of body there are.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Json,
    Form,
    /// With its boundary.
    Multipart(String),
    Yaml,
}

/// A body as it came.
#[derive(Debug)]
pub(crate) struct Raw {
    kind: Option<Kind>,
    bytes: Bytes,
}

impl Raw {
    /// Reads a body to its end. `with_yaml`: YAML is a body too.
    ///
    /// # Errors
    /// The answer to one that is too large, of an unknown kind, or cut off.
    pub(crate) async fn read(headers: &HeaderMap, body: Body, with_yaml: bool) -> Result<Self, Answer> {
        let kind = kind(headers, with_yaml)?;
        let bytes = to_bytes(body, ADMIN_BODY_BYTES_MAX).await.map_err(|error| {
            let too_large =
                std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
            if too_large {
                message(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large")
            } else {
                message(StatusCode::BAD_REQUEST, "Bad request")
            }
        })?;
        if kind.is_none() && !bytes.is_empty() {
            return Err(unsupported());
        }
        Ok(Self { kind, bytes })
    }

    /// Whether it takes long to read.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes.len() > LARGE_BYTES
    }

    /// The arguments in it; without a body there are none.
    ///
    /// # Errors
    /// The answer to one that cannot be read.
    pub(crate) fn arguments(&self) -> Result<Arguments, Answer> {
        match &self.kind {
            Some(Kind::Yaml) => {
                let text = String::from_utf8_lossy(&self.bytes).into_owned();
                Ok(Arguments { text: Some(text), ..Arguments::default() })
            }
            None => Ok(Arguments::default()),
            Some(Kind::Json) => match serde_json::from_slice(&self.bytes) {
                Ok(Value::Object(values)) => Ok(Arguments { values, untyped: false, text: None }),
                _ => Err(message(StatusCode::BAD_REQUEST, "Cannot parse JSON body")),
            },
            Some(Kind::Form) => {
                let pairs = String::from_utf8_lossy(&self.bytes);
                let mut form = Form::default();
                for (name, value) in pairs_of(&pairs)? {
                    form.add(&name, value.map_or(Value::Bool(true), |value| Value::from(value.into_owned())));
                }
                Ok(Arguments { values: form.into_value(), untyped: true, text: None })
            }
            Some(Kind::Multipart(boundary)) => {
                let mut form = Form::default();
                let parts = multipart::parts(&self.bytes, boundary)
                    .ok_or_else(|| message(StatusCode::BAD_REQUEST, "Cannot parse multipart body"))?;
                if parts.len() > ADMIN_ARGUMENTS_MAX {
                    return Err(too_many());
                }
                for part in parts {
                    form.add(&part.name, part.value);
                }
                Ok(Arguments { values: form.into_value(), untyped: true, text: None })
            }
        }
    }
}

fn kind(headers: &HeaderMap, with_yaml: bool) -> Result<Option<Kind>, Answer> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(first) = types.next() else { return Ok(None) };
    if types.next().is_some() {
        return Err(message(StatusCode::BAD_REQUEST, "Multiple Content-Type headers not allowed"));
    }
    let text = first.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(Some(match essence.as_str() {
        "application/json" => Kind::Json,
        "application/x-www-form-urlencoded" => Kind::Form,
        "multipart/form-data" => Kind::Multipart(multipart::boundary(text).unwrap_or_default()),
        "application/yaml" | "text/yaml" if with_yaml => Kind::Yaml,
        _ => return Err(unsupported()),
    }))
}

fn unsupported() -> Answer {
    message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")
}

fn too_many() -> Answer {
    message(StatusCode::BAD_REQUEST, "Too many arguments")
}

/// The arguments of a query, the first of each name.
///
/// # Errors
/// The answer to too many.
pub(crate) fn query(query: Option<&str>) -> Result<Vec<(String, String)>, Answer> {
    let pairs = pairs_of(query.unwrap_or_default())?;
    Ok(pairs.into_iter().map(|(name, value)| (name.into_owned(), value.unwrap_or_default().into_owned())).collect())
}

/// A name and its value, if there is a `=`.
type Pair<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

fn pairs_of(text: &str) -> Result<Vec<Pair<'_>>, Answer> {
    let mut pairs = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == ADMIN_ARGUMENTS_MAX {
            return Err(too_many());
        }
        pairs.push(match pair.split_once('=') {
            Some((name, value)) => (decoded(name), Some(decoded(value))),
            None => (decoded(pair), None),
        });
    }
    Ok(pairs)
}

/// Percent-decoded, with `+` for a space; what is not UTF-8 is replaced.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::json;

    fn read(content_type: Option<&str>, body: &[u8]) -> Result<Arguments, (u16, Value)> {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(Raw::read(&headers, Body::from(body.to_vec()), false))
            .and_then(|raw| raw.arguments())
            .map_err(|answer| (answer.status.as_u16(), answer.body.unwrap_or_default()))
    }

    #[test]
    fn json_is_taken_as_it_is() {
        let read = read(Some("application/json; charset=utf-8"), br#"{"a.b": 1}"#).unwrap();
        assert_eq!(
            read,
            Arguments { values: json!({ "a.b": 1 }).as_object().unwrap().clone(), untyped: false, text: None }
        );
    }

    #[test]
    fn forms_are_texts() {
        let read = read(Some("application/x-www-form-urlencoded"), b"a%5B%5D=1&a[]=x+y&flag&e=").unwrap();
        assert_eq!(Value::Object(read.values), json!({ "a": ["1", "x y"], "flag": true, "e": "" }));
        assert!(read.untyped);
    }

    #[test]
    fn bodies_that_cannot_be_read_are_answered_in_kongs_words() {
        let bad_json = (400, json!({ "message": "Cannot parse JSON body" }));
        let unsupported = (415, json!({ "message": "Unsupported media type" }));
        for body in [&b"{"[..], b"", b"[]", b"1", b"\xff"] {
            assert_eq!(read(Some("application/json"), body), Err(bad_json.clone()), "{body:?}");
        }
        assert_eq!(read(Some("text/plain"), b"x"), Err(unsupported.clone()));
        assert_eq!(read(Some("application/yaml"), b"x"), Err(unsupported.clone()));
        assert_eq!(read(None, b"x"), Err(unsupported));
        assert_eq!(read(None, b""), Ok(Arguments::default()));
    }

    #[test]
    fn the_limits_hold_at_their_edges() {
        let arguments = |n: usize| vec!["a=1"; n].join("&");
        let form = Some("application/x-www-form-urlencoded");
        assert!(read(form, arguments(ADMIN_ARGUMENTS_MAX).as_bytes()).is_ok());
        let too_many = (400, json!({ "message": "Too many arguments" }));
        assert_eq!(read(form, arguments(ADMIN_ARGUMENTS_MAX + 1).as_bytes()), Err(too_many));

        let body = |n: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(n - 8));
        assert!(read(Some("application/json"), body(ADMIN_BODY_BYTES_MAX).as_bytes()).is_ok());
        let too_large = (413, json!({ "message": "Payload too large" }));
        assert_eq!(read(Some("application/json"), body(ADMIN_BODY_BYTES_MAX + 1).as_bytes()), Err(too_large));
    }

    #[test]
    fn json_cannot_be_nested_without_end() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(Some("application/json"), deep.as_bytes()).unwrap_err().0, 400);
    }
}
