//! Sending one response: its framing, then head and body in as few writes as the body allows.

use super::ServerSettings;
use super::client_body::ClientIo;
use crate::http::body::Body;
use crate::http::date;
use crate::http::outbox::{Outbox, Outgoing};
use crate::http::service::Answer;
use http::{HeaderMap, Method, StatusCode, Version, header};
use http_body::Body as _;
use http1::framing::content_length;
use http1::{OutgoingFraming, Persistence, encode_response_head};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// What of the request bears on its response.
pub(super) struct Exchange {
    pub(super) version: Version,
    pub(super) method: Method,
    pub(super) persistence: Persistence,
}

/// What came of sending.
pub(super) enum Sent {
    /// All of it left, and this was said of the connection.
    Whole(Persistence),
    /// It ended early; the connection is lost.
    Broken,
}

/// Send a response.
pub(super) async fn send(
    shared: &Mutex<ClientIo>,
    mut answer: Box<Answer>,
    exchange: &Exchange,
    settings: ServerSettings,
) -> Sent {
    shared.lock().answer();
    let Answer { head, body, lines } = &mut *answer;
    let plan = plan(head.status, &head.headers, body, exchange);
    if !head.headers.contains_key(header::DATE) && lines.get(&header::DATE).is_none() {
        lines.put(&header::DATE, &date::now());
    }
    let mut outbox = Outbox::default();
    encode_response_head(
        exchange.version,
        head.status,
        &head.headers,
        lines,
        plan.framing,
        plan.persistence,
        outbox.flat(),
    );
    let body = std::mem::take(body);
    drop(answer);
    let mut outgoing = if plan.bodiless {
        Outgoing::new(Body::Empty, OutgoingFraming::Unmarked)
    } else {
        Outgoing::new(body, plan.framing)
    };
    let idle = Duration::from_millis(settings.body_idle_timeout_ms);
    let whole = stream(shared, &mut outgoing, &mut outbox, plan.framing, idle).await;
    if whole { Sent::Whole(plan.persistence) } else { Sent::Broken }
}

struct Plan {
    framing: OutgoingFraming,
    persistence: Persistence,
    bodiless: bool,
}

fn plan(status: StatusCode, headers: &HeaderMap, body: &Body, exchange: &Exchange) -> Plan {
    let length = body.size_hint().exact();
    let mut persistence = exchange.persistence;
    let without_fields = status.is_informational() || status == StatusCode::NO_CONTENT;
    if without_fields {
        return Plan { framing: OutgoingFraming::Unmarked, persistence, bodiless: true };
    }
    if exchange.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        // The length of the body there would have been, if someone said it.
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| content_length(value).ok());
        let known = said.or(length.filter(|length| *length > 0));
        let framing = known.map_or(OutgoingFraming::Unmarked, OutgoingFraming::Length);
        return Plan { framing, persistence, bodiless: true };
    }
    let framing = match length {
        Some(length) => OutgoingFraming::Length(length),
        None if exchange.version == Version::HTTP_11 => OutgoingFraming::Chunked,
        None => {
            persistence = Persistence::Close;
            OutgoingFraming::Unmarked
        }
    };
    Plan { framing, persistence, bodiless: false }
}

/// Write the outbox and the body after it; whether both reached their end. Of a body that breaks off the client gets what
/// there is, unless its end is the connection's: then it could not tell a part from the whole.
async fn stream(
    shared: &Mutex<ClientIo>,
    outgoing: &mut Outgoing,
    outbox: &mut Outbox,
    framing: OutgoingFraming,
    idle: Duration,
) -> bool {
    let (mut waiting, mut broken) = (false, false);
    poll_fn(|cx| {
        loop {
            // The body is polled without the lock: it may be the request's own.
            let polled = if broken { Poll::Pending } else { outgoing.poll_fill(outbox, cx) };
            let filled = match polled {
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
                Poll::Ready(Err(fault)) => {
                    tracing::debug!(%fault, "response ended early");
                    if framing == OutgoingFraming::Unmarked {
                        return Poll::Ready(false);
                    }
                    broken = true;
                    true
                }
            };
            let client = &mut *shared.lock();
            let mut wrote = false;
            let flushed = match client.poll_interim(cx) {
                Poll::Ready(Ok(())) => outbox.poll_flush(&mut client.io, cx, &mut wrote),
                other => other,
            };
            match flushed {
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) if broken => return Poll::Ready(false),
                Poll::Ready(Ok(())) if outgoing.is_ended() => return Poll::Ready(true),
                Poll::Ready(Ok(())) if filled => waiting = false,
                // Nothing to write: the body's own deadlines hold, and the client has to be there.
                Poll::Ready(Ok(())) => {
                    waiting = false;
                    return client.poll_left(cx).map(|()| false);
                }
                Poll::Pending => {
                    if wrote || !waiting {
                        waiting = true;
                        client.write_timer.set(idle);
                    }
                    return if client.write_timer.poll_expired(cx) { Poll::Ready(false) } else { Poll::Pending };
                }
            }
        }
    })
    .await
}
