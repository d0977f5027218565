//! Kong's error bodies in the form the client accepts.
//!
//! The form is the acceptable media type of the highest quality, JSON if none is (RFC 9110 §12.5.1, without parameters
//! other than `q`). A gRPC request gets no body but `grpc-status` and `grpc-message` ([`crate::grpc`]).

use crate::grpc;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use plugin::RequestId;

/// What an error body is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Json,
    Html,
    Xml,
    Plain,
    Grpc,
}

/// A response that tells an error, without the headers every response gets.
pub(crate) fn response(
    status: StatusCode,
    message: &str,
    request_id: &RequestId,
    request: &HeaderMap,
) -> Response<Bytes> {
    let form = Form::accepted(request);
    if form == Form::Grpc {
        return grpc::response(status, grpc::status_of(status), message);
    }
    let body = Bytes::from(form.body(message, request_id.as_str()));
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = body;
    response
}

/// Kong's words for a status that has no better message.
pub(crate) fn message_of(status: StatusCode) -> &'static str {
    words_for(status).unwrap_or("An unexpected error occurred")
}

/// Kong's own words for a status, if it has any.
pub(crate) fn words_for(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        400 => "Bad request",
        404 => "Not found",
        405 => "Method not allowed",
        408 => "Request timeout",
        411 => "Length required",
        412 => "Precondition failed",
        413 => "Payload too large",
        414 => "URI too long",
        417 => "Expectation failed",
        431 | 494 => "Request header or cookie too large",
        502 => "An invalid response was received from the upstream server",
        503 => "The upstream server is currently unavailable",
        504 => "The upstream server is timing out",
        _ => return None,
    })
}

impl Form {
    fn accepted(request: &HeaderMap) -> Self {
        if grpc::is_grpc(request) {
            return Self::Grpc;
        }
        let mut best = (0, Self::Json);
        for value in request.get_all(ACCEPT) {
            for item in value.to_str().unwrap_or_default().split(',') {
                let mut parts = item.split(';');
                let Some(form) = Self::of_media_type(parts.next().unwrap_or_default().trim()) else { continue };
                let quality = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(1000, thousandths);
                if quality > best.0 {
                    best = (quality, form);
                }
            }
        }
        best.1
    }

    fn of_media_type(text: &str) -> Option<Self> {
        const KNOWN: [(&str, Form); 9] = [
            ("*/*", Form::Json),
            ("application/json", Form::Json),
            ("application/*", Form::Json),
            ("text/html", Form::Html),
            ("text/*", Form::Html),
            ("application/xml", Form::Xml),
            ("text/xml", Form::Xml),
            ("text/plain", Form::Plain),
            ("application/grpc", Form::Grpc),
        ];
        KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, form)| *form)
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
            Self::Grpc => "application/grpc",
        }
    }

    fn body(self, message: &str, id: &str) -> String {
        match self {
            Self::Json => {
                let text = |text: &str| serde_json::Value::from(text).to_string();
                format!("{{\n  \"message\":{},\n  \"request_id\":{}\n}}", text(message), text(id))
            }
            Self::Html => format!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  \
                 <body>\n    <h1>Error</h1>\n    <p>{}.</p>\n    <p>request_id: {}</p>\n  </body>\n</html>\n",
                escape(message),
                escape(id)
            ),
            Self::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{}</message>\n  \
                 <requestid>{}</requestid>\n</error>\n",
                escape(message),
                escape(id)
            ),
            Self::Plain => format!("{message}\nrequest_id: {id}\n"),
            Self::Grpc => String::new(),
        }
    }
}

/// A quality value in thousandths; what is not one counts as not acceptable.
fn thousandths(text: &str) -> u32 {
    match text.trim().parse::<f32>() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000 after the check")]
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0) as u32,
        _ => 0,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(accept: &'static str, expected: &Expect) {
        let mut request = HeaderMap::new();
        if !accept.is_empty() {
            request.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        let id = RequestId::new(0x0af1);
        let response = response(StatusCode::NOT_FOUND, "no \"Route\" <here>", &id, &request);
        let body = std::str::from_utf8(response.body()).unwrap();
        let kind = response.headers()[CONTENT_TYPE].to_str().unwrap();
        expected.assert_eq(&format!("{kind}\n{body}"));
    }

    #[test]
    fn the_body_is_in_the_form_accepted() {
        let json = expect![[r#"
            application/json; charset=utf-8
            {
              "message":"no \"Route\" <here>",
              "request_id":"00000000000000000000000000000af1"
            }"#]];
        check("", &json);
        check("*/*", &json);
        check("image/png", &json);
        check("text/html;q=0.5, application/json", &json);
        check("text/html;q=0, application/*;q=0.1", &json);
        check(
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            &expect![[r#"
                text/html; charset=utf-8
                <!doctype html>
                <html>
                  <head>
                    <meta charset="utf-8">
                    <title>Error</title>
                  </head>
                  <body>
                    <h1>Error</h1>
                    <p>no &quot;Route&quot; &lt;here&gt;.</p>
                    <p>request_id: 00000000000000000000000000000af1</p>
                  </body>
                </html>
            "#]],
        );
        check(
            "application/XML",
            &expect![[r#"
                application/xml; charset=utf-8
                <?xml version="1.0" encoding="UTF-8"?>
                <error>
                  <message>no &quot;Route&quot; &lt;here&gt;</message>
                  <requestid>00000000000000000000000000000af1</requestid>
                </error>
            "#]],
        );
        check(
            "text/plain; charset=utf-8",
            &expect![[r#"
                text/plain; charset=utf-8
                no "Route" <here>
                request_id: 00000000000000000000000000000af1
            "#]],
        );
        check("application/grpc", &expect![["application/grpc\n"]]);
    }
}
