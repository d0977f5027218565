//! Connections to an upstream that bounds them: a kept one, or a new one once there is a place for it.

use super::connect::connect;
use super::connection::UpstreamConnection;
use super::error::{Retry, UpstreamError, UpstreamErrorKind};
use super::pool::{Slot, Timeouts, UpstreamPool, UpstreamTarget};
use gateway::balancer::{Connections, Entry, Keeper, Place, Queued};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

/// What came first.
enum Won {
    Kept(Box<UpstreamConnection>),
    Place(Place),
}

impl UpstreamPool {
    /// A connection to carry one exchange, and whether it is a kept one, which `may_be_kept` allows. Who comes while others
    /// wait does not overtake them.
    pub(super) async fn bounded(
        &self,
        connections: &Connections,
        slot: &Arc<Slot>,
        (target, timeouts): (&UpstreamTarget, Timeouts),
        may_be_kept: bool,
    ) -> Result<(Box<UpstreamConnection>, bool), UpstreamError> {
        let kept = |cx: &mut Context<'_>| if may_be_kept { slot.take(cx) } else { None };
        if !connections.are_wanted()
            && let Some(kept) = poll_fn(|cx| Poll::Ready(kept(cx))).await
        {
            return Ok((kept, true));
        }
        let keeper: Weak<dyn Keeper> = Arc::<Slot>::downgrade(slot);
        let won = match connections.enter(may_be_kept.then_some(keeper)) {
            Entry::Free(place) => Won::Place(place),
            Entry::Full => return Err(full()),
            Entry::Queued(queued) => in_time(connections, queued, kept).await?,
        };
        match won {
            Won::Kept(connection) => Ok((connection, true)),
            Won::Place(place) => {
                connect(&self.resolver, target, timeouts.connect_ms, Some(place)).await.map(|made| (made, false))
            }
        }
    }
}

/// A place for a connection, if those to the target are bounded.
pub(super) async fn place(target: &UpstreamTarget) -> Result<Option<Place>, UpstreamError> {
    let Some(connections) = &target.connections else { return Ok(None) };
    match connections.enter(None) {
        Entry::Free(place) => Ok(Some(place)),
        Entry::Full => Err(full()),
        Entry::Queued(queued) => match in_time(connections, queued, |_| None).await? {
            Won::Place(place) => Ok(Some(place)),
            Won::Kept(_) => Ok(None),
        },
    }
}

/// Waits for a place, or for a kept connection.
async fn in_time(
    connections: &Connections,
    mut queued: Queued,
    mut kept: impl FnMut(&mut Context<'_>) -> Option<Box<UpstreamConnection>>,
) -> Result<Won, UpstreamError> {
    let won = poll_fn(|cx| {
        // First the queue, which has to know whom to wake.
        if let Poll::Ready(granted) = Pin::new(&mut queued).poll(cx) {
            return Poll::Ready(Won::Place(granted.into_place()));
        }
        kept(cx).map_or(Poll::Pending, |connection| Poll::Ready(Won::Kept(connection)))
    });
    let patience = Duration::from_millis(connections.queue_timeout_ms().into());
    let in_time = tokio::time::timeout(patience, won).await;
    in_time.map_err(|_| UpstreamError::new(UpstreamErrorKind::QueueTimeout, Retry::Safe))
}

fn full() -> UpstreamError {
    UpstreamError::new(UpstreamErrorKind::BulkheadFull, Retry::Safe)
}
