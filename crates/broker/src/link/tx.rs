//! Transactions: what a channel publishes between two commits, and the commit, which is one batch of the engine.
//!
//! Invariants: a message is routed when it is published, so a missing exchange is refused at once, and its queues see it
//! only after the commit. Publishes, acknowledgements and rejects are one record; a requeue needs none, since an entry that
//! nobody settled is back after any crash. A reject that leads to a dead-letter exchange is a publish there and the end of the
//! entry, in the same record, if its message was [kept](super::kept); else it is dead-lettered right after the commit. A
//! batch that the engine cannot take for now is kept and the commit waits: never half of it.

use super::Link;
use super::kept::Kept;
use crate::publish::{Reached, Touched, touch};
use crate::refuse;
use bytes::Bytes;
use engine::{Batch, Death, EngineError, Ticket};
use foldhash::fast::RandomState;
use model::limits::{TX_BYTES_MAX, TX_MESSAGES_MAX};
use model::{ChannelId, Message, Now, QueueId, Seq};
use protocol::{Refusal, RefusalKind, Returned, Settle, Settlement, Tx};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::SeqCst;

/// Memory a target of a message takes beside the message.
const TARGET_BYTES: usize = 64;

/// The transactions of a link.
#[derive(Default)]
pub(super) struct Transactions {
    channels: HashMap<ChannelId, Transaction, RandomState>,
    /// What all of them hold, as [`TX_BYTES_MAX`] counts.
    bytes: usize,
    kept: Kept,
}

/// What a channel has done since its last commit.
#[derive(Default)]
struct Transaction {
    batch: Batch,
    touched: Vec<Touched>,
    /// Mandatory messages that reach no queue; they go back with the commit.
    returned: VecDeque<Returned>,
    bytes: usize,
    /// What the commit settles.
    settles: Vec<Settle>,
    /// The settles are in the batch.
    prepared: bool,
    /// Messages in the batch that the client has published; behind them are those that it rejects.
    published: usize,
    /// How many of those there are, and where they go.
    letters: u64,
    reached: Reached,
}

impl Transactions {
    /// Whether the channel is transactional.
    pub(super) fn has(&self, channel: ChannelId) -> bool {
        !self.channels.is_empty() && self.channels.contains_key(&channel)
    }

    /// The channel is closed, and what it has not committed is dropped.
    pub(super) fn end(&mut self, channel: ChannelId) {
        if let Some(tx) = self.channels.remove(&channel) {
            self.bytes -= tx.bytes;
            self.kept.forget_channel(channel);
        }
    }

    /// Keeps what a transactional channel may reject.
    pub(super) fn keep(&mut self, channel: ChannelId, queue: QueueId, seq: Seq, message: &Message) {
        if self.has(channel) {
            self.kept.keep(channel, queue, seq, message);
        }
    }

    /// What is settled cannot be rejected any more.
    pub(super) fn settled(&mut self, settle: &Settle) {
        self.kept.forget(settle.channel, &settle.receipts);
    }

    /// Counts what a transaction is about to hold.
    fn grow(&mut self, tx: &mut Transaction, bytes: usize) -> Result<(), Refusal> {
        if self.bytes + bytes > TX_BYTES_MAX {
            let text = format!("more than {TX_BYTES_MAX} bytes in transactions that are not committed");
            return Err(Refusal::new(RefusalKind::PreconditionFailed, text));
        }
        self.bytes += bytes;
        tx.bytes += bytes;
        Ok(())
    }
}

/// When what is rejected is dead-lettered, if it was kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Letters {
    InTheBatch,
    Later,
}

/// How far a step got.
pub(super) enum Progress {
    /// The commit has to wait; it goes on with an empty commit after the next wake.
    Waits,
    /// It is done once the ticket is durable.
    Done(Ticket),
    /// The same, but a full queue has refused what was published to it; nothing else was left out.
    Partial(Ticket),
}

fn cost(message: &Message, targets: usize) -> usize {
    message.bytes().len() + TARGET_BYTES * (1 + targets)
}

impl Link {
    /// Does a step.
    pub(super) fn tx(&mut self, channel: ChannelId, step: Tx, now: Now) -> Result<Progress, Refusal> {
        match step {
            Tx::Select => {
                self.side(channel)?;
                // Who commits waits for the engine like who publishes, and is told of its pressure.
                self.mailbox.publishes.store(true, SeqCst);
                self.transactions.channels.entry(channel).or_default();
                Ok(Progress::Done(Ticket::NONE))
            }
            Tx::Commit(settles) => {
                let mut tx = self.take_tx(channel)?;
                tx.settles.extend(settles);
                self.commit(channel, tx, now)
            }
            Tx::Rollback => {
                let dropped = self.take_tx(channel)?;
                self.counted.tx_rolled_back += 1;
                self.transactions.bytes -= dropped.bytes;
                Ok(Progress::Done(Ticket::NONE))
            }
        }
    }

    fn take_tx(&mut self, channel: ChannelId) -> Result<Transaction, Refusal> {
        let tx = self.transactions.channels.get_mut(&channel).map(std::mem::take);
        tx.ok_or_else(|| Refusal::new(RefusalKind::PreconditionFailed, "channel is not transactional"))
    }

