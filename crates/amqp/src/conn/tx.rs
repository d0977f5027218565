//! Transactions of a channel (class tx): what is settled is remembered here until a commit, what is published in the broker,
//! which routes it at once.
//!
//! Invariants: a delivery is unsettled, or settled in the transaction, never both; a rollback makes it unsettled again,
//! without delivering it again. A commit hands over everything at once; the broker makes it one record.

use super::Connection;
use super::settle::unknown_tag;
use super::step::{Step, Tell, Then};
use crate::error::{Code, Violation};
use crate::wire::MethodId;
use crate::wire::method::ChannelMethod;
use model::ChannelId;
use model::limits::TX_SETTLES_MAX;
use protocol::{Receipt, Request, Settle, Settlement, Tx};

/// What was settled on a channel since its last commit.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Runs of the same kind, in order.
    settled: Vec<(Settlement, Vec<(u64, Receipt)>)>,
    count: usize,
}

impl Transaction {
    fn settle(&mut self, settlement: Settlement, mut deliveries: Vec<(u64, Receipt)>) {
        self.count += deliveries.len();
        match self.settled.last_mut() {
            Some((last, run)) if *last == settlement => run.append(&mut deliveries),
            _ => self.settled.push((settlement, deliveries)),
        }
    }

    fn into_settles(self, channel: ChannelId) -> Vec<Settle> {
        let receipts = |run: Vec<(u64, Receipt)>| run.into_iter().map(|(_, receipt)| receipt).collect();
        let settles = self.settled.into_iter();
        settles.map(|(settlement, run)| Settle { channel, settlement, receipts: receipts(run) }).collect()
    }
}

impl Connection {
    pub(super) fn on_tx(&mut self, id: ChannelId, method: MethodId, what: &ChannelMethod<'_>) -> Result<(), Violation> {
        let failed = |text| Violation::new(Code::PreconditionFailed, method, text);
        let Some(channel) = self.channels.get_mut(id) else {
            return Ok(());
        };
        let step = match (what, &mut channel.tx) {
            (ChannelMethod::TxSelect, _) if channel.confirms.is_some() => {
                return Err(failed("cannot switch from confirm to tx mode"));
            }
            (ChannelMethod::TxSelect, tx) => {
                tx.get_or_insert_default();
                Tx::Select
            }
            (_, None) => return Err(failed("channel is not transactional")),
            (ChannelMethod::TxCommit, Some(tx)) => Tx::Commit(std::mem::take(tx).into_settles(id)),
            (_, Some(tx)) => {
                let settled = std::mem::take(tx).settled;
                channel.unsettled.put_back(settled.into_iter().flat_map(|(_, run)| run));
                Tx::Rollback
            }
        };
        let ok = MethodId(method.0, method.1 + 1);
        self.ask(id, method, Then::Bare(ok), Request::Tx(id, step));
        Ok(())
    }

    /// Remembers what is settled until the commit.
    pub(super) fn settle_in_tx(
        &mut self,
        id: ChannelId,
        method: MethodId,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
    ) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(id) else {
            return Ok(());
        };
        let mut taken = Vec::new();
        if !multiple {
            taken.push((tag, channel.unsettled.take(tag).ok_or_else(|| unknown_tag(method, tag))?));
        } else if tag == 0 {
            channel.unsettled.take_all(|tag, receipt| taken.push((tag, receipt)));
        } else if !channel.unsettled.take_through(tag, |tag, receipt| taken.push((tag, receipt))) {
            return Err(unknown_tag(method, tag));
        }
        let Some(tx) = &mut channel.tx else { return Ok(()) };
        if tx.count + taken.len() > TX_SETTLES_MAX {
            let text = format!("more than {TX_SETTLES_MAX} deliveries settled in one transaction");
            return Err(Violation::new(Code::PreconditionFailed, method, text));
        }
        tx.settle(settlement, taken);
        Ok(())
    }

    /// Requeues what is unsettled on a transactional channel, at once, and leaves alone what its transaction has settled.
    /// False if the channel is an ordinary one.
    pub(super) fn recover_in_tx(&mut self, id: ChannelId, method: MethodId, then: Then) -> bool {
        let Some(channel) = self.channels.get_mut(id).filter(|channel| channel.tx.is_some()) else {
            return false;
        };
        let mut receipts = Vec::new();
        channel.unsettled.take_all(|_, receipt| receipts.push(receipt));
        if !receipts.is_empty() {
            let settle = Settle { channel: id, settlement: Settlement::Requeue, receipts };
            self.ask_without_reply(id, method, Request::Settle(settle));
        }
        if then != Then::Silent {
            self.steps.push_back(Step::Tell(id, Tell::Recover));
        }
        true
    }
}
