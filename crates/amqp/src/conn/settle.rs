//! Acks, nacks and rejects: from delivery tags to receipts.
//!
//! Settlements of the same kind that follow each other on a channel become one request.

use super::Connection;
use super::step::Step;
use crate::error::{Code, Violation};
use crate::wire::MethodId;
use model::ChannelId;
use protocol::{Request, Settle, Settlement};

impl Connection {
    pub(super) fn on_settle(
        &mut self,
        id: ChannelId,
        method: MethodId,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
    ) -> Result<(), Violation> {
        let unknown = || unknown_tag(method, tag);
        let Some(channel) = self.channels.get_mut(id) else {
            return Ok(());
        };
        if channel.tx.is_some() {
            return self.settle_in_tx(id, method, tag, multiple, settlement);
        }
        if !multiple {
            let receipt = channel.unsettled.take(tag).ok_or_else(unknown)?;
            match self.last_settle(id, settlement) {
                Some(settle) => settle.receipts.push(receipt),
                None => self.ask_settle(id, method, settlement, vec![receipt]),
            }
            return Ok(());
        }
        let mut receipts = Vec::new();
        if tag == 0 {
            channel.unsettled.take_all(|_, receipt| receipts.push(receipt));
        } else if !channel.unsettled.take_through(tag, |_, receipt| receipts.push(receipt)) {
            return Err(unknown());
        }
        match self.last_settle(id, settlement) {
            _ if receipts.is_empty() => {}
            Some(settle) => settle.receipts.append(&mut receipts),
            None => self.ask_settle(id, method, settlement, receipts),
        }
        Ok(())
    }

    /// The request to settle that was parsed last, if this one continues it.
    fn last_settle(&mut self, id: ChannelId, settlement: Settlement) -> Option<&mut Settle> {
        match self.steps.back_mut() {
            Some(Step::Ask(Request::Settle(settle), _)) if settle.channel == id && settle.settlement == settlement => {
                Some(settle)
            }
            _ => None,
        }
    }

    fn ask_settle(
        &mut self,
        channel: ChannelId,
        method: MethodId,
        settlement: Settlement,
        receipts: Vec<protocol::Receipt>,
    ) {
        let settle = Settle { channel, settlement, receipts };
        self.ask_without_reply(channel, method, Request::Settle(settle));
    }
}

/// The error of a tag that is not there to be settled.
pub(super) fn unknown_tag(method: MethodId, tag: u64) -> Violation {
    Violation::new(Code::PreconditionFailed, method, format!("unknown delivery tag {tag}"))
}
