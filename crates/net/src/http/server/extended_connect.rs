//! A WebSocket from an HTTP/2 client: extended CONNECT (RFC 8441), served as the HTTP/1 upgrade it stands for.
//!
//! The service sees a GET with an [`Upgrade`] and a key of ours, since HTTP/2 has none; a 101 becomes the 200 that opens
//! the stream. Other protocols than WebSocket are CONNECT to the service, which refuses it.

use super::h2::refused;
use crate::http::body::Body;
use crate::http::service::{HttpService, Refusal};
use crate::{Drain, Peer, Tasks};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http1::{Upgrade, strip_hop_by_hop};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;

/// What a stream needs to become a tunnel.
pub(super) struct Switching {
    /// Those of the connection.
    pub(super) tunnels: Arc<Mutex<Tasks>>,
    pub(super) drain: Drain,
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_websocket(request: &Request<Incoming>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    *request.method() == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

impl Switching {
    pub(super) async fn answer<S: HttpService>(
        self,
        mut request: Request<Incoming>,
        service: &S,
        peer: &Peer,
    ) -> Response<Body> {
        let upgraded = hyper::upgrade::on(&mut request);
        let (mut head, _) = request.into_parts();
        head.method = Method::GET;
        head.extensions.remove::<Protocol>();
        head.extensions.insert(Upgrade::websocket());
        head.headers.insert(SEC_WEBSOCKET_KEY, key());
        let mut answer = service.call(Request::from_parts(head, Body::Empty), peer).await;
        strip_hop_by_hop(&mut answer.head.headers);
        let mut response = answer.into_response();
        match std::mem::take(response.body_mut()) {
            Body::Tunnel(tunnel) => {
                *response.status_mut() = StatusCode::OK;
                response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
                let mut drain = self.drain;
                self.tunnels.lock().spawn(async move {
                    match upgraded.await {
                        Ok(client) => {
                            let ending = pin!(drain.ending());
                            tunnel.carry(BytesMut::new(), &mut TokioIo::new(client), ending).await;
                        }
                        Err(error) => tracing::debug!(%error, "the client left before its WebSocket was open"),
                    }
                });
            }
            // A success would open the stream, to nobody.
            _ if response.status().is_success() => return refused(Refusal::NotSwitched, service, peer),
            body => *response.body_mut() = body,
        }
        response
    }
}

/// The nonce of RFC 6455 §4.1. It only has to differ from others; the system without entropy gives the same each time.
fn key() -> HeaderValue {
    let mut nonce = [0; 16];
    let _ = getrandom::fill(&mut nonce);
    HeaderValue::try_from(BASE64_STANDARD.encode(nonce)).unwrap_or_else(|_| HeaderValue::from_static(""))
}
