//! What lies ready for a connection, put there by whoever dispatches a queue and taken by the connection's driver.
//!
//! Invariants: room is reserved before a delivery is put in, so the mailbox is bounded; deliveries of a consumer keep
//! their order; the connection is woken once for what it has not looked at yet.

use crate::api::{ConnectionMeta, Wake};
use crate::consumer::Consumer;
use model::limits::{OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX};
use model::{ConnectionId, Message, Mono, Seq};
use parking_lot::Mutex;
use protocol::ConnectionInfo;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Something for a connection.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// An entry for a consumer, held by its channel.
    Delivery { consumer: Arc<Consumer>, seq: Seq, message: Message, redelivered: bool, attempts: u32 },
    /// The consumer's queue is gone.
    Lost(Arc<Consumer>),
}

impl Parcel {
    pub(crate) fn consumer(&self) -> &Arc<Consumer> {
        match self {
            Self::Delivery { consumer, .. } | Self::Lost(consumer) => consumer,
        }
    }
}

/// The mailbox of a connection.
pub(crate) struct Mailbox {
    pub(crate) id: ConnectionId,
    pub(crate) meta: ConnectionMeta,
    pub(crate) info: Mutex<ConnectionInfo>,
    wake: Arc<dyn Wake>,
    woken: AtomicBool,
    outbox: Mutex<VecDeque<Parcel>>,
    /// The connection has ended: nothing is put in any more. Changed with the outbox locked.
    closed: AtomicBool,
    /// Deliveries reserved or in the outbox or in the link's inbox.
    messages: AtomicUsize,
    /// Their bytes, and those taken and not yet written.
    bytes: AtomicUsize,
    starved: Mutex<Vec<Arc<Consumer>>>,
    any_starved: AtomicBool,
    /// It has published, so pressure concerns it.
    pub(crate) publishes: AtomicBool,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.id)
    }
}

fn subtract(counter: &AtomicUsize, n: usize) {
    let _ = counter.fetch_update(SeqCst, SeqCst, |now| Some(now.saturating_sub(n)));
}

impl Mailbox {
    pub(crate) fn new(id: ConnectionId, meta: ConnectionMeta, wake: Arc<dyn Wake>) -> Self {
        Self {
            id,
            meta,
            info: Mutex::default(),
            wake,
            woken: AtomicBool::new(false),
            outbox: Mutex::default(),
            closed: AtomicBool::new(false),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            starved: Mutex::default(),
            any_starved: AtomicBool::new(false),
            publishes: AtomicBool::new(false),
        }
    }