    /// Puts a transaction back that is not over.
    fn keep_tx(&mut self, channel: ChannelId, tx: Transaction) {
        self.transactions.channels.insert(channel, tx);
    }

    /// Routes a message and keeps it until the commit.
    pub(super) fn publish_in_tx(
        &mut self,
        channel: ChannelId,
        message: Message,
        extra_keys: &[Bytes],
        mandatory: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        let queues = self.queues_of(&message, extra_keys, now)?;
        let mut tx = self.take_tx(channel)?;
        if tx.batch.len() + tx.returned.len() >= TX_MESSAGES_MAX {
            let text = format!("more than {TX_MESSAGES_MAX} messages in one transaction");
            self.keep_tx(channel, tx);
            return Err(Refusal::new(RefusalKind::PreconditionFailed, text));
        }
        let grown = self.transactions.grow(&mut tx, cost(&message, queues.len()));
        if grown.is_ok() {
            if queues.is_empty() {
                self.counted.unroutable += 1;
                if mandatory {
                    self.counted.returned += 1;
                    tx.returned.push_back(Returned { channel, message });
                }
            } else {
                let targets: Vec<_> = queues.iter().map(|q| q.id).collect();
                touch(&mut tx.touched, &queues, &message);
                tx.batch.push(message, &targets);
            }
        }
        self.keep_tx(channel, tx);
        grown
    }

    fn commit(&mut self, channel: ChannelId, mut tx: Transaction, now: Now) -> Result<Progress, Refusal> {
        if !tx.returned.is_empty() {
            // They must be told before the commit is, and the driver tells a reply before what nobody asked for.
            self.publisher.returned.append(&mut tx.returned);
            self.keep_tx(channel, tx);
            self.mailbox.wake();
            return Ok(Progress::Waits);
        }
        if !tx.prepared {
            tx.published = tx.batch.len();
            self.prepare(&mut tx, Letters::InTheBatch, now);
        }
        let mut taken = self.broker.take_in(&mut tx.batch, tx.published, &tx.touched, now);
        if matches!(taken, Err(EngineError::Pressed(_))) && tx.published == 0 {
            // What only settles never waits.
            tx.batch.clear();
            self.prepare(&mut tx, Letters::Later, now);
            taken = self.broker.take_in(&mut tx.batch, 0, &tx.touched, now);
        }
        match taken {
            Ok(ticket) => {
                self.transactions.bytes -= tx.bytes;
                let refused = tx.batch.take_rejected().iter().any(|index| (*index as usize) < tx.published);
                self.committed(channel, tx, ticket, now);
                Ok(if refused { Progress::Partial(ticket) } else { Progress::Done(ticket) })
            }
            Err(EngineError::Pressed(_)) => {
                self.keep_tx(channel, tx);
                Ok(Progress::Waits)
            }
            Err(error) => {
                self.keep_tx(channel, tx);
                Err(refuse::engine(&error))
            }
        }
    }

    /// Adds what is settled to the batch of what was published, as far as it is the end of an entry.
    fn prepare(&self, tx: &mut Transaction, how: Letters, now: Now) {
        tx.reached = Reached::default();
        tx.letters = 0;
        let Transaction { batch, settles, letters, reached, .. } = tx;
        for settle in settles.iter().filter(|settle| settle.settlement != Settlement::Requeue) {
            for receipt in &settle.receipts {
                let queue = match settle.settlement {
                    Settlement::Reject => self.broker.queue(receipt.queue).filter(|queue| queue.has_dead_letter()),
                    Settlement::Ack | Settlement::Requeue => None,
                };
                if let Some(queue) = queue {
                    let kept = self.transactions.kept.get(settle.channel, receipt);
                    let Some(message) = kept.filter(|_| how == Letters::InTheBatch) else { continue };
                    let death = Death::Rejected;
                    *letters += u64::from(self.broker.letter(&queue, message, death, now, batch, reached));
                }
                batch.ack(receipt.queue, receipt.seq);
            }
        }
        tx.prepared = true;
    }

    /// The engine has it all: credit goes back, what was requeued too, and what came in goes out.
    fn committed(&mut self, channel: ChannelId, mut tx: Transaction, ticket: Ticket, now: Now) {
        self.counted.tx_committed += 1;
        self.broker.counters.dead_lettered_rejected.add(tx.letters);
        for settle in &tx.settles {
            if settle.settlement != Settlement::Ack {
                // What the batch has ended is passed over by the engine.
                self.give_back(settle, now);
                continue;
            }
            for of_one in settle.receipts.chunk_by(|a, b| a.consumer == b.consumer) {
                self.receiver.release(channel, of_one);
            }
            self.transactions.settled(settle);
            self.counted.acknowledged += settle.receipts.len() as u64;
        }
        tx.touched.append(&mut tx.reached.queues);
        self.broker.appended(ticket, &mut tx.touched, now);
        for store in &tx.reached.stores {
            self.broker.watch_store(store, now);
        }
        self.broker.feed(&self.mailbox, now);
    }
}
