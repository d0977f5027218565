//! The request body of an HTTP/2 stream, with the limits an HTTP/1 body has: a deadline between two frames, and a size.

use super::ServerSettings;
use crate::http::body::BodyFault;
use crate::http::service::Refusal;
use crate::http::timer::LazyTimer;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http1::BodyError;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

/// The handle on a stream's body.
pub struct Http2Body {
    incoming: Incoming,
    timer: LazyTimer,
    idle: Duration,
    allowance: u64,
    refusal: Arc<OnceLock<Refusal>>,
}

impl Http2Body {
    /// The body, and where it leaves the reason if it is refused.
    pub(super) fn new(incoming: Incoming, settings: ServerSettings) -> (Self, Arc<OnceLock<Refusal>>) {
        let idle = Duration::from_millis(settings.body_idle_timeout_ms);
        let refusal = Arc::new(OnceLock::new());
        let (timer, allowance) = (LazyTimer::default(), settings.body_bytes_max);
        (Self { incoming, timer, idle, allowance, refusal: Arc::clone(&refusal) }, refusal)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer.clear();
                let n_bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(match self.allowance.checked_sub(n_bytes) {
                    Some(left) => {
                        self.allowance = left;
                        Ok(frame)
                    }
                    None => {
                        self.refusal.get_or_init(|| Refusal::Body(BodyError::TooLarge));
                        Err(BodyFault::Client(BodyError::TooLarge))
                    }
                }))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyFault::Http2(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if !self.timer.is_set() {
                    self.timer.set(self.idle);
                }
                if self.timer.poll_expired(cx) {
                    self.refusal.get_or_init(|| Refusal::BodyTimeout);
                    return Poll::Ready(Some(Err(BodyFault::ClientTimeout)));
                }
                Poll::Pending
            }
        }
    }
}
