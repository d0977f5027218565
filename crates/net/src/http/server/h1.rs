//! HTTP/1 over one connection: a head, the service, the response, and what becomes of the connection.
//!
//! Pipelined requests wait in the inbox and are served in order. A connection is kept only when both sides said so,
//! the request body was read to its end, and nobody is shutting down.

use super::ServerSettings;
use super::client_body::{ClientBody, ClientIo, ClientStream};
use super::respond::{Exchange, Sent, send};
use crate::http::body::Body;
use crate::http::inbox::Inbox;
use crate::http::interim::Interims;
use crate::http::service::{Answer, HttpService, Refusal};
use crate::http::tunnel::Tunnel;
use crate::{Accepted, Drain, Peer};
use bytes::Buf;
use http::{Method, Request, Version, header};
use http1::{BodyDecoder, BodyError, BodyFraming, Persistence, RequestHead, RequestParser, Upgrade};
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// What the wait for a request came to.
enum Next {
    Head(Box<RequestHead>),
    Refused(Refusal),
    Closed,
}

/// What becomes of the connection after a response.
#[derive(PartialEq, Eq)]
enum After {
    /// Read the next request.
    Next,
    /// Close, first reading away what the client still sends.
    Linger,
    /// Close at once.
    Abort,
}

struct Connection<'a, S> {
    shared: Arc<Mutex<ClientIo>>,
    peer: &'a Peer,
    service: &'a S,
    settings: ServerSettings,
    drain: Drain,
}

/// Serve HTTP/1 until the connection ends.
pub(super) async fn serve<S: HttpService>(
    io: Accepted,
    inbox: Inbox,
    peer: &Peer,
    service: &S,
    settings: ServerSettings,
    drain: Drain,
) {
    let body_idle = Duration::from_millis(settings.body_idle_timeout_ms);
    let shared = Arc::new(Mutex::new(ClientIo::new(io, inbox, body_idle)));
    let mut signal = drain.clone();
    let mut ending = Box::pin(async move { signal.ending().await });
    let mut connection = Connection { shared, peer, service, settings, drain };
    let mut parser = RequestParser::default();
    let mut patience = settings.head_timeout_ms;
    loop {
        connection.shared.lock().timer.set(Duration::from_millis(patience));
        patience = settings.keep_alive_timeout_ms;
        let mut head_began = false;
        let next = poll_fn(|cx| {
            let mut client = connection.shared.lock();
            poll_head(&mut client, &mut parser, ending.as_mut(), &mut head_began, settings, cx)
        })
        .await;
        let after = match next {
            Next::Head(head) => connection.serve_request(head).await,
            Next::Refused(refusal) => connection.refuse(refusal).await,
            Next::Closed => After::Abort,
        };
        match after {
            After::Next => {}
            After::Linger => return linger(&connection.shared, settings.linger_timeout_ms).await,
            After::Abort => return,
        }
    }
}

fn poll_head(
    client: &mut ClientIo,
    parser: &mut RequestParser,
    mut ending: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
    head_began: &mut bool,
    settings: ServerSettings,
    cx: &mut Context<'_>,
) -> Poll<Next> {
    loop {
        if !client.inbox.bytes.is_empty() {
            match parser.parse(&mut client.inbox.bytes) {
                Err(error) => return Poll::Ready(Next::Refused(Refusal::Request(error))),
                Ok(Some(head)) => return Poll::Ready(Next::Head(Box::new(head))),
                Ok(None) if !*head_began => {
                    *head_began = true;
                    client.timer.set(Duration::from_millis(settings.head_timeout_ms));
                }
                Ok(None) => {}
            }
        }
        match client.inbox.poll_read(&mut client.io, cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Closed),
            Poll::Ready(Ok(_)) => continue,
            Poll::Pending => {}
        }
        let idle = client.inbox.bytes.is_empty();
        if idle && ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Next::Closed);
        }
        return match (client.timer.poll_expired(cx), idle) {
            (false, _) => Poll::Pending,
            (true, true) => Poll::Ready(Next::Closed),
            (true, false) => Poll::Ready(Next::Refused(Refusal::HeadTimeout)),
        };
    }
}

