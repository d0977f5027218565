//! Who may look: on loopback programs of this machine but no web page of another site; elsewhere only administrators.
//!
//! On loopback a browser is the danger: any site may make it send requests here, and a name that resolves to
//! 127.0.0.1 may even read the answers. So `Host` must be an address or name of this machine, and `Origin`, if there is
//! one, must be the host itself. The management API asks who calls on loopback too, as RabbitMQ's does ([`log_in`]), and
//! so does the Admin API once there are tokens ([`admit`]).

use crate::tokens::Role;
use crate::{State, json};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use std::sync::Arc;

/// Who may use a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anybody on this machine; the management API for users of the broker, `guest` as well.
    Loopback,
    /// Whoever TLS let in.
    ClientCertificate,
    /// Administrators of the broker, by basic authentication; not `guest`.
    Administrators,
}

/// Puts the guard in front of every route.
pub(crate) fn protect(router: Router, state: Arc<State>, access: Access) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let refusal = refusal(&state, access, request.headers());
        async move {
            match refusal {
                Some(refusal) => refusal,
                None => next.run(request).await,
            }
        }
    }))
}

/// Puts the guard in front of every route of the Admin API: where the broker's administrators are asked for, or tokens
/// are configured, one of the two is needed.
pub(crate) fn admit(router: Router, state: Arc<State>, access: Access) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let refusal = not_admitted(&state, access, &request);
        async move {
            match refusal {
                Some(refusal) => refusal,
                None => next.run(request).await,
            }
        }
    }))
}

fn not_admitted(state: &State, access: Access, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let tokens = state.tokens.load();
    match access {
        Access::ClientCertificate if tokens.is_empty() => return None,
        Access::ClientCertificate => {}
        Access::Loopback => {
            // Whether it is ready says nothing that a local probe may not know.
            let free = tokens.is_empty() || request.uri().path() == "/status/ready";
            if free || !is_local(headers) {
                return refusal(state, access, headers);
            }
        }
        Access::Administrators => {}
    }
    if let Some(role) = tokens.role(headers) {
        let looks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let needed = if looks { Role::Read } else { Role::Write };
        return (role < needed).then(|| {
            let body = serde_json::json!({ "message": "You do not have permissions to change this resource" });
            json(StatusCode::FORBIDDEN, &body)
        });
    }
    if is_user(state, headers, is_administrator) {
        return None;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"Sluicegate\", Bearer realm=\"Sluicegate\"")];
    let body = axum::Json(serde_json::json!({ "message": "Unauthorized" }));
    Some((StatusCode::UNAUTHORIZED, challenge, body).into_response())
}

/// Puts the broker's users in front of every route where [`protect`] alone would let anybody in.
pub(crate) fn log_in(router: Router<Arc<State>>, state: &Arc<State>, access: Access) -> Router<Arc<State>> {
    if access != Access::Loopback {
        return router;
    }
    let state = Arc::clone(state);
    router.layer(from_fn(move |request: Request, next: Next| {
        let known = is_user(&state, request.headers(), may_look);
        async move { if known { next.run(request).await } else { unauthorized() } }
    }))
}

fn refusal(state: &State, access: Access, headers: &HeaderMap) -> Option<Response> {
    match access {
        Access::ClientCertificate => None,
        Access::Loopback if !is_local(headers) => Some(json(
            StatusCode::FORBIDDEN,
            &serde_json::json!({ "message": "Host and Origin must be this machine's: ask for localhost or 127.0.0.1" }),
        )),
        Access::Loopback => None,
        Access::Administrators => (!is_user(state, headers, is_administrator)).then(unauthorized),
    }
}

fn unauthorized() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"Sluicegate\"")];
    let body = serde_json::json!({ "error": "not_authorized", "reason": "Login failed" });
    (StatusCode::UNAUTHORIZED, challenge, axum::Json(body)).into_response()
}

/// Whether the credentials are those of a user whose name and tags will do.
fn is_user(state: &State, headers: &HeaderMap, will_do: fn(&str, &[String]) -> bool) -> bool {
    let Some((user, password)) = basic(headers) else { return false };
    state.broker.authenticate(&user, &password).is_some_and(|tags| will_do(&user, &tags))
}

/// Off loopback only administrators count, and `guest` is not one.
fn is_administrator(user: &str, tags: &[String]) -> bool {
    user != "guest" && tags.iter().any(|tag| tag == "administrator")
}

/// The tags that open RabbitMQ's management API.
fn may_look(_: &str, tags: &[String]) -> bool {
    tags.iter().any(|tag| matches!(tag.as_str(), "management" | "policymaker" | "monitoring" | "administrator"))
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(header::HOST);
    if !host.is_some_and(is_local_authority) {
        return false;
    }
    match text(header::ORIGIN) {
        None => true,
        Some(origin) => origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(|authority| Some(authority) == host),
    }
}

fn is_local_authority(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        is_local(&headers)
    }

    #[test]
    fn only_this_machine_and_its_own_pages_get_in() {
        for host in ["127.0.0.1:15672", "localhost", "LOCALHOST:8001", "[::1]:8001", "127.3.2.1"] {
            assert!(local(host, None), "{host}");
            assert!(local(host, Some(&format!("http://{host}"))), "{host}");
            assert!(!local(host, Some("http://evil.example")), "{host}");
            assert!(!local(host, Some("null")), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1", "[::2]"] {
            assert!(!local(host, None), "{host}");
        }
    }
}
