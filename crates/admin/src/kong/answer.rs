//! An answer of the Admin API, and what every one of them carries.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use gateway::PRODUCT;
use serde_json::{Value, json};
use std::time::Duration;

/// Milliseconds that an answer took.
const LATENCY: HeaderName = HeaderName::from_static("x-kong-admin-latency");

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its JSON; none has no body.
    pub(crate) body: Option<Value>,
    /// The methods of the path, where they are to be told.
    pub(crate) allow: Option<&'static str>,
}

impl Answer {
    /// A status with a JSON body.
    pub(crate) const fn json(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body), allow: None }
    }

    /// 200.
    pub(crate) const fn ok(body: Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// A status alone.
    pub(crate) const fn empty(status: StatusCode) -> Self {
        Self { status, body: None, allow: None }
    }

    /// 404, in Kong's words.
    pub(crate) fn not_found() -> Self {
        message(StatusCode::NOT_FOUND, "Not found")
    }

    /// 405, in Kong's words; with the `Allow` that Kong leaves out.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed") }
    }

    /// The answer to OPTIONS.
    pub(crate) const fn options(allow: &'static str) -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, allow: Some(allow) }
    }

    /// The whole response.
    pub(crate) fn into_response(self, method: &Method, took: Duration) -> Response<Body> {
        let body = self.body.map(|body| body.to_string());
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::SERVER, HeaderValue::from_static(PRODUCT));
        headers.insert(LATENCY, HeaderValue::from(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            if self.status == StatusCode::NO_CONTENT {
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allow));
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
            }
        }
        if let Some(body) = body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
            if *method == Method::HEAD {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            } else {
                *response.body_mut() = Body::from(body);
            }
        }
        response
    }
}

/// A status with Kong's `{"message": …}`.
pub(crate) fn message(status: StatusCode, text: &str) -> Answer {
    Answer::json(status, json!({ "message": text }))
}