impl<S: HttpService> Connection<'_, S> {
    async fn serve_request(&mut self, mut head: Box<RequestHead>) -> After {
        let version = head.parts.version;
        let exchange = Exchange { version, method: head.parts.method.clone(), persistence: head.persistence };
        // One that sends a body with its wish is answered as if it had none (RFC 9110 §7.8 allows that).
        if head.upgrade
            && version == Version::HTTP_11
            && head.framing == BodyFraming::Empty
            && let Some(upgrade) = Upgrade::asked(&head.parts.headers)
        {
            head.parts.extensions.insert(upgrade);
        }
        if version == Version::HTTP_11 && self.service.passes_interims() {
            head.parts.extensions.insert(Interims::to(&self.shared));
        }
        let body = match head.framing {
            BodyFraming::Empty | BodyFraming::UntilClose => Body::Empty,
            BodyFraming::Length(length) if length > self.settings.body_bytes_max => {
                return self.refuse(Refusal::Body(BodyError::TooLarge)).await;
            }
            framing => {
                let decoder = BodyDecoder::new(framing, self.settings.body_bytes_max);
                let length = decoder.remaining();
                self.shared.lock().begin(decoder, head.expect_continue);
                Body::Client(ClientBody::new(Arc::clone(&self.shared), length))
            }
        };
        let has_body = !matches!(body, Body::Empty);
        let request = Request::from_parts(head.parts, body);
        let mut call = pin!(self.service.call(request, self.peer));
        let answer = poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => self.shared.lock().poll_meanwhile(cx).map(|()| None),
        });
        let Some(answer) = answer.await else { return After::Abort };

        if has_body {
            let fault = self.shared.lock().fault();
            if let Some(refusal) = fault {
                drop(answer);
                return self.refuse(refusal).await;
            }
        }
        self.respond(answer, exchange, has_body).await
    }

    async fn respond(&mut self, mut answer: Box<Answer>, mut exchange: Exchange, has_body: bool) -> After {
        if matches!(answer.body, Body::Tunnel(_))
            && let Body::Tunnel(tunnel) = std::mem::take(&mut answer.body)
        {
            return self.switch(answer, *tunnel, &exchange).await;
        }
        if self.drain.is_draining() {
            exchange.persistence = Persistence::Close;
        }
        if has_body {
            let client = self.shared.lock();
            if !client.body_is_ended() && !client.can_drain(self.settings.drain_bytes_max) {
                // A streamed response may still read the body to its end; a complete one will not.
                if answer.body.is_replayable() {
                    exchange.persistence = Persistence::Close;
                }
            }
        }
        let sent = send(&self.shared, answer, &exchange, self.settings).await;
        let persistence = match sent {
            Sent::Whole(persistence) => persistence,
            Sent::Broken => return After::Abort,
        };
        if has_body && !self.shared.lock().body_is_ended() && !self.drain_body().await {
            return After::Linger;
        }
        match persistence {
            Persistence::KeepAlive => After::Next,
            Persistence::Close => After::Linger,
        }
    }

    /// Say 101 and carry bytes until the end.
    async fn switch(&mut self, mut answer: Box<Answer>, tunnel: Tunnel, exchange: &Exchange) -> After {
        answer.head.headers.insert(header::UPGRADE, tunnel.protocol().value().clone());
        if let Sent::Whole(_) = send(&self.shared, answer, exchange, self.settings).await {
            let read = std::mem::take(&mut self.shared.lock().inbox.bytes);
            let mut signal = self.drain.clone();
            let ending = pin!(signal.ending());
            tunnel.carry(read, &mut ClientStream(&self.shared), ending).await;
        }
        After::Abort
    }

    async fn refuse(&mut self, refusal: Refusal) -> After {
        tracing::debug!(peer = %self.peer.address, %refusal, "refused");
        let mut response = self.service.refuse(&refusal, self.peer);
        *response.status_mut() = refusal.status();
        let exchange = Exchange { version: Version::HTTP_11, method: Method::GET, persistence: Persistence::Close };
        match send(&self.shared, response.into(), &exchange, self.settings).await {
            Sent::Whole(_) => After::Linger,
            Sent::Broken => After::Abort,
        }
    }

    /// Read away what is left of the request body; whether its end was reached within the limit.
    async fn drain_body(&mut self) -> bool {
        let mut allowance = self.settings.drain_bytes_max;
        if !self.shared.lock().can_drain(allowance) {
            return false;
        }
        let drained = poll_fn(|cx| {
            let mut client = self.shared.lock();
            loop {
                match client.poll_body(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Ready(Some(Ok(frame))) => {
                        let n_bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                        match allowance.checked_sub(n_bytes) {
                            Some(left) => allowance = left,
                            None => return Poll::Ready(false),
                        }
                    }
                }
            }
        });
        let patience = Duration::from_millis(self.settings.linger_timeout_ms);
        tokio::time::timeout(patience, drained).await.unwrap_or(false)
    }
}

/// Send FIN, then read away what comes until the client closes, time is up, or it is too much. Closing with unread
/// bytes would reset the connection and could take our answer with it (RFC 9112 §9.6).
async fn linger(shared: &Mutex<ClientIo>, timeout_ms: u64) {
    const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
    let read_away = async {
        poll_fn(|cx| {
            let mut client = shared.lock();
            std::pin::pin!(client.io.shutdown()).poll(cx)
        })
        .await
        .ok()?;
        let mut n_left = LINGER_BYTES_MAX;
        poll_fn(|cx| {
            let client = &mut *shared.lock();
            loop {
                let n_unread = client.inbox.bytes.len();
                client.inbox.bytes.advance(n_unread);
                match client.inbox.poll_read(&mut client.io, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(n_bytes)) if n_bytes > n_left => return Poll::Ready(()),
                    Poll::Ready(Ok(n_bytes)) => n_left -= n_bytes,
                }
            }
        })
        .await;
        Some(())
    };
    let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), read_away).await;
}