    /// Wakes the connection unless it was woken and has not looked since.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, SeqCst) {
            self.wake.wake();
        }
    }

    /// The connection looks; what comes after this wakes it again. Returns whether it had been woken.
    pub(crate) fn look(&self) -> bool {
        self.woken.load(SeqCst) && self.woken.swap(false, SeqCst)
    }

    /// Puts parcels in. Does not wake. They are dropped if the connection has ended: they would keep it alive, and its
    /// queues, for ever.
    pub(crate) fn put(&self, parcels: impl Iterator<Item = Parcel>) {
        let mut outbox = self.outbox.lock();
        if self.closed.load(SeqCst) {
            parcels.for_each(drop);
            return;
        }
        let mut bytes = 0;
        outbox.extend(parcels.inspect(|parcel| {
            if let Parcel::Delivery { message, .. } = parcel {
                bytes += message.bytes().len();
            }
        }));
        self.bytes.fetch_add(bytes, SeqCst);
    }

    /// Swaps what is there with an empty deque.
    pub(crate) fn take(&self, inbox: &mut VecDeque<Parcel>) {
        std::mem::swap(&mut *self.outbox.lock(), inbox);
    }

    /// Takes parcels out again that the connection has not seen.
    pub(crate) fn retract(
        &self,
        inbox: &mut VecDeque<Parcel>,
        which: impl Fn(&Parcel) -> bool,
        mut taken: impl FnMut(Parcel),
    ) {
        for parcels in [inbox, &mut *self.outbox.lock()] {
            if !parcels.iter().any(&which) {
                continue;
            }
            for parcel in std::mem::take(parcels) {
                if which(&parcel) {
                    if let Parcel::Delivery { message, .. } = &parcel {
                        subtract(&self.messages, 1);
                        subtract(&self.bytes, message.bytes().len());
                    }
                    taken(parcel);
                } else {
                    parcels.push_back(parcel);
                }
            }
        }
    }

    pub(crate) fn reserve(&self, wanted: u32) -> u32 {
        if self.bytes.load(SeqCst) >= OUTBOX_BYTES_MAX {
            return 0;
        }
        let mut taken = 0;
        let _ = self.messages.fetch_update(SeqCst, SeqCst, |used| {
            taken = OUTBOX_MESSAGES_MAX.saturating_sub(used).min(wanted as usize);
            (taken > 0).then(|| used + taken)
        });
        u32::try_from(taken).unwrap_or(wanted)
    }

    pub(crate) fn unreserve(&self, n: u32) {
        subtract(&self.messages, n as usize);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.messages.load(SeqCst) <= OUTBOX_MESSAGES_MAX / 2 && self.bytes.load(SeqCst) <= OUTBOX_BYTES_MAX / 2
    }

    /// The driver has taken deliveries.
    pub(crate) fn polled(&self, n: usize) {
        subtract(&self.messages, n);
    }

    /// Bytes that were taken are written.
    pub(crate) fn written(&self, bytes: usize) {
        subtract(&self.bytes, bytes);
    }

    /// Notes that a consumer has no credit; it is offered more by [`Mailbox::next_fed`].
    pub(crate) fn starve(&self, consumer: Arc<Consumer>) {
        if !consumer.starved.swap(true, SeqCst) {
            self.starved.lock().push(consumer);
            self.any_starved.store(true, SeqCst);
        }
    }

    /// Whether a consumer waits for credit.
    pub(crate) fn any_starved(&self) -> bool {
        self.any_starved.load(SeqCst)
    }

    /// Takes out the next consumer, at `from` or later, that has credit again. When one that was passed over is to be
    /// looked at again, if its quotas alone hold it, is noted in `held`.
    pub(crate) fn next_fed(&self, from: &mut usize, held: &mut Option<Mono>, now: Mono) -> Option<Arc<Consumer>> {
        let mut starved = self.starved.lock();
        while *from < starved.len() {
            let consumer = &starved[*from];
            match consumer.credit(now) {
                Err(later) if !consumer.gone.load(SeqCst) => *held = (*held).into_iter().chain(later).min(),
                _ => {
                    let consumer = starved.swap_remove(*from);
                    consumer.starved.store(false, SeqCst);
                    return Some(consumer);
                }
            }
            *from += 1;
        }
        self.any_starved.store(!starved.is_empty(), SeqCst);
        None
    }

    /// Drops everything; the connection has ended.
    pub(crate) fn clear(&self) {
        let mut outbox = self.outbox.lock();
        self.closed.store(true, SeqCst);
        outbox.clear();
        drop(outbox);
        self.starved.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::Channel;
    use crate::queue::Queue;
    use arc_swap::ArcSwapOption;
    use model::{ChannelId, ConsumerId, HolderId};

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    #[test]
    fn what_comes_after_the_end_does_not_keep_the_connection_alive() {
        let meta = ConnectionMeta { peer: "test".into(), loopback: true, protocol: "test" };
        let mailbox = Arc::new(Mailbox::new(ConnectionId(1), meta, Arc::new(Nobody)));
        let queue = Arc::new(Queue::for_tests(1));
        let channel = Channel { id: ChannelId(1), holder: HolderId(1), prefetch: 0.into(), unsettled: 0.into() };
        let consumer = Arc::new(Consumer {
            id: ConsumerId(1),
            queue_id: queue.id,
            tag: "c".into(),
            channel: Arc::new(channel),
            mailbox: mailbox.clone(),
            user: "guest".into(),
            queue,
            no_ack: false,
            exclusive: false,
            priority: 0,
            prefetch: 0,
            limited: false.into(),
            rates: ArcSwapOption::empty(),
            unsettled: 0.into(),
            starved: false.into(),
            gone: true.into(),
        });
        // Somebody deletes the queue while the connection ends.
        mailbox.clear();
        mailbox.put(std::iter::once(Parcel::Lost(consumer)));
        assert_eq!(Arc::strong_count(&mailbox), 1);
    }
}
