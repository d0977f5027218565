//! The admin and management routers behind our own HTTP server.

use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use net::Peer;
use net::http::{Answer, Body, BodyFault, HttpService, Refusal};
use tower_service::Service;

/// A router as a service of a listener.
pub(crate) struct Pages(pub(crate) Router);

impl HttpService for Pages {
    async fn call(&self, request: Request<Body>, _: &Peer) -> Box<Answer> {
        let request = request.map(axum::body::Body::new);
        let response = match self.0.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let boxed =
            response.map(|body| Body::Boxed(body.map_err(|error| BodyFault::Other(Box::new(error))).boxed_unsync()));
        boxed.into()
    }

    fn refuse(&self, refusal: &Refusal, _: &Peer) -> Response<Body> {
        let body = serde_json::json!({ "message": refusal.to_string() }).to_string();
        Response::new(Body::Full(Bytes::from(body)))
    }
}
